//! The memory of another process: process_vm_readv(2), process_vm_writev(2) and /proc/PID/mem.
//!
//! The system calls are the fast way, but keep to the protection of each mapping. /proc/PID/mem reads and
//! writes what the process itself may not (`PROT_NONE`, execute-only, read-only private mappings, as a
//! debugger does: `FOLL_FORCE` in fs/proc/base.c), so whatever they refuse goes that way.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

/// The most ranges in one system call: `UIO_MAXIOV` of include/uapi/linux/uio.h.
const MAX_RANGES: usize = 1024;

/// An open address space. It may be used by several threads at once.
///
/// /proc/PID/mem holds on to the address space of the moment when it was opened, while the system calls
/// go by PID: after the process has executed another program, or has ended and its PID was given to
/// another, they disagree. Open it again after an exec, and use it only while the process is held (traced,
/// or a child that has not been waited for).
#[derive(Debug)]
pub struct ProcessMemory {
    pid: i32,
    mem: File,
}

/// An access to the memory of a process that failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {length} bytes at {address:#x} of process {pid}: {source}")]
pub struct MemoryError {
    /// The process.
    pub pid: i32,
    /// The first address that could not be reached.
    pub address: u64,
    /// How many bytes there, at most, could not.
    pub length: usize,
    verb: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

impl From<MemoryError> for io::Error {
    fn from(error: MemoryError) -> io::Error {
        io::Error::new(error.source.kind(), error)
    }
}

impl ProcessMemory {
    /// Opens the memory of process `pid`.
    ///
    /// # Errors
    /// Those of open(2) for /proc/PID/mem: `EACCES` without ptrace access, `ENOENT` when there is no such
    /// process.
    pub fn open(pid: i32) -> io::Result<ProcessMemory> {
        let path = format!("/proc/{pid}/mem");
        let mem = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|why| io::Error::new(why.kind(), format!("cannot open {path}: {why}")))?;
        Ok(ProcessMemory { pid, mem })
    }

    /// The same address space once more, for another owner.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn try_clone(&self) -> io::Result<ProcessMemory> {
        Ok(ProcessMemory { pid: self.pid, mem: self.mem.try_clone()? })
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Fills `buf` with the bytes from `address` on.
    ///
    /// # Errors
    /// A [`MemoryError`] inside; what `buf` then holds is unspecified.
    pub fn read(&self, address: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_ranges(&[(address, buf.len())], buf)
    }

    /// Writes `buf` at `address`.
    ///
    /// A private mapping that is read-only gets a page of its own, as a debugger's breakpoint does.
    ///
    /// # Errors
    /// A [`MemoryError`] inside; a part may have been written.
    pub fn write(&self, address: u64, buf: &[u8]) -> io::Result<()> {
        self.write_ranges(&[(address, buf.len())], buf)
    }

    /// Gathers `ranges`, each an address and a length in bytes, one after the other into `buf`.
    ///
    /// # Errors
    /// `InvalidInput` when the lengths do not add up to that of `buf`; else as [`ProcessMemory::read`].
    pub fn read_ranges(&self, ranges: &[(u64, usize)], buf: &mut [u8]) -> io::Result<()> {
        let mut cursor = Cursor::new(ranges, buf.len())?;
        let mut remote = Vec::with_capacity(ranges.len().min(MAX_RANGES));
        while let Some((address, left)) = cursor.current() {
            let length = cursor.batch(&mut remote);
            let local = &mut buf[cursor.done..cursor.done + length];
            let pid = Pid::from_raw(self.pid);
            match process_vm_readv(pid, &mut [IoSliceMut::new(local)], &remote) {
                Ok(0) => return Err(self.failed("read", address, left, no_progress())),
                Ok(count) => cursor.advance(count),
                Err(Errno::EINTR) => {}
                Err(errno) if refused(errno) => {
                    self.read_forced(address, &mut local[..left])?;
                    cursor.advance(left);
                }
                Err(errno) => return Err(self.failed("read", address, left, errno.into())),
            }
        }
        Ok(())
    }

    /// Scatters `buf` over `ranges`, each an address and a length in bytes, one after the other.
    ///
    /// # Errors
    /// `InvalidInput` when the lengths do not add up to that of `buf`; else as [`ProcessMemory::write`].
    pub fn write_ranges(&self, ranges: &[(u64, usize)], buf: &[u8]) -> io::Result<()> {
        let mut cursor = Cursor::new(ranges, buf.len())?;
        let mut remote = Vec::with_capacity(ranges.len().min(MAX_RANGES));
        while let Some((address, left)) = cursor.current() {
            let length = cursor.batch(&mut remote);
            let local = &buf[cursor.done..cursor.done + length];
            match process_vm_writev(Pid::from_raw(self.pid), &[IoSlice::new(local)], &remote) {
                Ok(0) => return Err(self.failed("write", address, left, no_progress())),
                Ok(count) => cursor.advance(count),
                Err(Errno::EINTR) => {}
                Err(errno) if refused(errno) => {
                    self.write_forced(address, &local[..left])?;
                    cursor.advance(left);
                }
                Err(errno) => return Err(self.failed("write", address, left, errno.into())),
            }
        }
        Ok(())
    }

    fn read_forced(&self, address: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let (at, left) = (address.wrapping_add(done as u64), buf.len() - done);
            match self.mem.read_at(&mut buf[done..], at) {
                Ok(0) => return Err(self.failed("read", at, left, address_space_gone())),
                Ok(count) => done += count,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(self.failed("read", at, left, why)),
            }
        }
        Ok(())
    }

    fn write_forced(&self, address: u64, buf: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let (at, left) = (address.wrapping_add(done as u64), buf.len() - done);
            match self.mem.write_at(&buf[done..], at) {
                Ok(0) => return Err(self.failed("write", at, left, address_space_gone())),
                Ok(count) => done += count,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(self.failed("write", at, left, why)),
            }
        }
        Ok(())
    }

    fn failed(&self, verb: &'static str, address: u64, length: usize, source: io::Error) -> io::Error {
        MemoryError { pid: self.pid, address, length, verb, source }.into()
    }
}

/// Errors of process_vm_* after which /proc/PID/mem may still do it: the protection of the mapping, a
/// security module, a kernel without the calls.
fn refused(errno: Errno) -> bool {
    matches!(errno, Errno::EFAULT | Errno::EPERM | Errno::ENOSYS)
}

fn no_progress() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel moved no byte")
}

fn address_space_gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "its address space is gone: the process has ended or executed another program",
    )
}

/// A place in a list of ranges.
struct Cursor<'a> {
    ranges: &'a [(u64, usize)],
    /// Bytes of the first range that are done.
    within: usize,
    /// Bytes of all ranges that are done: the place in the buffer.
    done: usize,
}

impl<'a> Cursor<'a> {
    fn new(ranges: &'a [(u64, usize)], buffer: usize) -> io::Result<Cursor<'a>> {
        let total = ranges.iter().try_fold(0_usize, |sum, range| sum.checked_add(range.1));
        if total != Some(buffer) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("memory ranges of other than the {buffer} bytes of their buffer"),
            ));
        }
        let mut cursor = Cursor { ranges, within: 0, done: 0 };
        cursor.advance(0);
        Ok(cursor)
    }

    /// Where to go on, and how many bytes of that range are left; `None` at the end.
    fn current(&self) -> Option<(u64, usize)> {
        let &(address, length) = self.ranges.first()?;
        Some((address.wrapping_add(self.within as u64), length - self.within))
    }

    /// Fills `remote` with the next ranges and returns their length in bytes.
    fn batch(&self, remote: &mut Vec<RemoteIoVec>) -> usize {
        remote.clear();
        let mut skip = self.within;
        let mut total = 0;
        for &(address, length) in self.ranges.iter().take(MAX_RANGES) {
            remote.push(RemoteIoVec { base: (address as usize).wrapping_add(skip), len: length - skip });
            total += length - skip;
            skip = 0;
        }
        total
    }

    fn advance(&mut self, count: usize) {
        self.done += count;
        self.within += count;
        // Empty ranges are skipped as well: a call that has nothing else would never get anywhere.
        while let Some((first, rest)) = self.ranges.split_first() {
            if self.within < first.1 {
                break;
            }
            self.within -= first.1;
            self.ranges = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};
    use std::num::NonZeroUsize;
    use std::ptr::NonNull;

    const PAGE: usize = 4096;

    /// Pages of this process, which the tests reach as if it were another.
    struct Pages {
        at: NonNull<std::ffi::c_void>,
        count: usize,
    }

    impl Pages {
        fn new(count: usize) -> Pages {
            // SAFETY: the kernel chooses the place.
            let at = unsafe {
                mmap_anonymous(
                    None,
                    NonZeroUsize::new(count * PAGE).unwrap(),
                    ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                    MapFlags::MAP_PRIVATE,
                )
            }
            .unwrap();
            Pages { at, count }
        }

        fn address(&self, page: usize) -> u64 {
            self.at.as_ptr() as u64 + (page * PAGE) as u64
        }

        fn protect(&self, page: usize, protection: ProtFlags) {
            assert!(page < self.count);
            // SAFETY: inside this mapping, to which no reference exists.
            unsafe { mprotect(self.at.byte_add(page * PAGE), PAGE, protection) }.unwrap();
        }
    }

    impl Drop for Pages {
        fn drop(&mut self) {
            // SAFETY: the whole of a mapping that nothing else refers to.
            unsafe { nix::sys::mman::munmap(self.at, self.count * PAGE) }.unwrap();
        }
    }

    fn own() -> ProcessMemory {
        ProcessMemory::open(std::process::id() as i32).unwrap()
    }

    #[test]
    fn may_be_shared_by_threads() {
        fn check<T: Send + Sync>() {}
        check::<ProcessMemory>();
    }

    #[test]
    fn writes_and_reads_more_ranges_than_one_call_takes() {
        let memory = own();
        let pages = Pages::new(2500);
        let ranges: Vec<_> =
            (0..2500).rev().map(|page| (pages.address(page), if page % 7 == 0 { 0 } else { 100 })).collect();
        let total: usize = ranges.iter().map(|range| range.1).sum();
        let sent: Vec<u8> = (0..total).map(|at| (at % 251) as u8).collect();
        memory.write_ranges(&ranges, &sent).unwrap();
        let mut back = vec![0; total];
        memory.read_ranges(&ranges, &mut back).unwrap();
        assert_eq!(sent, back);
    }

    #[test]
    fn goes_on_past_protected_pages() {
        let memory = own();
        let pages = Pages::new(8);
        let sent: Vec<u8> = (0..8 * PAGE).map(|at| (at / 13) as u8).collect();
        memory.write(pages.address(0), &sent).unwrap();
        pages.protect(2, ProtFlags::PROT_NONE);
        pages.protect(4, ProtFlags::PROT_EXEC);
        pages.protect(6, ProtFlags::PROT_READ);
        let each: Vec<_> = (0..8).map(|page| (pages.address(page), PAGE)).collect();
        let whole = vec![(pages.address(0), 8 * PAGE)];
        for ranges in [&each, &whole] {
            let mut back = vec![0; 8 * PAGE];
            memory.read_ranges(ranges, &mut back).unwrap();
            assert!(back == sent);
            let other: Vec<u8> = sent.iter().map(|byte| !byte).collect();
            memory.write_ranges(ranges, &other).unwrap();
            memory.read_ranges(ranges, &mut back).unwrap();
            assert!(back == other);
            memory.write_ranges(ranges, &sent).unwrap();
        }
    }

    #[test]
    fn an_error_names_the_address() {
        let memory = own();
        let error = memory.read(0x1234_5000, &mut [0; 16]).unwrap_err();
        assert!(error.to_string().contains("0x12345000"), "{error}");
        let error = memory.write(u64::MAX - 4, &[0; 16]).unwrap_err();
        assert!(error.to_string().contains("0xfffffffffffffffb"), "{error}");
        let error = memory.read_ranges(&[(0x1000, 5)], &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        memory.read(0x1234_5000, &mut []).unwrap();
        assert!(ProcessMemory::open(-1).is_err());
    }

    #[test]
    fn a_process_that_has_ended_is_an_error() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let memory = ProcessMemory::open(child.id() as i32).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let mut byte = [0];
        assert!(memory.read(0x40_0000, &mut byte).is_err());
        assert!(memory.read_forced(0x40_0000, &mut byte).is_err());
    }
}
