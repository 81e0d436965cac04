//! Running a BPF program for each thread, or each descriptor, of a process (Documentation/bpf/bpf_iterators.rst), with bpf(2): aya binds
//! iterators to the whole system only.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{Context, Error, Result};

/// A program of the kind `iter/task` or `iter/task_file`, bound to one process or thread.
#[derive(Debug)]
pub struct TaskIterator {
    link: OwnedFd,
    what: String,
}

/// What the program writes, while it runs for one after the other.
#[derive(Debug)]
pub struct Reading<'t> {
    file: File,
    of: &'t TaskIterator,
}

impl TaskIterator {
    /// Binds the program to a process.
    pub fn of_process(program: BorrowedFd<'_>, pid: i32) -> Result<TaskIterator> {
        let info = IterInfo { tid: 0, pid: pid as u32, pid_fd: 0, _unused: 0 };
        TaskIterator::bind(program, &info, format!("process {pid}"))
    }

    /// Binds it to one thread.
    pub fn of_thread(program: BorrowedFd<'_>, tid: i32) -> Result<TaskIterator> {
        let info = IterInfo { tid: tid as u32, pid: 0, pid_fd: 0, _unused: 0 };
        TaskIterator::bind(program, &info, format!("thread {tid}"))
    }

    /// Binds a program for descriptors to those of a process; `alive` is a thread of it that has not ended. Where that is not the first one,
    /// the kernel would go through the table that all share once for each (`task_group_seq_get_next`, kernel/bpf/task_iter.c).
    pub fn of_descriptors(program: BorrowedFd<'_>, pid: i32, alive: i32) -> Result<TaskIterator> {
        if alive == pid { TaskIterator::of_process(program, pid) } else { TaskIterator::of_thread(program, alive) }
    }

    fn bind(program: BorrowedFd<'_>, info: &IterInfo, what: String) -> Result<TaskIterator> {
        let link = LinkCreate {
            program: program.as_raw_fd() as u32,
            target: 0,
            attach_type: libc_bpf::TRACE_ITER,
            flags: 0,
            info: info as *const IterInfo as u64,
            info_size: size_of::<IterInfo>() as u32,
            _pad: 0,
        };
        // SAFETY: the attributes of that command, and what they point at lives until it returns.
        let link = unsafe { bpf(libc_bpf::LINK_CREATE, &link) };
        Ok(TaskIterator { link: link.doing(|| format!("bind the probe to {what}"))?, what })
    }

    /// Runs it for all, and reads every record of `SIZE` bytes that it writes, about `at_once` at a time.
    pub fn records<T, const SIZE: usize>(
        &self,
        at_once: usize,
        from_bytes: impl Fn(&[u8; SIZE]) -> T,
    ) -> Result<Vec<T>> {
        let mut records = Vec::new();
        // Each read returns whole records (bpf_seq_read, kernel/bpf/bpf_iter.c).
        let mut bytes = vec![0; at_once * SIZE];
        let mut reading = self.begin()?;
        loop {
            let count = reading.read(&mut bytes)?;
            if count == 0 {
                return Ok(records);
            }
            match bytes.get(..count).map(<[u8]>::as_chunks) {
                Some((whole, [])) => records.extend(whole.iter().map(&from_bytes)),
                _ => return Err(Error::Unsupported(format!("the probe of {} returned half a record", self.what))),
            }
        }
    }

    /// Begins to run it.
    pub fn begin(&self) -> Result<Reading<'_>> {
        let iterator = IterCreate { link: self.link.as_raw_fd() as u32, flags: 0 };
        // SAFETY: the attributes of that command.
        let iterator = unsafe { bpf(libc_bpf::ITER_CREATE, &iterator) };
        Ok(Reading { file: File::from(iterator.doing(|| format!("read {} by the probe", self.what))?), of: self })
    }
}

impl Reading<'_> {
    /// Reads whole records: as many as fit and are there. 0: it has been run for all.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        loop {
            match self.file.read(bytes) {
                Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => continue,
                read => return read.doing(|| format!("read {} by the probe", self.of.what)),
            }
        }
    }
}

/// Commands and attach types of bpf(2), include/uapi/linux/bpf.h.
mod libc_bpf {
    pub const LINK_CREATE: i32 = 28;
    pub const ITER_CREATE: i32 = 33;
    pub const TRACE_ITER: u32 = 28;
}

/// `union bpf_attr`, `link_create`.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    info: u64,
    info_size: u32,
    _pad: u32,
}

/// `union bpf_iter_link_info`, `task`.
#[repr(C)]
struct IterInfo {
    tid: u32,
    pid: u32,
    pid_fd: u32,
    _unused: u32,
}

/// `union bpf_attr`, `iter_create`.
#[repr(C)]
struct IterCreate {
    link: u32,
    flags: u32,
}

/// # Safety
/// `attributes` are those of the command, and pointers in them are valid.
unsafe fn bpf<T>(command: i32, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises; the kernel reads as many bytes as it is told.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *const T, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
