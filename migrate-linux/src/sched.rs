//! How a thread is scheduled and what a process may use, read and set from outside, by ID.

use std::io;
use std::marker::PhantomData;

// include/uapi/linux/ioprio.h; not in the bindings.
const IOPRIO_WHO_PROCESS: i32 = 1;

/// The CPUs that thread `tid` may run on, as the kernel's mask: CPU n is bit n%8 of byte n/8.
///
/// # Errors
/// `ESRCH` when there is no such thread.
pub fn affinity(tid: i32) -> io::Result<Vec<u8>> {
    // As many bytes as the kernel has CPUs, which it does not tell: EINVAL while there are too few.
    let mut mask = vec![0_u8; 128];
    loop {
        // SAFETY: the kernel writes at most as many bytes as the mask has.
        let count = unsafe { libc::syscall(libc::SYS_sched_getaffinity, tid, mask.len(), mask.as_mut_ptr()) };
        match usize::try_from(count) {
            Ok(count) => {
                mask.truncate(count);
                return Ok(mask);
            }
            Err(_) => {
                let why = io::Error::last_os_error();
                if why.raw_os_error() != Some(libc::EINVAL) || mask.len() >= 1 << 16 {
                    return Err(why);
                }
                mask.resize(mask.len() * 2, 0);
            }
        }
    }
}

/// Sets the CPUs that thread `tid` may run on, a mask as of [`affinity`] of any length.
///
/// # Errors
/// `EINVAL` when the host, or the thread's cpuset, has none of them; `EPERM`; `ESRCH`.
pub fn set_affinity(tid: i32, mask: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads at most as many bytes as the mask has.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, tid, mask.len(), mask.as_ptr()) })?;
    Ok(())
}

/// The CPUs that this host has and uses, a mask as of [`affinity`].
///
/// # Errors
/// When sysfs is not there.
pub fn online_cpus() -> io::Result<Vec<u8>> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    cpu_mask(text.trim()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no list of CPUs"))
}

/// The mask of a list such as `0-3,8`. None: it is none.
fn cpu_mask(list: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        // No kernel has more (NR_CPUS).
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        for cpu in usize::from(first)..=usize::from(last) {
            mask.resize(mask.len().max(cpu / 8 + 1), 0);
            mask[cpu / 8] |= 1 << (cpu % 8);
        }
    }
    Some(mask)
}

/// A mask of CPUs as a list such as `0-3,8`.
pub fn cpu_list(mask: &[u8]) -> String {
    let has = |cpu: usize| mask.get(cpu / 8).is_some_and(|byte| byte & 1 << (cpu % 8) != 0);
    let mut parts = Vec::new();
    let mut cpu = 0;
    while cpu < mask.len() * 8 {
        let first = cpu;
        while has(cpu) {
            cpu += 1;
        }
        match cpu - first {
            0 => cpu += 1,
            1 => parts.push(first.to_string()),
            _ => parts.push(format!("{first}-{}", cpu - 1)),
        }
    }
    parts.join(",")
}

/// The nice value of thread `tid`: -20 (most time) to 19.
///
/// # Errors
/// `ESRCH` when there is no such thread.
pub fn nice(tid: i32) -> io::Result<i32> {
    // The system call itself, unlike the C function, returns 20 minus the value: never negative.
    // SAFETY: numbers alone.
    let value = check(unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, tid) })?;
    Ok(20 - value as i32)
}

/// Sets the nice value of thread `tid`; values beyond the ends are taken as the ends.
///
/// # Errors
/// `ESRCH`; `EACCES` to go lower without `CAP_SYS_NICE` or `RLIMIT_NICE`; `EPERM`.
pub fn set_nice(tid: i32, nice: i32) -> io::Result<()> {
    // SAFETY: numbers alone.
    check(unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, tid, nice) })?;
    Ok(())
}

/// The scheduling policy of a thread with all that belongs to it: sched_setattr(2). Not utilisation clamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// `SCHED_OTHER` 0, `SCHED_FIFO` 1, `SCHED_RR` 2, `SCHED_BATCH` 3, `SCHED_IDLE` 5, `SCHED_DEADLINE` 6,
    /// `SCHED_EXT` 7.
    pub policy: u32,
    /// `SCHED_FLAG_RESET_ON_FORK` 1, `RECLAIM` 2, `DL_OVERRUN` 4.
    pub flags: u64,
    /// The nice value, for the policies without priority.
    pub nice: i32,
    /// The static priority 1 to 99 of `SCHED_FIFO` and `SCHED_RR`, else 0.
    pub priority: u32,
    /// Nanoseconds of run time of `SCHED_DEADLINE`; the time slice of ordinary policies since Linux 6.12
    /// (setting it, unless 0, makes it the thread's own).
    pub runtime: u64,
    /// Nanoseconds to the deadline, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds of the period, for `SCHED_DEADLINE`.
    pub period: u64,
}

/// The scheduling of thread `tid`.
///
/// # Errors
/// `ESRCH` when there is no such thread.
pub fn scheduling(tid: i32) -> io::Result<Scheduling> {
    scheduling_and_clamps(tid).map(|(scheduling, _)| scheduling)
}

/// The scheduling of thread `tid`, and the least and the most utilisation that the scheduler is to expect of it, of 1024. [0, 0]: the
/// kernel has none (CONFIG_UCLAMP_TASK).
///
/// # Errors
/// `ESRCH` when there is no such thread.
pub fn scheduling_and_clamps(tid: i32) -> io::Result<(Scheduling, [u32; 2])> {
    let mut raw = WithClamps { without: raw_attr(&Scheduling::default()), least: 0, most: 0 };
    let size = size_of::<WithClamps>();
    // SAFETY: the kernel writes at most the size given, which is that of the structure.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, tid, &raw mut raw, size, 0) })?;
    let WithClamps { without: raw, least, most } = raw;
    let scheduling = Scheduling {
        policy: raw.sched_policy,
        flags: raw.sched_flags,
        nice: raw.sched_nice,
        priority: raw.sched_priority,
        runtime: raw.sched_runtime,
        deadline: raw.sched_deadline,
        period: raw.sched_period,
    };
    Ok((scheduling, [least, most]))
}

/// Sets the scheduling of thread `tid`.
///
/// # Errors
/// `ESRCH`; `EINVAL` for values that do not go together; `EPERM` without `CAP_SYS_NICE`; `EBUSY` when there is
/// no room for another deadline.
pub fn set_scheduling(tid: i32, scheduling: &Scheduling) -> io::Result<()> {
    let raw = raw_attr(scheduling);
    // SAFETY: the kernel reads the size that the structure states, which is its own.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const raw, 0) })?;
    Ok(())
}

/// `struct sched_attr` with the fields of Linux 5.3.
#[repr(C)]
struct WithClamps {
    without: libc::sched_attr,
    least: u32,
    most: u32,
}

/// Sets the clamps as of [`scheduling_and_clamps`], and nothing else.
///
/// # Errors
/// `EOPNOTSUPP` on a kernel without them; `EINVAL`; `EPERM`; `ESRCH`.
pub fn set_utilisation_clamps(tid: i32, [least, most]: [u32; 2]) -> io::Result<()> {
    const KEEP_POLICY_AND_PARAMETERS: u64 = 0x18;
    const BOTH: u64 = 0x60;
    let flags = KEEP_POLICY_AND_PARAMETERS | BOTH;
    let mut raw = WithClamps { without: raw_attr(&Scheduling { flags, ..Default::default() }), least, most };
    raw.without.size = size_of::<WithClamps>() as u32;
    // SAFETY: the kernel reads the size that the structure states, which is its own.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, tid, &raw const raw, 0) })?;
    Ok(())
}

/// This OS thread runs before all ordinary ones until this is dropped: for moments in which another process keeps every CPU busy.
/// Where that is not permitted (CAP_SYS_NICE) nothing changes.
#[derive(Debug)]
pub struct Urgent {
    before: Option<Scheduling>,
    _bound_to_this_thread: PhantomData<*const ()>,
}

impl Urgent {
    /// From now on.
    pub fn begin() -> Urgent {
        const RESET_ON_FORK: u64 = 1;
        let urgent =
            Scheduling { policy: libc::SCHED_FIFO as u32, flags: RESET_ON_FORK, priority: 1, ..Default::default() };
        let before = scheduling(0).and_then(|before| set_scheduling(0, &urgent).map(|()| before));
        Urgent { before: before.ok(), _bound_to_this_thread: PhantomData }
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // The time slice of an ordinary policy that was read is the kernel's choice.
            let runtime = if before.deadline == 0 { 0 } else { before.runtime };
            let _ = set_scheduling(0, &Scheduling { runtime, ..before });
        }
    }
}

fn raw_attr(scheduling: &Scheduling) -> libc::sched_attr {
    libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: scheduling.policy,
        sched_flags: scheduling.flags,
        sched_nice: scheduling.nice,
        sched_priority: scheduling.priority,
        sched_runtime: scheduling.runtime,
        sched_deadline: scheduling.deadline,
        sched_period: scheduling.period,
    }
}

/// The I/O priority of thread `tid`: class in the bits from 13 up, level below; 0 when none was set
/// (ioprio_set(2)).
///
/// # Errors
/// `ESRCH` when there is no such thread.
pub fn io_priority(tid: i32) -> io::Result<i32> {
    // SAFETY: numbers alone.
    let value = check(unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid) })?;
    Ok(value as i32)
}

/// Sets the I/O priority of thread `tid`, a value as of [`io_priority`].
///
/// # Errors
/// `ESRCH`; `EINVAL` for a value that is none; `EPERM` for the real-time class without `CAP_SYS_ADMIN` or
/// `CAP_SYS_NICE`.
pub fn set_io_priority(tid: i32, priority: i32) -> io::Result<()> {
    // SAFETY: numbers alone.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, priority) })?;
    Ok(())
}

/// The names of all resource limits, at their numbers: include/uapi/asm-generic/resource.h.
pub const RESOURCES: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// A resource limit, in the unit of its resource; [`UNLIMITED`] for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is enforced (`rlim_cur`).
    pub soft: u64,
    /// How far the process may raise that itself (`rlim_max`).
    pub hard: u64,
}

/// No limit: `RLIM64_INFINITY`.
pub const UNLIMITED: u64 = u64::MAX;

/// The limit number `resource` (a place in [`RESOURCES`]) of process `pid`.
///
/// # Errors
/// `EINVAL` when there is no such resource; `ESRCH`; `EPERM` for a process of another user without
/// `CAP_SYS_RESOURCE`: /proc/PID/limits has them too.
pub fn limit(pid: i32, resource: u32) -> io::Result<Limit> {
    let mut raw = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: no new limit to read, and room for the old one.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, std::ptr::null::<libc::rlimit64>(), &raw mut raw)
    })?;
    Ok(Limit { soft: raw.rlim_cur, hard: raw.rlim_max })
}

/// Sets the limit number `resource` (a place in [`RESOURCES`]) of process `pid`.
///
/// # Errors
/// As [`limit`]; `EINVAL` also for a soft limit above the hard one, `EPERM` also for a hard limit to be raised
/// without `CAP_SYS_RESOURCE`.
pub fn set_limit(pid: i32, resource: u32, limit: Limit) -> io::Result<()> {
    let raw = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: a limit to read, and no room wanted for the old one.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const raw, std::ptr::null_mut::<libc::rlimit64>())
    })?;
    Ok(())
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    /// A process to try things on.
    struct Subject(Child);

    impl Subject {
        fn new() -> Subject {
            Subject(Command::new("sleep").arg("60").spawn().unwrap())
        }

        fn pid(&self) -> i32 {
            self.0.id() as i32
        }
    }

    impl Drop for Subject {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// The result, or a printed reason when this user may not.
    fn permitted<T>(what: &str, result: io::Result<T>) -> Option<T> {
        match result {
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {
                println!("SKIPPED {what}: {why}");
                None
            }
            result => Some(result.unwrap()),
        }
    }

    #[test]
    fn affinity_is_set_and_read() {
        let subject = Subject::new();
        let all = affinity(subject.pid()).unwrap();
        let text = std::fs::read_to_string(format!("/proc/{}/status", subject.pid())).unwrap();
        let hex = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).unwrap();
        let digits: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
        let ones: u32 = digits.chars().map(|digit| digit.to_digit(16).unwrap().count_ones()).sum();
        assert_eq!(all.iter().map(|byte| byte.count_ones()).sum::<u32>(), ones);

        let byte = all.iter().position(|byte| *byte != 0).unwrap();
        let mut one = vec![0; byte + 1];
        one[byte] = all[byte] & all[byte].wrapping_neg();
        set_affinity(subject.pid(), &one).unwrap();
        let back = affinity(subject.pid()).unwrap();
        assert_eq!(back[..=byte], one);
        assert!(back[byte + 1..].iter().all(|byte| *byte == 0));
        // Longer than the host has CPUs, and no CPU at all.
        let mut long = all.clone();
        long.resize(8192, 0);
        set_affinity(subject.pid(), &long).unwrap();
        assert_eq!(affinity(subject.pid()).unwrap(), all);
        assert!(set_affinity(subject.pid(), &[]).is_err());
    }

    #[test]
    fn nice_and_policies_are_set_and_read() {
        let subject = Subject::new();
        let pid = subject.pid();
        for value in [3, 19] {
            set_nice(pid, value).unwrap();
            assert_eq!(nice(pid).unwrap(), value);
            assert_eq!(scheduling(pid).unwrap().nice, value);
        }
        if permitted("a negative nice value", set_nice(pid, -20)).is_some() {
            assert_eq!(nice(pid).unwrap(), -20);
        }
        let batch = Scheduling { policy: 3, nice: 5, ..Scheduling::default() };
        set_scheduling(pid, &batch).unwrap();
        let back = scheduling(pid).unwrap();
        assert_eq!((back.policy, back.nice, back.priority), (3, 5, 0));
        set_scheduling(pid, &back).unwrap();
        let fifo = Scheduling { policy: 1, flags: 1, priority: 7, ..Scheduling::default() };
        if permitted("SCHED_FIFO", set_scheduling(pid, &fifo)).is_some() {
            let back = scheduling(pid).unwrap();
            assert_eq!((back.policy, back.flags, back.priority), (1, 1, 7));
        }
        let wrong = Scheduling { policy: 99, ..Scheduling::default() };
        assert!(set_scheduling(pid, &wrong).is_err());
    }

    #[test]
    fn an_urgent_thread_is_so_for_a_while() {
        let before = scheduling(0).unwrap();
        let fifo = Scheduling { policy: 1, flags: 1, priority: 1, ..Scheduling::default() };
        if permitted("SCHED_FIFO", set_scheduling(Subject::new().pid(), &fifo)).is_none() {
            return;
        }
        let urgent = Urgent::begin();
        let now = scheduling(0).unwrap();
        assert_eq!((now.policy, now.priority), (1, 1));
        drop(urgent);
        assert_eq!(scheduling(0).unwrap(), before);
    }

    #[test]
    fn cpus_are_listed_in_ranges() {
        for (list, mask) in
            [("0", vec![1]), ("0-3,8", vec![0x0f, 1]), ("1,3-4", vec![0b1_1010]), ("7-8", vec![0x80, 1])]
        {
            assert_eq!(cpu_mask(list).as_ref(), Some(&mask));
            assert_eq!(cpu_list(&mask), list);
        }
        assert_eq!((cpu_mask("x"), cpu_mask("0-"), cpu_mask("1-99999")), (None, None, None));
        assert!(online_cpus().unwrap().iter().any(|byte| *byte != 0));
    }

    #[test]
    fn clamps_are_set_where_there_are_any() {
        let subject = Subject::new();
        match scheduling_and_clamps(subject.pid()).unwrap().1 {
            [0, 0] => {
                println!("SKIPPED utilisation clamps: this kernel has none");
                let error = set_utilisation_clamps(subject.pid(), [1, 512]).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
            }
            _ => {
                set_utilisation_clamps(subject.pid(), [100, 512]).unwrap();
                assert_eq!(scheduling_and_clamps(subject.pid()).unwrap().1, [100, 512]);
            }
        }
    }

    #[test]
    fn io_priority_is_set_and_read() {
        let subject = Subject::new();
        let best_effort = 2 << 13 | 6;
        set_io_priority(subject.pid(), best_effort).unwrap();
        assert_eq!(io_priority(subject.pid()).unwrap(), best_effort);
        assert!(set_io_priority(subject.pid(), 7 << 13).is_err());
    }

    #[test]
    fn limits_agree_with_proc() {
        let subject = Subject::new();
        let pid = subject.pid();
        for (resource, name) in RESOURCES.iter().enumerate() {
            let limit = limit(pid, resource as u32).unwrap();
            set_limit(pid, resource as u32, limit).unwrap();
            assert!(limit.soft <= limit.hard, "{name}");
        }
        // Lower in all, as raising a hard limit needs CAP_SYS_RESOURCE.
        for resource in 0..RESOURCES.len() as u32 {
            let hard = limit(pid, resource).unwrap().hard.min(77);
            let soft = hard.min(55);
            let lower = Limit { soft, hard };
            set_limit(pid, resource, lower).unwrap();
            assert_eq!(limit(pid, resource).unwrap(), lower);
        }
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let files = text.lines().find(|line| line.starts_with("Max open files"));
        let words: Vec<_> = files.unwrap().split_whitespace().collect();
        assert_eq!(words[3..5], ["55", "77"]);
        assert!(limit(pid, 16).is_err());
        assert!(limit(pid, u32::MAX).is_err());
    }

    #[test]
    fn a_thread_that_is_gone_is_an_error() {
        let pid = {
            let subject = Subject::new();
            subject.pid()
        };
        for error in [
            affinity(pid).unwrap_err(),
            set_affinity(pid, &[1]).unwrap_err(),
            nice(pid).unwrap_err(),
            set_nice(pid, 1).unwrap_err(),
            scheduling(pid).unwrap_err(),
            io_priority(pid).unwrap_err(),
            limit(pid, 0).unwrap_err(),
        ] {
            assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
        }
    }
}
