//! Namespaces (files below /proc/PID/ns): those in which the process is, or in which its children would be. Over there it is in others, and
//! they are opened.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use bincode::{Decode, Encode};
use nix::libc::O_PATH;

use super::{FileKind, FileView, HeldFile, NewFiles, Others, flags_now, open_again, or_instead};
use crate::error::{Error, Result};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NamespaceImage {
    /// Which of [`NAMES`].
    which: u8,
    flags: i32,
}

/// The kind.
pub enum Namespace {}

/// The files of /proc/PID/ns. One that children alone would be in comes behind the one that it most often is.
const NAMES: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts", "pid_for_children", "time_for_children"];

impl FileKind for Namespace {
    const NAME: &'static str = "namespace";
    const MOVES: &'static str = "one in which the process is: over there the one in which it is then; flags";
    type Image = NamespaceImage;

    fn recognise(view: &FileView) -> bool {
        matches!(view.link, LinkTarget::Namespace { .. })
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        Ok(which(from).map_or_else(Verdict::Unsupported, |_| Verdict::Supported))
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<NamespaceImage> {
        let which = which(from).map_err(|why| Error::Refused(vec![why]))?;
        Ok(NamespaceImage { which, flags: flags_now(from)? | from.view.status_flags() & O_PATH })
    }

    fn create(image: &NamespaceImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let name = NAMES.get(usize::from(image.which));
        let name = name.ok_or_else(|| Error::Invalid(format!("a namespace of kind {}", image.which)))?;
        open_again(format!("/proc/{}/ns/{name}", new.process).as_bytes(), image.flags)
    }
}

/// Which of its own it is. Err: none, in words.
fn which(from: &HeldFile) -> std::result::Result<u8, String> {
    let view = &from.view;
    let is_it = |name: &&str| {
        let its = std::fs::metadata(format!("/proc/{}/ns/{name}", from.process.alive));
        its.is_ok_and(|its| (its.dev(), its.ino()) == (view.stat.st_dev, view.stat.st_ino))
    };
    let place = NAMES.iter().position(is_it);
    place.map(|place| place as u8).ok_or_else(|| {
        format!("fd {}: a namespace in which the process is not; {}", view.number, or_instead(&[view.number]))
    })
}
