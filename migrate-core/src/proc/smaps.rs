//! `/proc/PID/smaps`: the flags and page counts of each mapping (proc_pid_smaps(5), fs/proc/task_mmu.c
//! `show_smap`).
//!
//! The kernel walks every page table to print it: about 9 µs a mapping, so it is read before the freeze.

use super::maps::take_range;
use super::text::{lines, number, split_once, words};
use super::{Malformed, read_parsed};
use std::io;

/// One mapping's part of `/proc/PID/smaps`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmapsEntry {
    /// First byte's address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// Resident, in kB.
    pub rss_kb: u64,
    /// Resident, mapped by this process alone and dirty, in kB.
    pub private_dirty_kb: u64,
    /// Swapped out, in kB.
    pub swap_kb: u64,
    /// In huge pages, of what no file is behind, in kB.
    pub huge_kb: u64,
    /// Locked, in kB.
    pub locked_kb: u64,
    /// Protection key; 0: none of its own, or a CPU without.
    pub protection_key: u64,
    /// The `VmFlags` line.
    pub flags: VmFlags,
}

/// The two-letter codes of a `VmFlags` line as a set. The bits are this type's own, not the kernel's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmFlags {
    bits: u64,
    unknown: Vec<Vec<u8>>,
}

macro_rules! vm_flags {
    ($($bit:literal $name:ident $code:literal $doc:literal,)*) => {
        impl VmFlags {
            $(#[doc = concat!("`", $code, "`: ", $doc)] pub const $name: u64 = 1 << $bit;)*

            const CODES: &'static [(&'static str, u64)] = &[$(($code, 1 << $bit)),*];
        }
    };
}

vm_flags! {
    0 READ "rd" "readable",
    1 WRITE "wr" "writable",
    2 EXEC "ex" "executable",
    3 SHARED "sh" "shared",
    4 MAY_READ "mr" "may be made readable",
    5 MAY_WRITE "mw" "may be made writable",
    6 MAY_EXEC "me" "may be made executable",
    7 MAY_SHARE "ms" "may be shared",
    8 GROWS_DOWN "gd" "grows down (MAP_GROWSDOWN, the stack)",
    9 PFN_MAP "pf" "pages without a struct page",
    10 DENY_WRITE "dw" "the file may not be written (before Linux 5.15)",
    11 LOCKED "lo" "locked (mlock)",
    12 IO "io" "memory of a device",
    13 SEQUENTIAL "sr" "MADV_SEQUENTIAL",
    14 RANDOM "rr" "MADV_RANDOM",
    15 DONT_FORK "dc" "MADV_DONTFORK",
    16 DONT_EXPAND "de" "cannot grow by mremap",
    17 LOCK_ON_FAULT "lf" "locked as faulted in (MLOCK_ONFAULT)",
    18 ACCOUNTABLE "ac" "counts as committed memory",
    19 NO_RESERVE "nr" "MAP_NORESERVE",
    20 HUGETLB "ht" "huge pages of hugetlbfs",
    21 SYNC "sf" "MAP_SYNC",
    22 NONLINEAR "nl" "remap_file_pages (before Linux 4.0)",
    23 ARCH "ar" "architecture's own",
    24 WIPE_ON_FORK "wf" "MADV_WIPEONFORK",
    25 DONT_DUMP "dd" "MADV_DONTDUMP",
    26 SOFT_DIRTY "sd" "soft-dirty",
    27 MIXED_MAP "mm" "pages with and without a struct page",
    28 HUGE_PAGE "hg" "MADV_HUGEPAGE",
    29 NO_HUGE_PAGE "nh" "MADV_NOHUGEPAGE",
    30 MERGEABLE "mg" "MADV_MERGEABLE, or a process with PR_SET_MEMORY_MERGE",
    31 BTI "bt" "branch targets are checked (arm64)",
    32 MEMORY_TAGS "mt" "memory tags (arm64)",
    33 UFFD_MISSING "um" "userfaultfd: missing pages",
    34 UFFD_WP "uw" "userfaultfd: write protection",
    35 UFFD_MINOR "ui" "userfaultfd: minor faults",
    36 SHADOW_STACK "ss" "shadow stack",
    37 SEALED "sl" "mseal(2)",
    38 DROPPABLE "dp" "MAP_DROPPABLE",
}

impl VmFlags {
    /// Parses what follows `VmFlags:`. Never fails: an unknown code goes to [`VmFlags::unknown`].
    pub fn parse(codes: &[u8]) -> Self {
        let mut flags = Self::default();
        for word in words(codes) {
            let known = Self::CODES.iter().find(|(code, _)| code.as_bytes() == word);
            match known {
                Some((_, bit)) => flags.bits |= bit,
                None => flags.unknown.push(word.to_vec()),
            }
        }
        flags
    }

    /// Whether every flag of `bits` (constants of this type, or-ed) is set.
    pub fn contains(&self, bits: u64) -> bool {
        self.bits & bits == bits
    }

    /// The known flags, or-ed.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// Codes that this type has no constant for, in their order.
    pub fn unknown(&self) -> &[Vec<u8>] {
        &self.unknown
    }
}

/// Parses the text of `/proc/PID/smaps`.
///
/// # Errors
/// A line that belongs to no mapping, or a size that is not a number.
pub fn parse_smaps(text: &[u8]) -> Result<Vec<SmapsEntry>, Malformed> {
    let mut entries: Vec<SmapsEntry> = Vec::new();
    for (index, line) in lines(text).enumerate() {
        // No key begins with hexadecimal digits and a minus sign.
        if let Some((start, end, _)) = take_range(line) {
            entries.push(SmapsEntry { start, end, ..SmapsEntry::default() });
            continue;
        }
        let (Some(entry), Some((key, value))) = (entries.last_mut(), split_once(line, b':')) else {
            return Err(Malformed::new(format!("line {} belongs to no mapping", index + 1)));
        };
        let amount = || {
            words(value)
                .next()
                .and_then(|word| number(word, 10))
                .ok_or_else(|| Malformed::new(format!("line {} has no number", index + 1)))
        };
        match key {
            b"Rss" => entry.rss_kb = amount()?,
            b"Private_Dirty" => entry.private_dirty_kb = amount()?,
            b"AnonHugePages" => entry.huge_kb = amount()?,
            b"Swap" => entry.swap_kb = amount()?,
            b"Locked" => entry.locked_kb = amount()?,
            b"ProtectionKey" => entry.protection_key = amount()?,
            b"VmFlags" => entry.flags = VmFlags::parse(value),
            _ => {}
        }
    }
    Ok(entries)
}

/// Reads `/proc/PID/smaps`.
///
/// # Errors
/// Those of reading (see [`super::is_gone`]), or InvalidData with a [`super::FileError`].
pub fn read_smaps(pid: i32) -> io::Result<Vec<SmapsEntry>> {
    read_parsed(format!("/proc/{pid}/smaps"), parse_smaps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &[u8] = b"5616193ea000-5616193ec000 r--p 00000000 fe:00 247030    /tmp/Rss: 1 kB
Size:                  8 kB
Rss:                   7 kB
Private_Dirty:         6 kB
Anonymous:             0 kB
AnonHugePages:         2 kB
Swap:                  5 kB
SwapPss:               1 kB
Locked:                4 kB
THPeligible:           0
ProtectionKey:         3
VmFlags: rd mr mw me lo zz sl \n\
7f0000000000-7f0000001000 ---p 00000000 00:00 0 
Rss:                   0 kB
VmFlags: mr mw me nh 
";

    #[test]
    fn flags_and_sizes() {
        let entries = parse_smaps(SAMPLE).unwrap();
        let [first, second] = entries.as_slice() else {
            panic!("{entries:?}");
        };
        assert_eq!((first.start, first.end), (0x5616193ea000, 0x5616193ec000));
        assert_eq!((first.rss_kb, first.private_dirty_kb, first.swap_kb, first.locked_kb), (7, 6, 5, 4));
        assert_eq!((first.huge_kb, first.protection_key, second.protection_key), (2, 3, 0));
        assert!(first.flags.contains(VmFlags::READ | VmFlags::LOCKED | VmFlags::SEALED));
        assert!(!first.flags.contains(VmFlags::WRITE));
        assert_eq!(first.flags.unknown(), [b"zz".to_vec()]);
        assert!(second.flags.contains(VmFlags::NO_HUGE_PAGE));
        assert_eq!(second.start, 0x7f0000000000);
    }

    #[test]
    fn every_code_has_its_own_bit() {
        let all = VmFlags::CODES.iter().fold(0, |bits, (_, bit)| bits | bit);
        assert_eq!(all.count_ones() as usize, VmFlags::CODES.len());
        for (code, bit) in VmFlags::CODES {
            assert_eq!(VmFlags::parse(code.as_bytes()).bits(), *bit);
        }
    }

    #[test]
    fn reads_this_process() {
        let entries = read_smaps(std::process::id() as i32).unwrap();
        assert!(
            entries
                .iter()
                .any(|entry| { entry.flags.contains(VmFlags::GROWS_DOWN | VmFlags::WRITE) && entry.rss_kb > 0 })
        );
        assert!(entries.iter().all(|entry| entry.flags.unknown().is_empty()));
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            let _ = parse_smaps(&text);
        }

        #[test]
        fn any_byte_changed(at in 0..SAMPLE.len(), byte: u8) {
            let mut text = SAMPLE.to_vec();
            text[at] = byte;
            let _ = parse_smaps(&text);
        }
    }
}
