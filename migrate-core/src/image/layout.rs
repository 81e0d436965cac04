//! An address space as data: mappings, the files and shared objects behind them, and the difference of two.

use bincode::{Decode, Encode};

use crate::proc::smaps::VmFlags;
use crate::resources::process::sysv_ipc::Made;

/// Page size on x86_64.
pub const PAGE: u64 = 4096;

/// PROT_READ, PROT_WRITE, PROT_EXEC as in mmap(2).
pub type Protection = u8;
/// PROT_READ
pub const READ: Protection = 1;
/// PROT_WRITE
pub const WRITE: Protection = 2;
/// PROT_EXEC
pub const EXEC: Protection = 4;

/// One mapping.
#[derive(Debug, Clone, Eq, Encode, Decode)]
pub struct Vma {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// What may be done with it.
    pub protection: Protection,
    /// MAP_SHARED.
    pub shared: bool,
    /// What is behind it.
    pub backing: Backing,
    /// Its VmFlags that mmap and madvise can set; bits of [`crate::proc::smaps`].
    pub flags: u64,
    /// Its PR_SET_VMA_ANON_NAME; empty: none.
    pub name: Vec<u8>,
}

impl PartialEq for Vma {
    fn eq(&self, other: &Vma) -> bool {
        let Vma { start, end, protection, shared, backing, flags, name } = self;
        (*start, *end, *protection, *shared, *flags)
            == (other.start, other.end, other.protection, other.shared, other.flags)
            && *backing == other.backing
            && same_name(name, &other.name)
    }
}

/// Nearly all have none. Two empty lists are at no address, and there the C library's comparison takes a quarter of a microsecond: it
/// loads nothing from there, but masked, and the CPU has to find out that this is no fault.
fn same_name(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

/// What is behind a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Backing {
    /// Private memory.
    Anonymous,
    /// A file, by its place in [`Layout::files`].
    File {
        /// Which.
        file: u32,
        /// Byte offset of the mapping's start in it.
        offset: u64,
    },
    /// Memory that has no file at the destination: shared anonymous memory, a memfd, a file that has been deleted.
    Object {
        /// Which, see [`ShmObject`].
        object: u32,
        /// Byte offset of the mapping's start in it.
        offset: u64,
    },
    /// `[vvar]`
    Vvar,
    /// `[vvar_vclock]`
    VvarVclock,
    /// `[vdso]`
    Vdso,
}

/// A file that is mapped.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MappedFile {
    /// Its path, as bytes.
    pub path: Vec<u8>,
    /// A shared mapping of it may be written.
    pub writable: bool,
    /// As it was when it came up; of one that may be written, as it is when the process stands still.
    pub stamp: FileStamp,
}

/// What shows whether the file of a path is the same on two hosts, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub struct FileStamp {
    /// Device and inode, for hosts with one kernel.
    pub inode: (u64, u64),
    /// Bytes.
    pub size: u64,
    /// When it was last changed: seconds and nanoseconds.
    pub modified: (i64, i64),
}

impl FileStamp {
    /// Of a file as stat(2) shows it.
    pub fn of(file: &std::fs::Metadata) -> FileStamp {
        use std::os::unix::fs::MetadataExt;
        FileStamp { inode: (file.dev(), file.ino()), size: file.len(), modified: (file.mtime(), file.mtime_nsec()) }
    }

    /// How the file here differs from this one; None: it is the same. `same_kernel`: both hosts have one.
    pub fn difference(&self, here: &FileStamp, same_kernel: bool) -> Option<String> {
        if same_kernel && self.inode == here.inode {
            return None;
        }
        if self.size != here.size {
            return Some(format!("has {} bytes here and {} there", here.size, self.size));
        }
        (self.modified != here.modified).then(|| "was last changed at another time here than there".into())
    }
}

/// What is behind mappings or descriptors and has no name at the destination. Its content travels with the pages.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ShmObject {
    /// Its number in this migration; page batches name it. Never 0.
    pub id: u32,
    /// Its size in bytes when it came up; see [`ObjectState`] for later ones.
    pub size: u64,
    /// What it is.
    pub form: Form,
    /// Descriptors refer to it: what only mappings show may be a memfd there, whatever it was here.
    pub open: bool,
    /// The process can write it, by a descriptor or by shared memory.
    pub written: bool,
}

/// What an object without a name is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Form {
    /// Shared anonymous memory.
    Anonymous,
    /// Of memfd_create(2).
    Memfd {
        /// The name that was given to that.
        name: Vec<u8>,
    },
    /// A file that has been deleted, or never had a name.
    File {
        /// The path that it had.
        path: Vec<u8>,
        /// Made by O_TMPFILE, so that it can get a name yet.
        nameless: bool,
    },
    /// A file in /dev/shm.
    PosixShm {
        /// Its path.
        path: Vec<u8>,
        /// When it was last written before it was found: seconds and nanoseconds.
        modified: (i64, i64),
    },
    /// A segment of System V shared memory.
    SysV {
        /// Its ID, who made it, and its key, or the one that it had before it was removed.
        made: Made,
        /// It goes with the last attachment.
        removed: bool,
    },
}

/// What an object of a file's kind is beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ObjectState {
    /// Which.
    pub id: u32,
    /// Bytes.
    pub size: u64,
    /// Permissions: the twelve lower bits of st_mode; of a segment of System V shared memory nine, and SHM_LOCKED.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// When it was last read: seconds and nanoseconds.
    pub accessed: (i64, i64),
    /// When it was last written.
    pub modified: (i64, i64),
    /// F_GET_SEALS of fcntl(2), of a memfd.
    pub seals: i32,
    /// Of what has a name in [`Form`]: it has lost it.
    pub removed: bool,
}

/// A whole address space, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct Layout {
    /// The mappings.
    pub vmas: Vec<Vma>,
    /// The files that they name.
    pub files: Vec<MappedFile>,
}

/// How to make one layout into another.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct LayoutChange {
    /// Ranges to unmap first.
    pub unmap: Vec<(u64, u64)>,
    /// Mappings to make then.
    pub map: Vec<Vma>,
    /// Ranges that only change their protection or flags: as they are to be.
    pub adjust: Vec<Vma>,
    /// The new table of files, the old ones first.
    pub files: Vec<MappedFile>,
}

impl LayoutChange {
    /// Of a layout that stays as it is.
    pub fn none(layout: &Layout) -> LayoutChange {
        LayoutChange { files: layout.files.clone(), ..LayoutChange::default() }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.unmap.is_empty() && self.map.is_empty() && self.adjust.is_empty()
    }
}

impl Vma {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has no bytes; never in a valid layout.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of it in a range, which must overlap it.
    fn cut(&self, start: u64, end: u64) -> Vma {
        let mut part = self.clone();
        part.start = self.start.max(start);
        part.end = self.end.min(end);
        let moved = part.start - self.start;
        match &mut part.backing {
            Backing::File { offset, .. } | Backing::Object { offset, .. } => *offset += moved,
            _ => {}
        }
        part
    }

    /// Whether memory of one can be memory of the other by mprotect and madvise alone.
    fn same_memory(&self, other: &Vma) -> bool {
        // Whether it is accounted for follows from whether it ever was writable, and is the kernel's business.
        let stays = |v: &Vma| v.flags & !(crate::memory::layout::ADJUSTABLE_FLAGS | VmFlags::ACCOUNTABLE);
        self.shared == other.shared && self.backing == other.backing && stays(self) == stays(other)
    }
}

impl Layout {
    /// Whether a peer's layout makes sense: ascending, page-aligned, below the top of user space, no file beyond its table, and no
    /// offset beyond what a file can have.
    pub fn is_valid(&self) -> bool {
        let can_be = |v: &Vma, offset: u64| offset.checked_add(v.len()).is_some_and(|end| i64::try_from(end).is_ok());
        ascending(self.vmas.iter().map(|v| (v.start, v.end)))
            && self.vmas.iter().all(|v| match v.backing {
                Backing::File { file, offset } => (file as usize) < self.files.len() && can_be(v, offset),
                Backing::Object { offset, .. } => can_be(v, offset),
                _ => true,
            })
    }

    /// Whether a new mapping, put together from what is there and what is added, would stay in pieces: their pages belong to different
    /// anon_vmas. mremap of the whole would fail then; so it is made anew.
    fn is_patchwork(&self, new: &Vma) -> bool {
        let first = self.vmas.partition_point(|old| old.end <= new.start);
        let mut there = self.vmas[first..].iter().take_while(|old| old.start < new.end);
        let Some(lowest) = there.next() else { return false };
        // The kernel joins what is added below it to the mapping that ends there, if it can, as the original's did not.
        let below = first.checked_sub(1).and_then(|at| self.vmas.get(at));
        there.next().is_some() || lowest.start > new.start && below.is_some_and(|below| goes_on(below, new))
    }

    /// What makes this layout into `new`. File numbers of both must mean the same table, `new` having the longer one.
    ///
    /// Neighbours that differ only in where they are cut are the same.
    pub fn change_to(&self, new: &Layout) -> LayoutChange {
        let mut change = LayoutChange::none(new);
        let mut cuts: Vec<u64> = self.vmas.iter().chain(&new.vmas).flat_map(|v| [v.start, v.end]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut old_at = self.vmas.iter().peekable();
        let mut new_at = new.vmas.iter().map(|v| (v, self.is_patchwork(v))).peekable();
        for pair in cuts.windows(2) {
            let &[start, end] = pair else { continue };
            while old_at.peek().is_some_and(|v| v.end <= start) {
                old_at.next();
            }
            while new_at.peek().is_some_and(|(v, _)| v.end <= start) {
                new_at.next();
            }
            let old_part = old_at.peek().filter(|v| v.start <= start).map(|v| v.cut(start, end));
            let new_here = new_at.peek().filter(|(v, _)| v.start <= start);
            let patchwork = new_here.is_some_and(|(_, patchwork)| *patchwork);
            let new_part = new_here.map(|(v, _)| v.cut(start, end));
            match (old_part, new_part) {
                (None, None) => {}
                (Some(old), Some(new)) if old == new && !patchwork => {}
                (Some(old), Some(new)) if old.same_memory(&new) && !patchwork => push_joined(&mut change.adjust, new),
                (old, new) => {
                    if old.is_some() {
                        match change.unmap.last_mut() {
                            Some(last) if last.1 == start => last.1 = end,
                            _ => change.unmap.push((start, end)),
                        }
                    }
                    if let Some(new) = new {
                        push_joined(&mut change.map, new);
                    }
                }
            }
        }
        change
    }
}

impl Layout {
    /// Follows a change: afterwards this is the layout that it led to, perhaps cut in other places. What a peer's change leads to
    /// need not be valid.
    pub fn apply(&mut self, change: &LayoutChange) {
        let mut gone: Vec<(u64, u64)> =
            change.unmap.iter().copied().chain(change.adjust.iter().map(|v| (v.start, v.end))).collect();
        gone.sort_unstable();
        let mut vmas = Vec::with_capacity(self.vmas.len() + change.map.len());
        for vma in self.vmas.drain(..) {
            let mut at = vma.start;
            let first = gone.partition_point(|g| g.1 <= vma.start);
            for &(start, end) in gone.iter().skip(first).take_while(|g| g.0 < vma.end) {
                if start > at {
                    vmas.push(vma.cut(at, start));
                }
                at = at.max(end);
            }
            if at < vma.end {
                vmas.push(vma.cut(at, vma.end));
            }
        }
        vmas.extend(change.map.iter().chain(&change.adjust).cloned());
        vmas.sort_by_key(|v| v.start);
        self.vmas = vmas;
        self.files.clone_from(&change.files);
    }
}

/// Appends a mapping, or lengthens the last one when it goes on where that ends.
fn push_joined(list: &mut Vec<Vma>, vma: Vma) {
    match list.last_mut() {
        Some(last) if goes_on(last, &vma) => last.end = vma.end,
        _ => list.push(vma),
    }
}

/// Whether the second begins where the first ends, and is of the same sort.
fn goes_on(last: &Vma, next: &Vma) -> bool {
    let alike = last.protection == next.protection
        && last.shared == next.shared
        && last.flags == next.flags
        && same_name(&last.name, &next.name);
    last.end == next.start && alike && continues(last, next)
}

fn continues(last: &Vma, next: &Vma) -> bool {
    match (&last.backing, &next.backing) {
        (Backing::Anonymous, Backing::Anonymous) => true,
        (Backing::File { file: a, offset: x }, Backing::File { file: b, offset: y })
        | (Backing::Object { object: a, offset: x }, Backing::Object { object: b, offset: y }) => {
            a == b && x + last.len() == *y
        }
        _ => false,
    }
}

fn ascending(ranges: impl Iterator<Item = (u64, u64)>) -> bool {
    let mut at = 0;
    for (start, end) in ranges {
        if start < at || end <= start || start % PAGE != 0 || end % PAGE != 0 || end > TASK_SIZE {
            return false;
        }
        at = end;
    }
    true
}

/// Behind the last user address with four-level page tables.
pub const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// The lowest hole of `size` bytes at or above `lowest` that none of the ascending, non-overlapping ranges touches.
pub fn find_hole(taken: impl Iterator<Item = (u64, u64)>, lowest: u64, size: u64) -> Option<u64> {
    let mut at = lowest;
    for (start, end) in taken {
        if start >= at.checked_add(size)? {
            break;
        }
        at = at.max(end);
    }
    (at.checked_add(size)? <= TASK_SIZE).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn anon(start: u64, end: u64, protection: Protection) -> Vma {
        Vma {
            start: start * PAGE,
            end: end * PAGE,
            protection,
            shared: false,
            backing: Backing::Anonymous,
            flags: 0,
            name: vec![],
        }
    }

    fn layout(vmas: Vec<Vma>) -> Layout {
        Layout { vmas, files: vec![] }
    }

    #[test]
    fn files_are_the_same_by_size_and_time_or_by_their_inode() {
        let stamp = FileStamp { inode: (1, 2), size: 3, modified: (4, 5) };
        let elsewhere = FileStamp { inode: (7, 8), ..stamp };
        let longer = FileStamp { size: 9, ..stamp };
        assert_eq!(stamp.difference(&elsewhere, false), None);
        assert_eq!(stamp.difference(&longer, true), None);
        assert_eq!(stamp.difference(&longer, false).expect("differs"), "has 9 bytes here and 3 there");
        let later = FileStamp { modified: (4, 6), ..elsewhere };
        assert!(stamp.difference(&later, true).is_some_and(|why| why.contains("another time")));
    }

    #[test]
    fn finds_holes() {
        let taken = [(0x1000, 0x3000), (0x5000, 0x6000)];
        assert_eq!(find_hole(taken.into_iter(), 0x1000, 0x1000), Some(0x3000));
        assert_eq!(find_hole(taken.into_iter(), 0x1000, 0x3000), Some(0x6000));
        assert_eq!(find_hole([(0, TASK_SIZE)].into_iter(), 0, 1), None);
    }

    #[test]
    fn growth_maps_only_what_is_new() {
        let change = layout(vec![anon(1, 3, 3)]).change_to(&layout(vec![anon(1, 5, 3)]));
        assert_eq!(change.map, vec![anon(3, 5, 3)]);
        assert!(change.unmap.is_empty() && change.adjust.is_empty());
    }

    #[test]
    fn what_was_two_mappings_is_made_anew() {
        let change = layout(vec![anon(1, 3, 3), anon(3, 5, 1)]).change_to(&layout(vec![anon(1, 5, 3)]));
        assert_eq!((change.unmap, change.map), (vec![(PAGE, 5 * PAGE)], vec![anon(1, 5, 3)]));
        assert!(change.adjust.is_empty());
    }

    #[test]
    fn what_would_be_joined_to_its_lower_neighbour_is_made_anew() {
        // In the original these two are not joined, because one of them was moved there.
        let change = layout(vec![anon(1, 3, 3), anon(5, 8, 3)]).change_to(&layout(vec![anon(1, 3, 3), anon(3, 8, 3)]));
        assert_eq!((change.unmap, change.map), (vec![(5 * PAGE, 8 * PAGE)], vec![anon(3, 8, 3)]));
        // Nothing else can be joined to what is added here.
        let change = layout(vec![anon(1, 2, 3), anon(5, 8, 3)]).change_to(&layout(vec![anon(1, 2, 3), anon(3, 8, 3)]));
        assert_eq!((change.unmap, change.map), (vec![], vec![anon(3, 5, 3)]));
    }

    /// What a page is, as far as a layout says.
    fn pages(layout: &Layout) -> std::collections::BTreeMap<u64, (Protection, u64, Option<u64>)> {
        let mut map = std::collections::BTreeMap::new();
        for v in &layout.vmas {
            for page in (v.start..v.end).step_by(PAGE as usize) {
                let offset = match v.backing {
                    Backing::File { offset, .. } => Some(offset + page - v.start),
                    _ => None,
                };
                map.insert(page, (v.protection, v.flags, offset));
            }
        }
        map
    }

    prop_compose! {
        fn any_layout()(parts in proptest::collection::vec((0u64..3, 1u64..4, 0u8..4, any::<bool>(), 0u64..2), 0..12)) -> Layout {
            let mut at = 1;
            let mut vmas = Vec::new();
            for (gap, len, protection, file, offset) in parts {
                let mut vma = anon(at + gap, at + gap + len, protection);
                if file {
                    vma.backing = Backing::File { file: 0, offset: offset * PAGE };
                }
                at = at + gap + len;
                vmas.push(vma);
            }
            Layout { vmas, files: vec![MappedFile { path: b"/x".to_vec(), writable: false, stamp: FileStamp::default() }] }
        }
    }

    #[test]
    fn what_makes_no_sense_is_not_valid() {
        let files = || vec![MappedFile { path: b"/x".to_vec(), writable: false, stamp: FileStamp::default() }];
        let file = |file, offset| Vma { backing: Backing::File { file, offset }, ..anon(1, 3, 1) };
        let object = |offset| Vma { backing: Backing::Object { object: 1, offset }, ..anon(1, 3, 1) };
        let valid = |vmas| Layout { vmas, files: files() }.is_valid();
        assert!(valid(vec![file(0, 0), anon(3, 4, 1)]) && valid(vec![object(PAGE)]));
        let last = u64::MAX - PAGE + 1;
        for bad in [file(1, 0), file(0, last), object(last), object(i64::MAX as u64 - PAGE + 1), anon(1, 1, 1)] {
            assert!(!valid(vec![bad.clone()]), "{bad:?}");
        }
        assert!(!valid(vec![anon(3, 4, 1), anon(1, 2, 1)]) && !valid(vec![anon(1, 3, 1), anon(2, 4, 1)]));
        assert!(
            !valid(vec![Vma { start: 1, ..anon(1, 2, 1) }]) && !valid(vec![Vma { end: u64::MAX, ..anon(1, 2, 1) }])
        );
    }

    proptest! {
        /// Whatever a peer's change says.
        #[test]
        fn any_change_is_followed_without_panic(
            old in any_layout(),
            unmap in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..4),
            near in proptest::collection::vec((0u64..40, 0u64..40), 0..4),
            map in any_layout(),
        ) {
            let unmap = unmap.into_iter().chain(near.into_iter().map(|(a, b)| (a * PAGE, b * PAGE))).collect();
            let mut new = old.clone();
            new.apply(&LayoutChange { unmap, map: map.vmas, adjust: old.vmas.clone(), files: old.files.clone() });
            let _ = new.is_valid();
        }

        /// Applying the change page by page gives the new layout.
        #[test]
        fn a_change_leads_from_old_to_new(old in any_layout(), new in any_layout()) {
            prop_assert!(old.is_valid() && new.is_valid());
            let change = old.change_to(&new);
            let mut now = pages(&old);
            for (start, end) in &change.unmap {
                for page in (*start..*end).step_by(PAGE as usize) {
                    prop_assert!(now.remove(&page).is_some());
                }
            }
            let made = pages(&Layout { vmas: change.map.clone(), files: vec![] });
            for (page, what) in made {
                prop_assert!(now.insert(page, what).is_none(), "mapped over something");
            }
            let adjusted = pages(&Layout { vmas: change.adjust.clone(), files: vec![] });
            for (page, what) in adjusted {
                prop_assert!(now.insert(page, what).is_some());
            }
            prop_assert_eq!(now, pages(&new));
            let mut followed = old.clone();
            followed.apply(&change);
            prop_assert!(followed.is_valid());
            prop_assert_eq!(pages(&followed), pages(&new));
        }
    }
}
