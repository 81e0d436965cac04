//! epoll(7): what is watched, with which events (edge-triggered, one-shot, exclusive) and which data, other epolls too; how it polls
//! (EPIOCSPARAMS); flags.
//!
//! An item is keyed by a description and the number under which it was added, so items are added in the new process, by its numbers. Where
//! that number is something else by now (closed, or used again), the description is put there for the moment of adding.
//!
//! Adding an item tells the program of it when it is ready. So an edge that the program has seen already is taken away from it again, where
//! the kernel shows that nothing waits to be told, and a one-shot item that has been told is disarmed again by telling it. What cannot be
//! done: an item of what is not ready at all cannot be disarmed for errors and hang-ups; and when an epoll had something to tell, an edge
//! that was seen before may be seen once more.

use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::epoll::{Polling, is_item_of, polling, set_polling};
use migrate_linux::libc;
use migrate_linux::remote::Batch;
use nix::sys::epoll::{Epoll as NixEpoll, EpollCreateFlags};

use super::{FileImage, FileKind, FileView, HeldFile, NewFiles, Others, Placed, ready_for, set_flags};
use crate::error::{Doing, Error, Result};
use crate::image::ObjectId;
use crate::proc::fdinfo::FdInfo;
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EpollImage {
    flags: i32,
    /// In the kernel's order.
    items: Vec<Item>,
    /// Where the kernel has that, and it is not as at the beginning.
    polling: Option<Polling>,
}

/// One thing that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Item {
    number: i32,
    events: u32,
    data: u64,
    /// The file's inode on the source.
    inode: u64,
    object: ObjectId,
    /// What is to be told, and taken away, at once: what an edge, or a one-shot item, has told before.
    told: u32,
}

/// The kind.
pub enum Epoll {}

/// Items that are added in one part: each takes five calls at most.
const ITEMS_AT_ONCE: usize = super::CALLS_TO_CONNECT / 5 - 1;
/// Events that are taken away at once.
const EVENTS_AT_ONCE: usize = 64;
/// Bits of an item's events that are no events (fs/eventpoll.c `EP_PRIVATE_BITS`).
const HOW: u32 = (libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLWAKEUP | libc::EPOLLEXCLUSIVE) as u32;
const ONCE: u32 = libc::EPOLLONESHOT as u32;
const EDGE: u32 = libc::EPOLLET as u32;
/// Some of these an open description is nearly always ready for.
const ANY_EVENT: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP) as u32;

impl FileKind for Epoll {
    const NAME: &'static str = "epoll";
    const MOVES: &'static str = "items with their events and data, nested, edge-triggered, one-shot and exclusive, of closed and replaced descriptors too";
    const AHEAD: bool = true;
    type Image = EpollImage;

    fn recognise(view: &FileView) -> bool {
        matches!(&view.link, LinkTarget::AnonInode(name) if name == b"eventpoll")
    }

    fn preflight(view: &FileView) -> Verdict {
        match items(&view.info) {
            Ok(_) => Verdict::Supported,
            Err(line) => {
                Verdict::Unsupported(format!("fd {}: an epoll item that is not understood ({line})", view.number))
            }
        }
    }

    fn refers_to(image: &EpollImage) -> Vec<ObjectId> {
        image.items.iter().map(|item| item.object).collect()
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<EpollImage> {
        let fd = from.view.number;
        let shown = items(&from.view.info).map_err(|line| Error::Invalid(format!("fd {fd}: an epoll item: {line}")))?;
        let before = match others.told_before() {
            Some(FileImage::Epoll(image)) => image.items.as_slice(),
            _ => &[],
        };
        let (mut edges, mut can_be_polled) = (Vec::new(), true);
        let mut items = Vec::with_capacity(shown.len());
        for (i, item) in shown.iter().enumerate() {
            if others.is_replaced(item.number) {
                continue;
            }
            let (object, watched) = watched(from, &shown, i, before, others)?;
            let mut told = 0;
            if !may_be_polled(&watched.view) {
                can_be_polled = false;
            } else if item.events & ONCE != 0 && item.events & !HOW == 0 {
                // Disarmed. Whatever it is ready for will do.
                told = ready_for(&watched.duplicate, ANY_EVENT)?;
            } else if item.events & EDGE != 0 && item.events & ONCE == 0 {
                edges.push((items.len(), &watched.duplicate));
            }
            let Shown { number, events, data, inode } = *item;
            items.push(Item { number, events, data, inode, object, told });
        }
        if !edges.is_empty() && can_be_polled && ready_for(&from.duplicate, libc::EPOLLIN as u32)? == 0 {
            // There is nothing to tell: of what is ready, it has been told.
            for (i, duplicate) in edges {
                items[i].told = ready_for(duplicate, items[i].events & !HOW)?;
            }
        }
        let polling = polling(&from.duplicate).filter(|params| *params != Polling::default());
        Ok(EpollImage { flags: from.view.status_flags(), items, polling })
    }

    fn create(image: &EpollImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let made = NixEpoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Into::into);
        let fd = made.doing(|| "make an epoll".into())?.0;
        set_flags(&fd, image.flags)?;
        if let Some(polling) = &image.polling {
            set_polling(&fd, polling).doing(|| "set how an epoll polls (EPIOCSPARAMS)".into())?;
        }
        Ok(fd)
    }

    /// An edge of one that was made ahead may have come since, and gone: it is made anew.
    fn update(old: &EpollImage, new: &EpollImage, _fd: &OwnedFd, files: &NewFiles) -> Result<bool> {
        let has_edges = new.items.iter().any(|item| item.events & EDGE != 0);
        Ok(old == new && !(has_edges && files.frozen))
    }

    fn parts(image: &EpollImage) -> usize {
        image.items.len().div_ceil(ITEMS_AT_ONCE)
    }

    fn connect(image: &EpollImage, at: Placed<'_>, batch: &mut Batch) -> Result<()> {
        // First what is to be told at once: then nothing else is.
        let (told, rest): (Vec<&Item>, Vec<&Item>) = image.items.iter().partition(|item| item.told != 0);
        let all = told.iter().chain(&rest).enumerate();
        for (i, item) in all.skip(at.part.saturating_mul(ITEMS_AT_ONCE)).take(ITEMS_AT_ONCE) {
            add(item, at, batch)?;
            if i + 1 == told.len() {
                let events = batch.buffer(EVENTS_AT_ONCE * EVENT);
                for _ in 0..told.len().div_ceil(EVENTS_AT_ONCE) {
                    batch
                        .must(libc::SYS_epoll_wait, [at.number.into(), events.into(), EVENTS_AT_ONCE.into(), 0.into()]);
                }
            }
        }
        Ok(())
    }
}

/// Bytes of `struct epoll_event`, which is packed on x86_64.
const EVENT: usize = 12;

fn add(item: &Item, at: Placed<'_>, batch: &mut Batch) -> Result<()> {
    // An edge is told as it was; a disarmed item has no events of its own.
    let events = if item.events & !HOW == 0 { item.events | item.told } else { item.events };
    let mut event = [0u8; EVENT];
    event[..4].copy_from_slice(&events.to_le_bytes());
    event[4..].copy_from_slice(&item.data.to_le_bytes());
    let event = batch.bytes(&event);
    let control = |batch: &mut Batch| {
        let number = item.number.into();
        batch.must(libc::SYS_epoll_ctl, [at.number.into(), libc::EPOLL_CTL_ADD.into(), number, event.into()]);
    };
    let there = at.at(item.number);
    if there.is_some_and(|there| there.object == item.object) {
        control(batch);
        return Ok(());
    }
    // Put there for the moment of adding.
    let known = at.number_of(item.object);
    let known = known.ok_or_else(|| Error::Invalid(format!("an epoll watches {:?}, which is nowhere", item.object)))?;
    let flags = |close_on_exec: bool| if close_on_exec { libc::O_CLOEXEC } else { 0 };
    if there.is_some() {
        batch.must(libc::SYS_dup3, [item.number.into(), at.spare().into(), libc::O_CLOEXEC.into()]);
    }
    batch.must(libc::SYS_dup3, [known.into(), item.number.into(), libc::O_CLOEXEC.into()]);
    control(batch);
    match there {
        Some(there) => {
            batch.must(libc::SYS_dup3, [at.spare().into(), item.number.into(), flags(there.close_on_exec).into()]);
            batch.must(libc::SYS_close, [at.spare().into()]);
        }
        None => drop(batch.must(libc::SYS_close, [item.number.into()])),
    }
    Ok(())
}

/// Which description an item is of.
fn watched<'a>(
    from: &HeldFile,
    shown: &[Shown],
    i: usize,
    before: &[Item],
    others: &Others<'a>,
) -> Result<(ObjectId, &'a HeldFile)> {
    let fd = from.view.number;
    let item = &shown[i];
    let is_item_of = |watched: &HeldFile| {
        // Of several with one number, the kernel is asked by their order.
        let nth = shown[..i].iter().filter(|other| other.number == item.number).count();
        let same = is_item_of(&watched.duplicate, &from.duplicate, item.number, nth as u32);
        same.doing(|| format!("compare what epoll {fd} watches (kcmp)"))
    };
    if let Some((object, there)) = others.object_at(item.number)
        && there.view.stat.st_ino == item.inode
    {
        let same = |known: &&Item| known.number == item.number;
        let known = before.get(i).filter(same).or_else(|| before.iter().find(same));
        // A socket has one description only; and what was so while the process ran, and looks as it did, is.
        if there.view.socket.is_some()
            || known.is_some_and(|known| (known.object, known.inode) == (object, item.inode))
            || is_item_of(there)?
        {
            return Ok((object, there));
        }
    }
    for (object, held) in others.on_inode(item.inode) {
        if is_item_of(held)? {
            return Ok((object, held));
        }
    }
    Err(Error::Refused(vec![format!(
        "fd {fd}: its epoll watches what was descriptor {}, and what only another process has now, which stays; have the program close that epoll",
        item.number
    )]))
}

/// Whether this process may ask what it is ready for. A signalfd looks at the signals of whoever asks, and an epoll that is asked
/// forgets those of its items that then turn out not to be ready.
fn may_be_polled(view: &FileView) -> bool {
    !matches!(&view.link, LinkTarget::AnonInode(name) if name == b"signalfd" || name == b"eventpoll")
}

/// What fdinfo shows of an item.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    number: i32,
    events: u32,
    data: u64,
    inode: u64,
}

/// `tfd:        5 events:       19 data:        5  pos:0 ino:1 sdev:e` (fs/eventpoll.c `ep_show_fdinfo`). Err: the line.
fn items(info: &FdInfo) -> std::result::Result<Vec<Shown>, String> {
    let lines = info.extra.iter().filter(|(key, _)| key == b"tfd").map(|(_, value)| value);
    lines.map(|line| item(line).ok_or_else(|| String::from_utf8_lossy(line).into_owned())).collect()
}

fn item(line: &[u8]) -> Option<Shown> {
    let mut words = line.split(|byte| matches!(byte, b' ' | b':')).filter(|word| !word.is_empty());
    let number = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let mut value = |name: &[u8]| {
        words.find(|word| *word == name)?;
        u64::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()
    };
    let events = u32::try_from(value(b"events")?).ok()?;
    Some(Shown { number, events, data: value(b"data")?, inode: value(b"ino")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_understood() {
        let line = b"       5 events: 80000019 data:         cafe00000005  pos:0 ino:1f03 sdev:e";
        let expected = Shown { number: 5, events: 0x8000_0019, data: 0xcafe_0000_0005, inode: 0x1f03 };
        assert_eq!(item(line), Some(expected));
        assert_eq!(item(b"5 events: x"), None);
        assert_eq!(item(b""), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_understood(number in 0..i32::MAX, events: u32, data: u64, inode: u64, device: u32) {
            // As the kernel prints it.
            let line = format!("{number:8} events: {events:8x} data: {data:16x}  pos:0 ino:{inode:x} sdev:{device:x}");
            prop_assert_eq!(item(line.as_bytes()), Some(Shown { number, events, data, inode }));
        }

        #[test]
        fn any_line(line: Vec<u8>) {
            let _ = item(&line);
        }
    }
}
