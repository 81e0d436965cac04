//! `/proc/PID/stat` and `/proc/PID/task/TID/stat` (proc_pid_stat(5), fs/proc/array.c `do_task_stat`).

use super::text::{number, signed, words};
use super::{Malformed, read_parsed};
use std::io;
use std::time::Duration;

/// The fields that a move needs. Addresses are 0 without the right to trace the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The thread's ID (the process's in `/proc/PID/stat`), as the reader's PID namespace has it.
    pub pid: i32,
    /// The thread's name: any bytes, 15 at most but for kernel threads.
    pub comm: Vec<u8>,
    /// `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z`, `X`, `I` or others.
    pub state: u8,
    /// The parent; 0 when it is outside the reader's PID namespace.
    pub ppid: i32,
    /// Process group.
    pub pgrp: i32,
    /// Session.
    pub session: i32,
    /// Device number of the controlling terminal; 0 for none.
    pub tty_nr: i32,
    /// The terminal's foreground process group; -1 without a terminal.
    pub tpgid: i32,
    /// PF_* of include/linux/sched.h.
    pub flags: u32,
    /// The kernel's priority: 20 + nice, or negative for the realtime policies.
    pub priority: i64,
    /// Nice value, -20 to 19.
    pub nice: i64,
    /// Threads in the process.
    pub num_threads: u64,
    /// Start time in clock ticks since boot. With `pid` it tells a process from a later one with its number.
    pub starttime: u64,
    /// First address of the program's code.
    pub start_code: u64,
    /// Address after the program's code.
    pub end_code: u64,
    /// Bottom of the first thread's stack.
    pub start_stack: u64,
    /// The signal that the parent gets at the end.
    pub exit_signal: i32,
    /// 1 to 99 for SCHED_FIFO and SCHED_RR, else 0.
    pub rt_priority: u32,
    /// SCHED_* policy.
    pub policy: u32,
    /// First address of the program's data.
    pub start_data: u64,
    /// Address after the program's data.
    pub end_data: u64,
    /// Where the break began.
    pub start_brk: u64,
    /// First address of the arguments.
    pub arg_start: u64,
    /// Address after the arguments.
    pub arg_end: u64,
    /// First address of the environment.
    pub env_start: u64,
    /// Address after the environment.
    pub env_end: u64,
    /// Status in the form of waitpid(2).
    pub exit_code: i32,
}

impl Stat {
    /// Whether this is a kernel thread (PF_KTHREAD in `flags`).
    pub fn is_kernel_thread(&self) -> bool {
        const PF_KTHREAD: u32 = 0x0020_0000;
        self.flags & PF_KTHREAD != 0
    }

    /// Whether the thread has ended, or is just about to (PF_EXITING in `flags`).
    pub fn is_exiting(&self) -> bool {
        const PF_EXITING: u32 = 4;
        self.flags & PF_EXITING != 0 || matches!(self.state, b'Z' | b'X')
    }
}

/// The fields after the name, by their numbers in proc_pid_stat(5).
struct Fields<'a>(Vec<&'a [u8]>);

impl<'a> Fields<'a> {
    const FIRST: usize = 3;

    fn get(&self, field: usize) -> Result<&'a [u8], Malformed> {
        field
            .checked_sub(Self::FIRST)
            .and_then(|index| self.0.get(index).copied())
            .ok_or_else(|| Malformed::new(format!("field {field} is missing")))
    }

    fn unsigned<T: TryFrom<u64>>(&self, field: usize) -> Result<T, Malformed> {
        number(self.get(field)?, 10).and_then(|value| value.try_into().ok()).ok_or_else(|| not_a_number(field))
    }

    fn signed<T: TryFrom<i64>>(&self, field: usize) -> Result<T, Malformed> {
        signed(self.get(field)?).and_then(|value| value.try_into().ok()).ok_or_else(|| not_a_number(field))
    }
}

fn not_a_number(field: usize) -> Malformed {
    Malformed::new(format!("field {field} is not a number"))
}

/// Parses the text of a `stat` file.
///
/// # Errors
/// The number of the first field that is missing or not what it should be.
pub fn parse_stat(text: &[u8]) -> Result<Stat, Malformed> {
    // The name is not escaped: it may hold spaces, newlines and parentheses. No later field has a
    // parenthesis, so the last one ends the name.
    let no_name = || Malformed::new("field 2 is not a name in parentheses");
    let open = text.iter().position(|&byte| byte == b'(');
    let close = text.iter().rposition(|&byte| byte == b')');
    let (open, close) = open.zip(close).ok_or_else(no_name)?;
    let comm = text.get(open + 1..close).ok_or_else(no_name)?;
    let pid = text
        .get(..open)
        .and_then(|pid| number(pid.strip_suffix(b" ")?, 10)?.try_into().ok())
        .ok_or_else(|| not_a_number(1))?;
    let rest = text.get(close + 1..).unwrap_or_default();
    let fields = Fields(words(rest.trim_ascii_end()).collect());
    let [state] = *fields.get(3)? else {
        return Err(Malformed::new("field 3 is not one letter"));
    };
    Ok(Stat {
        pid,
        comm: comm.to_vec(),
        state,
        ppid: fields.signed(4)?,
        pgrp: fields.signed(5)?,
        session: fields.signed(6)?,
        tty_nr: fields.signed(7)?,
        tpgid: fields.signed(8)?,
        flags: fields.unsigned(9)?,
        priority: fields.signed(18)?,
        nice: fields.signed(19)?,
        num_threads: fields.unsigned(20)?,
        starttime: fields.unsigned(22)?,
        start_code: fields.unsigned(26)?,
        end_code: fields.unsigned(27)?,
        start_stack: fields.unsigned(28)?,
        exit_signal: fields.signed(38)?,
        rt_priority: fields.unsigned(40)?,
        policy: fields.unsigned(41)?,
        start_data: fields.unsigned(45)?,
        end_data: fields.unsigned(46)?,
        start_brk: fields.unsigned(47)?,
        arg_start: fields.unsigned(48)?,
        arg_end: fields.unsigned(49)?,
        env_start: fields.unsigned(50)?,
        env_end: fields.unsigned(51)?,
        exit_code: fields.signed(52)?,
    })
}

/// Reads `/proc/PID/stat`.
///
/// # Errors
/// Those of reading (see [`super::is_gone`]), or InvalidData with a [`super::FileError`].
pub fn read_stat(pid: i32) -> io::Result<Stat> {
    read_parsed(format!("/proc/{pid}/stat"), parse_stat)
}

/// Reads `/proc/PID/task/TID/stat`.
///
/// # Errors
/// As for [`read_stat`].
pub fn read_task_stat(pid: i32, tid: i32) -> io::Result<Stat> {
    read_parsed(format!("/proc/{pid}/task/{tid}/stat"), parse_stat)
}

/// The time that the threads of a process have spent on a processor (`/proc/PID/task/TID/schedstat`, sched-stats.rst). Those that have
/// ended are not counted.
///
/// # Errors
/// When its threads cannot be listed. Without CONFIG_SCHED_INFO it is none.
pub fn read_cpu_time(pid: i32) -> io::Result<Duration> {
    let spent = |tid| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let all = super::listing::read_tids(pid)?.into_iter().filter_map(spent);
    Ok(Duration::from_nanos(all.fold(0, u64::saturating_add)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // A process named `a) (\nb`, read with the right to trace it.
    const SAMPLE: &[u8] = b"4242 (a) (\nb) S 1 4242 4240 34816 4242 4194304 105 0 0 0 1 2 0 0 25 5 3 0 \
        123456 3121152 432 18446744073709551615 94665543016448 94665543034889 140724183193936 0 0 0 0 \
        4096 0 0 0 0 17 1 0 3 0 0 0 94665543050064 94665543051680 94665851441152 140724183201450 \
        140724183201470 140724183201470 140724183203819 256\n";

    #[test]
    fn every_field_is_in_its_place() {
        let stat = parse_stat(SAMPLE).unwrap();
        assert_eq!(stat.pid, 4242);
        assert_eq!(stat.comm, b"a) (\nb");
        assert_eq!(stat.state, b'S');
        assert_eq!((stat.ppid, stat.pgrp, stat.session), (1, 4242, 4240));
        assert_eq!((stat.tty_nr, stat.tpgid), (34816, 4242));
        assert_eq!(stat.flags, 0x40_0000);
        assert_eq!((stat.priority, stat.nice, stat.num_threads), (25, 5, 3));
        assert_eq!(stat.starttime, 123_456);
        assert_eq!((stat.start_code, stat.end_code), (94_665_543_016_448, 94_665_543_034_889));
        assert_eq!(stat.start_stack, 140_724_183_193_936);
        assert_eq!((stat.exit_signal, stat.rt_priority, stat.policy), (17, 0, 3));
        assert_eq!(
            (stat.start_data, stat.end_data, stat.start_brk),
            (94_665_543_050_064, 94_665_543_051_680, 94_665_851_441_152)
        );
        assert_eq!((stat.arg_start, stat.arg_end), (140_724_183_201_450, 140_724_183_201_470));
        assert_eq!((stat.env_start, stat.env_end), (140_724_183_201_470, 140_724_183_203_819));
        assert_eq!(stat.exit_code, 256);
        assert!(!stat.is_kernel_thread());
    }

    #[test]
    fn errors_name_the_field() {
        let broken = SAMPLE.to_vec();
        let broken = String::from_utf8(broken).unwrap().replace("123456", "x");
        assert_eq!(parse_stat(broken.as_bytes()).unwrap_err().to_string(), "field 22 is not a number");
        assert_eq!(parse_stat(b"1 (a) S 1 1").unwrap_err().to_string(), "field 6 is missing");
        assert!(parse_stat(b"1 )a( S 1 1").is_err());
    }

    #[test]
    fn reads_this_process() {
        let pid = std::process::id() as i32;
        let stat = read_stat(pid).unwrap();
        assert_eq!(stat.pid, pid);
        assert!(stat.arg_start < stat.arg_end);
        assert_eq!(read_task_stat(pid, pid).unwrap().starttime, stat.starttime);
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            let _ = parse_stat(&text);
        }

        #[test]
        fn any_name(comm in proptest::collection::vec(1u8.., 0..16)) {
            let (head, tail) = (&b"7 ("[..], &SAMPLE[12..]);
            let text = [head, &comm, tail].concat();
            prop_assert_eq!(parse_stat(&text).unwrap().comm, comm);
        }

        #[test]
        fn any_cut(at in 0..SAMPLE.len()) {
            let _ = parse_stat(&SAMPLE[..at]);
        }
    }
}
