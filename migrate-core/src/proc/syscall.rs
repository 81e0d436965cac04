//! `/proc/PID/task/TID/syscall` and `wchan`: the call that a thread waits in (proc_pid_syscall(5)).

use super::text::{number, words};
use super::{Malformed, read_bytes, read_parsed};
use std::io;

/// A call that a thread waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub call: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// Parses the text of `/proc/PID/task/TID/syscall`. None: the thread runs, or waits in no call.
///
/// # Errors
/// It is none of the forms that the kernel has.
pub fn parse_syscall(text: &[u8]) -> Result<Option<Waiting>, Malformed> {
    let text = text.trim_ascii_end();
    if text == b"running" || text.starts_with(b"-1 ") {
        return Ok(None);
    }
    let malformed = || Malformed::new(format!("{} is no system call", super::text::shown(text)));
    let mut words = words(text);
    let call = words.next().and_then(|word| number(word, 10)).ok_or_else(malformed)?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        let word = words.next().and_then(|word| word.strip_prefix(b"0x")).ok_or_else(malformed)?;
        *argument = number(word, 16).ok_or_else(malformed)?;
    }
    Ok(Some(Waiting { call, arguments }))
}

/// Reads it.
///
/// # Errors
/// A [`FileError`](super::FileError) inside.
pub fn read_syscall(pid: i32, tid: i32) -> io::Result<Option<Waiting>> {
    read_parsed(format!("/proc/{pid}/task/{tid}/syscall"), parse_syscall)
}

/// The kernel's function in which a thread waits; "0": it does not.
///
/// # Errors
/// A [`FileError`](super::FileError) inside.
pub fn read_wchan(pid: i32, tid: i32) -> io::Result<String> {
    let bytes = read_bytes(format!("/proc/{pid}/task/{tid}/wchan").as_ref())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_the_kernel() {
        assert_eq!(parse_syscall(b"running\n"), Ok(None));
        assert_eq!(parse_syscall(b"-1 0x7fff 0x1234\n"), Ok(None));
        let waiting = parse_syscall(b"230 0x0 0x1 0x7f 0xffffffffffffffff 0x0 0x6 0x7ff 0x7fe\n").unwrap().unwrap();
        assert_eq!((waiting.call, waiting.arguments), (230, [0, 1, 0x7f, u64::MAX, 0, 6]));
        assert!(parse_syscall(b"230 0x0").is_err());
        assert!(parse_syscall(b"").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_syscall(&text);
        }
    }
}
