//! mlockall(2) with MCL_FUTURE: whatever the program maps later is locked, and with MCL_ONFAULT only as it is touched.
//!
//! The kernel shows it nowhere (`mm->def_flags`). But the executor is a mapping that came later: where it counts as locked memory,
//! the flag is set, and where its untouched pages are there, MCL_ONFAULT is not.

use migrate_linux::libc;
use migrate_linux::remote::{Batch, EXECUTOR_SIZE, RemoteBuffer, Results};

use crate::resources::Row;

/// What of it moves.
pub const ROW: Row = ("locks on later memory", "mlockall with MCL_FUTURE and MCL_ONFAULT");

/// The flags for mlockall; 0: neither.
pub type LockFuture = i32;

/// Adds the question whether the executor's last page, at `page`, is there (mincore(2)).
pub fn ask(page: u64, batch: &mut Batch) -> RemoteBuffer {
    let there = batch.buffer(8);
    batch.call(libc::SYS_mincore, [page.into(), 4096u64.into(), there.into()]);
    there
}

/// Locked memory in kB before the executor was there and now.
pub fn answer(before: Option<u64>, now: Option<u64>, there: RemoteBuffer, results: &Results) -> LockFuture {
    let grown = now.unwrap_or(0).saturating_sub(before.unwrap_or(0)) * 1024;
    match (grown >= EXECUTOR_SIZE, results.word(there, 0) & 1) {
        (false, _) => 0,
        (true, 0) => libc::MCL_FUTURE | libc::MCL_ONFAULT,
        (true, _) => libc::MCL_FUTURE,
    }
}

/// Adds the call, which changes nothing that is mapped already.
pub fn restore(flags: LockFuture, batch: &mut Batch) {
    if flags != 0 {
        batch.must(libc::SYS_mlockall, [flags.into()]);
    }
}
