//! `/proc/PID/auxv`: what the kernel told the program at its start (proc_pid_auxv(5), getauxval(3)).

use super::{Malformed, read_parsed};
use std::io;

/// One entry: an AT_* key and its value.
pub type AuxEntry = (u64, u64);

/// Parses the raw bytes of a 64-bit process's auxiliary vector, up to AT_NULL and without it.
///
/// # Errors
/// When the bytes end within an entry.
pub fn parse_auxv(bytes: &[u8]) -> Result<Vec<AuxEntry>, Malformed> {
    let (entries, rest) = bytes.as_chunks::<16>();
    let mut pairs = Vec::with_capacity(entries.len());
    for entry in entries {
        let (words, _) = entry.as_chunks::<8>();
        let [key, value] = *words else { break };
        let key = u64::from_ne_bytes(key);
        if key == 0 {
            return Ok(pairs);
        }
        pairs.push((key, u64::from_ne_bytes(value)));
    }
    match rest {
        [] => Ok(pairs),
        _ => Err(Malformed::new(format!("{} bytes are not whole entries", bytes.len()))),
    }
}

/// Reads `/proc/PID/auxv`. A kernel thread's is empty.
///
/// # Errors
/// Those of reading (see [`super::is_gone`]), or InvalidData with a [`super::FileError`].
pub fn read_auxv(pid: i32) -> io::Result<Vec<AuxEntry>> {
    read_parsed(format!("/proc/{pid}/auxv"), parse_auxv)
}

/// Reads `/proc/PID/auxv` as it is, AT_NULL included: what PR_SET_MM_AUXV takes.
///
/// # Errors
/// Those of reading (see [`super::is_gone`]).
pub fn read_auxv_bytes(pid: i32) -> io::Result<Vec<u8>> {
    super::read_bytes(format!("/proc/{pid}/auxv").as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_this_process() {
        const AT_PAGESZ: u64 = 6;
        let pid = std::process::id() as i32;
        let pairs = read_auxv(pid).unwrap();
        assert!(pairs.contains(&(AT_PAGESZ, 4096)));
        let bytes = read_auxv_bytes(pid).unwrap();
        assert_eq!(bytes.len(), (pairs.len() + 1) * 16);
    }

    #[test]
    fn ends_at_null() {
        let words = [3u64, 4, 0, 0, 5, 6];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(parse_auxv(&bytes), Ok(vec![(3, 4)]));
        assert!(parse_auxv(&bytes[..15]).is_err());
        assert_eq!(parse_auxv(b""), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let _ = parse_auxv(&bytes);
        }
    }
}
