//! The open files of a process, as one description that refers to others asks for them.

use std::os::fd::{AsRawFd, OwnedFd};

use migrate_linux::kcmp;

use super::open_files::SharedFile;
use crate::error::{Doing, Result};
use crate::image::ObjectId;
use crate::resources::file::{HeldFile, Known};

/// What the process has, for descriptions that refer to others.
#[derive(Debug)]
pub struct KnownFiles<'a> {
    list: &'a [SharedFile],
    /// Ascending, and which of the list each is.
    numbers: Vec<(i32, usize)>,
}

impl<'a> KnownFiles<'a> {
    /// Of these. `numbers`: the descriptors, ascending, and which of the list each is.
    pub fn new(list: &'a [SharedFile], numbers: Vec<(i32, usize)>) -> KnownFiles<'a> {
        KnownFiles { list, numbers }
    }

    fn at(&self, number: i32) -> Option<&SharedFile> {
        let place = self.numbers.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.list.get(self.numbers.get(place)?.1)
    }
}

impl Known for KnownFiles<'_> {
    fn object_of(&self, fd: &OwnedFd) -> Result<Option<ObjectId>> {
        let stat = nix::sys::stat::fstat(fd).map_err(std::io::Error::from).doing(|| "stat a descriptor".into())?;
        let own = std::process::id() as i32;
        let may_be = |shared: &&SharedFile| shared.moves() && shared.file.inode() == (stat.st_dev, stat.st_ino);
        for shared in self.list.iter().filter(may_be) {
            let same = kcmp::same_file(own, shared.file.duplicate.as_raw_fd(), own, fd.as_raw_fd());
            if same.doing(|| "compare descriptors (kcmp)".into())? {
                return Ok(Some(shared.object));
            }
        }
        Ok(None)
    }

    fn object_at(&self, number: i32) -> Option<(ObjectId, &HeldFile)> {
        self.at(number).filter(|shared| shared.moves()).map(|shared| (shared.object, &shared.file))
    }

    fn on_inode(&self, inode: u64) -> Vec<(ObjectId, &HeldFile)> {
        let there = self.list.iter().filter(|shared| shared.moves() && shared.file.view.stat.st_ino == inode);
        there.map(|shared| (shared.object, &shared.file)).collect()
    }

    fn is_replaced(&self, number: i32) -> bool {
        self.at(number).is_some_and(|shared| !shared.moves())
    }
}
