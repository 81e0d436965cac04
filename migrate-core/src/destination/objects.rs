//! Objects without a name: made before the process has anything of them, given their sizes as the originals have them, and what is
//! beside the content when all of that is in place.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use migrate_linux::map_files;
use migrate_linux::remote::Batch;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, openat};
use nix::sys::stat::{Mode, fchmod, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, ftruncate, unlinkat};

use super::Making;
use crate::error::{Doing, Error, Result};
use crate::image::layout::{Form, ObjectState, ShmObject};
use crate::memory::posix_shm::NewPosixShm;
use crate::memory::segments::NewSegment;
use crate::resources::file::Content;

/// The most objects of one process that this side keeps open.
const LIMIT: usize = 100_000;

impl Making {
    /// Makes new ones, empty.
    pub fn make_objects(&mut self, objects: &[ShmObject]) -> Result<()> {
        for object in objects {
            if self.contents.len() > LIMIT || object.id == 0 || i64::try_from(object.size).is_err() {
                return Err(Error::Invalid(format!("shared object {} of {} bytes", object.id, object.size)));
            }
            let content = self.make_object(object)?;
            let number = self.shell.give_aside(&[content.file.as_fd()])?;
            self.tables.objects.extend(number.first().map(|n| (object.id, *n)));
            self.placement.add_object(object.id, content.file.clone(), object.size);
            self.contents.insert(object.id, content);
        }
        Ok(())
    }

    fn make_object(&mut self, object: &ShmObject) -> Result<Content> {
        let size = object.size;
        let doing = || format!("make a file without a name of {size} bytes");
        let content = match &object.form {
            Form::Anonymous => {
                let made = map_files::new_shared_anonymous(size as usize).doing(doing)?;
                return Ok(Content { file: Arc::new(made.into()), first: None });
            }
            Form::Memfd { name } => memfd(name)?,
            Form::PosixShm { path, modified } => {
                let (new, file) = NewPosixShm::make(object, path, *modified)?;
                self.posix_shm.insert(object.id, new);
                Content { file: Arc::new(file), first: None }
            }
            &Form::SysV { made, removed } => {
                let run = |batch: &Batch| self.shell.run(batch);
                let (segment, file) = NewSegment::make(made, removed, size, run)?;
                self.segments.insert(object.id, segment);
                return Ok(Content { file: Arc::new(file), first: None });
            }
            Form::File { path, nameless } => {
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                let name = path.file_name().unwrap_or_default().as_bytes();
                match object.open {
                    // Others could see it being made, and where it was the program cannot see.
                    false => memfd(name)?,
                    true => match unnamed_file(path, *nameless) {
                        Ok(content) => content,
                        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EROFS | Errno::EOPNOTSUPP | Errno::EISDIR) => {
                            self.outside.warn(format!(
                                "{}, which has been deleted, is kept in memory here: no file can be made in its directory",
                                path.display()
                            ));
                            memfd(name)?
                        }
                        Err(e) => return Err(Error::io(format!("make {} and delete it", path.display()), e.into())),
                    },
                }
            }
        };
        ftruncate(&content.file, size as i64).map_err(Into::into).doing(doing)?;
        Ok(content)
    }

    /// Makes their sizes what they are now; the rest is for later.
    pub fn resize_objects(&mut self, states: &[ObjectState]) -> Result<()> {
        for state in states {
            let content = self.contents.get(&state.id);
            let content =
                content.ok_or_else(|| Error::Invalid(format!("the state of object {}, which is none", state.id)))?;
            if let Some(segment) = self.segments.get(&state.id) {
                segment.set(state)?;
                self.states.insert(state.id, *state);
                continue;
            }
            let size = i64::try_from(state.size).map_err(|_| Error::Invalid(format!("{} bytes", state.size)))?;
            ftruncate(&content.file, size).map_err(Into::into).doing(|| format!("give a file {size} bytes"))?;
            self.placement.resize_object(state.id, state.size);
            self.states.insert(state.id, *state);
        }
        Ok(())
    }

    /// Gives them all but content and seals, as far as they do not have it: where content is still to come, this is to be done again.
    pub fn set_states(&self) -> Result<()> {
        self.for_each_state(|state, file| {
            let now = fstat(file)?;
            if (now.st_uid, now.st_gid) != state.owner {
                fchown(file, Some(Uid::from_raw(state.owner.0)), Some(Gid::from_raw(state.owner.1)))?;
            }
            // A change of the owner takes the bits for set-user-ID and set-group-ID away.
            if fstat(file)?.st_mode & 0o7777 != state.mode {
                fchmod(file, Mode::from_bits_truncate(state.mode))?;
            }
            if ((now.st_atime, now.st_atime_nsec), (now.st_mtime, now.st_mtime_nsec))
                != (state.accessed, state.modified)
            {
                let time = |(seconds, nanoseconds)| TimeSpec::new(seconds, nanoseconds);
                futimens(file, &time(state.accessed), &time(state.modified))?;
            }
            Ok(())
        })
    }

    /// The last thing about them: when content and mappings are in place. What has all its seals as it was made is left alone.
    pub fn seal_objects(&mut self) -> Result<()> {
        for (id, new) in &mut self.posix_shm {
            new.removed = self.states.get(id).is_some_and(|state| state.removed);
        }
        for (id, segment) in &mut self.segments {
            self.states.get(id).map_or(Ok(()), |state| segment.end(state))?;
        }
        self.for_each_state(|state, file| {
            let seals = SealFlag::from_bits_retain(state.seals);
            if !seals.is_empty() && fcntl(file, FcntlArg::F_GET_SEALS)? != state.seals {
                fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
            }
            Ok(())
        })
    }

    fn for_each_state(&self, set: impl Fn(&ObjectState, &File) -> nix::Result<()>) -> Result<()> {
        for state in self.states.values().filter(|state| !self.segments.contains_key(&state.id)) {
            let Some(content) = self.contents.get(&state.id) else { continue };
            let set = set(state, &content.file).map_err(std::io::Error::from);
            set.doing(|| {
                format!("make a file without a name what it was (mode {:o}, seals {:#x})", state.mode, state.seals)
            })?;
        }
        Ok(())
    }
}

fn memfd(name: &[u8]) -> Result<Content> {
    let file = map_files::new_memfd(name, 0).doing(|| "make a memfd".into())?;
    Ok(Content { file: Arc::new(file.into()), first: None })
}

/// A file in the directory where the original was, of its name if no other has that.
fn unnamed_file(path: &Path, nameless: bool) -> nix::Result<Content> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::ENOENT) };
    let directory_flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::open(directory, directory_flags, Mode::empty())?;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    if nameless {
        let first = openat(&directory, ".", OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC, mode)?;
        let file = again(&first)?;
        return Ok(Content { file: Arc::new(file), first: Some(Arc::new(first.into())) });
    }
    let create = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let other = format!(".{}.{}", name.display(), std::process::id());
    for name in [name.as_bytes(), other.as_bytes()] {
        match openat(&directory, name, create, mode) {
            Ok(file) => {
                unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir)?;
                return Ok(Content { file: Arc::new(file.into()), first: None });
            }
            Err(Errno::EEXIST | Errno::ENAMETOOLONG) => {}
            Err(e) => return Err(e),
        }
    }
    Err(Errno::EEXIST)
}

/// A description of its own: what is written through it does not move the offset of the other.
fn again(file: &OwnedFd) -> nix::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path.as_str(), flags, Mode::empty())?.into())
}
