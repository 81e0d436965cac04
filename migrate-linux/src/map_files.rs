//! The object behind a shared mapping: /proc/PID/map_files, and shared memory of this process's own.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Opens the object that process `pid` has mapped at exactly `start`-`end` (two addresses, as
/// /proc/PID/maps gives them): the one way to reach shared anonymous memory or a deleted file.
///
/// # Errors
/// `ENOENT` when there is no file mapping with just these bounds, `EPERM` without `CAP_SYS_ADMIN` or
/// `CAP_CHECKPOINT_RESTORE` in the initial user namespace (proc(5)), `EACCES` for a way that the object may
/// not be opened.
pub fn open_mapped(pid: i32, start: u64, end: u64, write: bool) -> io::Result<File> {
    open_map_file(&format!("/proc/{pid}/map_files/{start:x}-{end:x}"), write)
}

/// Whether process `pid` has a file mapping with exactly these bounds.
pub fn is_mapped(pid: i32, start: u64, end: u64) -> bool {
    std::fs::symlink_metadata(format!("/proc/{pid}/map_files/{start:x}-{end:x}")).is_ok()
}

fn open_map_file(path: &str, write: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(write)
        .open(path)
        .map_err(|why| io::Error::new(why.kind(), format!("cannot open the mapped object {path}: {why}")))
}

/// Makes the object of a `MAP_SHARED | MAP_ANONYMOUS` mapping of `length` bytes, rounded up to whole pages.
///
/// Wherever the descriptor is mapped, /proc/PID/maps shows `/dev/zero (deleted)`, as it does for the
/// program that has asked for such memory; a memfd would show its own name there.
///
/// # Errors
/// `InvalidInput` for no bytes or too many, `ENOMEM`, and those of [`open_mapped`].
pub fn new_shared_anonymous(length: usize) -> io::Result<OwnedFd> {
    let length = length
        .checked_next_multiple_of(crate::pagemap::PAGE_SIZE as usize)
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| wrong_length(length))?;
    // SAFETY: the kernel chooses the place, so nothing is replaced.
    let at =
        unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED) }?;
    let start = at.as_ptr() as usize;
    // Two shared mappings are never merged, so the bounds are these.
    let end = start + length.get();
    let opened = open_map_file(&format!("/proc/self/map_files/{start:x}-{end:x}"), true);
    // SAFETY: the mapping made above, which nothing refers to.
    unsafe { munmap(at, length.get()) }?;
    Ok(opened?.into())
}

/// Makes a memfd of `size` bytes that can be sealed. Its content may be executed, where sysctl vm.memfd_noexec does not forbid that.
///
/// The name is for /proc alone: what is too long of it is left out.
///
/// # Errors
/// Those of memfd_create(2) and ftruncate(2).
pub fn new_memfd(name: &[u8], size: u64) -> io::Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    /// Of memfd_create(2), 255 less the prefix and the terminator.
    const LONGEST: usize = 249;
    /// linux/memfd.h, Linux 6.3; without, the kernel logs that it is not said.
    const MFD_EXEC: u32 = 0x10;
    let name: Vec<u8> = name.iter().copied().filter(|byte| *byte != 0).take(LONGEST).collect();
    let name = std::ffi::CString::new(name)?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(name.as_c_str(), flags | MFdFlags::from_bits_retain(MFD_EXEC))
        .or_else(|_| memfd_create(name.as_c_str(), flags))?;
    nix::unistd::ftruncate(&fd, size.try_into().map_err(|_| wrong_length(usize::MAX))?)?;
    Ok(fd)
}

fn wrong_length(length: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{length} bytes of shared memory"))
}

/// A descriptor mapped shared, readable and writable into this process, for memory that a process under
/// migration has mapped too. Unmapped on drop.
///
/// Others may write it at any moment, so there is no slice of it: bytes are copied in and out, by atomic
/// loads and stores.
#[derive(Debug)]
pub struct SharedMapping {
    at: NonNull<u8>,
    length: usize,
}

// SAFETY: all access is by atomics, and the mapping belongs to the process, not to a thread.
unsafe impl Send for SharedMapping {}
// SAFETY: as above; no method gives out a reference to the memory.
unsafe impl Sync for SharedMapping {}

impl SharedMapping {
    /// Maps the first `length` bytes of `fd`.
    ///
    /// The object must keep that size: should another process truncate it, the next access ends this one
    /// with SIGBUS.
    ///
    /// # Errors
    /// `InvalidInput` when `length` is 0 or more than the object has; those of mmap(2).
    pub fn new(fd: impl AsFd, length: usize) -> io::Result<SharedMapping> {
        let size = rustix::fs::fstat(&fd)?.st_size;
        let whole = NonZeroUsize::new(length).filter(|length| {
            // Whole pages: a mapping may go on to the end of the object's last.
            usize::try_from(size)
                .is_ok_and(|size| length.get() <= size.next_multiple_of(crate::pagemap::PAGE_SIZE as usize))
        });
        let whole = whole.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cannot map {length} bytes of an object that has {size}"),
            )
        })?;
        // SAFETY: the kernel chooses the place, so nothing is replaced.
        let at =
            unsafe { mmap(None, whole, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(SharedMapping { at: at.cast(), length })
    }

    /// Where it is in this process.
    pub fn address(&self) -> u64 {
        self.at.as_ptr() as u64
    }

    /// Its length in bytes, never 0.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Copies the bytes from `offset` on into `buf`. Aligned words of eight are each read in one go, the
    /// whole is not.
    ///
    /// # Errors
    /// `InvalidInput` when they are not all inside.
    pub fn read(&self, offset: usize, buf: &mut [u8]) -> io::Result<()> {
        self.check(offset, buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done;
            match buf[done..].first_chunk_mut::<8>() {
                Some(word) if at.is_multiple_of(8) => {
                    *word = self.word(at).load(Ordering::Relaxed).to_ne_bytes();
                    done += 8;
                }
                _ => {
                    buf[done] = self.byte(at).load(Ordering::Relaxed);
                    done += 1;
                }
            }
        }
        Ok(())
    }

    /// Copies `buf` to `offset`. Aligned words of eight are each written in one go, the whole is not.
    ///
    /// # Errors
    /// `InvalidInput` when they are not all inside.
    pub fn write(&self, offset: usize, buf: &[u8]) -> io::Result<()> {
        self.check(offset, buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done;
            match buf[done..].first_chunk::<8>() {
                Some(word) if at.is_multiple_of(8) => {
                    self.word(at).store(u64::from_ne_bytes(*word), Ordering::Relaxed);
                    done += 8;
                }
                _ => {
                    self.byte(at).store(buf[done], Ordering::Relaxed);
                    done += 1;
                }
            }
        }
        Ok(())
    }

    /// The word at `offset`, a multiple of 8, with acquire ordering: what its writer wrote before it is seen
    /// by later reads.
    ///
    /// # Errors
    /// `InvalidInput` when it is not aligned or not inside.
    pub fn load(&self, offset: usize) -> io::Result<u64> {
        self.check_word(offset)?;
        Ok(self.word(offset).load(Ordering::Acquire))
    }

    /// Sets the word at `offset`, a multiple of 8, with release ordering: whoever sees it sees what was
    /// written before.
    ///
    /// # Errors
    /// `InvalidInput` when it is not aligned or not inside.
    pub fn store(&self, offset: usize, value: u64) -> io::Result<()> {
        self.check_word(offset)?;
        self.word(offset).store(value, Ordering::Release);
        Ok(())
    }

    fn check(&self, offset: usize, length: usize) -> io::Result<()> {
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{length} bytes at {offset} are outside of a shared mapping of {} bytes", self.length),
            ));
        }
        Ok(())
    }

    fn check_word(&self, offset: usize) -> io::Result<()> {
        if !offset.is_multiple_of(8) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("offset {offset} of a shared mapping is not that of a word of eight bytes"),
            ));
        }
        self.check(offset, 8)
    }

    /// `offset` must have been checked.
    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset.is_multiple_of(8) && offset + 8 <= self.length);
        // SAFETY: inside the mapping, which lives as long as the reference; aligned, as the start is that of a
        // page; and accessed only by atomics.
        unsafe { AtomicU64::from_ptr(self.at.add(offset).cast::<u64>().as_ptr()) }
    }

    /// `offset` must have been checked.
    fn byte(&self, offset: usize) -> &AtomicU8 {
        debug_assert!(offset < self.length);
        // SAFETY: inside the mapping, which lives as long as the reference, and accessed only by atomics.
        unsafe { AtomicU8::from_ptr(self.at.add(offset).as_ptr()) }
    }
}

impl Drop for SharedMapping {
    fn drop(&mut self) {
        // SAFETY: the whole of the mapping; the borrow checker saw to it that no reference to it is left.
        let _ = unsafe { munmap(self.at.cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of /proc/self/maps that begins at `address`.
    fn maps_line(address: u64) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.starts_with(&format!("{address:x}-")));
        line.unwrap().to_owned()
    }

    #[test]
    fn looks_like_shared_anonymous_memory_and_is_shared() {
        let object = match new_shared_anonymous(5000) {
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                println!("SKIPPED map_files: {why}");
                return;
            }
            object => object.unwrap(),
        };
        assert_eq!(rustix::fs::fstat(&object).unwrap().st_size, 8192);
        let first = SharedMapping::new(&object, 8192).unwrap();
        let line = maps_line(first.address());
        assert!(line.ends_with("/dev/zero (deleted)"), "{line}");
        assert!(line.contains("rw-s"), "{line}");

        let own = std::process::id() as i32;
        let reached = open_mapped(own, first.address(), first.address() + 8192, true).unwrap();
        let second = SharedMapping::new(&reached, 8192).unwrap();
        first.write(3, b"over a word's edge").unwrap();
        let mut seen = [0; 18];
        second.read(3, &mut seen).unwrap();
        assert_eq!(&seen, b"over a word's edge");
        second.store(4096, 77).unwrap();
        assert_eq!(first.load(4096).unwrap(), 77);
        drop(first);
        assert_eq!(second.load(4096).unwrap(), 77);
    }

    #[test]
    fn copies_at_any_offset() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let mapping = SharedMapping::new(&file, 4096).unwrap();
        for offset in 0..20 {
            for length in 0..40 {
                let sent: Vec<u8> = (0..length).map(|at| (at * 7 + offset) as u8 | 1).collect();
                mapping.write(0, &[0; 64]).unwrap();
                mapping.write(offset, &sent).unwrap();
                let mut seen = vec![0; 64];
                mapping.read(0, &mut seen).unwrap();
                assert_eq!(&seen[offset..offset + length], sent);
                assert_eq!(seen.iter().filter(|byte| **byte != 0).count(), length);
            }
        }
    }

    #[test]
    fn what_is_outside_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(SharedMapping::new(&file, 1).is_err());
        file.set_len(4096).unwrap();
        assert!(SharedMapping::new(&file, 0).is_err());
        assert!(SharedMapping::new(&file, 4097).is_err());
        let mapping = SharedMapping::new(&file, 4096).unwrap();
        assert_eq!(mapping.length(), 4096);
        assert!(mapping.read(4096, &mut [0]).is_err());
        assert!(mapping.write(4090, &[0; 7]).is_err());
        assert!(mapping.write(usize::MAX, &[0; 7]).is_err());
        assert!(mapping.load(4).is_err());
        assert!(mapping.store(4096, 0).is_err());
        assert!(mapping.load(usize::MAX - 7).is_err());
        mapping.read(4096, &mut []).unwrap();
        assert!(new_shared_anonymous(0).is_err());
        assert!(new_shared_anonymous(usize::MAX).is_err());
        assert!(open_mapped(std::process::id() as i32, 0x1000, 0x2000, false).is_err());
    }
}
