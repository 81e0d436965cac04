//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): which file systems are mounted where.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use super::text::lines;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number of its file system's device.
    pub device: (u32, u32),
    /// What of the file system is mounted: `/` is all of it.
    pub root: OsString,
    /// Where, as the reader's root sees it.
    pub place: OsString,
}

/// Parses the text; what is not understood is left out.
pub fn parse_mountinfo(text: &[u8]) -> Vec<Mount> {
    lines(text).filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(words.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let mut path = || words.next().map(|word| OsString::from_vec(unescaped(word)));
    Some(Mount { device: (major.parse().ok()?, minor.parse().ok()?), root: path()?, place: path()? })
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits (fs/proc_namespace.c `mangle`).
fn unescaped(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        let octal = rest.get(..3).filter(|_| byte == b'\\');
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(value.unwrap_or(byte));
        text = rest.get(if value.is_some() { 3.. } else { 0.. }).unwrap_or_default();
    }
    bytes
}

/// Those of this process.
///
/// # Errors
/// Those of reading.
pub fn read_own_mounts() -> io::Result<Vec<Mount>> {
    Ok(parse_mountinfo(&std::fs::read("/proc/self/mountinfo")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_understood() {
        let text = b"36 35 98:3 /mnt1 /mnt\\0402\\134 rw,noatime master:1 - ext3 /dev/root rw\nx\n29 1 0:25 / /proc rw - proc proc rw\n";
        let mount = |device, root: &str, place: &str| Mount { device, root: root.into(), place: place.into() };
        assert_eq!(parse_mountinfo(text), [mount((98, 3), "/mnt1", "/mnt 2\\"), mount((0, 25), "/", "/proc")]);
    }

    #[test]
    fn this_process_has_mounts() {
        assert!(read_own_mounts().unwrap().iter().any(|mount| mount.place == "/"));
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            parse_mountinfo(&text);
        }

        #[test]
        fn what_is_escaped_comes_back(path: Vec<u8>) {
            let escaped: Vec<u8> = path.iter().flat_map(|byte| format!("\\{byte:03o}").into_bytes()).collect();
            prop_assert_eq!(unescaped(&escaped), path);
        }
    }
}
