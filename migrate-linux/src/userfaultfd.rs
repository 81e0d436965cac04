//! userfaultfd(2) and its ioctls: tracking what a process writes, and filling its pages.
//!
//! A userfaultfd belongs to the address space of the process that made it: taken over by pidfd_getfd(2), it
//! is used from outside while the process runs. All addresses and lengths are in bytes and multiples of the
//! page size.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use linux_raw_sys::{general as raw, ioctl};

/// Features to ask for in [`UserFaultFd::api`]: include/uapi/linux/userfaultfd.h.
pub mod feature {
    use linux_raw_sys::general as raw;

    /// Write-protection is lifted by the kernel itself, without a message (Linux 6.7).
    pub const WP_ASYNC: u64 = raw::UFFD_FEATURE_WP_ASYNC as u64;
    /// Pages that do not exist yet can be write-protected too (Linux 6.4).
    pub const WP_UNPOPULATED: u64 = raw::UFFD_FEATURE_WP_UNPOPULATED as u64;
    /// Write-protection of shared memory and hugetlbfs (Linux 5.19).
    pub const WP_HUGETLBFS_SHMEM: u64 = raw::UFFD_FEATURE_WP_HUGETLBFS_SHMEM as u64;

    /// Tells of forks, of memory that is moved or unmapped, and of pages that are given back; the program waits until it is read
    /// ([`crate::userfault_events`]). Needs CAP_SYS_PTRACE.
    pub const EVENTS: u64 = raw::UFFD_FEATURE_EVENT_FORK as u64
        | raw::UFFD_FEATURE_EVENT_REMAP as u64
        | raw::UFFD_FEATURE_EVENT_REMOVE as u64
        | raw::UFFD_FEATURE_EVENT_UNMAP as u64;

    /// What tracking writes needs.
    pub const TRACKING: u64 = WP_ASYNC | WP_UNPOPULATED | WP_HUGETLBFS_SHMEM;
}

// Not in the bindings: the mode of include/uapi/linux/userfaultfd.h.
const WRITEPROTECT_MODE_WP: u64 = 1;

/// A userfaultfd. Dropping it ends the registrations when no other descriptor of it is left.
#[derive(Debug)]
pub struct UserFaultFd(OwnedFd);

impl From<OwnedFd> for UserFaultFd {
    /// Takes a userfaultfd that another process has made. Of anything else every call fails with `ENOTTY`.
    fn from(fd: OwnedFd) -> UserFaultFd {
        UserFaultFd(fd)
    }
}

impl AsFd for UserFaultFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl UserFaultFd {
    /// A userfaultfd of this process, to see what the kernel can do.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_PTRACE` unless vm.unprivileged_userfaultfd is 1, `ENOSYS` on a kernel
    /// without it.
    pub fn local_new() -> io::Result<UserFaultFd> {
        // SAFETY: makes a descriptor and touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
        Ok(UserFaultFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Agrees on the interface and switches `features` on: once, before anything else. Returns all the features
    /// that the kernel has.
    ///
    /// # Errors
    /// `EINVAL` when the kernel lacks one of them, or at the second call.
    pub fn api(&self, features: u64) -> io::Result<u64> {
        let mut argument = raw::uffdio_api { api: raw::UFFD_API.into(), features, ioctls: 0 };
        self.call(ioctl::UFFDIO_API, &mut argument)?;
        Ok(argument.features)
    }

    /// Registers every mapping in `range` for write-protection. Nothing is protected yet; a mapping made
    /// later is not registered.
    ///
    /// # Errors
    /// `EINVAL` where a mapping of a kind that cannot be tracked is in the range (vvar, vdso), or none at
    /// all; `EBUSY` where another userfaultfd is registered; `ESRCH` when the process has ended; `EPERM` for
    /// a shared mapping of a file that may not be written.
    pub fn register_wp(&self, range: Range<u64>) -> io::Result<()> {
        self.register(range, raw::UFFDIO_REGISTER_MODE_WP.into())
    }

    /// Registers every mapping in `range` for missing pages: a thread that touches one waits until it is
    /// filled by [`UserFaultFd::copy`] or [`UserFaultFd::zeropage`].
    ///
    /// # Errors
    /// As [`UserFaultFd::register_wp`].
    pub fn register_missing(&self, range: Range<u64>) -> io::Result<()> {
        self.register(range, raw::UFFDIO_REGISTER_MODE_MISSING.into())
    }

    fn register(&self, range: Range<u64>, mode: u64) -> io::Result<()> {
        let mut argument = raw::uffdio_register { range: raw_range(range)?, mode, ioctls: 0 };
        self.call(ioctl::UFFDIO_REGISTER, &mut argument)
    }

    /// Ends the registration of all mappings in `range`, and their write-protection with it.
    ///
    /// # Errors
    /// `EINVAL` where no mapping, or one of a kind that cannot be registered, is in the range.
    pub fn unregister(&self, range: Range<u64>) -> io::Result<()> {
        self.call(ioctl::UFFDIO_UNREGISTER, &mut raw_range(range)?)
    }

    /// Write-protects the pages of `range`, or lifts that. Without [`feature::WP_ASYNC`] a thread that writes
    /// to a protected page waits until it is lifted.
    ///
    /// # Errors
    /// `ENOENT` where the range is not registered for it; `EAGAIN` when the process is just changing its
    /// mappings.
    pub fn write_protect(&self, range: Range<u64>, protect: bool) -> io::Result<()> {
        let mut argument =
            raw::uffdio_writeprotect { range: raw_range(range)?, mode: if protect { WRITEPROTECT_MODE_WP } else { 0 } };
        self.call(ioctl::UFFDIO_WRITEPROTECT, &mut argument)
    }

    /// Fills the missing pages from `destination` on with `source`, each in one step, and wakes who waits for
    /// them.
    ///
    /// # Errors
    /// `EEXIST` where a page is there already (those before it have been filled), `ENOENT` where the place is
    /// not registered, `ESRCH` when the process has ended.
    pub fn copy(&self, destination: u64, source: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < source.len() {
            done += self.copy_some(destination.wrapping_add(done as u64), &source[done..])?;
        }
        Ok(())
    }

    /// As [`UserFaultFd::copy`], but fills only as many pages as can be in one go, up to one that is there already. Returns the bytes.
    ///
    /// # Errors
    /// As for that; then none has been filled.
    pub fn copy_some(&self, destination: u64, source: &[u8]) -> io::Result<usize> {
        let mut argument = raw::uffdio_copy {
            dst: destination,
            src: source.as_ptr() as u64,
            len: source.len() as u64,
            mode: 0,
            copy: 0,
        };
        let result = self.call(ioctl::UFFDIO_COPY, &mut argument);
        progress(result, argument.copy, source.len())
    }

    /// Fills the missing pages of `range` with the page of zeroes, and wakes who waits for them.
    ///
    /// # Errors
    /// As [`UserFaultFd::copy`]; `EINVAL` for hugetlbfs.
    pub fn zeropage(&self, range: Range<u64>) -> io::Result<()> {
        let mut left = raw_range(range)?;
        while left.len > 0 {
            let mut argument = raw::uffdio_zeropage { range: left, mode: 0, zeropage: 0 };
            let result = self.call(ioctl::UFFDIO_ZEROPAGE, &mut argument);
            let count = progress(result, argument.zeropage, left.len as usize)? as u64;
            left.start += count;
            left.len -= count;
        }
        Ok(())
    }

    /// `argument` must be the structure of `request`.
    fn call<T>(&self, request: u32, argument: &mut T) -> io::Result<()> {
        debug_assert_eq!(request >> 16 & 0x3fff, size_of::<T>() as u32);
        // SAFETY: the number tells the size of the structure, which is that of `argument`; an address in one is
        // either of memory that the caller has borrowed, or of the other process, whose pages are filled or
        // protected only where it had none.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::c_ulong::from(request), &raw mut *argument) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

fn raw_range(range: Range<u64>) -> io::Result<raw::uffdio_range> {
    let len = range.end.checked_sub(range.start).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a range of addresses that ends before it starts: {range:x?}"),
        )
    })?;
    Ok(raw::uffdio_range { start: range.start, len })
}

/// The bytes that a call has done: it fails with `EAGAIN` after a part.
fn progress(result: io::Result<()>, done: i64, wanted: usize) -> io::Result<usize> {
    match result {
        Ok(()) => Ok(wanted),
        Err(why) => match usize::try_from(done) {
            Ok(done) if done > 0 && done <= wanted => Ok(done),
            _ => Err(why),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_files::{SharedMapping, new_shared_anonymous};
    use crate::pagemap::{PAGE_SIZE, PageMap, ScanError, ScanRequest, category};

    const PAGE: usize = PAGE_SIZE as usize;

    /// One that tracks, or a printed reason why not.
    fn tracking() -> Option<UserFaultFd> {
        let made = UserFaultFd::local_new().and_then(|fd| {
            fd.api(feature::TRACKING)?;
            Ok(fd)
        });
        made.inspect_err(|why| println!("SKIPPED userfaultfd: {why}")).ok()
    }

    fn shared(pages: usize) -> (SharedMapping, Range<u64>) {
        let object = new_shared_anonymous(pages * PAGE).unwrap();
        let mapping = SharedMapping::new(&object, pages * PAGE).unwrap();
        let range = mapping.address()..mapping.address() + (pages * PAGE) as u64;
        (mapping, range)
    }

    const WRITTEN: ScanRequest = ScanRequest {
        inverted: 0,
        all_of: category::WRITTEN,
        any_of: 0,
        report: category::WRITTEN,
        write_protect: true,
        check_tracked: true,
    };

    /// The numbers of the pages that a scan of `range` finds.
    fn pages(range: &Range<u64>, regions: &[crate::pagemap::PageRegion]) -> Vec<u64> {
        let each = regions.iter().flat_map(|region| (region.start..region.end).step_by(PAGE));
        each.map(|at| (at - range.start) / PAGE_SIZE).collect()
    }

    #[test]
    fn a_scan_finds_exactly_what_was_written() {
        let Some(fd) = tracking() else { return };
        let map = PageMap::open(std::process::id() as i32).unwrap();
        let (mapping, range) = shared(1000);
        let scan = || {
            let mut regions = Vec::new();
            map.scan(range.clone(), WRITTEN, &mut regions).unwrap();
            pages(&range, &regions)
        };
        fd.register_wp(range.clone()).unwrap();
        assert_eq!(scan().len(), 1000, "the first scan reports everything");
        assert!(scan().is_empty());
        for page in [0, 3, 4, 5, 511, 512, 999] {
            mapping.write(page * PAGE + 8 * page % PAGE, &[1]).unwrap();
        }
        assert_eq!(scan(), [0, 3, 4, 5, 511, 512, 999]);
        assert!(scan().is_empty());
        mapping.read(0, &mut [0; 8]).unwrap();
        assert!(scan().is_empty(), "reading is not writing");
        fd.unregister(range.clone()).unwrap();
        let error = map.scan(range.clone(), WRITTEN, &mut Vec::new());
        assert!(matches!(error, Err(ScanError::Untracked { .. })));
    }

    #[test]
    fn an_untracked_mapping_loses_nothing_that_was_found_before_it() {
        let Some(fd) = tracking() else { return };
        let map = PageMap::open(std::process::id() as i32).unwrap();
        // More regions than one call returns, then pages that are not registered.
        for tracked in [4, 3000] {
            let (mapping, range) = shared(tracked + 2);
            let registered = range.start..range.end - 2 * PAGE_SIZE;
            fd.register_wp(registered.clone()).unwrap();
            map.scan(registered.clone(), WRITTEN, &mut Vec::new()).unwrap();
            let written: Vec<u64> = (0..tracked as u64).step_by(2).collect();
            for page in &written {
                mapping.write(*page as usize * PAGE, &[1]).unwrap();
            }
            let mut regions = Vec::new();
            let error = map.scan(range.clone(), WRITTEN, &mut regions);
            assert!(matches!(error, Err(ScanError::Untracked { .. })));
            // What the failed scan did not report, the next one must.
            map.scan(registered, WRITTEN, &mut regions).unwrap();
            let mut seen = pages(&range, &regions);
            seen.sort_unstable();
            assert!(seen == written, "{} of {}", seen.len(), written.len());
        }
    }

    #[test]
    fn fills_missing_pages() {
        let Ok(fd) = UserFaultFd::local_new() else {
            println!("SKIPPED userfaultfd: this kernel or user has none");
            return;
        };
        fd.api(0).unwrap();
        assert!(fd.api(0).is_err());
        let (mapping, range) = shared(8);
        fd.register_missing(range.clone()).unwrap();
        let source: Vec<u8> = (0..4 * PAGE).map(|at| (at % 255) as u8).collect();
        fd.copy(range.start, &source).unwrap();
        fd.zeropage(range.start + 4 * PAGE_SIZE..range.end).unwrap();
        let mut seen = vec![1; 8 * PAGE];
        mapping.read(0, &mut seen).unwrap();
        assert!(seen[..4 * PAGE] == source);
        assert!(seen[4 * PAGE..].iter().all(|byte| *byte == 0));
        let error = fd.copy(range.start, &source).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        let error = fd.zeropage(range.start..range.end).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    }

    #[test]
    fn what_is_refused() {
        let Ok(fd) = UserFaultFd::local_new() else {
            println!("SKIPPED userfaultfd: this kernel or user has none");
            return;
        };
        assert!(fd.api(1 << 63).is_err());
        #[allow(clippy::reversed_empty_ranges)]
        let backwards = 0x2000..0x1000;
        assert!(fd.register_wp(backwards).is_err());
        let file = UserFaultFd::from(OwnedFd::from(tempfile::tempfile().unwrap()));
        assert!(file.api(0).is_err());
    }
}
