//! What was written at one end of a pseudo terminal and has not been read at the other: a BPF iterator over a process's descriptors
//! (ebpf/terminals.bpf.c) reads what the line discipline keeps (drivers/tty/n_tty.c), without taking it.

use std::os::fd::AsFd;

use crate::error::Result;
use crate::probe::load_over_files;
use crate::task_iterator::TaskIterator;

/// Bytes that one end keeps at most (N_TTY_BUF_SIZE); a power of two.
pub const SIZE: usize = 4096;

/// What waits at both ends of one pseudo terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalRecord {
    /// The descriptor of its master.
    pub number: i32,
    /// What the slave's side wrote, to be read at the master.
    pub to_master: Unread,
    /// What was written at the master, to be read at the slave.
    pub to_slave: Unread,
    /// Why what is written at the master waits now.
    pub master: Flow,
    /// Why what is written at the slave's side does.
    pub slave: Flow,
}

/// Whether what is written at one end waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does not.
    Goes,
    /// The other end has sent the character that stops it (^S).
    StoppedByCharacter,
    /// It has been stopped by a call (tcflow(3), TCOOFF).
    StoppedByCall,
}

/// What waits at one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Each byte, and whether a line ends with it.
    pub bytes: Vec<(u8, bool)>,
    /// So many of them are lines that can be read; the rest is the beginning of one. Only in canonical mode.
    pub in_lines: usize,
    /// It is all that there is, and was not left half done.
    pub whole: bool,
}

/// One end, as the program writes it.
#[repr(C)]
#[derive(Clone, Copy)]
struct End {
    number: i32,
    bits: u32,
    head: u64,
    lines: u64,
    tail: u64,
}

const OTHER: u32 = 1;
const PUSHED: u32 = 2;
const STOPPED: u32 = 4;
const BY_CALL: u32 = 8;

const HEADER: usize = size_of::<End>();
/// Bytes of one end: header, buffer, a bit for each of its bytes.
const END: usize = HEADER + SIZE + SIZE / 8;

impl End {
    fn from_bytes(bytes: &[u8]) -> End {
        let word = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
        let [number, bits] = [word(0) as u32, (word(0) >> 32) as u32];
        End { number: number as i32, bits, head: word(8), lines: word(16), tail: word(24) }
    }

    fn flow(&self) -> Flow {
        match self.bits & (STOPPED | BY_CALL) {
            0 => Flow::Goes,
            STOPPED => Flow::StoppedByCharacter,
            _ => Flow::StoppedByCall,
        }
    }
}

impl Unread {
    fn from_bytes(bytes: &[u8]) -> Unread {
        let end = End::from_bytes(bytes);
        let (buffer, flags) =
            bytes.get(HEADER..).unwrap_or_default().split_at(SIZE.min(bytes.len().saturating_sub(HEADER)));
        let waiting = end.head.wrapping_sub(end.tail);
        let sane = waiting < SIZE as u64 && end.bits & (OTHER | PUSHED) == 0;
        let byte = |at: u64| {
            let at = at as usize % SIZE;
            let flag = flags.get(at / 8).is_some_and(|bits| bits >> (at % 8) & 1 != 0);
            (buffer.get(at).copied().unwrap_or(0), flag)
        };
        let bytes = (0..waiting.min(SIZE as u64)).map(|i| byte(end.tail.wrapping_add(i))).collect();
        let in_lines = end.lines.wrapping_sub(end.tail).min(waiting) as usize;
        Unread { bytes, in_lines, whole: sane }
    }
}

/// Reads what waits at the pseudo terminals of one process.
#[derive(Debug)]
pub struct TerminalProbe(TaskIterator);

impl TerminalProbe {
    /// Loads the program for a process, `alive` being a thread of it that has not ended. Takes 60 ms, most of it for the kernel's description of itself.
    ///
    /// # Errors
    /// As [`crate::file_probe::FileProbe::load`].
    pub fn load(pid: i32, alive: i32) -> Result<TerminalProbe> {
        let program = load_over_files!("terminals", "read_terminal", "terminals")?;
        let probe = TerminalProbe(TaskIterator::of_descriptors(program.as_fd(), pid, alive)?);
        probe.read()?;
        Ok(probe)
    }

    /// Of every descriptor of a master. What is on its way to its end when it is read is not whole.
    pub fn read(&self) -> Result<Vec<TerminalRecord>> {
        self.0.records(4, |bytes: &[u8; 2 * END]| {
            let (master, slave) = bytes.split_at(END);
            let ends = [End::from_bytes(master), End::from_bytes(slave)];
            let [End { number, .. }, _] = ends;
            let [to_master, to_slave] = [master, slave].map(Unread::from_bytes);
            let [master, slave] = ends.map(|end| end.flow());
            TerminalRecord { number, to_master, to_slave, master, slave }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::{AsRawFd, OwnedFd};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::pty;

    fn open(path: &str) -> File {
        File::options().read(true).write(true).open(path).unwrap()
    }

    /// What is on its way has come when this is known.
    fn comes(end: &File) {
        let _ = poll(&mut [PollFd::new(end, PollFlags::IN)], Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }));
    }

    fn text(unread: &Unread) -> String {
        let bytes = unread.bytes.iter().flat_map(|&(byte, ends)| [Some(byte), ends.then_some(b'|')]).flatten();
        String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
    }

    #[test]
    fn it_tells_what_has_not_been_read_and_leaves_it() {
        let master: OwnedFd = open("/dev/ptmx").into();
        pty::lock(&master, false).unwrap();
        let number = pty::number(&master).unwrap();
        let mut slave = open(&format!("/dev/pts/{number}"));
        let probe = match TerminalProbe::load(std::process::id() as i32, std::process::id() as i32) {
            Ok(probe) => probe,
            Err(why) => return println!("SKIPPED probe for terminals: {why}"),
        };
        let told = || {
            let all = probe.read().unwrap();
            all.into_iter().find(|record| record.number == master.as_raw_fd()).unwrap()
        };
        assert!(told().to_master.bytes.is_empty() && told().to_slave.bytes.is_empty());
        // c_oflag, c_lflag: nothing is made of what is written, and lines are read.
        let mut settings = pty::settings(&master).unwrap();
        settings[4..8].fill(0);
        settings[12..16].copy_from_slice(&libc::ICANON.to_ne_bytes());
        pty::set_settings(&master, &settings).unwrap();
        let mut master = File::from(master.try_clone().unwrap());
        slave.write_all(b"out").unwrap();
        master.write_all(b"one\ntw\x04\nbegun").unwrap();
        comes(&slave);
        comes(&master);
        for _ in 0..2 {
            let record = told();
            assert_eq!((text(&record.to_master).as_str(), record.to_master.whole), ("out", true));
            assert_eq!(text(&record.to_slave), "one\n|tw\0|\n|begun");
            assert_eq!((record.to_slave.in_lines, record.to_slave.whole), (8, true));
        }
        let ends = [OwnedFd::from(master.try_clone().unwrap()), slave.try_clone().unwrap().into()];
        let flows = || (told().master, told().slave);
        assert_eq!(flows(), (Flow::Goes, Flow::Goes));
        pty::stop(&ends[1]).unwrap();
        assert_eq!(flows(), (Flow::Goes, Flow::StoppedByCall));
        pty::go_on(&ends[1]).unwrap();
        pty::stop(&ends[0]).unwrap();
        assert_eq!(flows(), (Flow::StoppedByCall, Flow::Goes));
        pty::go_on(&ends[0]).unwrap();
        let mut some = [0; 2];
        slave.read_exact(&mut some).unwrap();
        assert_eq!(text(&told().to_slave), "e\n|tw\0|\n|begun");
        master.read_exact(&mut some).unwrap();
        assert_eq!(text(&told().to_master), "t");
        settings[12..16].fill(0);
        pty::set_settings(&ends[0], &settings).unwrap();
        assert_eq!(told().to_slave.bytes.len(), 11);
        settings[..4].copy_from_slice(&libc::IXON.to_ne_bytes());
        settings[17 + libc::VSTOP] = b'S';
        pty::set_settings(&ends[0], &settings).unwrap();
        File::from(ends[0].try_clone().unwrap()).write_all(b"S").unwrap();
        while !told().to_slave.whole {}
        assert_eq!(flows(), (Flow::Goes, Flow::StoppedByCharacter));
    }

    #[test]
    fn any_bytes_are_read() {
        for length in [0, 1, HEADER, HEADER + 1, END] {
            for value in [0, 0xff, 0x5a] {
                let unread = Unread::from_bytes(&vec![value; length]);
                assert!(unread.bytes.len() <= SIZE && unread.in_lines <= SIZE);
            }
        }
    }
}
