//! What the kernel offers for making POSIX timers again.

/// The option of prctl(2) by which a thread that makes timers chooses their IDs: linux/prctl.h, since Linux 6.16; not in the bindings.
pub const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
const PR_TIMER_CREATE_RESTORE_IDS_GET: i32 = 2;

/// Whether timer_create(2) can be told which ID to give.
pub fn ids_can_be_chosen() -> bool {
    // SAFETY: numbers alone, and it only asks.
    unsafe { libc::prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0) >= 0 }
}
