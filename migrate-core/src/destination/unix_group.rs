//! The unix sockets among the descriptions of a new process: they are made and finished all together.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use super::shell::Shell;
use crate::error::Result;
use crate::image::ObjectId;
use crate::resources::file::socket::unix::UnixImage;
use crate::resources::file::socket::unix_finish::Finished;
use crate::resources::file::socket::unix_making::UnixSockets;
use crate::resources::file::{FileImage, NewFiles};

/// What has been made.
type Made = HashMap<ObjectId, (FileImage, OwnedFd)>;

fn unix_of(made: &Made) -> impl Iterator<Item = (ObjectId, &UnixImage, &OwnedFd)> {
    made.iter().filter_map(|(object, (image, fd))| match image {
        FileImage::Unix(image) => Some((*object, image, fd)),
        _ => None,
    })
}

/// With one that is to be made, what is connected to it is made anew, too.
pub fn spread(missing: &mut HashMap<ObjectId, FileImage>, made: &Made, wanted: &HashSet<ObjectId>) {
    let mut to_do: Vec<UnixImage> = missing.values().filter_map(FileImage::unix).cloned().collect();
    let mut rest: Vec<_> = unix_of(made).filter(|(object, ..)| wanted.contains(object)).collect();
    while let Some(image) = to_do.pop() {
        rest.retain(|(object, other, _)| {
            let concerned = other.is_linked_with(&image);
            if concerned && !missing.contains_key(object) {
                missing.insert(*object, FileImage::Unix((*other).clone()));
                to_do.push((*other).clone());
            }
            !concerned
        });
    }
}

/// Makes those that are missing; by their inodes on the source.
pub fn make(
    sockets: &mut UnixSockets,
    missing: &HashMap<ObjectId, FileImage>,
    made: &Made,
    new: &NewFiles,
    shell: &mut Shell,
) -> Result<HashMap<u32, OwnedFd>> {
    let images: Vec<&UnixImage> = missing.values().filter_map(FileImage::unix).collect();
    if images.is_empty() {
        return Ok(HashMap::new());
    }
    let there = unix_of(made).filter(|(object, ..)| !missing.contains_key(object));
    let there = there.map(|(_, image, fd)| (image.inode(), (image, fd))).collect();
    // While the process runs it is not known yet whether that is here; a file with its inode is taken for its own.
    sockets.make(&images, &there, new.same_kernel || !new.frozen, shell)
}

/// All that are wanted, to be finished.
pub fn finished<'m>(
    made: &'m Made,
    wanted: &HashSet<ObjectId>,
    changed: impl Fn(ObjectId) -> bool,
) -> Vec<Finished<'m>> {
    let wanted = unix_of(made).filter(|(object, ..)| wanted.contains(object));
    wanted.map(|(object, image, fd)| Finished { image, fd, changed: changed(object) }).collect()
}
