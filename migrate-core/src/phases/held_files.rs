//! One open description: taking a duplicate of it, and reading what it is.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use migrate_linux::kcmp;
use migrate_linux::pidfd::PidFd;
use migrate_linux::sockets::family_type_protocol;
use nix::libc::{S_IFMT, S_IFREG};

use crate::memory::posix_shm;
use crate::proc::fdinfo::{FdInfo, parse_fdinfo, read_fdinfo};
use crate::proc::link::{LinkTarget, read_fd_link};
use crate::proc::process::Process;
use crate::resources::file::{FileView, HeldFile, SocketView};

/// An fdinfo file, and whose it is.
#[derive(Debug)]
pub struct OpenInfo {
    file: File,
    /// The process, or the thread of it, by which it is reached.
    pub process: i32,
    /// Its number there.
    pub number: i32,
    /// So many bytes are read at once.
    room: AtomicUsize,
}

/// Bytes of an fdinfo that is read by an open file.
const LONGEST_INFO: usize = 1 << 24;

/// Bytes of most.
const USUAL_INFO: usize = 2048;

impl OpenInfo {
    /// Opens that of a descriptor.
    pub fn open(process: i32, number: i32) -> std::io::Result<OpenInfo> {
        let file = File::open(format!("/proc/{process}/fdinfo/{number}"))?;
        Ok(OpenInfo { file, process, number, room: AtomicUsize::new(USUAL_INFO) })
    }

    /// Reads it. The first time takes twice as long as those after it.
    pub fn read(&self) -> std::io::Result<FdInfo> {
        let mut short = [0; USUAL_INFO];
        let mut long = Vec::new();
        let mut room = self.room.load(Ordering::Relaxed);
        while room < LONGEST_INFO {
            let text: &mut [u8] = if room <= USUAL_INFO {
                &mut short
            } else {
                long.resize(room, 0);
                &mut long
            };
            match self.file.read_at(text, 0) {
                Ok(n) if n < text.len() => return parse_fdinfo(&text[..n]).map_err(std::io::Error::other),
                // Its text is made anew each time: the next time, all of it is read at once.
                Ok(_) => room = text.len() * 8,
                Err(_) => break,
            }
            self.room.store(room, Ordering::Relaxed);
        }
        read_fdinfo(self.process, self.number)
    }
}

/// Takes a duplicate, and reads what it is. None: the number came to mean another one meanwhile.
pub fn hold(process: Process, pidfd: &PidFd, number: i32) -> std::io::Result<Option<(HeldFile, OpenInfo)>> {
    let alive = process.alive;
    let duplicate = pidfd.get_fd(number)?;
    let info = OpenInfo::open(alive, number)?;
    let view = view(number, read_fd_link(alive, number)?, info.read()?, &duplicate)?;
    let same = kcmp::same_file(std::process::id() as i32, duplicate.as_raw_fd(), alive, number)?;
    Ok(same.then_some((HeldFile { process, view, duplicate, content: None }, info)))
}

/// Reads what a duplicate is. `number`: that of the description which it is inside.
pub fn hold_duplicate(process: Process, number: i32, duplicate: OwnedFd) -> std::io::Result<(HeldFile, OpenInfo)> {
    let (own, own_number) = (std::process::id() as i32, duplicate.as_raw_fd());
    let info = OpenInfo::open(own, own_number)?;
    let view = view(number, read_fd_link(own, own_number)?, info.read()?, &duplicate)?;
    Ok((HeldFile { process, view, duplicate, content: None }, info))
}

fn view(number: i32, link: LinkTarget, info: FdInfo, duplicate: &OwnedFd) -> std::io::Result<FileView> {
    let stat = nix::sys::stat::fstat(duplicate)?;
    let socket = match link {
        LinkTarget::Socket(_) => {
            let [domain, kind, protocol] = family_type_protocol(duplicate)?;
            Some(SocketView { domain, kind, protocol })
        }
        _ => None,
    };
    let is_file = stat.st_mode & S_IFMT == S_IFREG;
    let posix_shm = match &link {
        LinkTarget::Path { path, .. } if is_file && stat.st_nlink != 0 && posix_shm::may_be_one(path.as_bytes()) => {
            posix_shm::is_in_memory(duplicate)
        }
        _ => false,
    };
    Ok(FileView { number, link, info, stat, unowned: false, posix_shm, semaphore: None, socket, unix: None })
}
