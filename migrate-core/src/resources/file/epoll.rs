//! epoll(7): what is watched, with which events (edge-triggered, one-shot, exclusive) and which data; flags.
//!
//! An item is keyed by its file and the number under which it was added, so items are added in the new process, by its numbers. An
//! item whose number is another file by now (closed, or the number was used again) cannot be added by anybody, and is refused.

use std::os::fd::{AsRawFd, OwnedFd};

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::Batch;
use nix::sys::epoll::{Epoll as NixEpoll, EpollCreateFlags};

use super::{FileKind, FileView, HeldFile, NewFiles, Others, Placed, flags_now};
use crate::error::{Doing, Error, Result};
use crate::proc::fdinfo::{FdInfo, read_fdinfo};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EpollImage {
    flags: i32,
    items: Vec<Item>,
}

/// One thing that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Item {
    number: i32,
    events: u32,
    data: u64,
    /// The file's inode on the source.
    inode: u64,
}

/// The kind.
pub enum Epoll {}

/// Items of one epoll at most.
const ITEM_LIMIT: usize = 1000;

impl FileKind for Epoll {
    const NAME: &'static str = "epoll";
    const MOVES: &'static str = "items with their events and data; items of closed descriptors do not";
    type Image = EpollImage;

    fn recognise(view: &FileView) -> bool {
        matches!(&view.link, LinkTarget::AnonInode(name) if name == b"eventpoll")
    }

    fn preflight(view: &FileView) -> Verdict {
        match items(&view.info) {
            Ok(items) if items.len() > ITEM_LIMIT => Verdict::Unsupported(format!(
                "fd {}: an epoll of {} items; {ITEM_LIMIT} can move yet",
                view.number,
                items.len()
            )),
            Ok(_) => Verdict::Supported,
            Err(line) => {
                Verdict::Unsupported(format!("fd {}: an epoll item that is not understood ({line})", view.number))
            }
        }
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<EpollImage> {
        let number = from.view.number;
        // Of the agent's duplicate, and as it is now: what is known from before the freeze is out of date.
        let info = read_fdinfo(std::process::id() as i32, from.duplicate.as_raw_fd());
        let info = info.doing(|| format!("read descriptor {number}"))?;
        let mut items = items(&info).map_err(|line| Error::Invalid(format!("fd {number}: an epoll item: {line}")))?;
        items.retain(|item| !others.is_replaced(item.number));
        if items.len() > ITEM_LIMIT {
            return Err(Error::Refused(vec![format!(
                "fd {number}: an epoll of {} items; {ITEM_LIMIT} can move yet",
                items.len()
            )]));
        }
        for item in &items {
            // Two descriptions of one inode are not told apart here; the kernel would not either, by what it shows.
            let now = read_fdinfo(from.process, item.number).ok().and_then(|info| info.ino);
            if now != Some(item.inode) {
                return Err(Error::Refused(vec![format!(
                    "fd {number}: its epoll watches a file that was descriptor {} and no longer is; that cannot move yet",
                    item.number
                )]));
            }
        }
        Ok(EpollImage { flags: flags_now(from)?, items })
    }

    fn create(_image: &EpollImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let made = NixEpoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Into::into);
        Ok(made.doing(|| "make an epoll".into())?.0)
    }

    fn connect(image: &EpollImage, at: Placed<'_>, batch: &mut Batch) -> Result<()> {
        for item in &image.items {
            // struct epoll_event is packed on x86_64.
            let mut event = [0u8; 12];
            event[..4].copy_from_slice(&item.events.to_le_bytes());
            event[4..].copy_from_slice(&item.data.to_le_bytes());
            let event = batch.bytes(&event);
            batch.must(
                libc::SYS_epoll_ctl,
                [at.number.into(), libc::EPOLL_CTL_ADD.into(), item.number.into(), event.into()],
            );
        }
        Ok(())
    }
}

/// `tfd:        5 events:       19 data:        5  pos:0 ino:1 sdev:e` (fs/eventpoll.c `ep_show_fdinfo`). Err: the line.
fn items(info: &FdInfo) -> std::result::Result<Vec<Item>, String> {
    let lines = info.extra.iter().filter(|(key, _)| key == b"tfd").map(|(_, value)| String::from_utf8_lossy(value));
    lines.map(|line| item(&line).ok_or_else(|| line.into_owned())).collect()
}

fn item(line: &str) -> Option<Item> {
    let line = line.replace(':', " ");
    let mut words = line.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let mut value = |name: &str| -> Option<&str> {
        words.find(|w| *w == name)?;
        words.next()
    };
    let events = u32::from_str_radix(value("events")?, 16).ok()?;
    let data = u64::from_str_radix(value("data")?, 16).ok()?;
    let inode = u64::from_str_radix(value("ino")?, 16).ok()?;
    Some(Item { number, events, data, inode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let line = "       5 events: 80000019 data:         cafe00000005  pos:0 ino:1f03 sdev:e";
        let expected = Item { number: 5, events: 0x8000_0019, data: 0xcafe_0000_0005, inode: 0x1f03 };
        assert_eq!(item(line), Some(expected));
        assert_eq!(item("5 events: x"), None);
        assert_eq!(item(""), None);
    }
}
