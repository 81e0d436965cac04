//! Objects without a name: shared anonymous memory, memfds, deleted files. What each is, by a mapping or by a descriptor.
//!
//! Numbers of objects, once given, stay, and an inode has one number however it is reached.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{O_ACCMODE, O_DIRECT, O_NOATIME, O_NONBLOCK, O_PATH, O_RDONLY, O_WRONLY};
use nix::sys::statfs::{FsType, fstatfs};

use crate::image::layout::{Form, ObjectState, ShmObject};
use crate::memory::{posix_shm, segments};
use crate::proc::link::LinkTarget;
use crate::resources::file::HeldFile;

/// linux/magic.h; not in nix.
const HUGETLBFS_MAGIC: FsType = FsType(0x958458f6);

/// By which of several ways an object is known. As maps shows it, which on btrfs and overlayfs is not what stat(2) says.
pub type MapKey = (u64, u64);
/// Device and inode of stat(2).
pub type Inode = (u64, u64);

/// In the device of what is a segment of System V shared memory.
pub const SEGMENT: u64 = 1 << 63;

/// The objects of one process.
#[derive(Debug, Default)]
pub struct Unnamed {
    /// All that there ever were; the numbers begin with 1.
    pub objects: Vec<ShmObject>,
    /// The way to each of them, as long as it is mapped or open: kept longer, its memory would not be given back.
    pub files: Vec<Option<Arc<File>>>,
    by_map_key: HashMap<MapKey, u32>,
    by_inode: HashMap<Inode, u32>,
    /// Those to which descriptors refer.
    open: BTreeSet<u32>,
    /// The device of all memfds.
    memfds: Option<u64>,
}

impl Unnamed {
    /// The object that maps shows so, if its file is at hand.
    pub fn mapped(&self, key: MapKey) -> Option<u32> {
        let id = *self.by_map_key.get(&key)?;
        self.file(id).is_some().then_some(id)
    }

    /// The object that maps shows so, also one that is gone.
    pub fn known(&self, key: MapKey) -> Option<u32> {
        self.by_map_key.get(&key).copied()
    }

    fn file(&self, id: u32) -> Option<&Arc<File>> {
        self.files.get(id as usize - 1)?.as_ref()
    }

    /// Takes in what is behind a mapping. `path`: None for shared anonymous memory.
    pub fn add_mapped(&mut self, key: MapKey, file: File, path: Option<&[u8]>) -> io::Result<u32> {
        let form = match path {
            None => Form::Anonymous,
            Some(path) => self.form_of(path, &file)?,
        };
        let id = self.add(file, form)?;
        self.by_map_key.insert(key, id);
        Ok(id)
    }

    /// Notes that the process can write it by shared memory.
    pub fn is_written(&mut self, id: u32) {
        if let Some(object) = self.objects.get_mut(id as usize - 1) {
            object.written = true;
        }
    }

    /// Takes in what a descriptor refers to. Err: it cannot move, in words.
    pub fn add_open(&mut self, held: &HeldFile) -> std::result::Result<u32, String> {
        let (view, inode) = (&held.view, held.inode());
        let id = match self.by_inode.get(&inode) {
            Some(&id) if self.file(id).is_some() => id,
            _ => {
                let what = |e: io::Error| format!("fd {}: a file without a name: {e}", view.number);
                if fstatfs(&held.duplicate).is_ok_and(|fs| fs.filesystem_type() == HUGETLBFS_MAGIC) {
                    let remedy = "let the program use memory of ordinary pages";
                    return Err(format!("fd {}: huge pages (hugetlbfs) cannot move; {remedy}", view.number));
                }
                let file = readable(held).map_err(what)?;
                let path = match &view.link {
                    LinkTarget::Path { path, .. } => path.as_bytes().to_vec(),
                    LinkTarget::Memfd { name } => [b"/memfd:", name.as_slice()].concat(),
                    _ => return Err(format!("fd {}: a file without a path", view.number)),
                };
                let form = self.form_of(&path, &file).map_err(what)?;
                self.add(file, form).map_err(what)?
            }
        };
        self.open.insert(id);
        if let Some(object) = self.objects.get_mut(id as usize - 1) {
            object.open = true;
            let flags = view.status_flags();
            object.written |= flags & O_PATH == 0 && flags & O_ACCMODE != O_RDONLY;
        }
        Ok(id)
    }

    fn add(&mut self, file: File, form: Form) -> io::Result<u32> {
        let metadata = file.metadata()?;
        let inode = match form {
            // Its inode has its ID as the number (ipc/shm.c), which may be that of another file.
            Form::SysV { .. } => (metadata.dev() | SEGMENT, metadata.ino()),
            _ => (metadata.dev(), metadata.ino()),
        };
        let known = self.by_inode.get(&inode).copied();
        if let Some(id) = known {
            if self.file(id).is_some() {
                return Ok(id);
            }
            // It may be another file by now, of the same inode.
            if self.objects[id as usize - 1].form == form {
                self.files[id as usize - 1] = Some(Arc::new(file));
                return Ok(id);
            }
        }
        let id = self.objects.len() as u32 + 1;
        self.objects.push(ShmObject { id, size: metadata.len(), form, open: false, written: false });
        self.files.push(Some(Arc::new(file)));
        self.by_inode.insert(inode, id);
        Ok(id)
    }

    /// What a file is that is shown at `path`.
    fn form_of(&mut self, path: &[u8], file: &File) -> io::Result<Form> {
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let metadata = file.metadata()?;
        if posix_shm::may_be_one(path) && metadata.nlink() != 0 {
            return posix_shm::form_of(path, file);
        }
        if segments::may_be_one(path) && metadata.dev() == self.device_of_memfds()? {
            return segments::form_of(path, metadata.ino());
        }
        if let Some(name) = path.strip_prefix(b"/memfd:")
            && metadata.dev() == self.device_of_memfds()?
        {
            return Ok(Form::Memfd { name: name.to_vec() });
        }
        // The kernel names what O_TMPFILE makes so (fs/dcache.c, `d_mark_tmpfile`).
        let tmpfile = format!("#{}", metadata.ino());
        let nameless = path.rsplit(|byte| *byte == b'/').next() == Some(tmpfile.as_bytes());
        Ok(Form::File { path: path.to_vec(), nameless })
    }

    fn device_of_memfds(&mut self) -> io::Result<u64> {
        if let Some(device) = self.memfds {
            return Ok(device);
        }
        let device = File::from(migrate_linux::map_files::new_memfd(b"", 0)?).metadata()?.dev();
        self.memfds = Some(device);
        Ok(device)
    }

    /// From here on only those are open that are added again.
    pub fn forget_open(&mut self) {
        self.open.clear();
    }

    /// Whether descriptors refer to one.
    pub fn is_open(&self, id: u32) -> bool {
        self.open.contains(&id)
    }

    /// Lets go of those that are neither mapped nor open.
    pub fn let_go(&mut self, is_mapped: impl Fn(u32) -> bool) {
        for (id, file) in (1..).zip(&mut self.files) {
            if !is_mapped(id) && !self.open.contains(&id) {
                *file = None;
            }
        }
    }

    /// Whether this is one to which descriptors refer.
    pub fn is_open_inode(&self, inode: Inode) -> bool {
        self.by_inode.get(&inode).is_some_and(|id| self.is_open(*id))
    }

    /// Device and inode of those that others may have descriptors of: of files, and open or mapped shared.
    pub fn held(&self, is_mapped_shared: impl Fn(u32) -> bool) -> Vec<Inode> {
        let files = self.objects.iter().zip(&self.files).filter(|(object, _)| {
            matches!(object.form, Form::Memfd { .. } | Form::File { .. } | Form::PosixShm { .. })
        });
        let held = files.filter(|(object, _)| self.is_open(object.id) || is_mapped_shared(object.id));
        let metadata = held.filter_map(|(_, file)| file.as_ref()?.metadata().ok());
        metadata.map(|m| (m.dev(), m.ino())).collect()
    }
}

/// A way to read a file without changing it, whatever the description allows.
fn readable(held: &HeldFile) -> io::Result<File> {
    let flags = held.view.status_flags();
    // Who opens a file to read it breaks a lease for writing.
    let leased =
        held.view.info.extra.iter().any(|(key, value)| key == b"lock" && value.windows(5).any(|w| w == b"LEASE"));
    if leased && flags & (O_PATH | O_DIRECT) == 0 && flags & O_ACCMODE != O_WRONLY {
        return Ok(File::from(held.duplicate.try_clone()?));
    }
    if leased {
        return Err(io::Error::other("it has a lease, and its content cannot be read; let the program release that"));
    }
    open_through(&held.duplicate)
}

fn open_through(fd: &OwnedFd) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    File::options().read(true).custom_flags(O_NOATIME | O_NONBLOCK).open(path)
}

impl ObjectState {
    /// Of an object as it is now; None for shared anonymous memory, which has none.
    pub fn of(object: &ShmObject, file: &File) -> io::Result<Option<ObjectState>> {
        match object.form {
            Form::Anonymous => return Ok(None),
            Form::SysV { made, .. } => return segments::state_of(object.id, made.id).map(Some),
            Form::Memfd { .. } | Form::File { .. } | Form::PosixShm { .. } => {}
        }
        let metadata = file.metadata()?;
        let seals = match object.form {
            Form::Memfd { .. } => fcntl(file, FcntlArg::F_GET_SEALS)?,
            _ => 0,
        };
        Ok(Some(ObjectState {
            id: object.id,
            size: metadata.len(),
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            accessed: (metadata.atime(), metadata.atime_nsec()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            seals,
            removed: matches!(object.form, Form::PosixShm { .. }) && metadata.nlink() == 0,
        }))
    }
}
