//! inotify(7): what is watched, by path, with which events (one-shot and excluding unlinked ones too) and under which number; flags.
//!
//! The kernel tells what is watched by file handle, and a path is found for it. Events that have not been read can be given to nobody else,
//! so a process with any stays where it is. What happens to the files while the process stands still is not told over there.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use bincode::{Decode, Encode};
use migrate_linux::{file_handle, libc};
use nix::errno::Errno;
use nix::sys::stat::{fstat, lstat};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init, remove_watch};

use super::{FileKind, FileView, HeldFile, NewFiles, Others, set_flags};
use crate::error::{Doing, Error, Result};
use crate::proc::fdinfo::FdInfo;
use crate::proc::link::LinkTarget;
use crate::proc::mountinfo::{Mount, read_own_mounts};
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct InotifyImage {
    flags: i32,
    /// By their numbers.
    watches: Vec<Watch>,
}

/// One thing that is watched.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct Watch {
    number: i32,
    events: u32,
    path: Vec<u8>,
}

/// The kind.
pub enum Inotify {}

/// Numbers are given in order, so that the ones before must be used up: a microsecond each.
const HIGHEST_NUMBER: i32 = 1 << 20;
/// Of what is made to use up numbers: the queue (fs.inotify.max_queued_events) must not overflow.
const EVENTS_AT_ONCE: i32 = 1000;

impl FileKind for Inotify {
    const NAME: &'static str = "inotify";
    const MOVES: &'static str =
        "watches with their numbers and events, by path; with events that have not been read the process stays";
    const AHEAD: bool = true;
    type Image = InotifyImage;

    fn recognise(view: &FileView) -> bool {
        matches!(&view.link, LinkTarget::AnonInode(name) if name == b"inotify")
    }

    fn preflight(view: &FileView) -> Verdict {
        match named_watches(view) {
            Ok(_) => Verdict::Supported,
            Err(why) => Verdict::Unsupported(why),
        }
    }

    fn capture(from: &HeldFile, _others: &Others<'_>) -> Result<InotifyImage> {
        let number = from.view.number;
        let waiting = migrate_linux::pipes::bytes_waiting(&from.duplicate);
        let waiting = waiting.doing(|| format!("look into the queue of descriptor {number}"))?;
        if waiting > 0 {
            return Err(Error::Refused(vec![format!(
                "fd {number}: an inotify with {waiting} bytes of events that the program has not read; they cannot move: try again once it has read them"
            )]));
        }
        let watches = named_watches(&from.view).map_err(|why| Error::Refused(vec![why]))?;
        Ok(InotifyImage { flags: from.view.status_flags(), watches })
    }

    fn create(image: &InotifyImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(Into::into);
        let fd = fd.doing(|| "make an inotify (fs.inotify.max_user_instances)".into())?;
        let mut next = 1;
        for watch in &image.watches {
            use_up_numbers(&fd, &mut next, watch.number)?;
            // The path is of the thing itself; and two paths must not have become one thing.
            let how = WatchFlags::from_bits_retain(watch.events) | WatchFlags::DONT_FOLLOW | WatchFlags::MASK_CREATE;
            let path = std::ffi::OsStr::from_bytes(&watch.path);
            let got = add_watch(&fd, path, how).map_err(Into::into);
            let got = got.doing(|| format!("watch {} (inotify)", path.display()))?;
            if got != watch.number {
                let wanted = watch.number;
                return Err(Error::Invalid(format!("inotify watch {wanted} was to be made, and is {got}")));
            }
            next = next.max(got.saturating_add(1));
        }
        if new.frozen {
            forget_events(&fd)?;
        }
        set_flags(&fd, image.flags)?;
        Ok(fd)
    }

    /// What has happened here until now was before the process's time.
    fn update(old: &InotifyImage, new: &InotifyImage, fd: &OwnedFd, files: &NewFiles) -> Result<bool> {
        if old.watches != new.watches {
            return Ok(false);
        }
        if files.frozen {
            set_flags(fd, libc::O_NONBLOCK)?;
            forget_events(fd)?;
        }
        set_flags(fd, new.flags)?;
        Ok(true)
    }
}

/// Each watch that is made and taken away uses up a number. Of something that nobody else watches.
fn use_up_numbers(fd: &OwnedFd, next: &mut i32, until: i32) -> Result<()> {
    if until > HIGHEST_NUMBER {
        return Err(Error::Invalid(format!("inotify watch {until} cannot be made")));
    }
    if *next >= until {
        return Ok(());
    }
    let nothing = migrate_linux::map_files::new_memfd(b"migrate", 0).doing(|| "make a memfd".into())?;
    let path = format!("/proc/self/fd/{}", nothing.as_raw_fd());
    while *next < until {
        let got = add_watch(fd, path.as_str(), WatchFlags::ATTRIB).map_err(Into::into);
        let got = got.doing(|| "use up a number of an inotify".into())?;
        let removed = remove_watch(fd, got).map_err(Into::into);
        removed.doing(|| "use up a number of an inotify".into())?;
        *next = got.saturating_add(1);
        if got % EVENTS_AT_ONCE == 0 {
            forget_events(fd)?;
        }
    }
    forget_events(fd)
}

/// Empties the queue of one that does not block.
fn forget_events(fd: &OwnedFd) -> Result<()> {
    let mut events = [0; 16384];
    // The queue's length is limited; when something fills it all the time, what is read here is old all the same.
    for _ in 0..1000 {
        match nix::unistd::read(fd, &mut events) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(()),
            Err(e) => return Err(Error::io("empty the queue of an inotify".into(), e.into())),
        }
    }
    Ok(())
}

/// A line of fdinfo: number, events, and what is watched by device, inode and handle.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    number: i32,
    events: u32,
    device: (u32, u32),
    inode: u64,
    /// Its type and the bytes; None: the file system gives none.
    handle: Option<(i32, Vec<u8>)>,
}

impl Shown {
    /// `wd:1 ino:9a20f1 sdev:fe00000 mask:84000300 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:f1209a006e122202`
    /// (fs/notify/fdinfo.c `inotify_fdinfo`), all in hexadecimal.
    fn parse(line: &[u8]) -> Option<Shown> {
        let line = std::str::from_utf8(line).ok()?;
        let word = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
        let value = |name: &str| u64::from_str_radix(word(name)?, 16).ok();
        let device = u32::try_from(value("sdev")?).ok()?;
        let handle = match word("f_handle") {
            Some(hex) => Some((i32::try_from(value("fhandle-type")?).ok()?, bytes(hex)?)),
            None => None,
        };
        Some(Shown {
            number: i32::try_from(value("wd")?).ok()?,
            events: u32::try_from(value("mask")?).ok()?,
            // The kernel's own form of a device number (linux/kdev_t.h).
            device: (device >> 20, device & 0xf_ffff),
            inode: value("ino")?,
            handle,
        })
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// By their numbers. Err: the first line that is not understood.
fn watches(info: &FdInfo) -> std::result::Result<Vec<Shown>, String> {
    let lines = info.extra.iter().filter(|(key, _)| key == b"inotify").map(|(_, value)| value);
    let watches = lines.map(|line| Shown::parse(line).ok_or_else(|| String::from_utf8_lossy(line).into_owned()));
    let mut watches = watches.collect::<std::result::Result<Vec<_>, _>>()?;
    watches.sort_by_key(|watch| watch.number);
    Ok(watches)
}

/// Finds a path for each. Err says what cannot move, in words.
fn named_watches(view: &FileView) -> std::result::Result<Vec<Watch>, String> {
    let fd = view.number;
    let shown = watches(&view.info).map_err(|line| format!("fd {fd}: an inotify watch is not understood ({line})"))?;
    if let Some(watch) = shown.last().filter(|watch| watch.number > HIGHEST_NUMBER) {
        return Err(format!(
            "fd {fd}: an inotify that has come to watch {}; only up to {HIGHEST_NUMBER} can be made again: have the program open it anew",
            watch.number
        ));
    }
    if shown.is_empty() {
        return Ok(Vec::new());
    }
    let mut places = Places::read().map_err(|e| format!("fd {fd}: read the mounts: {e}"))?;
    let named = shown.into_iter().map(|watch| {
        let Shown { number, events, .. } = watch;
        let path = places.path_of(&watch).map_err(|why| {
            let (major, minor) = watch.device;
            let inode = watch.inode;
            format!(
                "fd {fd}: an inotify watches (number {number}) inode {inode} of device {major}:{minor}, {why}; have the program remove that watch"
            )
        })?;
        Ok(Watch { number, events, path: path.into_vec() })
    });
    named.collect()
}

/// The mounts, and those already opened.
struct Places {
    mounts: Vec<Mount>,
    open: Vec<((u32, u32), File)>,
}

impl Places {
    fn read() -> std::io::Result<Places> {
        Ok(Places { mounts: read_own_mounts()?, open: Vec::new() })
    }

    /// A path that leads to it. Err: why there is none.
    fn path_of(&mut self, watch: &Shown) -> std::result::Result<OsString, String> {
        let Some((kind, handle)) = &watch.handle else {
            return Err("whose file system does not tell what it is".into());
        };
        self.open(watch.device);
        let mut why = "whose file system is not mounted here".to_string();
        for (_, mount) in self.open.iter().filter(|(device, _)| *device == watch.device) {
            match named(mount, *kind, handle) {
                Ok(path) => return Ok(path),
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }

    /// Those where all of the file system is to be seen first.
    fn open(&mut self, device: (u32, u32)) {
        if self.open.iter().any(|(known, _)| *known == device) {
            return;
        }
        let mut mounts: Vec<&Mount> = self.mounts.iter().filter(|mount| mount.device == device).collect();
        mounts.sort_by_key(|mount| mount.root != "/");
        // One that is covered by another mount, or is no directory, may lead elsewhere, or nowhere: then the next one does.
        let opened = mounts.into_iter().filter_map(|mount| Some((device, File::open(&mount.place).ok()?)));
        self.open.extend(opened);
    }
}

fn named(mount: &File, kind: i32, handle: &[u8]) -> std::result::Result<OsString, String> {
    let file = file_handle::open(&mount.as_fd(), kind, handle).map_err(|e| match e.raw_os_error() {
        Some(libc::ESTALE) => "which is no longer there".into(),
        _ => format!("which cannot be opened by its handle ({e})"),
    })?;
    let stat = fstat(&file).map_err(|e| e.to_string())?;
    if stat.st_nlink == 0 {
        return Err("which has been removed".into());
    }
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|e| e.to_string())?;
    // A name that the kernel has forgotten, or that is not below this mount, reads as something else.
    match lstat(&link) {
        Ok(found) if (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino) => Ok(link.into_os_string()),
        _ => Err(format!("whose name is not known any more ({})", link.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::fdinfo::parse_fdinfo;
    use proptest::prelude::*;

    const LINE: &str = "wd:1a ino:9a20f1 sdev:fe00003 mask:84000300 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:f1209a006e122202";

    #[test]
    fn lines_are_understood() {
        let handle = Some((1, vec![0xf1, 0x20, 0x9a, 0, 0x6e, 0x12, 0x22, 2]));
        let expected = Shown { number: 26, events: 0x8400_0300, device: (254, 3), inode: 0x9a_20f1, handle };
        assert_eq!(Shown::parse(LINE.as_bytes()), Some(expected));
        assert_eq!(Shown::parse(&LINE.as_bytes()[..60]).map(|shown| shown.handle), Some(None));
        assert_eq!(Shown::parse(b"wd:1 ino:x sdev:1 mask:2"), None);
        let text = format!(
            "pos:\t0\nflags:\t00\nmnt_id:\t17\nino:\t1\ninotify {LINE}\ninotify {}\n",
            &LINE.replace("1a", "2")
        );
        let numbers = watches(&parse_fdinfo(text.as_bytes()).expect("fdinfo")).expect("watches");
        assert_eq!(numbers.iter().map(|watch| watch.number).collect::<Vec<_>>(), [2, 26]);
    }

    proptest! {
        #[test]
        fn any_line(line: Vec<u8>) {
            let _ = Shown::parse(&line);
        }

        #[test]
        fn any_byte_changed(at in 0..LINE.len(), byte: u8) {
            let mut line = LINE.as_bytes().to_vec();
            line[at] = byte;
            let _ = Shown::parse(&line);
        }
    }
}
