//! New private memory, in which no page is yet. The kernel makes a page of zeros for whoever writes to one that is not there; filling it in
//! at once instead (UFFDIO_COPY, ioctl_userfaultfd(2)) takes a third less time. For that it is registered, and as long as it is, nothing
//! else may touch what is still missing: it would be an error.

use std::io;
use std::ops::Range;

use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::userfaultfd::UserFaultFd;
use nix::libc::EEXIST;

use crate::image::layout::{Backing, Layout, PAGE, Vma};
use crate::proc::smaps::VmFlags;

/// Smaller mappings are not worth it, bytes.
const WORTH: u64 = 16 << 20;

/// Registered memory, until it is dropped.
#[derive(Debug)]
pub struct Fresh {
    userfaultfd: UserFaultFd,
    /// Ascending.
    ranges: Vec<Range<u64>>,
}

/// What of a layout it is worth while for. Huge pages are quicker still, and are made only where they are asked for.
pub fn worth_while(layout: &Layout, huge: &[(u64, u64)]) -> Vec<Range<u64>> {
    let plain = |v: &&Vma| v.backing == Backing::Anonymous && v.flags & (VmFlags::HUGE_PAGE | VmFlags::GROWS_DOWN) == 0;
    let large = layout.vmas.iter().filter(plain).filter(|v| v.len() >= WORTH).map(|v| v.start..v.end);
    large.filter(|range| !huge.iter().any(|(start, end)| *start < range.end && range.start < *end)).collect()
}

impl Fresh {
    /// Registers ranges of the process that has made this userfaultfd, just now.
    ///
    /// # Errors
    /// Those of [`UserFaultFd::api`] and [`UserFaultFd::register_missing`]; then none is registered.
    pub fn register(userfaultfd: UserFaultFd, ranges: Vec<Range<u64>>) -> io::Result<Fresh> {
        userfaultfd.api(0)?;
        ranges.iter().try_for_each(|range| userfaultfd.register_missing(range.clone()))?;
        Ok(Fresh { userfaultfd, ranges })
    }

    /// Whether all of these bytes are in it.
    pub fn has(&self, start: u64, length: u64) -> bool {
        let after = self.ranges.partition_point(|range| range.start <= start);
        let range = after.checked_sub(1).and_then(|n| self.ranges.get(n));
        range.is_some_and(|range| start.checked_add(length).is_some_and(|end| end <= range.end))
    }

    /// Whether a range overlaps with it, or ends where it begins, or begins where it ends.
    pub fn touches(&self, start: u64, end: u64) -> bool {
        self.ranges.iter().any(|range| start <= range.end && range.start <= end)
    }

    /// Puts whole pages in place. One that is there is written over.
    ///
    /// # Errors
    /// Those of [`ProcessMemory::write`].
    pub fn place(&self, at: u64, bytes: &[u8], memory: &ProcessMemory) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let here = at + done as u64;
            done += match self.userfaultfd.copy_some(here, rest) {
                Ok(copied) => copied,
                Err(error) => {
                    // Another error is that of all: it is registered no more, as when the last round begins early.
                    let there = if error.raw_os_error() == Some(EEXIST) { PAGE as usize } else { rest.len() };
                    let over = rest.get(..there).unwrap_or(rest);
                    memory.write(here, over)?;
                    over.len()
                }
            };
        }
        Ok(())
    }

    /// Ends the registration: what is missing is zeros from now on, for everybody.
    pub fn end(&self) {
        for range in &self.ranges {
            // What has been unmapped meanwhile is not registered.
            if let Err(error) = self.userfaultfd.unregister(range.clone()) {
                tracing::debug!("end a registration at {:#x}: {error}", range.start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use migrate_linux::map_files::{SharedMapping, new_shared_anonymous};

    use super::*;

    #[test]
    fn what_is_there_is_written_over_and_what_is_missing_filled_in() {
        let Ok(userfaultfd) = UserFaultFd::local_new() else {
            println!("SKIPPED fresh memory: this kernel or user has no userfaultfd");
            return;
        };
        const PAGES: usize = 8;
        let length = PAGES * PAGE as usize;
        let memory = ProcessMemory::open(std::process::id() as i32).expect("the own memory");
        let mapping = SharedMapping::new(new_shared_anonymous(length).expect("memory"), length).expect("a mapping");
        let start = mapping.address();
        // Pages 2 and 5 are there.
        for page in [2, 5] {
            mapping.write(page * PAGE as usize, &[9; 16]).expect("written");
        }
        let all = std::iter::once(start..start + length as u64).collect();
        let fresh = Fresh::register(userfaultfd, all).expect("registered");
        assert!(fresh.has(start, PAGE) && fresh.has(start + PAGE, 7 * PAGE));
        assert!(fresh.touches(start - PAGE, start) && !fresh.touches(start - 2 * PAGE, start - PAGE));
        assert!(!fresh.has(start, 9 * PAGE) && !fresh.has(start - PAGE, PAGE) && !fresh.has(start + PAGE, u64::MAX));
        let bytes: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        let half = length / 2;
        fresh.place(start, &bytes[..half], &memory).expect("placed");
        fresh.end();
        fresh.place(start + half as u64, &bytes[half..], &memory).expect("also when it is registered no more");
        let mut seen = vec![0; length];
        mapping.read(0, &mut seen).expect("read");
        assert!(seen == bytes);
    }
}
