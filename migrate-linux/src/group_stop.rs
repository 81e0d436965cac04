//! Job control of a traced process: stopped as a whole by SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU, until SIGCONT.
//!
//! A seized thread of a stopped process stands in a stop that shows the signal. Told to run, it does all the same; let go of, it stops
//! again before it runs one instruction of the program, unless SIGCONT has come meanwhile (`__ptrace_unlink`, kernel/ptrace.c).

use crate::error::{Error, Result};
use crate::tracee::{Stop, Stopped, request, signal_number};

impl Stopped {
    /// Whether its process is stopped by job control at this moment. Not one instruction of the program runs: what is asked for here is
    /// told on the way to it, before any signal is.
    pub fn is_group_stopped(&mut self) -> Result<bool> {
        request("interrupt", libc::PTRACE_INTERRUPT, self.tid(), 0, std::ptr::null_mut())?;
        match self.run_to_stop()? {
            Stop::Event { signal } => Ok(signal != libc::SIGTRAP),
            Stop::Signal(signal) => Err(Error::UnexpectedStop {
                tid: self.tid(),
                what: format!("signal {signal} when asked whether it is stopped"),
            }),
        }
    }

    /// Has a SIGSTOP that waits for its process stop all of it: each thread that is let go of from here on stops. Other signals wait on.
    /// Ok(false): somebody has continued it meanwhile.
    pub fn take_stop(&mut self) -> Result<bool> {
        let mask = self.signal_mask()?;
        // SIGSTOP cannot be blocked.
        self.set_signal_mask(u64::MAX)?;
        let taken = self.take_only_stop();
        self.set_signal_mask(mask).and(taken)
    }

    fn take_only_stop(&mut self) -> Result<bool> {
        let mut deliver = 0;
        loop {
            // A SIGCONT takes it back, and is then itself a stop for who was seized: as in `swallow_pending`.
            let waits = |info| signal_number(info) == libc::SIGSTOP;
            if deliver == 0 && !self.pending_signals(true)?.iter().any(waits) {
                return Ok(false);
            }
            self.forget();
            request("deliver a signal", libc::PTRACE_CONT, self.tid(), 0, deliver as usize as *mut _)?;
            deliver = match self.wait_again()? {
                Stop::Event { signal: libc::SIGSTOP } => return Ok(true),
                Stop::Signal(libc::SIGSTOP) => libc::SIGSTOP,
                Stop::Signal(_) | Stop::Event { .. } => 0,
            };
        }
    }
}
