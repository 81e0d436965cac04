//! Sockets that are bound by path, and where their files are until the process runs.
//!
//! The address of a socket is the text that bind(2) was given, for ever; its file may be anywhere. So that the text is right and yet
//! nobody finds the file before the commit (at the path itself the original's may be, if the hosts share a file system), a socket is
//! bound in a directory of its own, as if that were the root directory; it lies beside where the file belongs, to which it is renamed
//! after the commit.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use migrate_linux::{libc, unix_messages};
use nix::sched::{CloneFlags, unshare};

use super::unix::{self, BoundFile};
use crate::error::{Doing, Error, Result};

/// How the names of such directories begin.
const PREFIX: &str = ".migrate-socket-";

/// The directory of one socket. Dropped, it goes, with what is still in it.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
    file: PathBuf,
}

impl Place {
    /// Binds a socket to `name` in a new directory in `beside`.
    pub fn bind(socket: &OwnedFd, name: &[u8], beside: &Path) -> Result<Place> {
        let binding = || format!("bind a unix socket to {} in {}", name.escape_ascii(), beside.display());
        let root = new_directory(beside).doing(binding)?;
        let mut place = Place { file: root.clone(), root };
        let name_as_path = Path::new(std::ffi::OsStr::from_bytes(name));
        place.file = place.make_directories(name_as_path).doing(binding)?;
        in_root(&place.root, || unix_messages::bind(socket, name)).doing(binding)?;
        // Other users of the process connect to it while it is made; nobody else can reach it here.
        fs::set_permissions(&place.file, fs::Permissions::from_mode(0o777)).doing(binding)?;
        Ok(place)
    }

    /// Makes the directories that a path goes through, and returns where its file will be.
    fn make_directories(&self, path: &Path) -> io::Result<PathBuf> {
        let mut components = path.components();
        let last = match components.next_back() {
            Some(Component::Normal(last)) => last,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let mut at = self.root.clone();
        for component in components {
            match component {
                Component::Normal(name) => {
                    at.push(name);
                    match DirBuilder::new().mode(0o700).create(&at) {
                        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                        _ => {}
                    }
                }
                // Above the root is the root.
                Component::ParentDir if at != self.root => drop(at.pop()),
                _ => {}
            }
        }
        Ok(at.join(last))
    }

    /// Where a socket that has been bound so lies.
    pub fn of(socket: &OwnedFd) -> Result<Place> {
        let finding = || "find the file of a unix socket".to_string();
        let file = unix_messages::bound_file(socket).doing(finding)?;
        let file = file.ok_or_else(|| Error::Invalid("a unix socket without a file".into()))?;
        let file = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).doing(finding)?;
        let is_root =
            |path: &&Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()));
        let root = file.ancestors().find(is_root).map(Path::to_path_buf);
        let root = root.ok_or_else(|| Error::Invalid(format!("{} is no place of a new socket", file.display())))?;
        Ok(Place { root, file })
    }

    /// Puts the file where it belongs, in place of what is there.
    pub fn move_to(self, to: &BoundFile) -> Result<()> {
        let path = Path::new(std::ffi::OsStr::from_bytes(&to.path));
        let moving = || format!("put the file of a unix socket at {}", path.display());
        std::os::unix::fs::lchown(&self.file, Some(to.uid), Some(to.gid)).doing(moving)?;
        fs::set_permissions(&self.file, fs::Permissions::from_mode(to.mode)).doing(moving)?;
        fs::rename(&self.file, path).doing(moving)
    }

    /// Leaves it there.
    pub fn keep(self) -> PathBuf {
        std::mem::ManuallyDrop::new(self).root.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("remove {}: {error}", self.root.display());
        }
    }
}

/// Directories that are to be removed, whatever becomes of the process.
#[derive(Debug, Default)]
pub struct Places(Vec<PathBuf>);

impl Places {
    /// One more.
    pub fn add(&mut self, place: Place) {
        self.0.push(place.keep());
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for root in self.0.drain(..) {
            drop(Place { file: PathBuf::new(), root });
        }
    }
}

fn new_directory(beside: &Path) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let path = beside.join(format!("{PREFIX}{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|()| path),
        }
    }
}

/// Runs `call` with another root directory, in a thread of its own.
fn in_root(root: &Path, call: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    let run = || {
        unshare(CloneFlags::CLONE_FS)?;
        nix::unistd::chroot(root)?;
        nix::unistd::chdir("/")?;
        call()
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| Err(io::Error::other("a thread failed")))
}

/// The directory that a socket's file belongs into, if it can be put there: nothing must be there but the original itself, or a
/// socket that nobody serves.
pub fn directory_for(file: &BoundFile, same_kernel: bool) -> Result<PathBuf> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&file.path));
    let refused = |why: String| Err(Error::Refused(vec![format!("the unix socket {}: {why}", path.display())]));
    let directory = match path.parent().filter(|_| path.is_absolute()) {
        Some(directory) => directory,
        None => return refused("no path of a socket".into()),
    };
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => {}
        _ => {
            return refused(format!("there is no directory {} on the destination; make it there", directory.display()));
        }
    }
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(directory.into()),
        Err(e) => return refused(e.to_string()),
    };
    if same_kernel && (there.dev(), there.ino()) == (file.device, file.inode) {
        return Ok(directory.into());
    }
    if !there.file_type().is_socket() {
        return refused("on the destination there is something else; remove it there".into());
    }
    // Connecting a datagram socket is noticed by nobody, and with a socket of another sort it fails.
    let probe = unix::unbound(libc::SOCK_DGRAM)?;
    match unix_messages::connect(&probe, &file.path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(directory.into()),
        _ => refused("on the destination another process has it; end that, or let it use another path".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    fn bound(name: &str, beside: &Path) -> (OwnedFd, Place) {
        let socket = OwnedFd::from(UnixDatagram::unbound().unwrap());
        let place = Place::bind(&socket, name.as_bytes(), beside).unwrap();
        (socket, place)
    }

    #[test]
    fn the_name_is_right_and_the_file_comes_later() {
        if !nix::unistd::getuid().is_root() {
            return println!("SKIPPED: not root");
        }
        let directory = tempfile::tempdir().unwrap();
        for name in ["/a/b/../c/socket", "socket", "../x/socket", "/socket"] {
            let (socket, place) = bound(name, directory.path());
            assert_eq!(unix_messages::name(&socket).unwrap(), name.as_bytes());
            drop(place);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{name}");
        }
        let (socket, place) = bound("/run/some/socket", directory.path());
        let root = place.keep();
        let at = directory.path().join("there");
        let path = at.as_os_str().as_bytes().to_vec();
        let file = BoundFile { path, device: 0, inode: 0, mode: 0o640, uid: 3, gid: 4 };
        fs::write(&at, "the original").unwrap();
        Place::of(&socket).unwrap().move_to(&file).unwrap();
        assert!(!root.exists());
        let metadata = fs::symlink_metadata(&at).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 3, 4));
        UnixDatagram::unbound().unwrap().send_to(b"x", &at).unwrap();
    }

    #[test]
    fn only_what_nobody_uses_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("socket");
        let path = at.as_os_str().as_bytes().to_vec();
        let mut file = BoundFile { path, device: 0, inode: 0, mode: 0, uid: 0, gid: 0 };
        assert_eq!(directory_for(&file, false).unwrap(), directory.path());
        let used = UnixDatagram::bind(&at).unwrap();
        assert!(directory_for(&file, false).is_err());
        let metadata = fs::symlink_metadata(&at).unwrap();
        (file.device, file.inode) = (metadata.dev(), metadata.ino());
        assert!(directory_for(&file, true).is_ok() && directory_for(&file, false).is_err());
        drop(used);
        assert!(directory_for(&file, false).is_ok());
        fs::remove_file(&at).unwrap();
        fs::write(&at, "a file").unwrap();
        assert!(directory_for(&file, false).is_err());
        file.path = at.join("not there").as_os_str().as_bytes().to_vec();
        let why = directory_for(&file, false).unwrap_err().to_string();
        assert!(why.contains("there is no directory"), "{why}");
    }
}
