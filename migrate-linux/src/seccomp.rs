//! Seccomp of a stopped thread, from outside: its filters (seccomp(2), ptrace(2)), and calls in spite of them.

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::tracee::{Stopped, request};

const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;
const PTRACE_SECCOMP_GET_METADATA: libc::c_uint = 0x420d;
const PTRACE_O_SUSPEND_SECCOMP: libc::c_int = 1 << 21;
const SECCOMP_FILTER_FLAG_LOG: u64 = 1 << 1;
/// Bytes of an instruction, `struct sock_filter`.
pub const INSTRUCTION: usize = 8;
/// The most instructions of a filter (BPF_MAXINSNS).
pub const LONGEST: usize = 4096;

/// A filter as it was installed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Its instructions, [`INSTRUCTION`] bytes each.
    pub program: Vec<u8>,
    /// Whether what it does is logged (SECCOMP_FILTER_FLAG_LOG).
    pub log: bool,
}

impl Stopped {
    /// As long as it is traced, seccomp does not look at its calls (PTRACE_O_SUSPEND_SECCOMP). Only for a thread that stands: one that
    /// ran its program like this would be free.
    ///
    /// # Errors
    /// EPERM: this process lacks CAP_SYS_ADMIN, or is itself under seccomp.
    pub fn suspend_seccomp(&self, kill_on_exit: bool) -> Result<()> {
        self.suspend_seccomp_with(if kill_on_exit { libc::PTRACE_O_EXITKILL } else { 0 })
    }

    pub(crate) fn suspend_seccomp_with(&self, options: libc::c_int) -> Result<()> {
        let options = (libc::PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP | options) as usize;
        request("suspend seccomp", libc::PTRACE_SETOPTIONS, self.tid(), 0, options as *mut _).map(drop)
    }

    /// Its filter of this number, the one installed first being 0. None: it has not so many.
    ///
    /// # Errors
    /// EACCES: this process lacks CAP_SYS_ADMIN, or is itself under seccomp.
    pub fn seccomp_filter(&self, number: usize) -> Result<Option<Filter>> {
        let mut program = vec![0u8; LONGEST * INSTRUCTION];
        let (op, to) = (PTRACE_SECCOMP_GET_FILTER, program.as_mut_ptr().cast());
        // The kernel writes no more than the longest filter that it accepts.
        let length = match request("read a seccomp filter", op, self.tid(), number, to) {
            Ok(length) => length as usize,
            Err(Error::Tracee { source: Errno::ENOENT, .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        program.truncate(length * INSTRUCTION);
        // `struct seccomp_metadata`: the number, then flags.
        let mut metadata = [number as u64, 0];
        let size = size_of_val(&metadata);
        let op = PTRACE_SECCOMP_GET_METADATA;
        request("read a seccomp filter's flags", op, self.tid(), size, metadata.as_mut_ptr().cast())?;
        Ok(Some(Filter { program, log: metadata[1] & SECCOMP_FILTER_FLAG_LOG != 0 }))
    }
}
