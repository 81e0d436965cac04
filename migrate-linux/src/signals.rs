//! Sending signals with what comes with them.

use std::io;

use crate::tracee::{RawSiginfo, signal_number};

/// Sends a signal to a process, or to one of its threads, with its `siginfo_t`.
///
/// The kernel lets nobody claim that a signal comes from itself or from kill(2) but these (rt_sigqueueinfo(2)): such a one is sent by
/// kill(2) or tgkill(2), and the program sees this process as its sender.
///
/// # Errors
/// ESRCH: there is no such process or thread; those of rt_sigqueueinfo(2).
pub fn send(pid: i32, tid: Option<i32>, info: &RawSiginfo) -> io::Result<()> {
    let signal = signal_number(info);
    let pointer = info.as_ptr();
    let result = match tid {
        // SAFETY: the kernel reads a whole siginfo_t, which `info` is as long as; any bytes are valid.
        Some(tid) => unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, signal, pointer) },
        // SAFETY: as above.
        None => unsafe { libc::syscall(libc::SYS_rt_sigqueueinfo, pid, signal, pointer) },
    };
    match result {
        -1 => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::EPERM) => send_as_this_process(pid, tid, signal),
            e => Err(e),
        },
        _ => Ok(()),
    }
}

fn send_as_this_process(pid: i32, tid: Option<i32>, signal: i32) -> io::Result<()> {
    let result = match tid {
        // SAFETY: three numbers.
        Some(tid) => unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) },
        // SAFETY: two numbers.
        None => unsafe { libc::syscall(libc::SYS_kill, pid, signal) },
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
