//! Working directory, root directory and umask, which all threads share (CLONE_FS).

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::Batch;

use crate::resources::Row;

/// What of it moves.
pub const ROW: Row = ("surroundings", "working directory, root, umask");

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Surroundings {
    /// Its path as the agent sees it.
    pub working_directory: Vec<u8>,
    /// Its path as the agent sees it.
    pub root: Vec<u8>,
    /// File mode creation mask.
    pub umask: u32,
}

/// Adds the calls. The working directory first: it may be outside the root.
pub fn restore(image: &Surroundings, batch: &mut Batch) {
    let path = batch.string(&image.working_directory);
    batch.must(libc::SYS_chdir, [path.into()]);
    if image.root != b"/" {
        let path = batch.string(&image.root);
        batch.must(libc::SYS_chroot, [path.into()]);
    }
    batch.must(libc::SYS_umask, [u64::from(image.umask).into()]);
}
