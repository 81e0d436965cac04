//! Reads a process's address space and says what of it cannot move.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use migrate_linux::{locked_memory, map_files};

use crate::error::{Doing, Result};
use crate::image::layout::{Backing, EXEC, FileStamp, Layout, MappedFile, PAGE, READ, Vma, WRITE};
use crate::memory::huge_pages::Mapped;
use crate::memory::unnamed::{Inode, SEGMENT, Unnamed};
use crate::memory::{posix_shm, segments};
use crate::proc::maps::{Mapping, Name, read_deleted, read_maps};
use crate::proc::process::Process;
use crate::proc::smaps::{SmapsEntry, VmFlags, read_smaps};
use crate::resources::Row;

/// Flags that madvise(2), mlock2(2) and their like set again on a mapping that is there.
pub const ADJUSTABLE_FLAGS: u64 = VmFlags::HUGE_PAGE
    | VmFlags::NO_HUGE_PAGE
    | VmFlags::DONT_FORK
    | VmFlags::DONT_DUMP
    | VmFlags::WIPE_ON_FORK
    | VmFlags::MERGEABLE
    | VmFlags::SEQUENTIAL
    | VmFlags::RANDOM
    | VmFlags::LOCKED
    | VmFlags::LOCK_ON_FAULT
    | VmFlags::SEALED;

/// Flags that mmap(2) gives a mapping when it is made.
const MADE_WITH: u64 = VmFlags::GROWS_DOWN | VmFlags::NO_RESERVE | VmFlags::ACCOUNTABLE;

const PRIVATE: Row = (
    "private memory",
    "heap, stacks (MAP_GROWSDOWN too), anonymous mappings; content, protection, PROT_NONE and MADV_GUARD areas, names; what huge pages were behind they are behind again; NUMA policies do not",
);
const FILES: Row = (
    "mapped files",
    "private ones with the pages that were written, shared ones; the same file must be at the destination",
);
const OBJECTS: Row = (
    "memory without a file",
    "shared anonymous memory, memfds and deleted files, mapped or open (those that are only mapped become memfds): content and holes, size, every mapping; what is shared no other process may have",
);
const VDSO: Row = (
    "vDSO",
    "at the same place; programs keep addresses in it. Under another kernel its functions lead to those of that one's",
);
const ADVICE: Row = (
    "advice on memory",
    "huge pages or none, DONTFORK, WIPEONFORK, DONTDUMP, MERGEABLE, SEQUENTIAL, RANDOM, mlock, mlock2 (ONFAULT), mseal, MAP_NORESERVE",
);

/// What of memory moves.
pub const KINDS: &[Row] = &[PRIVATE, FILES, OBJECTS, posix_shm::ROW, segments::ROW, VDSO, ADVICE];

/// The kind that a mapping is of.
pub fn kind_of(vma: &Vma) -> &'static str {
    match vma.backing {
        Backing::Anonymous => PRIVATE.0,
        Backing::File { .. } => FILES.0,
        Backing::Object { .. } => OBJECTS.0,
        Backing::Vdso | Backing::Vvar | Backing::VvarVclock => VDSO.0,
    }
}

/// Flags of memory that cannot move, with what it is.
const UNSUPPORTED: [(u64, &str); 8] = [
    (VmFlags::PFN_MAP, "memory of a device"),
    (VmFlags::IO, "memory of a device"),
    (VmFlags::MIXED_MAP, "memory of a device"),
    (VmFlags::HUGETLB, "huge pages of hugetlbfs"),
    (VmFlags::UFFD_MISSING, "watched by a userfaultfd of the program"),
    (VmFlags::UFFD_MINOR, "watched by a userfaultfd of the program"),
    (VmFlags::SHADOW_STACK, "a shadow stack"),
    (VmFlags::DROPPABLE, "MAP_DROPPABLE"),
];

/// How the memory is named that an io_uring shares with its program (io_uring/io_uring.c).
const IO_URING: &[u8] = b"anon_inode:[io_uring]";

/// The address space of one process over the time of its migration: numbers of files and objects, once given, stay.
#[derive(Debug, Default)]
pub struct AddressSpace {
    /// As it was read last.
    pub layout: Layout,
    /// What has no file at the destination.
    pub unnamed: Unnamed,
    /// Resident pages of mapped files that were never written: the destination has them in its own copy of the file.
    pub file_pages: u64,
    /// Private memory without a file that huge pages are behind where the kernel does not give them by itself for its advice.
    pub huge: Vec<Mapped>,
    /// By device, inode and whether it may be written: the path, and the number.
    known_files: HashMap<FileKey, (OsString, u32)>,
    /// Flags of each mapping as smaps told them, by its bounds. Reading smaps walks all page tables: too long for a freeze.
    flags: BTreeMap<(u64, u64), u64>,
    /// The same as it was told the time before: what is moved to and fro is often back at one of its places.
    flags_before: BTreeMap<(u64, u64), u64>,
}

/// Device, inode, and whether it may be written.
type FileKey = ((u32, u32), u64, bool);

/// A mapping that cannot move, in words.
pub type Obstacle = String;

/// Whether the process may change its mappings while they are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It may: a mapping that has gone in between is left out, and the next look will see.
    Running,
    /// It stands still.
    Frozen,
}

/// Why a mapping is no part of the layout.
#[derive(Debug)]
enum NoBacking {
    /// It is not there any more, or is another one by now.
    Gone,
    /// It cannot move.
    Obstacle(String),
}

impl From<String> for NoBacking {
    fn from(why: String) -> NoBacking {
        NoBacking::Obstacle(why)
    }
}

impl AddressSpace {
    /// Reads it anew, with flags. Err: /proc could not be read. The second part names what cannot move.
    pub fn read_all(&mut self, process: Process) -> Result<Vec<Obstacle>> {
        let mut obstacles = Vec::new();
        self.flags_before = std::mem::take(&mut self.flags);
        let (mut unwritten, mut huge) = (HashMap::new(), HashMap::new());
        for entry in read_smaps(process.alive).doing(|| format!("read the mappings of {process}"))? {
            self.flags.insert((entry.start, entry.end), flags_of_entry(&entry));
            obstacles.extend(key_of_entry(&entry));
            unwritten.insert(entry.start, entry.rss_kb.saturating_sub(entry.private_dirty_kb) * 1024 / PAGE);
            if entry.huge_kb != 0 && !entry.flags.contains(VmFlags::HUGE_PAGE) {
                huge.insert(entry.start, entry.huge_kb * 1024);
            }
        }
        self.read_layout(process, Pace::Running, &mut obstacles)?;
        let of_files = self.layout.vmas.iter().filter(|v| matches!(v.backing, Backing::File { .. }));
        let anonymous = self.layout.vmas.iter().filter(|v| v.backing == Backing::Anonymous);
        let with = |v: &Vma| Some(Mapped { range: v.start..v.end, huge: *huge.get(&v.start)? });
        self.huge = anonymous.filter_map(with).collect();
        self.file_pages = of_files.filter_map(|v| unwritten.get(&v.start)).sum();
        Ok(obstacles)
    }

    /// Reads it anew, short enough for a freeze: mappings whose bounds are not known yet get the flags that mmap gives.
    pub fn read_quickly(&mut self, process: Process, pace: Pace) -> Result<Vec<Obstacle>> {
        let mut obstacles = Vec::new();
        self.read_layout(process, pace, &mut obstacles)?;
        Ok(obstacles)
    }

    fn read_layout(&mut self, process: Process, pace: Pace, obstacles: &mut Vec<Obstacle>) -> Result<()> {
        let alive = process.alive;
        let maps = read_maps(alive).doing(|| format!("read the mappings of {process}"))?;
        self.layout.vmas.clear();
        let mut behind = 0;
        for m in &maps {
            // The kernel shows the list piece by piece: a mapping that grew or moved in between may come twice.
            if m.name == Name::Vsyscall || m.start < behind {
                continue;
            }
            behind = m.end;
            let flags = self.flags_of(m);
            // [vvar] is memory of the kernel's own, and its place is known.
            let unsupported = UNSUPPORTED.iter().find(|(flag, _)| flags & flag != 0 && !is_kernels_own(&m.name));
            if let Some((_, what)) = unsupported {
                let what = if m.name == Name::Other(IO_URING.to_vec()) { "the rings of an io_uring" } else { what };
                let range = format!("{:x}-{:x}", m.start, m.end);
                obstacles.push(format!(
                    "mapping {range}: {what} — this kind of memory cannot move; let the program unmap it"
                ));
                continue;
            }
            match self.backing(alive, m, flags) {
                Ok(backing) => self.layout.vmas.push(Vma {
                    start: m.start,
                    end: m.end,
                    protection: protection(m),
                    shared: m.shared,
                    flags: flags & (ADJUSTABLE_FLAGS | made_with(m.shared, &backing)),
                    backing,
                    name: match &m.name {
                        Name::AnonNamed(name) => name.clone(),
                        _ => Vec::new(),
                    },
                }),
                Err(NoBacking::Gone) if pace == Pace::Running => {}
                Err(NoBacking::Gone) => {
                    let range = format!("{:x}-{:x}", m.start, m.end);
                    obstacles.push(format!("mapping {range}: what is behind it cannot be reached; try again"));
                }
                Err(NoBacking::Obstacle(why)) => obstacles.push(format!("mapping {:x}-{:x}: {why}", m.start, m.end)),
            }
        }
        self.let_go_of_objects();
        obstacles.extend(posix_shm::obstacles(&self.unnamed));
        obstacles.extend(segments::obstacles(&self.layout, &self.unnamed, pace == Pace::Frozen));
        if pace == Pace::Frozen {
            self.stamp_written_files(alive)?;
        }
        Ok(())
    }

    /// Files that are mapped to be written are what they are only now. Nearly always there are few of them.
    fn stamp_written_files(&mut self, pid: i32) -> Result<()> {
        let Layout { vmas, files } = &mut self.layout;
        for (number, file) in files.iter_mut().enumerate().filter(|(_, file)| file.writable) {
            let maps_it = |v: &&Vma| matches!(v.backing, Backing::File { file, .. } if file as usize == number);
            let Some(vma) = vmas.iter().find(maps_it) else { continue };
            let path = format!("/proc/{pid}/map_files/{:x}-{:x}", vma.start, vma.end);
            file.stamp = FileStamp::of(&fs::metadata(&path).doing(|| format!("look at {path}"))?);
        }
        Ok(())
    }

    fn let_go_of_objects(&mut self) {
        let mut mapped = vec![false; self.unnamed.objects.len()];
        for vma in &self.layout.vmas {
            if let Backing::Object { object, .. } = vma.backing {
                mapped[object as usize - 1] = true;
            }
        }
        self.unnamed.let_go(|id| mapped[id as usize - 1]);
    }

    /// What smaps said of it, or of the mapping that it was a part of, or what mmap sets.
    fn flags_of(&self, m: &Mapping) -> u64 {
        let bounds = (m.start, m.end);
        if let Some(flags) = self.flags.get(&bounds).or_else(|| self.flags_before.get(&bounds)) {
            return *flags;
        }
        // What it was a part of, or the last part that it was made of.
        let before = self.flags.range(..(m.end, 0)).next_back();
        let around = before.filter(|((_, end), _)| *end > m.start);
        match around {
            Some((_, flags)) => *flags,
            None if m.write && !m.shared => VmFlags::ACCOUNTABLE | VmFlags::MAY_WRITE,
            None => VmFlags::MAY_WRITE,
        }
    }

    fn backing(&mut self, pid: i32, m: &Mapping, flags: u64) -> std::result::Result<Backing, NoBacking> {
        let path = match &m.name {
            Name::Anonymous | Name::Heap | Name::Stack | Name::AnonNamed(_) if m.inode == 0 && !m.shared => {
                return Ok(Backing::Anonymous);
            }
            Name::Vdso => return Ok(Backing::Vdso),
            Name::Vvar => return Ok(Backing::Vvar),
            Name::VvarVclock => return Ok(Backing::VvarVclock),
            Name::File(path) => path,
            other => {
                let why = format!("{other:?} — this kind of memory cannot move yet; let the program unmap it");
                return Err(why.into());
            }
        };
        if m.shared && path.as_bytes() == b"/dev/zero (deleted)" {
            return self.object(pid, m, None).map(|object| Backing::Object { object, offset: m.offset });
        }
        let writable = m.shared && flags & VmFlags::MAY_WRITE != 0;
        if m.deleted && !named_by_the_kernel(path) && self.is_unnamed(pid, m)? || self.is_posix_shm(pid, m, path) {
            let object = self.object(pid, m, Some(path.as_bytes()))?;
            if writable {
                self.unnamed.is_written(object);
            }
            return Ok(Backing::Object { object, offset: m.offset });
        }
        let key = (m.dev, m.inode, writable);
        if let Some((known, file)) = self.known_files.get(&key)
            && known == path
        {
            return Ok(Backing::File { file: *file, offset: m.offset });
        }
        let shown = path.display();
        if m.deleted {
            return Err(format!("{shown} — this kind of memory cannot move yet; let the program unmap it").into());
        }
        let mapped = fs::metadata(map_file(pid, m)).map_err(|e| gone_or(e, &shown))?;
        if mapped.ino() != m.inode {
            return Err(NoBacking::Gone);
        }
        let named = fs::metadata(path).map_err(|e| format!("{shown}: {e}"))?;
        if (named.dev(), named.ino()) != (mapped.dev(), mapped.ino()) {
            let remedy = "restart the program with the present version of it";
            return Err(format!("{shown} is another file by now; {remedy}").into());
        }
        if !named.is_file() {
            return Err(format!("{shown} — memory of a device cannot move; let the program unmap it").into());
        }
        let file = self.layout.files.len() as u32;
        let stamp = FileStamp::of(&mapped);
        self.layout.files.push(MappedFile { path: path.as_bytes().to_vec(), writable, stamp });
        self.known_files.insert(key, (path.clone(), file));
        Ok(Backing::File { file, offset: m.offset })
    }

    /// Whether it is a file in /dev/shm that moves with the process. What is only mapped privately may be a program.
    fn is_posix_shm(&self, pid: i32, m: &Mapping, path: &OsString) -> bool {
        posix_shm::may_be_one(path.as_bytes())
            && !m.deleted
            && (self.has_object(m)
                || m.shared && fs::File::open(map_file(pid, m)).is_ok_and(|file| posix_shm::is_in_memory(&file)))
    }

    /// Whether it is known to be an object, or its file has really lost its name.
    fn is_unnamed(&self, pid: i32, m: &Mapping) -> std::result::Result<bool, NoBacking> {
        let known = self.has_object(m);
        Ok(known || read_deleted(pid, m).map_err(|e| gone_or(e, "a deleted file"))?)
    }

    fn object(&mut self, pid: i32, m: &Mapping, path: Option<&[u8]>) -> std::result::Result<u32, NoBacking> {
        let key = object_key(m);
        if let Some(id) = self.unnamed.mapped(key) {
            return Ok(id);
        }
        let what = path.map_or("shared anonymous memory".into(), String::from_utf8_lossy);
        let file = map_files::open_mapped(pid, m.start, m.end, false).map_err(|e| gone_or(e, &what))?;
        let metadata = file.metadata().map_err(|e| format!("{what}: {e}"))?;
        if metadata.ino() != m.inode {
            return Err(NoBacking::Gone);
        }
        if !metadata.is_file() {
            return Err(format!("{what} — memory of a device cannot move; let the program unmap it").into());
        }
        self.unnamed.add_mapped(key, file, path).map_err(|e| format!("{what}: {e}").into())
    }

    /// Where the objects are mapped by now: number, addresses and the offset in it.
    pub fn objects_mapped(&self, process: Process) -> Result<Vec<(u32, Range<u64>, u64)>> {
        let maps = read_maps(process.alive).doing(|| format!("read the mappings of {process}"))?;
        let object = |m: &Mapping| self.unnamed.known(object_key(m)).filter(|_| m.shared);
        Ok(maps.iter().filter_map(|m| Some((object(m)?, m.start..m.end, m.offset))).collect())
    }

    /// Whether any object is mapped shared.
    pub fn shares_objects(&self) -> bool {
        self.layout.vmas.iter().any(|v| v.shared && matches!(v.backing, Backing::Object { .. }))
    }

    /// Device and inode of the objects that are open or mapped shared, and that others can have descriptors of.
    pub fn unnamed_and_held(&self) -> Vec<Inode> {
        let mapped = |id: u32| {
            let maps_it = |v: &Vma| v.shared && matches!(v.backing, Backing::Object { object, .. } if object == id);
            self.layout.vmas.iter().any(maps_it)
        };
        self.unnamed.held(mapped)
    }

    /// Whether a mapping of the process is of one of the objects.
    fn has_object(&self, m: &Mapping) -> bool {
        self.unnamed.known(object_key(m)).is_some()
    }

    /// Whether a mapping of another process is of one of the objects that this one shares.
    pub fn shares(&self, other: i32, m: &Mapping) -> bool {
        let open = || fs::metadata(map_file(other, m)).is_ok_and(|f| self.unnamed.is_open_inode((f.dev(), f.ino())));
        m.shared && (self.has_object(m) || m.deleted && !is_segment(m) && open())
    }
}

/// Shared memory that its description does not allow to be written cannot be made writable later.
fn made_with(shared: bool, backing: &Backing) -> u64 {
    MADE_WITH | if shared && matches!(backing, Backing::Object { .. }) { VmFlags::MAY_WRITE } else { 0 }
}

/// The rings of io_setup(2): what is behind them is more than memory.
fn named_by_the_kernel(path: &OsString) -> bool {
    path.as_bytes().starts_with(b"/[aio]")
}

/// Whether it may be of System V shared memory.
fn is_segment(m: &Mapping) -> bool {
    m.shared && m.deleted && matches!(&m.name, Name::File(path) if segments::may_be_one(path.as_bytes()))
}

/// Without such a mapping there is no way to what is behind it.
fn gone_or(error: io::Error, what: impl std::fmt::Display) -> NoBacking {
    match error.kind() {
        io::ErrorKind::NotFound => NoBacking::Gone,
        _ => NoBacking::Obstacle(format!("{what}: {error}")),
    }
}

fn object_key(m: &Mapping) -> (u64, u64) {
    let device = u64::from(m.dev.0) << 32 | u64::from(m.dev.1);
    (if is_segment(m) { device | SEGMENT } else { device }, m.inode)
}

fn map_file(pid: i32, m: &Mapping) -> std::path::PathBuf {
    Path::new("/proc").join(pid.to_string()).join("map_files").join(format!("{:x}-{:x}", m.start, m.end))
}

fn is_kernels_own(name: &Name) -> bool {
    matches!(name, Name::Vdso | Name::Vvar | Name::VvarVclock | Name::Vsyscall)
}

/// Older kernels (6.1) do not tell of MLOCK_ONFAULT. But mlock(2) fills in every page that may be written: where some are missing it was
/// on fault, and where none is the two are the same.
fn flags_of_entry(entry: &SmapsEntry) -> u64 {
    let flags = entry.flags.bits();
    let locked = flags & VmFlags::LOCKED != 0 && flags & VmFlags::WRITE != 0;
    // A guess, where the kernel does not show it.
    let on_fault = locked && entry.rss_kb < (entry.end - entry.start) / 1024 && !locked_memory::on_fault_is_shown();
    flags | if on_fault { VmFlags::LOCK_ON_FAULT } else { 0 }
}

/// The reason that a protection key is (pkeys(7)). Memory that can only be executed has one that the kernel has given it, and will again.
fn key_of_entry(entry: &SmapsEntry) -> Option<Obstacle> {
    let may = entry.flags.bits() & (VmFlags::READ | VmFlags::WRITE | VmFlags::EXEC);
    (entry.protection_key != 0 && may != VmFlags::EXEC).then(|| {
        let SmapsEntry { start, end, protection_key, .. } = entry;
        format!("mapping {start:x}-{end:x} has protection key {protection_key} (pkey_mprotect); keys cannot move yet: let the program give it key 0")
    })
}

fn protection(m: &Mapping) -> u8 {
    [(m.read, READ), (m.write, WRITE), (m.exec, EXEC)].into_iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protection_key_of_the_program_is_an_obstacle() {
        let entry = |key: u64, flags: &[u8]| SmapsEntry {
            end: PAGE,
            protection_key: key,
            flags: VmFlags::parse(flags),
            ..SmapsEntry::default()
        };
        assert_eq!(key_of_entry(&entry(0, b"rd wr mr mw me ac")), None);
        assert_eq!(key_of_entry(&entry(1, b"ex mr mw me")), None, "the kernel's own");
        let why = key_of_entry(&entry(2, b"rd wr mr mw me ac")).unwrap();
        assert!(why.contains("0-1000 has protection key 2"), "{why}");
    }
}
