//! What a process wants to be signalled of in its directories (fcntl(2), F_NOTIFY): a BPF iterator over its descriptors
//! (ebpf/notify.bpf.c) reads it (fs/notify/dnotify/dnotify.c).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::error::{Context, Error, Result};
use crate::probe::{cannot_be_loaded, load_over_files};
use crate::task_iterator::TaskIterator;

/// What a process wants to be told of in one directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifyRecord {
    /// The descriptor by which it was asked for last, and which the signals name.
    pub number: i32,
    /// Of what: DN_CREATE and so on, with DN_MULTISHOT if it is told more than once, as F_NOTIFY takes it. None: there was too much to be
    /// looked at.
    pub events: Option<i32>,
    /// The signals go to this process. Another one may get them, or nobody any more.
    pub told: bool,
}

/// A record as the program writes it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    number: u32,
    events: u32,
    bits: u32,
}

const OTHER: u32 = 1;
const TOLD: u32 = 2;

const DN_ATTRIB: i32 = 0x20;

/// How F_NOTIFY names what inotify(7) and the kernel name otherwise (`convert_arg`): include/linux/fsnotify_backend.h, uapi/linux/fcntl.h.
const NAMES: [(u32, i32); 7] = [
    (0x1, 0x1),              // FS_ACCESS, DN_ACCESS
    (0x2, 0x2),              // FS_MODIFY, DN_MODIFY
    (0x100, 0x4),            // FS_CREATE (with FS_MOVED_TO), DN_CREATE
    (0x200, 0x8),            // FS_DELETE (with FS_MOVED_FROM), DN_DELETE
    (0x1000_0000, 0x10),     // FS_RENAME, DN_RENAME
    (0x4, DN_ATTRIB),        // FS_ATTRIB, DN_ATTRIB
    (0x2000_0000, i32::MIN), // FS_DN_MULTISHOT, DN_MULTISHOT
];

impl NotifyRecord {
    fn from_bytes(bytes: &[u8; size_of::<Raw>()]) -> NotifyRecord {
        // SAFETY: as many bytes as it has; every pattern of bits is one of it, for it is made of integers without gaps.
        let raw = unsafe { bytes.as_ptr().cast::<Raw>().read_unaligned() };
        let named = |(of_kernel, name): &(u32, i32)| if raw.events & of_kernel == 0 { 0 } else { *name };
        let events = NAMES.iter().map(named).fold(0, |all, one| all | one);
        let events = (raw.bits & OTHER == 0).then_some(events);
        NotifyRecord { number: raw.number as i32, events, told: raw.bits & TOLD != 0 }
    }
}

/// Reads what one process wants to be told of.
#[derive(Debug)]
pub struct NotifyProbe(TaskIterator);

/// Reads until two of them agree; as many at the most. What other processes do with theirs meanwhile may lead one astray.
const READS: usize = 16;

impl NotifyProbe {
    /// Loads the program for a process, `alive` being a thread of it that has not ended. Takes 60 ms, most of it for the kernel's description of itself.
    ///
    /// # Errors
    /// As [`crate::file_probe::FileProbe::load`]; and it does not see what this process itself asks for.
    pub fn load(pid: i32, alive: i32) -> Result<NotifyProbe> {
        let program = load_over_files!("notify", "read_notify", "F_NOTIFY")?;
        let own = NotifyProbe(TaskIterator::of_process(program.as_fd(), std::process::id() as i32)?);
        own.sees().map_err(|why| cannot_be_loaded("F_NOTIFY", why))?;
        Ok(NotifyProbe(TaskIterator::of_descriptors(program.as_fd(), pid, alive)?))
    }

    /// Of every directory of which it wants to be told something.
    pub fn read(&self) -> Result<Vec<NotifyRecord>> {
        let read = || self.0.records(64, NotifyRecord::from_bytes);
        let mut last = read()?;
        for _ in 1..READS {
            let again = read()?;
            if again == last {
                return Ok(again);
            }
            last = again;
        }
        Err(Error::Unsupported("the probe for F_NOTIFY tells something else each time".into()))
    }

    /// Err: it does not tell what this process asks for.
    fn sees(&self) -> Result<()> {
        // Nobody changes the mode of anything there, so that nobody is signalled.
        let directory = File::open("/proc/self/task").doing(|| "open /proc/self/task".into())?;
        notify(&directory, DN_ATTRIB).doing(|| "ask for something by F_NOTIFY".into())?;
        let told = self
            .read()?
            .iter()
            .any(|record| record.number == directory.as_raw_fd() && record.events == Some(DN_ATTRIB));
        if told { Ok(()) } else { Err(Error::Unsupported("it does not tell what is asked for".into())) }
    }
}

/// Asks to be told of something in a directory; of nothing: 0.
fn notify(directory: impl AsFd, events: i32) -> io::Result<()> {
    // SAFETY: F_NOTIFY takes a number and touches no memory of this process.
    match unsafe { libc::fcntl(directory.as_fd().as_raw_fd(), libc::F_NOTIFY, events) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_is_asked_for() {
        let probe = match NotifyProbe::load(std::process::id() as i32, std::process::id() as i32) {
            Ok(probe) => probe,
            Err(why) => return println!("SKIPPED probe for F_NOTIFY: {why}"),
        };
        let path = std::env::temp_dir().join(format!("notify-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let directory = File::open(&path).unwrap();
        let another = directory.try_clone().unwrap();
        let told = || {
            let of = |record: &NotifyRecord| [directory.as_raw_fd(), another.as_raw_fd()].contains(&record.number);
            probe.read().unwrap().into_iter().filter(of).collect::<Vec<_>>()
        };
        assert_eq!(told(), []);
        for (_, name) in NAMES.into_iter().filter(|(_, name)| *name != i32::MIN) {
            for events in [name, name | i32::MIN] {
                notify(&directory, events).unwrap();
                assert_eq!(told(), [NotifyRecord { number: directory.as_raw_fd(), events: Some(events), told: true }]);
                notify(&directory, 0).unwrap();
                assert_eq!(told(), []);
            }
        }
        // More of it is added, and it is known by the other number then.
        notify(&directory, 0x8).unwrap();
        notify(&another, 0x20 | i32::MIN).unwrap();
        assert_eq!(told(), [NotifyRecord { number: another.as_raw_fd(), events: Some(0x28 | i32::MIN), told: true }]);
        // SAFETY: a number alone.
        assert_eq!(unsafe { libc::fcntl(another.as_raw_fd(), libc::F_SETOWN, 0) }, 0);
        assert!(!told()[0].told);
        std::thread::scope(|scope| scope.spawn(|| notify(&another, 0x8).unwrap()).join().unwrap());
        // Its ID is free a little after it has ended.
        let is_free = |_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            !told()[0].told
        };
        assert!((0..5000).any(is_free), "of a thread that has ended");
        // SAFETY: a number alone.
        assert_eq!(unsafe { libc::fcntl(another.as_raw_fd(), libc::F_SETOWN, 0) }, 0);
        notify(&another, 0x8).unwrap();
        // It runs in a thread that is not the first.
        assert!(told()[0].told);
        // Whoever else looks at the same directory does not count.
        let watching = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
        rustix::fs::inotify::add_watch(&watching, &path, rustix::fs::inotify::WatchFlags::ATTRIB).unwrap();
        let opened_again = File::open(&path).unwrap();
        notify(&opened_again, 0x4).unwrap();
        let seen = told();
        // Before it is removed: that would be signalled.
        drop((directory, another, opened_again));
        std::fs::remove_dir(&path).unwrap();
        assert_eq!(seen.len(), 1);
    }
}
