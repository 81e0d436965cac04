//! `/proc/PID/fdinfo/FD` (proc_pid_fdinfo(5), fs/proc/fd.c `seq_show`).

use super::text::{lines, number, signed, split_once};
use super::{Malformed, read_parsed};
use std::io;

/// What the kernel tells of one open file description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FdInfo {
    /// Offset in bytes; negative ones exist in a few devices.
    pub pos: i64,
    /// Status flags and access mode as open(2) has them, and O_CLOEXEC of this descriptor.
    pub flags: u32,
    /// The mount, by its ID in mountinfo; that of a kernel-internal mount is listed nowhere.
    pub mnt_id: i32,
    /// The file's inode; Linux 5.14 and later.
    pub ino: Option<u64>,
    /// The other lines in their order: what comes before the colon, and after it without spaces around. Lines
    /// of inotify and fanotify have the first word as their key, because a name with a colon follows it.
    pub extra: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the kernel tells of an eventfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFdInfo {
    /// The counter.
    pub count: u64,
    /// Its number among the kernel's eventfds; -1 when there were too many to number.
    pub id: Option<i64>,
    /// EFD_SEMAPHORE; `None` before Linux 6.5, which does not tell.
    pub semaphore: Option<bool>,
}

impl FdInfo {
    /// The first extra line with this key.
    pub fn extra(&self, key: &str) -> Option<&[u8]> {
        let found = self.extra.iter().find(|(name, _)| name == key.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    /// The eventfd's lines; `None` when this is no eventfd.
    ///
    /// # Errors
    /// A line that is not a number.
    pub fn eventfd(&self) -> Result<Option<EventFdInfo>, Malformed> {
        let Some(count) = self.extra("eventfd-count") else {
            return Ok(None);
        };
        let wrong = |key: &str| Malformed::new(format!("{key} is not a number"));
        let id = self.extra("eventfd-id");
        let semaphore = self.extra("eventfd-semaphore");
        Ok(Some(EventFdInfo {
            count: number(count, 16).ok_or_else(|| wrong("eventfd-count"))?,
            id: id.map(|id| signed(id).ok_or_else(|| wrong("eventfd-id"))).transpose()?,
            semaphore: semaphore
                .map(|bit| number(bit, 10).ok_or_else(|| wrong("eventfd-semaphore")))
                .transpose()?
                .map(|bit| bit != 0),
        }))
    }
}

/// Parses the text of an `fdinfo` file.
///
/// # Errors
/// Which of `pos`, `flags`, `mnt_id` and `ino` is missing or not a number.
pub fn parse_fdinfo(text: &[u8]) -> Result<FdInfo, Malformed> {
    let (mut pos, mut flags, mut mnt_id, mut ino) = (None, None, None, None);
    let mut extra = Vec::new();
    let wrong = |key: &str| Malformed::new(format!("{key} is not a number"));
    for line in lines(text) {
        let (key, value) = split_key(line);
        match key {
            b"pos" if pos.is_none() => pos = Some(signed(value).ok_or_else(|| wrong("pos"))?),
            b"flags" if flags.is_none() => {
                let value = number(value, 8).and_then(|value| u32::try_from(value).ok());
                flags = Some(value.ok_or_else(|| wrong("flags"))?);
            }
            b"mnt_id" if mnt_id.is_none() => {
                let value = signed(value).and_then(|value| i32::try_from(value).ok());
                mnt_id = Some(value.ok_or_else(|| wrong("mnt_id"))?);
            }
            b"ino" if ino.is_none() => ino = Some(number(value, 10).ok_or_else(|| wrong("ino"))?),
            _ => extra.push((key.to_vec(), value.to_vec())),
        }
    }
    let missing = |key: &str| Malformed::new(format!("{key} is missing"));
    Ok(FdInfo {
        pos: pos.ok_or_else(|| missing("pos"))?,
        flags: flags.ok_or_else(|| missing("flags"))?,
        mnt_id: mnt_id.ok_or_else(|| missing("mnt_id"))?,
        ino,
        extra,
    })
}

fn split_key(line: &[u8]) -> (&[u8], &[u8]) {
    let notify = [&b"inotify "[..], b"fanotify "].iter().any(|prefix| line.starts_with(prefix));
    let (key, value) = split_once(line, if notify { b' ' } else { b':' }).unwrap_or((line, b""));
    (key, value.trim_ascii())
}

/// Reads `/proc/PID/fdinfo/FD`.
///
/// # Errors
/// Those of reading (see [`super::is_gone`]), or InvalidData with a [`super::FileError`].
pub fn read_fdinfo(pid: i32, fd: i32) -> io::Result<FdInfo> {
    read_parsed(format!("/proc/{pid}/fdinfo/{fd}"), parse_fdinfo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENTFD: &[u8] = b"pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1039\n\
        eventfd-count:               1f\neventfd-id: 1\neventfd-semaphore: 1\n";

    #[test]
    fn eventfd() {
        let info = parse_fdinfo(EVENTFD).unwrap();
        assert_eq!((info.pos, info.flags, info.mnt_id), (0, 2, 17));
        assert_eq!(info.ino, Some(1039));
        assert_eq!(info.eventfd().unwrap(), Some(EventFdInfo { count: 0x1f, id: Some(1), semaphore: Some(true) }));
    }

    #[test]
    fn repeated_and_spaced_keys() {
        let info = parse_fdinfo(
            b"pos:\t3\nflags:\t02102002\nmnt_id:\t27\nino:\t100\n\
            lock:\t1: POSIX  ADVISORY  WRITE 75 fe:00:100 0 EOF\nsettime flags: 01\n\
            tfd:        3 events:       19 data:                3  pos:0 ino:40f sdev:10\n\
            tfd:        4 events:       19 data:                4  pos:0 ino:40f sdev:10\n\
            inotify wd:1 ino:3c4a7 sdev:fe00000 mask:2\n",
        )
        .unwrap();
        assert_eq!(info.flags, 0o2_102_002);
        let keys: Vec<_> = info.extra.iter().map(|(key, _)| key.as_slice()).collect();
        assert_eq!(keys, [&b"lock"[..], b"settime flags", b"tfd", b"tfd", b"inotify"]);
        assert_eq!(info.extra("inotify"), Some(&b"wd:1 ino:3c4a7 sdev:fe00000 mask:2"[..]));
        assert_eq!(info.extra("settime flags"), Some(&b"01"[..]));
        assert_eq!(info.eventfd().unwrap(), None);
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(parse_fdinfo(b"pos:\t0\nflags:\t09\n").unwrap_err().to_string(), "flags is not a number");
        assert_eq!(parse_fdinfo(b"pos:\t0\nflags:\t01\n").unwrap_err().to_string(), "mnt_id is missing");
    }

    #[test]
    fn reads_this_process() {
        use std::io::{Seek, SeekFrom};
        use std::os::fd::AsRawFd;
        let mut file = tempfile::tempfile().unwrap();
        file.seek(SeekFrom::Start(77)).unwrap();
        let info = read_fdinfo(std::process::id() as i32, file.as_raw_fd()).unwrap();
        assert_eq!(info.pos, 77);
        assert_ne!(info.flags & nix::libc::O_CLOEXEC as u32, 0);
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            let _ = parse_fdinfo(&text);
        }

        #[test]
        fn any_byte_changed(at in 0..EVENTFD.len(), byte: u8) {
            let mut text = EVENTFD.to_vec();
            text[at] = byte;
            if let Ok(info) = parse_fdinfo(&text) {
                let _ = info.eventfd();
            }
        }
    }
}
