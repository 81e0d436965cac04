//! Which pages a process has, and which it has written: /proc/PID/pagemap and its `PAGEMAP_SCAN` ioctl.
//!
//! Documentation/admin-guide/mm/pagemap.rst; fs/proc/task_mmu.c. The ioctl is of Linux 6.7; on an older
//! kernel the same regions come from the entries of the file, with fewer categories.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use linux_raw_sys::general as raw;

/// The size of a page in bytes, on x86-64.
pub const PAGE_SIZE: u64 = 4096;

/// What can be said of a page: bits of [`PageRegion::categories`] and of the masks in a [`ScanRequest`].
pub mod category {
    /// A guard page, MADV_GUARD_INSTALL (`PAGE_IS_GUARD`, Linux 6.15); it is `SWAPPED` too. An older kernel refuses a request that
    /// names it with EINVAL.
    pub const GUARD: u64 = 1 << 8;

    use linux_raw_sys::general as raw;

    /// In a mapping that a userfaultfd tracks with `WP_ASYNC`.
    pub const WPALLOWED: u64 = raw::PAGE_IS_WPALLOWED as u64;
    /// Written since it was last write-protected; also any page that never was.
    pub const WRITTEN: u64 = raw::PAGE_IS_WRITTEN as u64;
    /// A page of a file, or of shared anonymous memory.
    pub const FILE: u64 = raw::PAGE_IS_FILE as u64;
    /// In memory.
    pub const PRESENT: u64 = raw::PAGE_IS_PRESENT as u64;
    /// In swap, or under migration inside the kernel.
    pub const SWAPPED: u64 = raw::PAGE_IS_SWAPPED as u64;
    /// The shared page of zeroes.
    pub const PFNZERO: u64 = raw::PAGE_IS_PFNZERO as u64;
    /// A part of a huge page that is mapped as one.
    pub const HUGE: u64 = raw::PAGE_IS_HUGE as u64;
    /// Written since [`clear_soft_dirty`](super::clear_soft_dirty).
    pub const SOFT_DIRTY: u64 = raw::PAGE_IS_SOFT_DIRTY as u64;

    /// All that the entries of the file can tell: on a kernel without `PAGEMAP_SCAN`.
    pub const OF_ENTRIES: u64 = FILE | PRESENT | SWAPPED | SOFT_DIRTY;
}

/// Consecutive pages of the same categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRegion {
    /// The address of the first page.
    pub start: u64,
    /// The address after the last page.
    pub end: u64,
    /// Bits of [`category`], of those in [`ScanRequest::report`].
    pub categories: u64,
}

/// Which pages a scan finds, and what it does to them. All masks are bits of [`category`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanRequest {
    /// Categories whose sense is inverted for the two conditions below, not in the report.
    pub inverted: u64,
    /// A page is found only when it has all of these...
    pub all_of: u64,
    /// ... and, unless this is 0, one of these.
    pub any_of: u64,
    /// The categories to report; pages that differ in no other make one region.
    pub report: u64,
    /// Write-protects every page found, in the same step as it is looked at (`PM_SCAN_WP_MATCHING`): what is
    /// written later is found by the next scan.
    pub write_protect: bool,
    /// Fails at a mapping that is not tracked with `WP_ASYNC` (`PM_SCAN_CHECK_WPASYNC`). Without it a scan that
    /// write-protects passes such a mapping over in silence, and what was written there is lost.
    pub check_tracked: bool,
}

impl ScanRequest {
    fn matches(&self, categories: u64) -> bool {
        let categories = categories ^ self.inverted;
        categories & self.all_of == self.all_of && (self.any_of == 0 || categories & self.any_of != 0)
    }
}

/// Why a scan stopped.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A mapping in the range is not tracked: it was made, moved or grew since the ranges were registered.
    /// Read the maps again, register what is new, scan again.
    #[error("process {pid} has a mapping in {start:#x}-{end:#x} that is not tracked for writes")]
    Untracked {
        /// The process.
        pid: i32,
        /// The start of the part that was not finished.
        start: u64,
        /// Its end.
        end: u64,
    },
    /// The kernel is too old for what was asked.
    #[error(
        "this kernel has no PAGEMAP_SCAN (Linux 6.7), without which categories {missing:#x} of the pages of \
         process {pid} cannot be told and none can be write-protected; track with soft-dirty or not at all"
    )]
    NeedsScan {
        /// The process.
        pid: i32,
        /// The categories asked for that the entries do not tell.
        missing: u64,
    },
    /// Anything else.
    #[error("cannot scan the pages {start:#x}-{end:#x} of process {pid}: {source}")]
    Kernel {
        /// The process.
        pid: i32,
        /// The start of the part that was not finished.
        start: u64,
        /// Its end.
        end: u64,
        /// What the kernel said.
        source: io::Error,
    },
}

// In a module, as the macro's function is public and unsafe.
mod call {
    nix::ioctl_readwrite! {
        /// See [`PAGEMAP_SCAN`](super::PAGEMAP_SCAN).
        pagemap_scan, b'f', 16, linux_raw_sys::general::pm_scan_arg
    }
}

/// The ioctl's number, `PAGEMAP_SCAN` of include/uapi/linux/fs.h.
pub const PAGEMAP_SCAN: u64 = nix::request_code_readwrite!(b'f', 16, size_of::<raw::pm_scan_arg>()) as u64;

/// Regions in one call. With more, `walk_end` may be that of an inner step of the kernel's, before the last
/// region that it returned.
const REGIONS: usize = 512;
const EMPTY: raw::page_region = raw::page_region { start: 0, end: 0, categories: 0 };

/// The page tables of a process. Like /proc/PID/mem it is bound to the address space of when it was opened.
#[derive(Debug)]
pub struct PageMap {
    pid: i32,
    file: File,
}

impl PageMap {
    /// Opens /proc/PID/pagemap.
    ///
    /// # Errors
    /// Those of open(2): `EACCES` without ptrace access, `ENOENT` when there is no such process.
    pub fn open(pid: i32) -> io::Result<PageMap> {
        let path = format!("/proc/{pid}/pagemap");
        let file = File::open(&path).map_err(|why| io::Error::new(why.kind(), format!("cannot open {path}: {why}")))?;
        Ok(PageMap { pid, file })
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Bytes of the file: 8 for each page.
    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, at).map_err(|why| {
            io::Error::new(why.kind(), format!("cannot read /proc/{}/pagemap at {at:#x}: {why}", self.pid))
        })
    }

    /// Whether the kernel has `PAGEMAP_SCAN`.
    pub fn supports_scan(&self) -> bool {
        let request = ScanRequest { all_of: category::PRESENT, report: category::PRESENT, ..ScanRequest::default() };
        let mut regions = [EMPTY; 1];
        let whole = PAGE_SIZE..2 * PAGE_SIZE;
        self.scan_once(whole, &request, &mut regions).is_ok()
    }

    /// Appends the pages of `range` (addresses, multiples of [`PAGE_SIZE`]) that match the request to `regions`,
    /// in ascending order; on an older kernel from the file's entries.
    ///
    /// The kernel holds the address space's lock meanwhile, and an mmap(2) of the process waits: scan large
    /// ranges in pieces.
    ///
    /// # Errors
    /// See [`ScanError`]. **Use `regions` after an error too**: it holds every page that was found, and perhaps
    /// write-protected, up to there. No later scan finds those again.
    pub fn scan(
        &self,
        range: Range<u64>,
        request: ScanRequest,
        regions: &mut Vec<PageRegion>,
    ) -> Result<(), ScanError> {
        let mut start = range.start;
        let mut found = vec![EMPTY; REGIONS];
        while start < range.end {
            // Zeroes, so that what the kernel has filled in shows even where it returns an error and no count.
            found.fill(EMPTY);
            let outcome = self.scan_once(start..range.end, &request, &mut found);
            let count = match outcome {
                Ok((count, _)) => count.min(REGIONS),
                Err(_) => found.iter().position(|region| region.end == 0).unwrap_or(REGIONS),
            };
            regions.extend(found.iter().take(count).map(|region| PageRegion {
                start: region.start,
                end: region.end,
                categories: region.categories,
            }));
            let last = found[..count].last().map_or(0, |region| region.end);
            let walk_end = match outcome {
                Ok((_, walk_end)) => walk_end,
                Err(nix::Error::ENOTTY) => return self.scan_entries(range, request, regions),
                Err(nix::Error::EPERM) if request.check_tracked => {
                    return Err(ScanError::Untracked { pid: self.pid, start: start.max(last), end: range.end });
                }
                Err(errno) => return Err(self.failed(start.max(last)..range.end, errno.into())),
            };
            if count < REGIONS {
                return Ok(());
            }
            let next = walk_end.max(last);
            if next <= start {
                let stuck = io::Error::other("the kernel's scan made no progress");
                return Err(self.failed(start..range.end, stuck));
            }
            start = next;
        }
        Ok(())
    }

    fn scan_once(
        &self,
        range: Range<u64>,
        request: &ScanRequest,
        found: &mut [raw::page_region],
    ) -> nix::Result<(usize, u64)> {
        let mut flags = 0;
        if request.write_protect {
            flags |= u64::from(raw::PM_SCAN_WP_MATCHING);
        }
        if request.check_tracked {
            flags |= u64::from(raw::PM_SCAN_CHECK_WPASYNC);
        }
        let mut argument = raw::pm_scan_arg {
            size: size_of::<raw::pm_scan_arg>() as u64,
            flags,
            start: range.start,
            end: range.end,
            walk_end: 0,
            vec: found.as_mut_ptr() as u64,
            vec_len: found.len() as u64,
            max_pages: 0,
            category_inverted: request.inverted,
            category_mask: request.all_of,
            category_anyof_mask: request.any_of,
            return_mask: request.report,
        };
        // SAFETY: the argument has the size that it states, and `vec` is `vec_len` regions that nothing else
        // uses during the call. Write-protection under WP_ASYNC is resolved by the kernel, unseen.
        let count = unsafe { call::pagemap_scan(self.file.as_raw_fd(), &mut argument) }?;
        Ok((count as usize, argument.walk_end))
    }

    /// As [`PageMap::scan`], always from the file's entries: 64 bits a page, also for those that do not exist.
    ///
    /// # Errors
    /// [`ScanError::NeedsScan`] when the request asks for more than [`category::OF_ENTRIES`] (but for
    /// `PFNZERO` and `HUGE`, which are taken as unset) or to write-protect.
    pub fn scan_entries(
        &self,
        range: Range<u64>,
        request: ScanRequest,
        regions: &mut Vec<PageRegion>,
    ) -> Result<(), ScanError> {
        let known = category::OF_ENTRIES | category::PFNZERO | category::HUGE;
        let missing = (request.all_of | request.any_of | request.report) & !known;
        if missing != 0 || request.write_protect || request.check_tracked {
            return Err(ScanError::NeedsScan { pid: self.pid, missing });
        }
        let mut bytes = [0; 8 * 1024];
        let mut address = range.start;
        let mut open: Option<PageRegion> = None;
        while address < range.end {
            let pages = (range.end - address).div_ceil(PAGE_SIZE);
            let wanted = bytes.len().min(usize::try_from(pages).unwrap_or(usize::MAX).saturating_mul(8));
            let count = self
                .file
                .read_at(&mut bytes[..wanted], address / PAGE_SIZE * 8)
                .map_err(|why| self.failed(address..range.end, why))?;
            // The end of the file is the end of what a process may map.
            if count < 8 {
                break;
            }
            for entry in bytes[..count].chunks_exact(8) {
                let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
                let categories = categories_of_entry(entry);
                let end = address.saturating_add(PAGE_SIZE);
                if request.matches(categories) {
                    let categories = categories & request.report;
                    match &mut open {
                        Some(region) if region.end == address && region.categories == categories => {
                            region.end = end;
                        }
                        _ => regions.extend(open.replace(PageRegion { start: address, end, categories })),
                    }
                }
                address = end;
            }
        }
        regions.extend(open);
        Ok(())
    }

    fn failed(&self, range: Range<u64>, source: io::Error) -> ScanError {
        ScanError::Kernel { pid: self.pid, start: range.start, end: range.end, source }
    }
}

/// The categories that an entry of /proc/PID/pagemap tells.
fn categories_of_entry(entry: u64) -> u64 {
    let bit = |bit: u32, category: u64| if entry >> bit & 1 == 1 { category } else { 0 };
    bit(63, category::PRESENT) | bit(62, category::SWAPPED) | bit(61, category::FILE) | bit(55, category::SOFT_DIRTY)
}

/// Makes every page of process `pid` clean: those written later are [`category::SOFT_DIRTY`].
///
/// # Errors
/// Those of opening and writing /proc/PID/clear_refs (proc(5)). None tells that the kernel lacks soft-dirty:
/// see [`supports_soft_dirty`].
pub fn clear_soft_dirty(pid: i32) -> io::Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    let failed = |why: io::Error| io::Error::new(why.kind(), format!("cannot write 4 to {path}: {why}"));
    let mut file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
    io::Write::write_all(&mut file, b"4").map_err(failed)
}

/// Whether this kernel tracks soft-dirty pages (`CONFIG_MEM_SOFT_DIRTY`), seen at a page of this process.
///
/// # Errors
/// When this process cannot read its own pagemap.
pub fn supports_soft_dirty() -> io::Result<bool> {
    // A page that has just been written is soft-dirty wherever there is such a thing.
    let mut page = vec![0_u8; 2 * PAGE_SIZE as usize];
    page.fill(std::hint::black_box(1));
    let address = (page.as_ptr() as u64).next_multiple_of(PAGE_SIZE);
    let mut entry = [0; 8];
    let path = "/proc/self/pagemap";
    File::open(path)
        .and_then(|file| file.read_exact_at(&mut entry, address / PAGE_SIZE * 8))
        .map_err(|why| io::Error::new(why.kind(), format!("cannot read {path}: {why}")))?;
    std::hint::black_box(&page);
    Ok(categories_of_entry(u64::from_ne_bytes(entry)) & category::SOFT_DIRTY != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_files::SharedMapping;

    fn own() -> PageMap {
        PageMap::open(std::process::id() as i32).unwrap()
    }

    /// Every second page of `pages` of shared memory touched: as many regions as can be.
    fn every_second(pages: usize) -> SharedMapping {
        let length = pages * PAGE_SIZE as usize;
        let object = crate::map_files::new_shared_anonymous(length).unwrap();
        let mapping = SharedMapping::new(&object, length).unwrap();
        for page in (0..pages).step_by(2) {
            mapping.write(page * PAGE_SIZE as usize, &[1]).unwrap();
        }
        mapping
    }

    const PRESENT: ScanRequest = ScanRequest {
        inverted: 0,
        all_of: category::PRESENT,
        any_of: 0,
        report: category::PRESENT,
        write_protect: false,
        check_tracked: false,
    };

    fn expected(mapping: &SharedMapping, pages: u64) -> Vec<PageRegion> {
        (0..pages)
            .step_by(2)
            .map(|page| PageRegion {
                start: mapping.address() + page * PAGE_SIZE,
                end: mapping.address() + (page + 1) * PAGE_SIZE,
                categories: category::PRESENT,
            })
            .collect()
    }

    #[test]
    fn finds_thousands_of_regions_both_ways() {
        const PAGES: u64 = 6001;
        let mapping = every_second(PAGES as usize);
        let range = mapping.address()..mapping.address() + PAGES * PAGE_SIZE;
        let map = own();
        let mut by_entries = Vec::new();
        map.scan_entries(range.clone(), PRESENT, &mut by_entries).unwrap();
        assert!(by_entries == expected(&mapping, PAGES));
        if !map.supports_scan() {
            println!("SKIPPED PAGEMAP_SCAN: this kernel has none (Linux 6.7)");
            return;
        }
        let mut by_scan = Vec::new();
        map.scan(range.clone(), PRESENT, &mut by_scan).unwrap();
        assert!(by_scan == by_entries);

        // The rest: inverted, and nothing but exactly that.
        let absent = ScanRequest { inverted: category::PRESENT, ..PRESENT };
        let (mut by_entries, mut by_scan) = (Vec::new(), Vec::new());
        map.scan_entries(range.clone(), absent, &mut by_entries).unwrap();
        map.scan(range, absent, &mut by_scan).unwrap();
        assert_eq!(by_entries.len(), PAGES as usize / 2);
        assert!(by_scan == by_entries);
    }

    #[test]
    fn the_whole_address_space_can_be_scanned() {
        let map = own();
        if !map.supports_scan() {
            println!("SKIPPED PAGEMAP_SCAN: this kernel has none (Linux 6.7)");
            return;
        }
        let value = Box::new(5_u64);
        let address = &raw const *value as u64;
        let mut regions = Vec::new();
        map.scan(0..1 << 47, PRESENT, &mut regions)
            .or_else(|_| map.scan(0..(1 << 47) - PAGE_SIZE, PRESENT, &mut regions))
            .unwrap();
        assert!(regions.iter().any(|region| (region.start..region.end).contains(&address)));
        assert!(regions.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn entries_tell_no_writes() {
        let map = own();
        let request = ScanRequest { all_of: category::WRITTEN, ..PRESENT };
        let refused = map.scan_entries(0..PAGE_SIZE, request, &mut Vec::new());
        assert!(matches!(refused, Err(ScanError::NeedsScan { .. })));
    }

    #[test]
    fn soft_dirty_is_probed() {
        let probed = supports_soft_dirty().unwrap();
        println!("soft-dirty: {probed}");
        if !probed {
            println!("SKIPPED soft-dirty: this kernel has none (CONFIG_MEM_SOFT_DIRTY)");
            return;
        }
        let mapping = every_second(10);
        clear_soft_dirty(std::process::id() as i32).unwrap();
        mapping.write(4 * PAGE_SIZE as usize, &[1]).unwrap();
        let request = ScanRequest { all_of: category::SOFT_DIRTY, report: category::SOFT_DIRTY, ..PRESENT };
        let mut regions = Vec::new();
        let range = mapping.address()..mapping.address() + 10 * PAGE_SIZE;
        own().scan_entries(range, request, &mut regions).unwrap();
        let starts: Vec<_> = regions.iter().map(|region| region.start).collect();
        assert_eq!(starts, [mapping.address() + 4 * PAGE_SIZE]);
    }
}
