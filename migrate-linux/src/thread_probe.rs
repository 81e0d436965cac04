//! What the kernel knows of all threads of a process, in one read: a BPF iterator over tasks (ebpf/threads.bpf.c,
//! Documentation/bpf/bpf_iterators.rst). 2000 threads take 2 ms; as text files and calls inside each, 70.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernel_module::uapi::{CpuTime, ProcessTime};
use crate::probe::cannot_be_loaded;
use crate::regs::Registers;
use crate::task_iterator::TaskIterator;
use crate::tracee::RseqConfiguration;
use crate::traps::TrapBits;
use crate::waits::boot_time;

/// Supplementary groups that a record has room for.
const GROUPS: usize = 32;

/// What the kernel knows of one thread. IDs of users and groups are those of the initial user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ThreadRecord {
    /// Its ID as this process sees it.
    pub seen_tid: i32,
    /// Its ID in its own PID namespace.
    pub tid: i32,
    /// Its process's ID in that one.
    pub pid: i32,
    /// Not 0: it is ending.
    pub exit_state: u32,
    /// Signals that were sent to it and not taken yet; bit n-1 is signal n.
    pub pending: u64,
    /// Those that were sent to its process.
    pub shared_pending: u64,
    /// Address of the word that is cleared at its end; 0: none.
    pub clear_child_tid: u64,
    /// Address of its robust futexes' list; 0: none.
    pub robust_list: u64,
    /// Alternate signal stack: lowest address.
    pub stack_address: u64,
    /// In bytes; 0: there is none.
    pub stack_size: u64,
    /// SS_DISABLE, SS_AUTODISARM.
    pub stack_flags: u32,
    /// personality(2).
    pub personality: u32,
    /// In nanoseconds.
    pub timer_slack: u64,
    /// [`TRAPS`] and [`PORTS`]; in the kernel's record, `thread_info.flags`.
    pub unusual: u64,
    /// `thread_info.syscall_work`.
    pub syscall_work: u64,
    /// `atomic_flags`: no_new_privs, speculation.
    pub atomic_flags: u64,
    /// The debug register that switches hardware breakpoints on, as a tracer has set it (DR7).
    pub debug_control: u64,
    /// The same for threads with the same seccomp filters; 0: none.
    pub seccomp_filter: u64,
    /// comm, with a NUL.
    pub name: [u8; 16],
    /// User IDs: real, effective, saved, file system.
    pub uid: [u32; 4],
    /// Group IDs: likewise.
    pub gid: [u32; 4],
    /// Capabilities.
    pub inheritable: u64,
    /// Capabilities.
    pub permitted: u64,
    /// Capabilities.
    pub effective: u64,
    /// Capabilities.
    pub bounding: u64,
    /// Capabilities.
    pub ambient: u64,
    /// prctl(PR_GET_SECUREBITS).
    pub securebits: u32,
    /// `task_struct.flags` (PF_*).
    pub flags: u32,
    /// prctl(PR_GET_PDEATHSIG).
    pub parent_death_signal: i32,
    /// What it does not share with the first thread: 1 directories and umask, 2 descriptors, 4 namespaces.
    pub parted: u32,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    pub(crate) group_count: u32,
    pub(crate) groups: [u32; GROUPS],
    /// The host's CLOCK_MONOTONIC when it was read, nanoseconds.
    pub now: u64,
    /// The host's CLOCK_BOOTTIME then.
    pub boot_now: u64,
    /// This process's CLOCK_BOOTTIME then, once [`tell_time`] has told.
    pub read_at: u64,
    /// What `restart_block` holds behind its function; see [`crate::waits`].
    pub restart: [u64; 5],
    /// When its last wait would have ended that was cut short since the probe was bound, on the host's CLOCK_MONOTONIC; 0: none was seen.
    pub cut_end: u64,
    /// When it was cut short.
    pub cut_at: u64,
    /// How many were.
    pub cuts: u64,
    /// 1: the registration of its rseq area; 2: its registers and mask; 4: it has left its CPU.
    pub(crate) told: u32,
    /// Not 0: such waits are seen.
    pub watched: u32,
    pub(crate) rseq: u64,
    pub(crate) rseq_size: u32,
    pub(crate) rseq_signature: u32,
    pub(crate) registers: Registers,
    pub(crate) mask: u64,
    pub(crate) used: CpuTime,
    pub(crate) used_by_process: ProcessTime,
}

/// In [`ThreadRecord::told`].
pub(crate) const HAS_LEFT_CPU: u32 = 4;

/// In [`ThreadRecord::unusual`]: RDTSC or CPUID fault, or its L1 cache is flushed.
pub const TRAPS: u64 = 1;
/// In [`ThreadRecord::unusual`]: it may use I/O ports.
pub const PORTS: u64 = 2;
/// In [`ThreadRecord::syscall_work`]: system calls may be handed to the program (SYSCALL_WORK_SYSCALL_USER_DISPATCH).
pub const DISPATCHES: u64 = 1 << 5;

impl ThreadRecord {
    const SIZE: usize = size_of::<ThreadRecord>();

    /// Its supplementary groups; None: it has more of them than a record holds.
    pub fn groups(&self) -> Option<&[u32]> {
        self.groups.get(..self.group_count as usize)
    }

    /// Its rseq registration. None: this kernel does not tell.
    pub fn rseq(&self) -> Option<RseqConfiguration> {
        let (address, size, signature) = (self.rseq, self.rseq_size, self.rseq_signature);
        (self.told & 1 != 0).then_some(RseqConfiguration { address, size, signature, ..RseqConfiguration::default() })
    }

    /// Its general registers and the signals that it blocks, as it stands. None: it has not left its CPU yet, or this is not told.
    pub fn standing(&self) -> Option<(Registers, u64)> {
        (self.told & 2 != 0).then_some((self.registers, self.mask))
    }

    /// The CPU time that it has used. None: it had not left its CPU yet; once a request of its tracer has been answered, it has.
    pub fn cpu_time(&self) -> Option<CpuTime> {
        (self.told & HAS_LEFT_CPU != 0).then_some(self.used)
    }

    /// The CPU time that its process has used beside its threads.
    pub fn process_time(&self) -> ProcessTime {
        self.used_by_process
    }

    fn from_bytes(bytes: &[u8; ThreadRecord::SIZE]) -> ThreadRecord {
        // SAFETY: as many bytes as it has; every pattern of bits is one of it, for it is made of integers without gaps.
        unsafe { bytes.as_ptr().cast::<ThreadRecord>().read_unaligned() }
    }
}

/// The program, accepted by the kernel.
#[derive(Debug)]
pub struct ThreadProbe {
    program: OwnedFd,
    bits: TrapBits,
    watch: std::result::Result<Watch, String>,
}

impl ThreadProbe {
    /// Why it does not see when waits are cut short; None: it does.
    pub fn does_not_watch(&self) -> Option<&str> {
        self.watch.as_ref().err().map(String::as_str)
    }

    /// Loads it. Takes 60 ms and for that time 40 MiB, most of it for the kernel's description of itself.
    ///
    /// # Errors
    /// Built without the probes; the kernel is older than 6.1, has no BTF (CONFIG_DEBUG_INFO_BTF), or does not permit it (CAP_BPF and
    /// CAP_PERFMON).
    pub fn load() -> Result<ThreadProbe> {
        let unsupported = |why: Box<dyn std::error::Error>| cannot_be_loaded("threads", why);
        let (program, watch) = load().map_err(unsupported)?;
        let bits = find_bits(&program).map_err(|why| unsupported(why.into()))?;
        Ok(ThreadProbe { program, bits, watch })
    }

    /// Binds it to one process, whose waits it watches from then on.
    pub fn bind(&self, pid: i32) -> Result<BoundProbe> {
        let threads = TaskIterator::of_process(self.program.as_fd(), pid)?;
        let bound = BoundProbe { threads, bits: Some(self.bits), watch: self.watch.clone().ok() };
        bound.read()?;
        Ok(bound)
    }
}

/// In a thread made for it.
fn find_bits(program: &OwnedFd) -> Result<TrapBits> {
    let find = || {
        let threads = TaskIterator::of_thread(program.as_fd(), nix::unistd::gettid().as_raw())?;
        let own = BoundProbe { threads, bits: None, watch: None };
        let missing = || Error::Unsupported("the probe does not show its own thread".into());
        TrapBits::find(|| own.read()?.first().map(|record| record.unusual).ok_or_else(missing))
    };
    let found = std::thread::scope(|scope| scope.spawn(find).join());
    found.unwrap_or_else(|_| Err(Error::Unsupported("looking for the flags of threads failed".into())))
}

/// Reads one process's threads.
#[derive(Debug)]
pub struct BoundProbe {
    threads: TaskIterator,
    bits: Option<TrapBits>,
    watch: Option<Watch>,
}

impl BoundProbe {
    /// What the kernel knows of every thread of the process, now. None of a process that has ended.
    pub fn read(&self) -> Result<Vec<ThreadRecord>> {
        self.threads.records(64, |bytes| {
            let mut record = ThreadRecord::from_bytes(bytes);
            record.watched = self.watch.is_some().into();
            if let Some(bits) = self.bits {
                let has = |mask: u64, what: u64| if record.unusual & mask == 0 { 0 } else { what };
                record.unusual = has(bits.traps, TRAPS) | has(bits.ports, PORTS);
            }
            record
        })
    }
}

/// Says of records that have just been read when that was by this process's clock, which another time namespace may give.
pub fn tell_time(records: &mut [ThreadRecord]) {
    let offset = records.last().map_or(0, |last| boot_time().wrapping_sub(last.boot_now));
    records.iter_mut().for_each(|record| record.read_at = record.boot_now.wrapping_add(offset));
}

/// What watches waits, for as long as it is held.
#[cfg(probes)]
type Watch = Arc<aya::programs::tp_btf::BtfTracePointLink>;
#[cfg(not(probes))]
type Watch = Arc<()>;

/// The iterator, and what watches waits, or why the kernel does not permit that.
type Loaded = (OwnedFd, std::result::Result<Watch, String>);

#[cfg(probes)]
fn load() -> std::result::Result<Loaded, Box<dyn std::error::Error>> {
    use aya::programs::BtfTracePoint;
    use aya::{Btf, EbpfLoader, include_bytes_aligned};

    use crate::probe::{self, refused};

    // Of another one, the numbers of users and groups would have to be translated.
    const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";
    if std::fs::read_link("/proc/self/ns/user")?.as_os_str() != INITIAL_USER_NAMESPACE {
        return Err("this is not the initial user namespace".into());
    }
    static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/threads.bpf.o"));
    let kernel = Btf::from_sys_fs()?;
    let mut object = EbpfLoader::new().btf(Some(&kernel)).load(OBJECT)?;
    let iterator = probe::program(&mut object, "read_thread", "task", &kernel)?;
    let mut watch = || -> std::result::Result<Watch, Box<dyn std::error::Error>> {
        let program = object.program_mut("note_cut").ok_or("it is not in the object")?;
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load("hrtimer_cancel", &kernel).map_err(refused)?;
        let link = program.attach()?;
        Ok(Arc::new(program.take_link(link)?))
    };
    Ok((iterator, watch().map_err(|why| why.to_string())))
}

#[cfg(not(probes))]
fn load() -> std::result::Result<Loaded, Box<dyn std::error::Error>> {
    Err(crate::probe::BUILT_WITHOUT.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn it_tells_of_this_very_thread() {
        let probe = match ThreadProbe::load() {
            Ok(probe) => probe,
            Err(why) => return println!("SKIPPED probe for threads: {why}"),
        };
        let pid = std::process::id() as i32;
        let bound = probe.bind(pid).unwrap();
        // In a thread of known name, which stands in here.
        let (name, tid, records) = std::thread::Builder::new()
            .name("known by name".into())
            .spawn(move || {
                let tid = nix::unistd::gettid().as_raw();
                ("known by name", tid, bound.read().unwrap())
            })
            .unwrap()
            .join()
            .unwrap();
        let own = records.iter().find(|r| r.seen_tid == tid).unwrap();
        assert_eq!(&own.name[..name.len()], name.as_bytes());
        assert_eq!(own.uid[..3], [nix::unistd::geteuid().as_raw(); 3]);
        assert_ne!(own.clear_child_tid, 0);
        assert_ne!(own.robust_list, 0);
        let groups: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|g| g.as_raw()).collect();
        assert_eq!(own.groups().unwrap(), groups);
        assert!(records.iter().any(|r| r.seen_tid == pid && r.pid == own.pid));
        assert_eq!(probe.bind(pid).unwrap().read().unwrap().iter().filter(|r| r.seen_tid == tid).count(), 0);
    }

    /// A shell that waits inside rt_sigsuspend, where its mask is another one for a while, one in its own code, and a sleep.
    #[test]
    fn of_a_thread_that_stands_it_tells_what_ptrace_does() {
        let probe = match ThreadProbe::load() {
            Ok(probe) => probe,
            Err(why) => return println!("SKIPPED registers by the probe: {why}"),
        };
        for script in ["sleep 60 & wait", "while :; do :; done", "exec sleep 60"] {
            let mut child = std::process::Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
            let pid = child.id() as i32;
            let bound = probe.bind(pid).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(100));
            let seized = crate::tracee::Seized::seize(pid, false).unwrap();
            seized.interrupt().unwrap();
            let (stopped, _) = seized.wait_stopped().unwrap();
            let record = (0..1000).find_map(|_| bound.read().unwrap().into_iter().find(|r| r.standing().is_some()));
            let by_ptrace = (stopped.registers().unwrap(), stopped.signal_mask().unwrap());
            let shown = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
            let clock = nix::time::ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).unwrap().now().unwrap();
            let rseq = stopped.rseq().unwrap();
            drop(stopped);
            killpg(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            child.wait().unwrap();
            let record = record.unwrap_or_else(|| panic!("{script}: nothing is told of it"));
            assert_eq!(record.standing(), Some(by_ptrace), "{script}");
            let (used, beside) = (record.cpu_time().unwrap(), record.process_time());
            assert_eq!(Some(used.runtime.to_string().as_str()), shown.split(' ').next(), "{script}");
            let all = used.runtime + beside.ended_runtime;
            assert_eq!(std::time::Duration::from(clock).as_nanos(), all.into(), "{script}");
            assert!(record.rseq().is_none_or(|told| told.address == rseq.address), "{script}");
        }
    }

    /// Sets one thing in a thread of its own. Returns its record before and after.
    fn seen_with(probe: &ThreadProbe, set: impl FnOnce() + Send) -> (ThreadRecord, ThreadRecord) {
        let bound = probe.bind(std::process::id() as i32).unwrap();
        let look = move || {
            let tid = nix::unistd::gettid().as_raw();
            let own = || bound.read().unwrap().into_iter().find(|r| r.seen_tid == tid).unwrap();
            let before = own();
            set();
            (before, own())
        };
        std::thread::scope(|scope| scope.spawn(look).join().unwrap())
    }

    #[test]
    fn it_tells_what_is_rare() {
        let Ok(probe) = ThreadProbe::load() else { return println!("SKIPPED rare things of threads: no probe") };
        // SAFETY: numbers alone; of this thread only.
        let call = |number, a: u64, b: u64| assert_eq!(unsafe { libc::syscall(number, a, b, 0, 0, 0) }, 0);
        let (before, after) = seen_with(&probe, || call(libc::SYS_prctl, libc::PR_SET_TSC as u64, 2));
        assert_eq!((before.unusual, after.unusual), (0, TRAPS));
        let (before, after) = seen_with(&probe, || call(libc::SYS_prctl, libc::PR_SET_PDEATHSIG as u64, 7));
        assert_eq!((before.parent_death_signal, after.parent_death_signal), (0, 7));
        let (before, after) = seen_with(&probe, || call(libc::SYS_unshare, libc::CLONE_FS as u64, 0));
        assert_eq!((before.parted, after.parted), (0, 1));
        let (_, after) = seen_with(&probe, || call(libc::SYS_unshare, libc::CLONE_FILES as u64, 0));
        assert_eq!(after.parted, 2);
        let (_, after) = seen_with(&probe, || call(libc::SYS_unshare, libc::CLONE_NEWUTS as u64, 0));
        assert_eq!(after.parted, 4);
        let (before, after) = seen_with(&probe, || call(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS as u64, 1));
        assert_eq!((before.atomic_flags & 1, after.atomic_flags & 1), (0, 1));
        assert_eq!((before.syscall_work & DISPATCHES, before.debug_control), (0, 0));
    }
}
