//! Masters of pseudo terminals (pty(7)), and with them what the terminal is for both its ends: its number N in /dev/pts/N, owner and
//! mode, settings, window size, packet mode, lock, exclusive mode, whether its slave was open and no longer is, whether what is written at
//! an end waits (^S, TCOOFF), and whose controlling terminal it is, where that is the process's own, which leads its session.
//!
//! The kernel gives numbers in their order, so that lower ones are taken, and given back, to get one. What was written at one end and not
//! read at the other only a probe can look at without taking it (see [`terminal_content`](super::terminal_content)). Where there is none, a
//! process with any, or whose output is stopped, stays where it is, and the beginning of a line that has not been ended is lost.

use std::fs::{Permissions, metadata, set_permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use bincode::{Decode, Encode};
use migrate_linux::remote::Batch;
use migrate_linux::terminal_probe::Flow;
use migrate_linux::{libc, pty};
use nix::sys::stat::{major, makedev, minor};
use nix::unistd::{Pid, getpgid, getsid};

use super::terminal_content::{TerminalContent, is_canonical, stop_by_character};
use super::{FileKind, FileView, HeldFile, NewFiles, Others, Placed, open_again, or_instead, ready_for, set_flags};
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PtyMasterImage {
    number: u32,
    flags: i32,
    locked: bool,
    packet_mode: bool,
    exclusive: bool,
    /// Its slave was open, and is no longer.
    left: bool,
    /// Of the slave's name: user, group, mode.
    owner: (u32, u32, u32),
    settings: Vec<u8>,
    size: [u16; 4],
    /// It is the process's controlling terminal.
    controls: bool,
    content: TerminalContent,
    /// What is written at the master waits.
    stopped: bool,
    /// What is written at the slave's side does.
    slave_stopped: Option<By>,
}

/// What has stopped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
enum By {
    /// ^S, or what the settings have instead.
    Character,
    /// tcflow(3).
    Call,
}

/// The kind.
pub enum PtyMaster {}

/// /dev/ptmx (Documentation/admin-guide/devices.txt).
const PTMX: (u64, u64) = (5, 2);
/// Major number of slaves; the minor one is the terminal's.
pub const SLAVES: u64 = 136;
/// More than a kernel gives (kernel.pty.max).
const MOST: u32 = 1 << 16;

impl FileKind for PtyMaster {
    const NAME: &'static str = "pseudo terminal";
    const MOVES: &'static str = "with both ends in the process: number, settings, size, packet mode, controlling terminal, unread content, stopped output (both with the eBPF probes; else the process stays)";
    type Image = PtyMasterImage;

    fn recognise(view: &FileView) -> bool {
        let device = view.stat.st_rdev;
        view.file_type() == libc::S_IFCHR && (major(device), minor(device)) == PTMX
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        let number = from.view.number;
        let why = match obstacle(from)? {
            None => return Ok(Verdict::Supported),
            Some(why) => why,
        };
        Ok(Verdict::Unsupported(format!("fd {number}: {why}; {}", or_instead(&[number]))))
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<PtyMasterImage> {
        let (fd, master) = (from.view.number, &from.duplicate);
        if let Some(why) = obstacle(from)? {
            return Err(Error::Refused(vec![format!("fd {fd}: {why}")]));
        }
        let doing = || format!("read the terminal of descriptor {fd}");
        let number = pty::number(master).doing(doing)?;
        let settings = pty::settings(master).doing(doing)?;
        let name = metadata(name(number)).doing(|| format!("look at {}", self::name(number)))?;
        let left = ready_for(master, 0)? & libc::EPOLLHUP as u32 != 0;
        let (content, stopped, slave_stopped) = match others.terminals() {
            Some(records) => {
                let record = records.iter().find(|record| record.number == fd);
                let record = record.ok_or_else(|| Error::Invalid(format!("nothing is told of terminal {number}")))?;
                let content = TerminalContent::new(record, &settings);
                let by = match record.slave {
                    Flow::Goes => None,
                    Flow::StoppedByCharacter => Some(By::Character),
                    Flow::StoppedByCall => Some(By::Call),
                };
                let content = content.map_err(|why| unread(fd, &format!("content {why}")))?;
                // What is written at a slave stops nothing: it has no settings for that at its master.
                (content, record.master != Flow::Goes, by)
            }
            None => {
                nothing_unread(from, others)?;
                (TerminalContent::default(), false, None)
            }
        };
        let is_slave = |held: &HeldFile| held.inode() == (name.dev(), name.ino());
        if content.has_input() && !left && !others.on_inode(name.ino()).iter().any(|(_, held)| is_slave(held)) {
            return Err(unread(fd, "content for a slave that has never been open"));
        }
        Ok(PtyMasterImage {
            number,
            flags: from.view.status_flags(),
            locked: pty::is_locked(master).doing(doing)?,
            packet_mode: pty::is_packet_mode(master).doing(doing)?,
            exclusive: pty::is_exclusive(master).doing(doing)?,
            left,
            owner: (name.uid(), name.gid(), name.mode() & 0o7777),
            settings: settings.to_vec(),
            size: pty::size(master).doing(doing)?,
            controls: pty::session(master).doing(doing)?.is_some(),
            content,
            stopped,
            slave_stopped,
        })
    }

    fn create(image: &PtyMasterImage, new: &mut NewFiles) -> Result<OwnedFd> {
        let master = made(image.number, new)?;
        let (name, doing) = (name(image.number), || format!("set up terminal {}", image.number));
        let settings = image.settings.as_slice().try_into();
        let settings = settings.map_err(|_| Error::Invalid("settings of a terminal that make no sense".into()))?;
        if !image.content.is_empty() || image.slave_stopped.is_some() {
            let slave = open_slave(image.number, libc::O_RDWR | libc::O_NONBLOCK)?;
            image.content.write(&master, &slave, &settings)?;
            match image.slave_stopped {
                None => {}
                Some(By::Character) => stop_by_character(&master, &slave, &settings)?,
                Some(By::Call) => pty::stop(&slave).doing(doing)?,
            }
            new.slaves.push(slave);
        }
        pty::set_settings(&master, &settings).doing(doing)?;
        if image.stopped {
            pty::stop(&master).doing(doing)?;
        }
        pty::set_size(&master, &image.size).doing(doing)?;
        let (user, group, mode) = image.owner;
        chown(&name, Some(user), Some(group)).doing(doing)?;
        set_permissions(&name, Permissions::from_mode(mode & 0o7777)).doing(doing)?;
        if image.left {
            drop(open_slave(image.number, libc::O_RDWR)?);
        }
        pty::set_packet_mode(&master, image.packet_mode).doing(doing)?;
        set_flags(&master, image.flags)?;
        Ok(master)
    }

    fn tie(image: &PtyMasterImage, fd: &OwnedFd, _made: &super::Made<'_>) -> Result<()> {
        // Until here its slaves had to be opened.
        let doing = || format!("set up terminal {}", image.number);
        pty::lock(fd, image.locked).doing(doing)?;
        if image.exclusive { pty::make_exclusive(fd).doing(doing) } else { Ok(()) }
    }

    fn connect(image: &PtyMasterImage, at: Placed<'_>, batch: &mut Batch) -> Result<()> {
        if image.controls {
            // The kernel takes the slave for it. The process group that does so comes to the foreground.
            batch.must(libc::SYS_ioctl, [at.number.into(), libc::TIOCSCTTY.into(), 0.into()]);
        }
        Ok(())
    }
}

/// The slave's name.
pub fn name(number: u32) -> String {
    format!("/dev/pts/{number}")
}

/// The master of this number: the one of the kernel's present numbers.
pub fn made(number: u32, new: &mut NewFiles) -> Result<OwnedFd> {
    if number > MOST {
        return Err(Error::Invalid(format!("a terminal of number {number}")));
    }
    loop {
        if let Some(master) = new.ptys.get(&number) {
            return master.try_clone().doing(|| "duplicate a descriptor".into());
        }
        let master = open_again(b"/dev/ptmx", libc::O_RDWR)?;
        let got = pty::number(&master).doing(|| "make a terminal".into())?;
        // The lowest that is free.
        if got > number {
            return Err(Error::Refused(vec![format!(
                "terminal {} is in use on this host; end what uses it here, or have the program open another one",
                name(number)
            )]));
        }
        pty::lock(&master, false).doing(|| format!("set up terminal {got}"))?;
        new.ptys.insert(got, master);
    }
}

/// Opens the slave, as a description of its own.
pub fn open_slave(number: u32, flags: i32) -> Result<OwnedFd> {
    open_again(name(number).as_bytes(), flags & (libc::O_ACCMODE | libc::O_NONBLOCK))
}

/// Refuses what nobody can look at, unless the probe does, which tells of both ends by the master.
pub fn nothing_unread(from: &HeldFile, others: &Others<'_>) -> Result<()> {
    if others.terminals().is_some() {
        return Ok(());
    }
    let fd = from.view.number;
    // What is on its way has come when this is known.
    let ready = ready_for(&from.duplicate, (libc::EPOLLIN | libc::EPOLLOUT) as u32)?;
    let waiting = migrate_linux::pipes::bytes_waiting(&from.duplicate);
    match waiting.doing(|| format!("look into the terminal of descriptor {fd}"))? {
        0 if ready & libc::EPOLLOUT as u32 == 0 => Err(Error::Refused(vec![format!(
            "fd {fd}: a terminal whose output is stopped (^S or TCOOFF); by which of them, only an eBPF probe tells, and there is none: have it go on"
        )])),
        0 => Ok(()),
        waiting => Err(unread(fd, &format!("{waiting} bytes"))),
    }
}

fn unread(fd: i32, what: &str) -> Error {
    Error::Refused(vec![format!(
        "fd {fd}: a terminal with {what} that the program has not read; that cannot move: try again once it has read all"
    )])
}

/// What is lost of a master for which there is no probe.
pub fn loss_without_probe(from: &HeldFile) -> Option<String> {
    let is_lost = PtyMaster::recognise(&from.view) && pty::settings(&from.duplicate).is_ok_and(|s| is_canonical(&s));
    is_lost.then(|| {
        let number = from.view.number;
        format!("fd {number}: the beginning of a line that is not ended yet is lost in its terminal, if there is any")
    })
}

/// Has what is on its way between the ends of a terminal come there.
pub fn settle(from: &HeldFile) -> Result<()> {
    ready_for(&from.duplicate, libc::EPOLLIN as u32).map(drop)
}

/// Why it cannot move.
fn obstacle(from: &HeldFile) -> Result<Option<String>> {
    let (fd, master) = (from.view.number, &from.duplicate);
    let doing = || format!("look at the terminal of descriptor {fd}");
    let number = pty::number(master).doing(doing)?;
    let name = name(number);
    let is_ours = metadata(&name).is_ok_and(|there| there.rdev() == makedev(SLAVES, number.into()));
    let usual = from.view.path().is_some_and(|path| path == "/dev/ptmx" || path == "/dev/pts/ptmx");
    if !is_ours || !usual {
        return Ok(Some(format!("a terminal of another devpts than the one at /dev/pts ({number}) cannot move")));
    }
    let discipline = pty::discipline(master).doing(doing)?;
    if discipline != 0 {
        return Ok(Some(format!("terminal {name}, with line discipline {discipline}, cannot move")));
    }
    let Some((session, group)) = pty::session(master).doing(doing)? else { return Ok(None) };
    let process = Pid::from_raw(from.process.pid);
    let own = getsid(Some(process)).map_err(Into::into).doing(doing)?;
    if own.as_raw() != session || own != process {
        return Ok(Some(format!(
            "terminal {name} is the controlling terminal of session {session}, which other processes are in and which stays"
        )));
    }
    let its_group = getpgid(Some(process)).map_err(Into::into).doing(doing)?;
    Ok((its_group.as_raw() != group)
        .then(|| format!("terminal {name} has process group {group} in its foreground, which stays")))
}
