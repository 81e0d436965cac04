//! `/proc/PID/status` and `/proc/PID/task/TID/status` (proc_pid_status(5), fs/proc/array.c
//! `proc_pid_status`).

use super::text::{lines, number, split_once, words};
use super::{FileError, FileErrorCause, Malformed, failed, read_parsed};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What a `status` file says. `None` is a line that this kernel or this state of the process leaves out
/// (a zombie and a kernel thread have no memory).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The thread's name, unescaped.
    pub name: Vec<u8>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// The letter of the state, as in [`super::stat::Stat::state`].
    pub state: u8,
    /// The process's ID.
    pub tgid: i32,
    /// The thread's ID.
    pub pid: i32,
    /// The parent's process ID; 0 when it is outside the reader's PID namespace.
    pub ppid: i32,
    /// Who traces the thread; 0 for nobody.
    pub tracer_pid: i32,
    /// Real, effective, saved and file system user ID.
    pub uid: [u32; 4],
    /// Real, effective, saved and file system group ID.
    pub gid: [u32; 4],
    /// Supplementary groups, ascending.
    pub groups: Vec<u32>,
    /// `tgid` in each PID namespace, from the reader's inwards.
    pub ns_tgid: Vec<i32>,
    /// `pid` in each PID namespace.
    pub ns_pid: Vec<i32>,
    /// The process group in each PID namespace.
    pub ns_pgid: Vec<i32>,
    /// The session in each PID namespace.
    pub ns_sid: Vec<i32>,
    /// Whether it is a kernel thread (Linux 6.8 and later).
    pub kthread: Option<bool>,
    /// Address space in kB.
    pub vm_size: Option<u64>,
    /// Resident memory in kB; the kernel's count lags a little.
    pub vm_rss: Option<u64>,
    /// Swapped out private memory in kB.
    pub vm_swap: Option<u64>,
    /// Locked memory, kB.
    pub vm_locked: Option<u64>,
    /// Whether it is dumping core now.
    pub core_dumping: Option<bool>,
    /// Threads in the process.
    pub threads: u64,
    /// Queued signals of the real user ID, and how many there may be.
    pub sig_queue: (u64, u64),
    /// Signals that wait for the thread. Bit N-1 is signal N, here and below.
    pub sig_pending: u64,
    /// Signals that wait for the process.
    pub shared_pending: u64,
    /// Blocked signals.
    pub sig_blocked: u64,
    /// Ignored signals.
    pub sig_ignored: u64,
    /// Signals with a handler.
    pub sig_caught: u64,
    /// Inheritable capabilities. Bit N is capability N, here and below.
    pub cap_inheritable: u64,
    /// Permitted capabilities.
    pub cap_permitted: u64,
    /// Effective capabilities.
    pub cap_effective: u64,
    /// Bounding set.
    pub cap_bounding: u64,
    /// Ambient capabilities.
    pub cap_ambient: u64,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: Option<bool>,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// How many seccomp filters there are.
    pub seccomp_filters: Option<u32>,
}

/// The lines of the file, looked up by key.
struct Lines<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Lines<'a> {
    fn find(&self, key: &str) -> Option<&'a [u8]> {
        let found = self.0.iter().find(|(name, _)| *name == key.as_bytes());
        found.map(|(_, value)| *value)
    }

    fn required(&self, key: &str) -> Result<&'a [u8], Malformed> {
        self.find(key).ok_or_else(|| Malformed::new(format!("{key} is missing")))
    }

    /// The first word of an optional line as a number; a unit after it is ignored.
    fn optional<T: TryFrom<u64>>(&self, key: &str, radix: u32) -> Result<Option<T>, Malformed> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        let word = words(value).next().unwrap_or_default();
        narrow(number(word, radix), key).map(Some)
    }

    fn number<T: TryFrom<u64>>(&self, key: &str, radix: u32) -> Result<T, Malformed> {
        self.optional(key, radix)?.ok_or_else(|| Malformed::new(format!("{key} is missing")))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Malformed> {
        Ok(self.optional::<u64>(key, 10)?.map(|value| value != 0))
    }

    fn list<T: TryFrom<u64>>(&self, key: &str) -> Result<Vec<T>, Malformed> {
        words(self.find(key).unwrap_or_default()).map(|word| narrow(number(word, 10), key)).collect()
    }

    fn four(&self, key: &str) -> Result<[u32; 4], Malformed> {
        self.required(key)?;
        self.list(key)?.try_into().map_err(|_| Malformed::new(format!("{key} does not have four numbers")))
    }
}

fn narrow<T: TryFrom<u64>>(value: Option<u64>, key: &str) -> Result<T, Malformed> {
    value.and_then(|value| value.try_into().ok()).ok_or_else(|| Malformed::new(format!("{key} is not a number")))
}

/// Parses the text of a `status` file.
///
/// # Errors
/// The key of the first line that is missing or not what it should be.
pub fn parse_status(text: &[u8]) -> Result<Status, Malformed> {
    let lines = Lines(lines(text).filter_map(|line| split_once(line, b':')).collect());
    let name = lines.required("Name")?;
    let state = *words(lines.required("State")?)
        .next()
        .and_then(<[u8]>::first)
        .ok_or_else(|| Malformed::new("State is empty"))?;
    let queue = lines.required("SigQ")?;
    let (queued, limit) =
        split_once(queue.trim_ascii(), b'/').ok_or_else(|| Malformed::new("SigQ is not two numbers"))?;
    Ok(Status {
        name: unescaped(name.strip_prefix(b"\t").unwrap_or(name)),
        umask: lines.optional("Umask", 8)?,
        state,
        tgid: lines.number("Tgid", 10)?,
        pid: lines.number("Pid", 10)?,
        ppid: lines.number("PPid", 10)?,
        tracer_pid: lines.number("TracerPid", 10)?,
        uid: lines.four("Uid")?,
        gid: lines.four("Gid")?,
        groups: lines.list("Groups")?,
        ns_tgid: lines.list("NStgid")?,
        ns_pid: lines.list("NSpid")?,
        ns_pgid: lines.list("NSpgid")?,
        ns_sid: lines.list("NSsid")?,
        kthread: lines.flag("Kthread")?,
        vm_size: lines.optional("VmSize", 10)?,
        vm_rss: lines.optional("VmRSS", 10)?,
        vm_swap: lines.optional("VmSwap", 10)?,
        vm_locked: lines.optional("VmLck", 10)?,
        core_dumping: lines.flag("CoreDumping")?,
        threads: lines.number("Threads", 10)?,
        sig_queue: (narrow(number(queued, 10), "SigQ")?, narrow(number(limit, 10), "SigQ")?),
        sig_pending: lines.number("SigPnd", 16)?,
        shared_pending: lines.number("ShdPnd", 16)?,
        sig_blocked: lines.number("SigBlk", 16)?,
        sig_ignored: lines.number("SigIgn", 16)?,
        sig_caught: lines.number("SigCgt", 16)?,
        cap_inheritable: lines.number("CapInh", 16)?,
        cap_permitted: lines.number("CapPrm", 16)?,
        cap_effective: lines.number("CapEff", 16)?,
        cap_bounding: lines.number("CapBnd", 16)?,
        cap_ambient: lines.number("CapAmb", 16)?,
        no_new_privs: lines.flag("NoNewPrivs")?,
        seccomp: lines.optional("Seccomp", 10)?,
        seccomp_filters: lines.optional("Seccomp_filters", 10)?,
    })
}

/// Undoes `seq_escape_str(ESCAPE_SPACE | ESCAPE_SPECIAL, "\n\\")`: only newlines and backslashes are escaped.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    loop {
        rest = match rest {
            [] => return out,
            [b'\\', b'n', tail @ ..] => {
                out.push(b'\n');
                tail
            }
            [b'\\', b'\\', tail @ ..] => {
                out.push(b'\\');
                tail
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
        };
    }
}

/// Reads `/proc/PID/status`.
///
/// # Errors
/// Those of reading (see [`super::is_gone`]), or InvalidData with a [`super::FileError`].
pub fn read_status(pid: i32) -> io::Result<Status> {
    read_parsed(format!("/proc/{pid}/status"), parse_status)
}

/// Reads `/proc/PID/task/TID/status`.
///
/// # Errors
/// As for [`read_status`].
pub fn read_task_status(pid: i32, tid: i32) -> io::Result<Status> {
    read_parsed(format!("/proc/{pid}/task/{tid}/status"), parse_status)
}

/// The status of one thread now, from its file, which was opened before: [`read_task_status`] takes twice as long.
///
/// # Errors
/// As for [`read_status`].
pub fn read_status_from(file: &File, pid: i32, tid: i32) -> io::Result<Status> {
    // The kernel writes about 1.5 KiB; the lists of groups and CPUs may make it longer.
    let mut bytes = vec![0; 4096];
    let path = || PathBuf::from(format!("/proc/{pid}/task/{tid}/status"));
    let mut len = 0;
    loop {
        match file.read_at(bytes.get_mut(len..).unwrap_or_default(), len as u64) {
            Ok(0) => break,
            Ok(got) => len += got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(failed(path(), cause)),
        }
        // A text that fits has been read whole: another read would only say so, and have it written again.
        if len < bytes.len() {
            break;
        }
        bytes.resize(len * 2, 0);
    }
    bytes.truncate(len);
    parse_status(&bytes).map_err(|cause| FileError { path: path(), cause: FileErrorCause::Malformed(cause) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &[u8] = b"Name:\t a\\nb\\\\c \nUmask:\t0027\nState:\tt (tracing stop)\nTgid:\t42\nNgid:\t0\n\
        Pid:\t43\nPPid:\t1\nTracerPid:\t7\nUid:\t1000\t1001\t1002\t1003\nGid:\t10\t11\t12\t13\n\
        FDSize:\t256\nGroups:\t4 24 4294967294 \nNStgid:\t42\t2\nNSpid:\t43\t3\nNSpgid:\t42\t2\n\
        NSsid:\t40\t0\nKthread:\t0\nVmPeak:\t    3060 kB\nVmSize:\t    3059 kB\nVmRSS:\t    1728 kB\n\
        VmSwap:\t       5 kB\nCoreDumping:\t0\nThreads:\t2\nSigQ:\t3/96365\n\
        SigPnd:\t0000000000000001\nShdPnd:\t0000000000000002\nSigBlk:\t8000000000000000\n\
        SigIgn:\t0000000000000004\nSigCgt:\t0000000000000008\nCapInh:\t0000000000000010\n\
        CapPrm:\t000001fffeffffff\nCapEff:\t0000000000000020\nCapBnd:\t0000000000000040\n\
        CapAmb:\t0000000000000080\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t4\n";

    #[test]
    fn every_line_is_read() {
        let expected = Status {
            name: b" a\nb\\c ".to_vec(),
            umask: Some(0o27),
            state: b't',
            tgid: 42,
            pid: 43,
            ppid: 1,
            tracer_pid: 7,
            uid: [1000, 1001, 1002, 1003],
            gid: [10, 11, 12, 13],
            groups: vec![4, 24, u32::MAX - 1],
            ns_tgid: vec![42, 2],
            ns_pid: vec![43, 3],
            ns_pgid: vec![42, 2],
            ns_sid: vec![40, 0],
            kthread: Some(false),
            vm_size: Some(3059),
            vm_rss: Some(1728),
            vm_swap: Some(5),
            vm_locked: None,
            core_dumping: Some(false),
            threads: 2,
            sig_queue: (3, 96365),
            sig_pending: 1,
            shared_pending: 2,
            sig_blocked: 1 << 63,
            sig_ignored: 4,
            sig_caught: 8,
            cap_inheritable: 0x10,
            cap_permitted: 0x1ff_feff_ffff,
            cap_effective: 0x20,
            cap_bounding: 0x40,
            cap_ambient: 0x80,
            no_new_privs: Some(true),
            seccomp: Some(2),
            seccomp_filters: Some(4),
        };
        assert_eq!(parse_status(SAMPLE).unwrap(), expected);
    }

    #[test]
    fn errors_name_the_line() {
        let text = String::from_utf8(SAMPLE.to_vec()).unwrap();
        let wrong = text.replace("Threads:\t2", "Threads:\tmany");
        assert_eq!(parse_status(wrong.as_bytes()).unwrap_err().to_string(), "Threads is not a number");
        let missing = text.replace("Uid:", "Vid:");
        assert_eq!(parse_status(missing.as_bytes()).unwrap_err().to_string(), "Uid is missing");
    }

    #[test]
    fn reads_this_process() {
        let pid = std::process::id() as i32;
        let status = read_status(pid).unwrap();
        assert_eq!((status.tgid, status.pid), (pid, pid));
        assert!(status.vm_rss.unwrap() > 0);
        assert_eq!(read_task_status(pid, pid).unwrap().uid, status.uid);
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            let _ = parse_status(&text);
        }

        #[test]
        fn any_byte_changed(at in 0..SAMPLE.len(), byte: u8) {
            let mut text = SAMPLE.to_vec();
            text[at] = byte;
            let _ = parse_status(&text);
        }
    }
}
