//! POSIX shared memory (shm_overview(7)) and named semaphores (sem_overview(7)): files in /dev/shm, which is memory of this host alone. So
//! their content travels with the pages, unlike that of other files: content and holes, name, size, permissions, owner, times, and that
//! one has been unlinked. One that another process has does not move.
//!
//! There the file gets its name when the process runs. Here it is removed then if the process could write it; what it could only read
//! may be meant for others too, and stays.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc::O_NOFOLLOW;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use crate::error::{Doing, Error, Result};
use crate::image::layout::{Form, ShmObject};
use crate::memory::unnamed::Unnamed;
use crate::resources::Row;

/// What of it moves.
pub const ROW: Row = (
    "POSIX shared memory",
    "files in /dev/shm, semaphores too: content and holes, name, size, permissions, owner, times, unlinked ones; not what another process has too",
);

/// Where they are.
const DIRECTORY: &[u8] = b"/dev/shm/";
/// How names of those begin whose process does not run yet.
const PREFIX: &str = ".migrate-shm-";

/// Whether a path is of one, if its file is in memory.
pub fn may_be_one(path: &[u8]) -> bool {
    path.starts_with(DIRECTORY)
}

/// Whether what is open there is in memory.
pub fn is_in_memory(file: impl std::os::fd::AsFd) -> bool {
    fstatfs(file).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

/// The one that maps or a descriptor's link shows at this path.
pub fn form_of(path: &[u8], file: &File) -> io::Result<Form> {
    let metadata = file.metadata()?;
    let shown = Path::new(OsStr::from_bytes(path));
    let path = match leads_to(shown, &metadata) {
        true => path.to_vec(),
        false => other_name(shown, &metadata)?.into_os_string().into_encoded_bytes(),
    };
    Ok(Form::PosixShm { path, modified: (metadata.mtime(), metadata.mtime_nsec()) })
}

/// Whether a path is a name of this file.
pub fn leads_to(path: &Path, its: &fs::Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (its.dev(), its.ino()))
}

/// sem_open(3) makes a semaphore under a name that it removes when the file has its own; the kernel goes on showing the first.
fn other_name(shown: &Path, its: &fs::Metadata) -> io::Result<PathBuf> {
    for entry in fs::read_dir(shown.parent().unwrap_or(Path::new("/dev/shm")))? {
        let entry = entry?;
        if entry.ino() == its.ino() && leads_to(&entry.path(), its) {
            return Ok(entry.path());
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "its name in /dev/shm cannot be found"))
}

/// Why those of a process cannot move, in words.
pub fn obstacles(unnamed: &Unnamed) -> Vec<String> {
    let mut obstacles = Vec::new();
    for (object, file) in unnamed.objects.iter().zip(&unnamed.files) {
        let (Form::PosixShm { path, .. }, Some(file)) = (&object.form, file) else { continue };
        let path = Path::new(OsStr::from_bytes(path));
        let Ok(now) = file.metadata() else { continue };
        if now.nlink() > 1 || now.nlink() == 1 && !leads_to(path, &now) {
            obstacles
                .push(format!("{}: it has another name too, or has been renamed; that cannot move", path.display()));
        }
    }
    obstacles
}

/// Removes those that the process, which has left this host, could write. Returns what stays, in words.
pub fn remove_left_behind(unnamed: &Unnamed) -> Vec<String> {
    let mut left = Vec::new();
    for (object, file) in unnamed.objects.iter().zip(&unnamed.files) {
        let (Form::PosixShm { path, .. }, Some(file)) = (&object.form, file) else { continue };
        let path = Path::new(OsStr::from_bytes(path));
        if object.written && file.metadata().is_ok_and(|its| leads_to(path, &its)) {
            left.extend(fs::remove_file(path).err().map(|error| format!("{} stays here too: {error}", path.display())));
        }
    }
    left
}

/// One that has been made for a new process. Dropped before that runs, it is removed.
#[derive(Debug)]
pub struct NewPosixShm {
    path: PathBuf,
    /// Where it is until then. None: the file has been there before.
    aside: Option<PathBuf>,
    /// The original has been unlinked.
    pub removed: bool,
}

impl NewPosixShm {
    /// Makes one, empty.
    pub fn make(object: &ShmObject, path: &[u8], modified: (i64, i64)) -> Result<(NewPosixShm, File)> {
        let path = Path::new(OsStr::from_bytes(path));
        let strange = path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir));
        let directory = path.parent().filter(|_| may_be_one(path.as_os_str().as_bytes()) && !strange);
        let directory = directory.ok_or_else(|| Error::Invalid(format!("{} in /dev/shm", path.display())))?;
        let opening = || format!("make {}", path.display());
        let mut new = NewPosixShm { path: path.into(), aside: None, removed: false };
        let mut options = File::options();
        options.read(true).write(true).mode(0o600).custom_flags(O_NOFOLLOW);
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // A copy that was left here, or brought here, for one that only reads it.
            Ok(there) if is_copy(object, modified, &there) => return Ok((new, options.open(path).doing(opening)?)),
            Ok(_) => {
                return Err(Error::Refused(vec![format!(
                    "{}: the destination has a file of this name; remove it there",
                    path.display()
                )]));
            }
            Err(e) => return Err(Error::io(opening(), e)),
        }
        options.create_new(true);
        let mut number = 0;
        loop {
            let aside = directory.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match options.open(&aside) {
                Ok(file) => {
                    new.aside = Some(aside);
                    return match is_in_memory(&file) {
                        true => Ok((new, file)),
                        false => Err(Error::Refused(vec![format!(
                            "{}: on the destination {} is not in memory; mount a tmpfs there",
                            path.display(),
                            directory.display()
                        )])),
                    };
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(e) => return Err(Error::io(opening(), e)),
            }
        }
    }

    /// The process runs: gives it its name. Err: it keeps the one that it had while it was made.
    pub fn go_live(mut self) -> Result<()> {
        let Some(aside) = self.aside.take() else { return Ok(()) };
        let named = renameat2(AT_FDCWD, &aside, AT_FDCWD, &self.path, RenameFlags::RENAME_NOREPLACE);
        let removed = match (self.removed, named) {
            (true, Ok(())) => fs::remove_file(&self.path),
            (true, Err(_)) => fs::remove_file(&aside),
            (false, named) => named.map_err(Errno::into),
        };
        removed.doing(|| format!("give {} the name {}", aside.display(), self.path.display()))
    }
}

fn is_copy(object: &ShmObject, modified: (i64, i64), there: &fs::Metadata) -> bool {
    !object.written && there.is_file() && (there.len(), (there.mtime(), there.mtime_nsec())) == (object.size, modified)
}

impl Drop for NewPosixShm {
    fn drop(&mut self) {
        if let Some(aside) = &self.aside
            && let Err(error) = fs::remove_file(aside)
        {
            tracing::warn!("remove {}: {error}", aside.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(name: &str, size: u64, written: bool, modified: (i64, i64)) -> Result<(NewPosixShm, File)> {
        let path = format!("/dev/shm/{name}").into_bytes();
        let form = Form::PosixShm { path: path.clone(), modified };
        NewPosixShm::make(&ShmObject { id: 1, size, form, open: true, written }, &path, modified)
    }

    #[test]
    fn it_gets_its_name_when_the_process_runs_and_replaces_nothing() {
        let name = format!("migrate-test-{}", std::process::id());
        let path = Path::new("/dev/shm").join(&name);
        if !File::open("/dev/shm").is_ok_and(|directory| is_in_memory(&directory)) {
            return println!(
                "SKIPPED it_gets_its_name_when_the_process_runs_and_replaces_nothing: no tmpfs at /dev/shm"
            );
        }
        let (new, _) = make(&name, 5, true, (0, 0)).unwrap();
        let aside = new.aside.clone().unwrap();
        drop(new);
        assert!(!aside.exists() && !path.exists());
        let (new, file) = make(&name, 5, true, (0, 0)).unwrap();
        assert!(!path.exists());
        new.go_live().unwrap();
        let its = file.metadata().unwrap();
        assert!(leads_to(&path, &its));
        assert!(make(&name, 0, true, (its.mtime(), its.mtime_nsec())).is_err());
        assert!(make(&name, 0, false, (0, 0)).is_err());
        // One that is only read may have been left here.
        let (copy, there) = make(&name, 0, false, (its.mtime(), its.mtime_nsec())).unwrap();
        assert!(leads_to(&path, &there.metadata().unwrap()));
        drop(copy);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn only_paths_of_shared_memory_are_taken() {
        for wrong in ["../etc/passwd", "a/../b", ""] {
            assert!(make(wrong, 0, true, (0, 0)).is_err(), "{wrong}");
        }
        assert!(!may_be_one(b"/dev/shm") && !may_be_one(b"/tmp/dev/shm/x"));
    }
}
