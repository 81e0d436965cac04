//! Pseudo terminals (ioctl_tty(2)). Asked at the master's descriptor, the kernel answers for the slave, but where it is said otherwise.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `struct termios2` (asm-generic/termbits.h): modes, line discipline, characters, speeds.
pub type Termios = [u8; 44];
/// `struct winsize`: rows, columns, pixels.
pub type Size = [u16; 4];

const TCGETS2: libc::c_ulong = 0x802c_542a;
const TCSETS2: libc::c_ulong = 0x402c_542b;
const TIOCGDEV: libc::c_ulong = 0x8004_5432;

/// Makes the ioctl that fills in a value.
fn get<T: Default>(fd: &OwnedFd, request: libc::c_ulong) -> io::Result<T> {
    let mut value = T::default();
    get_into(fd, request, &mut value)?;
    Ok(value)
}

fn get_into<T>(fd: &OwnedFd, request: libc::c_ulong, value: &mut T) -> io::Result<()> {
    // SAFETY: every caller in this file gives a type of the size that the kernel stores for its request.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(value)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes the ioctl that reads a value.
fn set<T>(fd: &OwnedFd, request: libc::c_ulong, value: &T) -> io::Result<()> {
    // SAFETY: every caller in this file gives a type of the size that the kernel reads for its request.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_ref(value)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The number N of /dev/pts/N, of a master.
///
/// # Errors
/// `ENOTTY` when it is none.
pub fn number(master: &OwnedFd) -> io::Result<u32> {
    get(master, libc::TIOCGPTN)
}

/// Whether the slave may not be opened yet.
///
/// # Errors
/// As [`number`].
pub fn is_locked(master: &OwnedFd) -> io::Result<bool> {
    Ok(get::<i32>(master, libc::TIOCGPTLCK)? != 0)
}

/// Sets that.
///
/// # Errors
/// As [`number`].
pub fn lock(master: &OwnedFd, locked: bool) -> io::Result<()> {
    set(master, libc::TIOCSPTLCK, &i32::from(locked))
}

/// Whether the master reads with a byte of status before each piece (TIOCPKT).
///
/// # Errors
/// As [`number`].
pub fn is_packet_mode(master: &OwnedFd) -> io::Result<bool> {
    Ok(get::<i32>(master, libc::TIOCGPKT)? != 0)
}

/// Sets that.
///
/// # Errors
/// As [`number`].
pub fn set_packet_mode(master: &OwnedFd, on: bool) -> io::Result<()> {
    set(master, libc::TIOCPKT, &i32::from(on))
}

/// Whether this end may not be opened again (TIOCEXCL).
///
/// # Errors
/// `ENOTTY` when it is no terminal.
pub fn is_exclusive(end: &OwnedFd) -> io::Result<bool> {
    Ok(get::<i32>(end, libc::TIOCGEXCL)? != 0)
}

/// Sets that.
///
/// # Errors
/// As [`is_exclusive`].
pub fn make_exclusive(end: &OwnedFd) -> io::Result<()> {
    // It takes no value.
    set(end, libc::TIOCEXCL, &0i32)
}

/// Has what is written at this end wait from now on (tcflow(3), TCOOFF).
///
/// # Errors
/// As [`is_exclusive`].
pub fn stop(end: &OwnedFd) -> io::Result<()> {
    flow(end, libc::TCOOFF)
}

fn flow(end: &OwnedFd, what: i32) -> io::Result<()> {
    // SAFETY: TCXONC takes a number and touches no memory of this process.
    match unsafe { libc::ioctl(end.as_raw_fd(), libc::TCXONC, what) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Has it go on.
#[cfg(test)]
pub(crate) fn go_on(end: &OwnedFd) -> io::Result<()> {
    flow(end, libc::TCOON)
}

/// Its settings.
///
/// # Errors
/// `EIO` when its other end is closed for good, `ENOTTY` when it is no terminal.
pub fn settings(end: &OwnedFd) -> io::Result<Termios> {
    let mut termios = [0; size_of::<Termios>()];
    get_into(end, TCGETS2, &mut termios)?;
    Ok(termios)
}

/// Sets them at once.
///
/// # Errors
/// As [`settings`].
pub fn set_settings(end: &OwnedFd, termios: &Termios) -> io::Result<()> {
    set(end, TCSETS2, termios)
}

/// Its window size.
///
/// # Errors
/// As [`settings`].
pub fn size(end: &OwnedFd) -> io::Result<Size> {
    get(end, libc::TIOCGWINSZ)
}

/// Sets it; its foreground process group is sent SIGWINCH if it changes.
///
/// # Errors
/// As [`settings`].
pub fn set_size(end: &OwnedFd, size: &Size) -> io::Result<()> {
    set(end, libc::TIOCSWINSZ, size)
}

/// Its line discipline; 0 is the usual one.
///
/// # Errors
/// As [`settings`].
pub fn discipline(end: &OwnedFd) -> io::Result<i32> {
    get(end, libc::TIOCGETD)
}

/// The device number of a terminal, as `tty_nr` of proc_pid_stat(5) has it. Asked at a master's descriptor: the slave's.
///
/// # Errors
/// As [`settings`].
pub fn device(end: &OwnedFd) -> io::Result<u32> {
    get(end, TIOCGDEV)
}

/// The session whose controlling terminal it is, and its foreground process group (0: none that this process sees). None: it is nobody's.
///
/// # Errors
/// As [`number`].
pub fn session(master: &OwnedFd) -> io::Result<Option<(i32, i32)>> {
    match get::<i32>(master, libc::TIOCGSID) {
        Ok(session) => Ok(Some((session, get(master, libc::TIOCGPGRP)?))),
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_is_set_is_told() {
        let Ok(master) = File::options().read(true).write(true).open("/dev/ptmx") else {
            println!("SKIPPED: no /dev/ptmx");
            return;
        };
        let master = OwnedFd::from(master);
        assert!(is_locked(&master).unwrap());
        lock(&master, false).unwrap();
        assert!(!is_locked(&master).unwrap() && !is_packet_mode(&master).unwrap() && !is_exclusive(&master).unwrap());
        set_packet_mode(&master, true).unwrap();
        make_exclusive(&master).unwrap();
        assert!(is_packet_mode(&master).unwrap() && is_exclusive(&master).unwrap());
        set_size(&master, &[25, 80, 7, 8]).unwrap();
        assert_eq!(size(&master).unwrap(), [25, 80, 7, 8]);
        let mut termios = settings(&master).unwrap();
        // c_cflag's lowest byte: the speed; c_cc.
        termios[20] ^= 1;
        set_settings(&master, &termios).unwrap();
        assert_eq!(settings(&master).unwrap(), termios);
        assert_eq!(device(&master).unwrap() >> 8 & 0xfff, 136);
        assert_eq!((discipline(&master).unwrap(), session(&master).unwrap()), (0, None));
        let not_one = OwnedFd::from(File::open("/dev/null").unwrap());
        assert!(number(&not_one).is_err() && session(&not_one).unwrap().is_none());
    }
}
