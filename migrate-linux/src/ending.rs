//! The end of a thread that is traced, noticed and made. It matters for the first thread of a process: while others go on, the kernel
//! tells nobody that it has ended (`delay_group_leader`, kernel/exit.c), and who waits for its next stop would wait for the last of them.

use crate::error::{Error, Result};
use crate::regs::{NOT_IN_A_CALL, Registers};
use crate::remote::RemoteAddr;
use crate::tracee::{Seized, Stop, Stopped, request};

impl Seized {
    /// As [`Seized::seize`] for a first thread: should it end before it is seen to stand, [`Seized::wait_stopped`] says that it is gone
    /// (PTRACE_O_TRACEEXIT). One that is ending already must be told by who calls this.
    ///
    /// Errors: as [`Seized::seize`].
    pub fn seize_noticing_end(tid: i32) -> Result<Seized> {
        let mut seized = Seized::seize_with(tid, libc::PTRACE_O_TRACEEXIT)?;
        seized.notices_end = true;
        Ok(seized)
    }

    /// It stands: from here on its end is what whoever has it run brings about, by a SIGKILL too.
    pub(crate) fn notice_end_no_more(&mut self) -> Result<()> {
        match std::mem::take(&mut self.notices_end) {
            true => set_options(self.tid, 0),
            false => Ok(()),
        }
    }

    /// Lets one that stands at the beginning of its end go on with that, no longer traced. Returns what is to be said of it.
    pub(crate) fn let_end(&self) -> Error {
        let detached = request("let end", libc::PTRACE_DETACH, self.tid, 0, std::ptr::null_mut());
        detached.err().unwrap_or(Error::Gone { tid: self.tid, how: "by itself".into() })
    }
}

impl Stopped {
    /// Has a thread that has never run its program end with this status: it stands afterwards where its end begins, and when it is let go
    /// of it ends. No instruction of the program runs in it any more, nor does a signal reach it. `gadget`: a `syscall` instruction that it
    /// may execute; `mask`: the signals that it is then seen to block.
    ///
    /// It dies with its tracer. After Err it may run, if it is let go of.
    ///
    /// # Errors
    /// A signal came that cannot be blocked.
    pub fn run_to_end(&mut self, gadget: RemoteAddr, status: u8, mask: u64) -> Result<()> {
        self.suspend_seccomp_until_end()?;
        let rdi = u64::from(status);
        let calling =
            Registers { rip: gadget, rax: libc::SYS_exit as u64, orig_rax: NOT_IN_A_CALL, rdi, ..self.registers()? };
        self.set_registers(&calling)?;
        self.set_signal_mask(!0)?;
        loop {
            match self.run_to_stop() {
                Err(Error::Ends { .. }) => return self.set_signal_mask(mask),
                Ok(Stop::Event { .. }) => {}
                Ok(Stop::Signal(signal)) => {
                    let what = format!("signal {signal} on the way to its end");
                    return Err(Error::UnexpectedStop { tid: self.tid(), what });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Its end is a stop. What it is confined to may not allow it to end.
    fn suspend_seccomp_until_end(&self) -> Result<()> {
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXIT;
        // For one who may not, or whose kernel cannot, nothing has been confined here either.
        self.suspend_seccomp_with(options).or_else(|_| set_options(self.tid(), options))
    }
}

fn set_options(tid: i32, options: libc::c_int) -> Result<()> {
    let options = (libc::PTRACE_O_TRACESYSGOOD | options) as usize;
    request("set the options", libc::PTRACE_SETOPTIONS, tid, 0, options as *mut _).map(drop)
}
