//! The optional kernel module (kmod/), which tells of all threads of a process at once, and sets what nothing else can: when the wait of a
//! new thread ends, the ID of the next POSIX
//! timer and how often one was missed, and the CPU time that has been used.

pub mod uapi;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use uapi::{
    CpuTime, Hello, ProcessTime, ReadThreads, ReadTimers, SetCpuTime, SetMissed, SetNextTimer, SetWait, Thread, Timer,
    Used, VERSION, Watch,
};

use crate::error::{Context, Error, Result};
use crate::regs::Registers;
use crate::thread_probe::{self, ThreadRecord};
use crate::tracee::Stopped;

const DEVICE: &str = "/dev/migrate";
/// Records that there is room for at first. Each time it was too little, room is made for what there is, and some more.
const ROOM: usize = 64;
const TRIES: usize = 8;

/// The module of this host's kernel, of a version that is understood.
#[derive(Debug)]
pub struct KernelModule {
    device: File,
    can: u32,
}

impl KernelModule {
    /// Opens its device.
    ///
    /// # Errors
    /// It is not loaded, or is of another version; the message says which.
    pub fn open() -> Result<KernelModule> {
        let opened = File::options().read(true).write(true).open(DEVICE);
        let device = opened.map_err(|why| {
            let why = match why.kind() {
                io::ErrorKind::NotFound => format!("it is not loaded: there is no {DEVICE}"),
                _ => format!("{DEVICE}: {why}"),
            };
            Error::Unsupported(format!("the kernel module cannot be used: {why}"))
        })?;
        let mut module = KernelModule { device, can: 0 };
        let mut hello = Hello::ZERO;
        // SAFETY: this request fills in this structure.
        unsafe { module.call(uapi::HELLO, &mut hello) }.doing(|| format!("ask {DEVICE} for its version"))?;
        if hello.version != VERSION {
            let theirs = hello.version;
            let why =
                format!("the kernel module is of version {theirs}, and {VERSION} is wanted: build and load it again");
            return Err(Error::Unsupported(why));
        }
        module.can = hello.can;
        Ok(module)
    }

    /// What the kernel knows of every thread of a process, now.
    ///
    /// # Errors
    /// The process has ended, or this one lacks CAP_SYS_PTRACE.
    pub fn read_threads(&self, pid: i32) -> Result<Vec<ThreadRecord>> {
        let doing = || format!("read the threads of process {pid} by the kernel module");
        let (records, request) = with_room(Thread::ZERO, doing, |records| {
            let mut request = ReadThreads {
                version: VERSION,
                record_size: size_of::<Thread>() as u32,
                pid,
                capacity: records.len() as u32,
                records: records.as_mut_ptr() as u64,
                ..ReadThreads::ZERO
            };
            // SAFETY: its structure, and it writes at most so many records, of which every pattern of bits is one.
            unsafe { self.call(uapi::READ_THREADS, &mut request) }?;
            Ok((request.count, request))
        })?;
        Ok(records.iter().map(|record| recorded(record, &request)).collect())
    }

    /// What the kernel knows of a process's POSIX timers, now. They stay as they are, and are in no order.
    ///
    /// # Errors
    /// As [`KernelModule::read_threads`].
    pub fn read_timers(&self, pid: i32) -> Result<Vec<Timer>> {
        let doing = || format!("read the timers of process {pid} by the kernel module");
        let (timers, ()) = with_room(Timer::ZERO, doing, |timers| {
            let mut request = ReadTimers {
                version: VERSION,
                record_size: size_of::<Timer>() as u32,
                pid,
                capacity: timers.len() as u32,
                timers: timers.as_mut_ptr() as u64,
                count: 0,
                reserved: 0,
            };
            // SAFETY: its structure, and it writes at most so many timers, of which every pattern of bits is one.
            unsafe { self.call(uapi::READ_TIMERS, &mut request) }?;
            Ok((request.count, ()))
        })?;
        Ok(timers)
    }

    /// Has the wait that a thread has been interrupted in end so many nanoseconds from now; below 0: it is over. `call` is its number.
    /// Ok(false): it is of a kind that this cannot be done with.
    ///
    /// # Errors
    /// This OS thread does not trace it.
    pub fn set_wait(&self, thread: &Stopped, call: u64, left: i64) -> Result<bool> {
        let wait = match call as i64 {
            libc::SYS_nanosleep | libc::SYS_clock_nanosleep => uapi::WAIT_SLEEP,
            libc::SYS_poll => uapi::WAIT_POLL,
            libc::SYS_futex => uapi::WAIT_FUTEX,
            _ => return Ok(false),
        };
        if self.can & uapi::CAN_SET_WAIT == 0 {
            return Ok(false);
        }
        let tid = thread.tid();
        let mut request = SetWait { version: VERSION, wait, tid, reserved: 0, left: left.max(-i64::MAX) };
        // SAFETY: this request reads this structure.
        match unsafe { self.call(uapi::SET_WAIT, &mut request) } {
            Ok(()) => Ok(true),
            Err(why) if why.raw_os_error() == Some(libc::ESTALE) => Ok(false),
            Err(why) => Err(why).doing(|| format!("set the end of the wait of thread {tid} by the kernel module")),
        }
    }

    /// Watches waits of a process that are cut short, until this is dropped, which takes some milliseconds: its records tell of them then.
    /// Ok(false): this kernel does not show them.
    ///
    /// # Errors
    /// As [`KernelModule::read_threads`]; it watches a process already.
    pub fn watch(&self, pid: i32) -> Result<bool> {
        if self.can & uapi::CAN_WATCH == 0 {
            return Ok(false);
        }
        let mut request = Watch { version: VERSION, pid };
        // SAFETY: this request reads this structure.
        let watches = unsafe { self.call(uapi::WATCH, &mut request) };
        watches.doing(|| format!("watch the waits of process {pid} by the kernel module")).map(|()| true)
    }

    /// Whether [`KernelModule::set_next_timer`] works on this kernel.
    pub fn sets_next_timer(&self) -> bool {
        self.can & uapi::CAN_SET_NEXT_TIMER != 0
    }

    /// Has the next POSIX timer of a process, of which this is a thread, get this ID, or the next one that is free.
    ///
    /// # Errors
    /// This OS thread does not trace it, or the kernel is of another kind: [`KernelModule::sets_next_timer`].
    pub fn set_next_timer(&self, thread: &Stopped, id: i32) -> Result<()> {
        let pid = thread.tid();
        let mut request = SetNextTimer { version: VERSION, pid, id, reserved: 0 };
        // SAFETY: this request reads this structure.
        let set = unsafe { self.call(uapi::SET_NEXT_TIMER, &mut request) };
        set.doing(|| format!("set the next timer ID of process {pid} by the kernel module"))
    }

    /// Has timer_getoverrun(2) say this of a timer of a process, of which this is a thread, until it notifies again.
    ///
    /// # Errors
    /// This OS thread does not trace it, there is no such timer, or it is below 0 or too much (`INT_MAX`).
    pub fn set_missed(&self, thread: &Stopped, id: i32, missed_last: i64) -> Result<()> {
        let pid = thread.tid();
        let mut request = SetMissed { version: VERSION, pid, id, reserved: 0, missed_last };
        // SAFETY: this request reads this structure.
        let set = unsafe { self.call(uapi::SET_MISSED, &mut request) };
        set.doing(|| format!("set how often timer {id} of process {pid} was missed by the kernel module"))
    }

    /// Whether [`KernelModule::set_cpu_time`] works on this kernel.
    pub fn sets_cpu_time(&self) -> bool {
        self.can & uapi::CAN_SET_CPU_TIME != 0
    }

    /// Has these threads of a process have used so much CPU time, and the process so much beside its threads. Timers of CPU time that are
    /// set already expire earlier or later by that.
    ///
    /// # Errors
    /// Then nothing is changed. This OS thread does not trace one of them, they are of several processes, or it is more than a process
    /// can have used ([`uapi::MOST_CPU_TIME`]).
    pub fn set_cpu_time(&self, threads: &[(&Stopped, CpuTime)], process: ProcessTime) -> Result<()> {
        let Some((first, _)) = threads.first() else { return Ok(()) };
        let pid = first.tid();
        let threads: Vec<Used> =
            threads.iter().map(|(thread, used)| Used { tid: thread.tid(), reserved: 0, used: *used }).collect();
        let mut request = SetCpuTime {
            version: VERSION,
            record_size: size_of::<Used>() as u32,
            pid,
            count: threads.len() as u32,
            threads: threads.as_ptr() as u64,
            used: process,
        };
        // SAFETY: this request reads this structure, and so many of the others.
        let set = unsafe { self.call(uapi::SET_CPU_TIME, &mut request) };
        set.doing(|| format!("set the CPU time of process {pid} by the kernel module"))
    }

    /// # Safety
    /// `structure` is the request's, and what it points at may be written.
    unsafe fn call<T>(&self, request: u64, structure: &mut T) -> io::Result<()> {
        // SAFETY: as the caller promises.
        match unsafe { libc::ioctl(self.device.as_raw_fd(), request, structure as *mut T) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// Has `ask` fill these records, with ever more room, until it is enough. It tells how many there are, and what else it was told.
fn with_room<T: Copy, R>(
    empty: T,
    doing: impl Fn() -> String,
    mut ask: impl FnMut(&mut [T]) -> io::Result<(u32, R)>,
) -> Result<(Vec<T>, R)> {
    let mut room = ROOM;
    for _ in 0..TRIES {
        let mut records = vec![empty; room];
        let (count, told) = ask(&mut records).doing(&doing)?;
        let count = count as usize;
        if count <= room {
            records.truncate(count);
            return Ok((records, told));
        }
        room = count.saturating_add(ROOM);
    }
    Err(Error::Unsupported(format!("{}: there are more of them all the time", doing())))
}

/// As the other ways of asking tell it.
fn recorded(record: &Thread, request: &ReadThreads) -> ThreadRecord {
    let has = |bit: u32, what: u64| if record.unusual & bit == 0 { 0 } else { what };
    ThreadRecord {
        seen_tid: record.tid,
        tid: record.own_tid,
        pid: record.own_pid,
        exit_state: record.exit_state,
        pending: record.pending,
        shared_pending: record.shared_pending,
        clear_child_tid: record.clear_child_tid,
        robust_list: record.robust_list,
        stack_address: record.stack_address,
        stack_size: record.stack_size,
        stack_flags: record.stack_flags,
        personality: record.personality,
        timer_slack: record.timer_slack,
        unusual: has(uapi::TRAPS, thread_probe::TRAPS) | has(uapi::PORTS, thread_probe::PORTS),
        syscall_work: has(uapi::DISPATCHES, thread_probe::DISPATCHES),
        atomic_flags: record.atomic_flags,
        debug_control: record.debug_control,
        seccomp_filter: record.filters,
        name: record.name,
        uid: record.uid,
        gid: record.gid,
        inheritable: record.inheritable,
        permitted: record.permitted,
        effective: record.effective,
        bounding: record.bounding,
        ambient: record.ambient,
        securebits: record.securebits,
        flags: record.flags,
        parent_death_signal: record.parent_death_signal,
        parted: record.parted,
        seccomp: record.seccomp,
        group_count: record.group_count,
        groups: record.groups,
        now: request.now,
        boot_now: request.boot_now,
        read_at: 0,
        restart: record.restart,
        cut_end: record.cut_end,
        cut_at: record.cut_at,
        cuts: record.cuts,
        watched: request.watched,
        told: if record.unusual & uapi::IS_ON_CPU == 0 { thread_probe::HAS_LEFT_CPU } else { 0 },
        rseq: 0,
        rseq_size: 0,
        rseq_signature: 0,
        registers: Registers::default(),
        mask: 0,
        used: record.used,
        used_by_process: request.used,
    }
}
