//! What was written at one end of a pseudo terminal and has not been read at the other: taken from a probe's record, and written there
//! again.
//!
//! In canonical mode the line discipline has made lines of it, whose ends it knows: by a newline, an end of file (which it keeps as a zero),
//! or another character that ended one when it came. So each line is written with the settings that end it, and only it, there. Settings
//! are changed when what was written with them has come: a stop and a start of the output (^S, ^Q) follow it, which the master is told of
//! in packet mode, and of which nothing stays.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::pipes::bytes_waiting;
use migrate_linux::pty::{self, Termios};
use migrate_linux::terminal_probe::{Flow, SIZE, TerminalRecord};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Doing, Error, Result};

/// Both directions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct TerminalContent {
    /// To be read at the master.
    to_master: Vec<u8>,
    /// To be read at the slave.
    to_slave: Vec<Line>,
}

/// A line, or in another mode than the canonical one all that there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
struct Line {
    bytes: Vec<u8>,
    /// The character that ends it; 0: an end of file. None: it has not been ended.
    end: Option<u8>,
}

/// `struct termios2` (asm-generic/termbits.h): c_iflag and c_oflag, c_lflag, c_cc.
const INPUT_AND_OUTPUT: std::ops::Range<usize> = 0..8;
const LOCAL: std::ops::Range<usize> = 12..16;
const CHARACTERS: std::ops::Range<usize> = 17..36;

/// c_lflag of a terminal's settings.
pub fn local_modes(settings: &Termios) -> u32 {
    settings.get(LOCAL).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// So many more than there are must fit in, or the line discipline would not look at what ends them.
const SPARE: usize = 64;

/// Whether lines are made of what is written at the master.
pub fn is_canonical(settings: &Termios) -> bool {
    local_modes(settings) & libc::ICANON != 0
}

impl TerminalContent {
    /// What a record tells of a terminal with these settings. Err: why that cannot be written again, in words.
    pub fn new(record: &TerminalRecord, settings: &Termios) -> std::result::Result<TerminalContent, &'static str> {
        if !record.to_master.whole || !record.to_slave.whole {
            return Err(match record.slave {
                Flow::Goes => "which is still on its way",
                _ => "whose echo waits, since its output is stopped (^S or TCOOFF),",
            });
        }
        let to_master = record.to_master.bytes.iter().map(|(byte, _)| *byte).collect();
        let waiting = &record.to_slave.bytes;
        let mut to_slave = Vec::new();
        let mut line = Line::default();
        let ended = if is_canonical(settings) { record.to_slave.in_lines } else { 0 };
        for (i, &(byte, ends)) in waiting.iter().enumerate() {
            match ends && i < ended {
                true => to_slave.push(Line { end: Some(byte), ..std::mem::take(&mut line) }),
                false => line.bytes.push(byte),
            }
            if i + 1 == ended && !line.bytes.is_empty() {
                return Err("with a line that ends by nothing that is known");
            }
        }
        if !line.bytes.is_empty() {
            to_slave.push(line);
        }
        if is_canonical(settings) && !to_slave.is_empty() {
            if waiting.len() > SIZE - SPARE {
                return Err("so much that nothing more fits in");
            }
            if local_modes(settings) & libc::EXTPROC != 0 {
                return Err("in lines that another program makes (EXTPROC)");
            }
            if !to_slave.iter().all(Line::can_be_written) || unused(&to_slave).is_none() {
                return Err("with a character inside a line that would end it");
            }
        }
        Ok(TerminalContent { to_master, to_slave })
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.to_master.is_empty() && self.to_slave.is_empty()
    }

    /// Something waits that was written at the master.
    pub fn has_input(&self) -> bool {
        !self.to_slave.is_empty()
    }

    /// Writes it into a terminal that is to have these settings, and has others afterwards. `slave`: a way to that end. Neither end waits.
    pub fn write(&self, master: &OwnedFd, slave: &OwnedFd, settings: &Termios) -> Result<()> {
        let input: usize = self.to_slave.iter().map(|line| line.bytes.len() + line.end.iter().len()).sum();
        if input.max(self.to_master.len()) >= SIZE {
            return Err(Error::Invalid(format!("a terminal with {} and {input} bytes", self.to_master.len())));
        }
        let mut plain = *settings;
        for part in [INPUT_AND_OUTPUT, LOCAL, CHARACTERS] {
            plain[part].fill(0);
        }
        plain[LOCAL].copy_from_slice(&(local_modes(settings) & libc::ICANON).to_ne_bytes());
        let doing = || "write what has not been read yet into a terminal".to_string();
        pty::set_settings(master, &plain).doing(doing)?;
        if is_canonical(settings) {
            self.write_lines(master, &plain).doing(doing)?;
        } else {
            let bytes: Vec<u8> = self.to_slave.iter().flat_map(|line| line.bytes.iter().copied()).collect();
            write_raw(&bytes, master, slave).doing(doing)?;
        }
        write_raw(&self.to_master, slave, master).doing(doing)
    }

    fn write_lines(&self, master: &OwnedFd, plain: &Termios) -> io::Result<()> {
        let Some([end_of_file, stop, start]) = unused(&self.to_slave) else {
            return Err(io::Error::other("every character is in it"));
        };
        let mut settings = *plain;
        settings[..4].copy_from_slice(&libc::IXON.to_ne_bytes());
        let characters = &mut settings[CHARACTERS];
        (characters[libc::VEOF], characters[libc::VSTOP], characters[libc::VSTART]) = (end_of_file, stop, start);
        pty::set_packet_mode(master, true)?;
        let mut writing = File::from(master.try_clone()?);
        // Those that one character of its own ends need settings of their own.
        for alike in self.to_slave.chunk_by(|one, other| one.special_end() == other.special_end()) {
            settings[CHARACTERS][libc::VEOL] = alike.first().and_then(Line::special_end).unwrap_or(0);
            pty::set_settings(master, &settings)?;
            let ended = |line: &Line| line.end.map(|end| if end == 0 { end_of_file } else { end });
            let bytes = alike.iter().flat_map(|line| line.bytes.iter().copied().chain(ended(line)));
            writing.write_all(&bytes.chain([stop, start]).collect::<Vec<u8>>())?;
            await_start(&mut writing)?;
        }
        pty::set_packet_mode(master, false)
    }
}

/// Has what is written at the slave's side wait, as if ^S had been written at the master, which has these settings. `slave`: a way to that
/// end.
pub fn stop_by_character(master: &OwnedFd, slave: &OwnedFd, settings: &Termios) -> Result<()> {
    const STOP: u8 = 0x13;
    let mut stopping = *settings;
    // Lines stay lines as long as this stays.
    stopping[LOCAL].copy_from_slice(&(local_modes(settings) & libc::ICANON).to_ne_bytes());
    stopping[..4].copy_from_slice(&libc::IXON.to_ne_bytes());
    stopping[CHARACTERS].fill(0);
    stopping[CHARACTERS][libc::VSTOP] = STOP;
    let stop = || {
        pty::set_settings(master, &stopping)?;
        File::from(master.try_clone()?).write_all(&[STOP])?;
        let began = Instant::now();
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let mut asked = [PollFd::new(slave, PollFlags::OUT)];
            poll(&mut asked, Some(&at_once))?;
            if !asked[0].revents().contains(PollFlags::OUT) {
                // As long as such a character has a meaning (IXON), it stays so.
                return pty::set_settings(master, settings);
            }
            if began.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::yield_now();
        }
    };
    stop().doing(|| "stop the output of a terminal".into())
}

/// Of the status in packet mode (TIOCPKT_START, asm-generic/ioctls.h).
const STARTED: u8 = 8;

/// How long what is written at one end may take to come to the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits until the master is told that output goes on.
fn await_start(master: &mut File) -> io::Result<()> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    loop {
        // Who asks for PRI alone is not woken up (drivers/tty/pty.c `pty_start`).
        if poll(&mut [PollFd::new(master, PollFlags::PRI | PollFlags::IN)], Some(&patience))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut status = [0];
        if master.read(&mut status)? == 1 && status[0] & STARTED != 0 {
            return Ok(());
        }
    }
}

/// Writes at one end what the other gets as it is, and waits until it is there.
fn write_raw(bytes: &[u8], from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    File::from(from.try_clone()?).write_all(bytes)?;
    let began = Instant::now();
    while bytes_waiting(to)? != bytes.len() {
        if began.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // The kernel's worker brings it there; asked while nothing is there, poll(2) waits for it.
        poll(&mut [PollFd::new(to, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        std::thread::yield_now();
    }
    Ok(())
}

/// Characters that are in none of the lines, and end none.
fn unused(lines: &[Line]) -> Option<[u8; 3]> {
    let mut used = [false; 256];
    for byte in lines.iter().flat_map(|line| line.bytes.iter().chain(&line.end)).chain(b"\0\n") {
        used[usize::from(*byte)] = true;
    }
    let mut free = (0..=255).rev().filter(|byte| !used[usize::from(*byte)]);
    Some([free.next()?, free.next()?, free.next()?])
}

impl Line {
    /// The character that ends it and that is neither a newline nor an end of file.
    fn special_end(&self) -> Option<u8> {
        self.end.filter(|end| !matches!(end, 0 | b'\n'))
    }

    /// Whether in canonical mode nothing inside would end it.
    fn can_be_written(&self) -> bool {
        !self.bytes.contains(&b'\n') && self.special_end().is_none_or(|end| !self.bytes.contains(&end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use migrate_linux::terminal_probe::Unread;

    fn unread(bytes: &[u8], ends: &[usize]) -> Unread {
        let bytes = bytes.iter().enumerate().map(|(i, byte)| (*byte, ends.contains(&i))).collect();
        Unread { bytes, in_lines: ends.iter().max().map_or(0, |last| last + 1), whole: true }
    }

    fn record(to_slave: Unread) -> TerminalRecord {
        let to_master = unread(b"out", &[]);
        TerminalRecord { number: 3, to_master, to_slave, master: Flow::Goes, slave: Flow::Goes }
    }

    fn canonical() -> Termios {
        let mut settings = [0; size_of::<Termios>()];
        settings[LOCAL].copy_from_slice(&libc::ICANON.to_ne_bytes());
        settings
    }

    #[test]
    fn lines_are_told_by_their_ends() {
        let content = TerminalContent::new(&record(unread(b"one\ntw\0x;begun", &[3, 6, 8])), &canonical()).unwrap();
        let line = |bytes: &[u8], end| Line { bytes: bytes.into(), end };
        let lines = [line(b"one", Some(b'\n')), line(b"tw", Some(0)), line(b"x", Some(b';')), line(b"begun", None)];
        assert_eq!((content.to_slave.as_slice(), content.to_master.as_slice()), (&lines[..], &b"out"[..]));
        let raw = TerminalContent::new(&record(unread(b"a\nb", &[])), &[0; size_of::<Termios>()]).unwrap();
        assert_eq!(raw.to_slave, [line(b"a\nb", None)]);
    }

    #[test]
    fn what_cannot_be_written_again_is_refused() {
        let refused = |unread| TerminalContent::new(&record(unread), &canonical()).is_err();
        assert!(refused(unread(b"a\nb\n", &[3])), "a newline that ends nothing");
        assert!(refused(unread(b"a;b;", &[3])), "the end inside");
        assert!(refused(Unread { in_lines: 3, ..unread(b"a\nb", &[1]) }), "no end");
        assert!(refused(Unread { whole: false, ..unread(b"", &[]) }), "on its way");
        let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'\n').chain([0]).collect();
        assert!(refused(unread(&all, &[all.len() - 1])), "no character is left for an end of file");
    }
}
