//! A thread's registers as plain data.

/// The general registers of an x86_64 thread, in the order of `struct user_regs_struct` (NT_PRSTATUS, `sys/user.h`).
///
/// `rip`, `rax` and `orig_rax` together say where in a system call the thread stands; see [`Registers::call_state`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the registers' own names")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// How many words [`Registers`] has.
pub const REGISTER_WORDS: usize = 27;

/// `orig_rax` of a thread that is not in a system call.
pub const NOT_IN_A_CALL: u64 = u64::MAX;

/// Where a stopped thread stands with respect to system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// In its own code, or a call has completed.
    User,
    /// A call was interrupted and the kernel repeats it from the registers alone
    /// (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND).
    Restarts,
    /// A call was interrupted, and the kernel goes on with it from `restart_block`, which no copy of the registers has
    /// (ERESTART_RESTARTBLOCK).
    RestartBlock,
    /// The call gave EINTR itself. The stop may have caused it.
    Interrupted,
}

/// The instruction by which a program makes a system call.
pub const SYSCALL: [u8; 2] = [0x0f, 0x05];

const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;
const EINTR: i64 = -4;

impl Registers {
    /// Where the thread stands; the kernel's side is `arch_do_signal_or_restart` in arch/x86/kernel/signal.c.
    pub fn call_state(&self) -> CallState {
        if self.orig_rax == NOT_IN_A_CALL {
            return CallState::User;
        }
        match self.rax as i64 {
            ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND => CallState::Restarts,
            ERESTART_RESTARTBLOCK => CallState::RestartBlock,
            EINTR => CallState::Interrupted,
            _ => CallState::User,
        }
    }

    /// The same thread just before its interrupted call: when it runs, it makes the whole call again.
    /// A relative time-out begins anew.
    pub fn rewound(&self) -> Registers {
        let mut regs = *self;
        regs.rip = regs.rip.wrapping_sub(2);
        regs.rax = regs.orig_rax;
        regs.orig_rax = NOT_IN_A_CALL;
        regs
    }

    /// The registers of [`Registers::rewound`], such that the kernel goes on with the call by what it has noted of it
    /// (ERESTART_RESTARTBLOCK) instead of making it again.
    pub fn noted(&self) -> Registers {
        let (rip, orig_rax) = (self.rip.wrapping_add(2), self.rax);
        Registers { rip, orig_rax, rax: ERESTART_RESTARTBLOCK as u64, ..*self }
    }

    /// The registers of [`Registers::rewound`], behind the call, which has returned this.
    pub fn returned(&self, value: i64) -> Registers {
        Registers { rip: self.rip.wrapping_add(2), rax: value as u64, ..*self }
    }

    /// The registers with which the thread goes on after a stop that the program must not see.
    ///
    /// `elsewhere`: in a new process, which has no restart_block. `signal_due`: an unblocked signal is pending, so that an
    /// EINTR belongs to that signal and must be seen.
    pub fn resumable(&self, elsewhere: bool, signal_due: bool) -> Registers {
        match self.call_state() {
            CallState::RestartBlock if elsewhere && !signal_due => self.rewound(),
            // With a signal due the kernel turns ERESTART_RESTARTBLOCK into EINTR by itself, here as there.
            CallState::Interrupted if !signal_due && hides_interruption(self.orig_rax) => self.rewound(),
            _ => *self,
        }
    }

    /// Whether the thread is in restart_syscall(2): in a call that was interrupted before, whose number the registers have lost.
    pub fn restarts_again(&self) -> bool {
        self.orig_rax == libc::SYS_restart_syscall as u64 && self.call_state() == CallState::RestartBlock
    }

    /// As plain words, for an image.
    pub fn to_words(self) -> [u64; REGISTER_WORDS] {
        // SAFETY: repr(C), 27 u64 and no padding; the test below counts the fields.
        unsafe { std::mem::transmute(self) }
    }

    /// From an image.
    pub fn from_words(words: [u64; REGISTER_WORDS]) -> Registers {
        // SAFETY: as in to_words; every bit pattern of a u64 is valid.
        unsafe { std::mem::transmute(words) }
    }
}

/// Calls that return EINTR at a stop and can be made again without harm (signal(7), "Interruption of system calls by stop
/// signals", and measurement).
fn hides_interruption(call: u64) -> bool {
    // Of these read and write, connect and the like only on a socket that has a time-out.
    const CALLS: [i64; 21] = [
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_rt_sigtimedwait,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_io_getevents,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_connect,
        libc::SYS_msgrcv,
    ];
    CALLS.iter().any(|&c| c as u64 == call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_size_of_the_kernels_structure() {
        assert_eq!(size_of::<Registers>(), size_of::<libc::user_regs_struct>());
        assert_eq!(size_of::<Registers>(), REGISTER_WORDS * 8);
        let regs = Registers { rip: 7, gs: 9, ..Registers::default() };
        assert_eq!(Registers::from_words(regs.to_words()), regs);
    }

    #[test]
    fn resumes_without_a_trace() {
        let stopped = |rax: i64, call: i64| Registers {
            rax: rax as u64,
            orig_rax: call as u64,
            rip: 0x1002,
            ..Default::default()
        };
        let user = Registers { rax: -4i64 as u64, orig_rax: NOT_IN_A_CALL, ..Default::default() };
        assert_eq!(user.resumable(true, false), user);
        let read = stopped(-512, libc::SYS_read);
        assert_eq!(read.resumable(true, false), read);
        let sleep = stopped(-516, libc::SYS_nanosleep);
        assert_eq!(sleep.resumable(false, false), sleep, "the same process still has its restart_block");
        let again = sleep.resumable(true, false);
        assert_eq!((again.rip, again.rax, again.orig_rax), (0x1000, libc::SYS_nanosleep as u64, NOT_IN_A_CALL));
        let epoll = stopped(-4, libc::SYS_epoll_wait);
        assert_eq!(epoll.resumable(false, false).rip, 0x1000);
        assert_eq!(epoll.resumable(false, true), epoll, "a real signal's EINTR is seen");
        let ioctl = stopped(-4, libc::SYS_ioctl);
        assert_eq!(ioctl.resumable(true, false), ioctl);
    }
}
