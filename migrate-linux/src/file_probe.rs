//! What the kernel knows of all descriptors of a process, in one read: a BPF iterator over them (ebpf/files.bpf.c,
//! Documentation/bpf/bpf_iterators.rst). 1000 descriptors take 0.3 ms; each compared, and its text in fdinfo read, 3.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::error::{Context, Error, Result};
use crate::probe::{cannot_be_loaded, load_over_files};
use crate::task_iterator::TaskIterator;

/// What the kernel knows of one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FileRecord {
    /// Its number.
    pub number: i32,
    flags: u32,
    /// The same for descriptors of one open file description, in all processes, for as long as there is one.
    pub description: u64,
    /// The description's offset.
    pub pos: i64,
    bits: u32,
    links: u32,
    size: i64,
    mtime: [i64; 2],
    ctime: [i64; 2],
    owner: u32,
    _unused: u32,
}

/// What fstat(2) would show of a file now. Times: seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// How many names it has.
    pub links: u32,
    /// Bytes.
    pub size: i64,
    /// When its content was changed last.
    pub mtime: (i64, i64),
    /// When it or what is known of it was changed last.
    pub ctime: (i64, i64),
}

const CLOSE_ON_EXEC: u32 = 1;
const MORE: u32 = 2;
const OWNER: u32 = 4;
const STAT: u32 = 8;
const SEMAPHORE: u32 = 16;

impl FileRecord {
    const SIZE: usize = size_of::<FileRecord>();

    /// As fdinfo shows them: status flags, access mode, and O_CLOEXEC of this descriptor.
    pub fn flags(&self) -> u32 {
        let close_on_exec = if self.bits & CLOSE_ON_EXEC == 0 { 0 } else { libc::O_CLOEXEC as u32 };
        self.flags & !(libc::O_CLOEXEC as u32) | close_on_exec
    }

    /// Whether its fdinfo shows more than that of every descriptor does: locks, or what its kind has.
    pub fn shows_more(&self) -> bool {
        self.bits & MORE != 0
    }

    /// Whether it may be that somebody gets signals about it (F_SETOWN, F_SETSIG), or that somebody once did.
    pub fn has_owner(&self) -> bool {
        self.bits & OWNER != 0
    }

    /// The thread whose process gets signals about it, by its ID as this process sees it. F_GETOWN tells it only of a process's first thread
    /// (`f_getown`, fs/fcntl.c), though by any other the process gets them as well (`send_sigio`). None: there is none, or it is not a
    /// process that gets them.
    pub fn owned_by(&self) -> Option<i32> {
        (self.owner != 0).then_some(self.owner as i32)
    }

    /// Of an eventfd, whether it is a semaphore (EFD_SEMAPHORE). Of another one this means nothing.
    pub fn is_semaphore(&self) -> bool {
        self.bits & SEMAPHORE != 0
    }

    /// None: it is on a file system that may have to ask somebody else.
    pub fn stat(&self) -> Option<Stat> {
        let FileRecord { links, size, mtime: [m, m_ns], ctime: [c, c_ns], .. } = *self;
        (self.bits & STAT != 0).then_some(Stat { links, size, mtime: (m, m_ns), ctime: (c, c_ns) })
    }

    fn from_bytes(bytes: &[u8; FileRecord::SIZE]) -> FileRecord {
        // SAFETY: as many bytes as it has; every pattern of bits is one of it, for it is made of integers without gaps.
        unsafe { bytes.as_ptr().cast::<FileRecord>().read_unaligned() }
    }
}

/// Reads one process's descriptors.
#[derive(Debug)]
pub struct FileProbe {
    program: OwnedFd,
    files: TaskIterator,
}

impl FileProbe {
    /// Loads the program for a process, `alive` being a thread of it that has not ended, and reads once. Takes 60 ms and for that time 20 MiB, most of it for the kernel's description of itself.
    ///
    /// # Errors
    /// Built without the probes; the kernel is older than 6.1, has no BTF (CONFIG_DEBUG_INFO_BTF), or does not permit it (CAP_BPF and
    /// CAP_PERFMON).
    pub fn load(pid: i32, alive: i32) -> Result<FileProbe> {
        let program = load_over_files!("files", "read_file", "descriptors")?;
        let files = TaskIterator::of_descriptors(program.as_fd(), pid, alive)?;
        let probe = FileProbe { program, files };
        probe.read()?;
        Ok(probe)
    }

    /// Every descriptor of the process, ascending, as it is now. Threads with a table of their own have theirs behind the others.
    pub fn read(&self) -> Result<Vec<FileRecord>> {
        read(&self.files)
    }

    /// Which description each of this process's own descriptors is of.
    pub fn own_descriptions(&self) -> Result<HashMap<RawFd, u64>> {
        let own = TaskIterator::of_process(self.program.as_fd(), std::process::id() as i32)?;
        Ok(read(&own)?.into_iter().map(|record| (record.number, record.description)).collect())
    }
}

/// Reads this process's own descriptors, among them duplicates of another one's.
#[derive(Debug)]
pub struct OwnFileProbe(FileProbe);

impl OwnFileProbe {
    /// Loads the program for this process.
    ///
    /// # Errors
    /// As [`FileProbe::load`]; and it does not tell an eventfd that is a semaphore from one that is none.
    pub fn load() -> Result<OwnFileProbe> {
        let own = std::process::id() as i32;
        let probe = OwnFileProbe(FileProbe::load(own, own)?);
        probe.sees_semaphores().map_err(|why| cannot_be_loaded("descriptors", why))?;
        Ok(probe)
    }

    /// What is known of each, by its number.
    pub fn read(&self) -> Result<HashMap<RawFd, FileRecord>> {
        Ok(self.0.read()?.into_iter().map(|record| (record.number, record)).collect())
    }

    /// Err: it does not.
    fn sees_semaphores(&self) -> Result<()> {
        let make = |kind| eventfd(0, EventfdFlags::CLOEXEC | kind).doing(|| "make an eventfd".into());
        let (semaphore, plain) = (make(EventfdFlags::SEMAPHORE)?, make(EventfdFlags::empty())?);
        let told = self.read()?;
        let is = |made: &OwnedFd| told.get(&made.as_raw_fd()).map(FileRecord::is_semaphore);
        match (is(&semaphore), is(&plain)) {
            (Some(true), Some(false)) => Ok(()),
            _ => Err(Error::Unsupported("it does not tell whether an eventfd is a semaphore".into())),
        }
    }
}

fn read(files: &TaskIterator) -> Result<Vec<FileRecord>> {
    files.records(512, FileRecord::from_bytes)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{
        FlockOperation, MemfdFlags, OFlags, SeekFrom, fcntl_setfl, flock, fstat, ftruncate, memfd_create, open, seek,
    };
    use rustix::io::{FdFlags, fcntl_setfd};

    use super::*;
    use crate::owner;

    #[test]
    fn it_tells_of_this_process_what_is_in_fdinfo() {
        let probe = match FileProbe::load(std::process::id() as i32, std::process::id() as i32) {
            Ok(probe) => probe,
            Err(why) => return println!("SKIPPED probe for descriptors: {why}"),
        };
        let file = memfd_create("told", MemfdFlags::CLOEXEC).unwrap();
        let of = |number: RawFd| probe.read().unwrap().into_iter().find(|r| r.number == number).unwrap();
        let told = || of(file.as_raw_fd());
        let first = told();
        assert!((first.pos, first.shows_more(), first.has_owner()) == (0, false, false), "{first:?}");
        assert_ne!(first.flags() & libc::O_CLOEXEC as u32, 0);
        assert_eq!(probe.own_descriptions().unwrap().get(&file.as_raw_fd()), Some(&first.description));

        seek(&file, SeekFrom::Start(77)).unwrap();
        fcntl_setfl(&file, OFlags::APPEND).unwrap();
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        let then = told();
        assert_eq!((then.pos, then.description), (77, first.description));
        let changed = (libc::O_CLOEXEC | libc::O_APPEND) as u32;
        assert_eq!(then.flags() ^ first.flags(), changed);

        let duplicate = file.try_clone().unwrap();
        assert_eq!(of(duplicate.as_raw_fd()).description, first.description);
        let another = open(format!("/proc/self/fd/{}", file.as_raw_fd()), OFlags::RDWR, 0.into()).unwrap();
        assert_ne!(of(another.as_raw_fd()).description, first.description);

        ftruncate(&file, 4321).unwrap();
        let stat = fstat(&file).unwrap();
        let (mtime, ctime) = ((stat.st_mtime, stat.st_mtime_nsec as i64), (stat.st_ctime, stat.st_ctime_nsec as i64));
        assert_eq!(told().stat(), Some(Stat { links: 0, size: 4321, mtime, ctime }));
        let proc = std::fs::File::open("/proc/self/stat").unwrap();
        assert_eq!(of(proc.as_raw_fd()).stat(), None);

        flock(&file, FlockOperation::LockExclusive).unwrap();
        assert!(told().shows_more() && of(another.as_raw_fd()).shows_more());
        flock(&file, FlockOperation::Unlock).unwrap();
        assert!(!told().shows_more());
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        assert!(of(event.as_raw_fd()).shows_more());

        // SAFETY: numbers alone.
        assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), owner::F_SETSIG, libc::SIGUSR1) }, 0);
        assert!(told().has_owner() && !of(another.as_raw_fd()).has_owner());
    }

    #[test]
    fn it_tells_what_nothing_else_does_of_own_descriptors() {
        let own = std::process::id() as i32;
        if let Err(why) = FileProbe::load(own, own) {
            return println!("SKIPPED probe for own descriptors: {why}");
        }
        let probe = OwnFileProbe::load().unwrap();
        let of = |fd: &OwnedFd| probe.read().unwrap()[&fd.as_raw_fd()];
        for kind in [EventfdFlags::empty(), EventfdFlags::NONBLOCK, EventfdFlags::CLOEXEC] {
            let (semaphore, plain) = (eventfd(3, kind | EventfdFlags::SEMAPHORE).unwrap(), eventfd(3, kind).unwrap());
            assert!(of(&semaphore).is_semaphore() && of(&semaphore.try_clone().unwrap()).is_semaphore());
            assert!(!of(&plain).is_semaphore());
        }

        let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        assert_eq!((of(&event).has_owner(), of(&event).owned_by()), (false, None));
        // SAFETY: F_SETOWN takes a number.
        let set = |id: i32| unsafe { libc::fcntl(event.as_raw_fd(), libc::F_SETOWN, id) };
        // This runs in a thread that is not the first.
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        assert_eq!(set(tid), 0);
        assert_eq!((of(&event).has_owner(), of(&event).owned_by()), (true, Some(tid)));
        // A group is told by F_GETOWN_EX.
        assert_eq!(set(-rustix::process::getpgrp().as_raw_nonzero().get()), 0);
        assert_eq!((of(&event).has_owner(), of(&event).owned_by()), (true, None));
        // Of nobody it shows that it was a process.
        assert_eq!(set(0), 0);
        assert_eq!((of(&event).has_owner(), of(&event).owned_by()), (true, None));
    }
}
