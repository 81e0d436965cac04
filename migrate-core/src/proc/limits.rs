//! `/proc/PID/limits` (proc_pid_limits(5), fs/proc/base.c `proc_pid_limits`).
//!
//! The file needs no right over the process; prlimit(2) on another user's process needs CAP_SYS_RESOURCE.

use super::text::{lines, number, shown, words};
use super::{Malformed, read_parsed};
use std::io;

/// No limit, as RLIM_INFINITY.
pub const UNLIMITED: u64 = u64::MAX;

/// One resource's limits, in the unit of getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What the process is held to.
    pub soft: u64,
    /// What it may raise the soft limit to.
    pub hard: u64,
}

/// How the kernel names the limits, by their RLIMIT_* number.
pub const NAMES: [&str; 16] = [
    "Max cpu time",
    "Max file size",
    "Max data size",
    "Max stack size",
    "Max core file size",
    "Max resident set",
    "Max processes",
    "Max open files",
    "Max locked memory",
    "Max address space",
    "Max file locks",
    "Max pending signals",
    "Max msgqueue size",
    "Max nice priority",
    "Max realtime priority",
    "Max realtime timeout",
];

/// Parses the text of `/proc/PID/limits` into limits by their RLIMIT_* number.
///
/// # Errors
/// The name of a limit that is missing or not two numbers, or a limit that is not known.
pub fn parse_limits(text: &[u8]) -> Result<[Limit; 16], Malformed> {
    let mut found: [Option<Limit>; 16] = [None; 16];
    // The first line is the headings.
    for line in lines(text).skip(1) {
        let known = NAMES.iter().zip(&mut found).find_map(|(name, slot)| {
            let rest = line.strip_prefix(name.as_bytes())?;
            rest.starts_with(b" ").then_some((name, slot, rest))
        });
        let Some((name, slot, rest)) = known else {
            return Err(Malformed::new(format!("unknown limit {}", shown(line))));
        };
        let mut values = words(rest).map(parse_value);
        let (Some(Some(soft)), Some(Some(hard))) = (values.next(), values.next()) else {
            return Err(Malformed::new(format!("\"{name}\" is not two numbers")));
        };
        *slot = Some(Limit { soft, hard });
    }
    let mut limits = [Limit { soft: 0, hard: 0 }; 16];
    for ((limit, found), name) in limits.iter_mut().zip(found).zip(NAMES) {
        *limit = found.ok_or_else(|| Malformed::new(format!("\"{name}\" is missing")))?;
    }
    Ok(limits)
}

fn parse_value(word: &[u8]) -> Option<u64> {
    match word {
        b"unlimited" => Some(UNLIMITED),
        _ => number(word, 10),
    }
}

/// Reads `/proc/PID/limits`.
///
/// # Errors
/// Those of reading (see [`super::is_gone`]), or InvalidData with a [`super::FileError`].
pub fn read_limits(pid: i32) -> io::Result<[Limit; 16]> {
    read_parsed(format!("/proc/{pid}/limits"), parse_limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::{Resource, getrlimit};
    use proptest::prelude::*;

    const SAMPLE: &[u8] = b"Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max file size             unlimited            unlimited            bytes     
Max data size             unlimited            unlimited            bytes     
Max stack size            8388608              unlimited            bytes     
Max core file size        0                    unlimited            bytes     
Max resident set          unlimited            unlimited            bytes     
Max processes             96365                96366                processes 
Max open files            1024                 20000                files     
Max locked memory         8388608              8388608              bytes     
Max address space         unlimited            unlimited            bytes     
Max file locks            unlimited            unlimited            locks     
Max pending signals       96365                96365                signals   
Max msgqueue size         819200               819200               bytes     
Max nice priority         0                    20                   
Max realtime priority     0                    0                    
Max realtime timeout      unlimited            unlimited            us        
";

    #[test]
    fn in_the_order_of_their_numbers() {
        let limits = parse_limits(SAMPLE).unwrap();
        let at = |resource: Resource| limits[resource as usize];
        let pair = |soft, hard| Limit { soft, hard };
        assert_eq!(at(Resource::RLIMIT_CPU), pair(UNLIMITED, UNLIMITED));
        assert_eq!(at(Resource::RLIMIT_STACK), pair(8_388_608, UNLIMITED));
        assert_eq!(at(Resource::RLIMIT_NPROC), pair(96365, 96366));
        assert_eq!(at(Resource::RLIMIT_NOFILE), pair(1024, 20000));
        assert_eq!(at(Resource::RLIMIT_NICE), pair(0, 20));
        assert_eq!(at(Resource::RLIMIT_RTTIME), pair(UNLIMITED, UNLIMITED));
    }

    #[test]
    fn reads_this_process() {
        let limits = read_limits(std::process::id() as i32).unwrap();
        for resource in [Resource::RLIMIT_NOFILE, Resource::RLIMIT_STACK, Resource::RLIMIT_MEMLOCK] {
            let (soft, hard) = getrlimit(resource).unwrap();
            assert_eq!(limits[resource as usize], Limit { soft, hard });
        }
    }

    #[test]
    fn errors_name_the_limit() {
        let text = String::from_utf8(SAMPLE.to_vec()).unwrap();
        let error = |from: &str, to: &str| parse_limits(text.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert_eq!(error("96366", "many"), "\"Max processes\" is not two numbers");
        assert!(error("Max open files ", "Max open doors").starts_with("unknown limit"));
        assert_eq!(parse_limits(b"Limit\n").unwrap_err().to_string(), "\"Max cpu time\" is missing");
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            let _ = parse_limits(&text);
        }

        #[test]
        fn any_byte_changed(at in 0..SAMPLE.len(), byte: u8) {
            let mut text = SAMPLE.to_vec();
            text[at] = byte;
            let _ = parse_limits(&text);
        }
    }
}
