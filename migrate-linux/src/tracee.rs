//! A traced thread, by its state: [`Seized`] runs, [`Stopped`] stands. A request that needs a stopped thread does not
//! compile on a running one, and neither can leave the OS thread that attached (ptrace(2): every request must come from it).

use std::cell::Cell;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::time::Instant;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::regs::Registers;
use crate::thread_probe::ThreadRecord;

/// Size of the kernel's `siginfo_t`.
pub const SIGINFO_SIZE: usize = 128;
/// A `siginfo_t` as the kernel gave it.
pub type RawSiginfo = [u8; SIGINFO_SIZE];

/// What a stop at a system call's entry or exit shows instead of a signal (PTRACE_O_TRACESYSGOOD).
pub(crate) const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

const NT_PRSTATUS: usize = 1;
const NT_X86_XSTATE: usize = 0x202;
const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
const PTRACE_PEEKSIGINFO_SHARED: u32 = 1;
/// The XSAVE area of any processor known is below this (AMX tiles included it is 11 KiB).
const XSTATE_LIMIT: usize = 64 * 1024;

/// A thread's rseq registration (rseq(2), `struct ptrace_rseq_configuration`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RseqConfiguration {
    /// Address of its `struct rseq`; 0: none is registered.
    pub address: u64,
    /// Its registered size in bytes.
    pub size: u32,
    /// The signature before abort handlers.
    pub signature: u32,
    /// Registration flags.
    pub flags: u32,
    /// Unused.
    pub pad: u32,
}

/// A thread that this OS thread traces and that may be running.
///
/// Dropping it stops it for a moment, unnoticed as in [`Stopped::resume_unnoticed`], and detaches.
#[derive(Debug)]
pub struct Seized {
    pub(crate) tid: i32,
    pub(crate) attached: bool,
    /// Its end is a stop, until another one has been seen ([`Seized::seize_noticing_end`]).
    pub(crate) notices_end: bool,
    _bound_to_this_thread: PhantomData<*const ()>,
}

/// A thread that this OS thread traces and that stands in a ptrace-stop.
///
/// Dropping it resumes it, as [`Stopped::resume_unnoticed`] does, with the registers and the signal mask that it has then.
#[derive(Debug)]
pub struct Stopped {
    thread: Seized,
    /// What is known of it until it runs: each request for it costs about a microsecond.
    registers: Cell<Option<Registers>>,
    mask: Cell<Option<u64>>,
    rseq: Cell<Option<RseqConfiguration>>,
    /// A signal that arrived for the program while a batch ran; it gets it when it goes on.
    owed: Option<(i32, RawSiginfo)>,
    in_signal_stop: bool,
    since: Instant,
}

/// What a wait showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The stop that was asked for, or a group-stop (then with its signal).
    Event {
        /// The stop signal of a group-stop; SIGTRAP when it is none.
        signal: i32,
    },
    /// A signal is about to be delivered.
    Signal(i32),
}

/// Its bit in a signal mask.
pub(crate) fn signal_bit(signal: i32) -> u64 {
    1u64 << (signal.clamp(1, 64) - 1)
}

pub(crate) fn signal_number(info: &RawSiginfo) -> i32 {
    i32::from_ne_bytes([info[0], info[1], info[2], info[3]])
}

pub(crate) fn request(what: &'static str, op: libc::c_uint, tid: i32, addr: usize, data: *mut c_void) -> Result<i64> {
    Errno::clear();
    // SAFETY: each caller passes addr and data as the request `op` wants them, valid for the call.
    let result = unsafe { libc::ptrace(op, tid, addr as *mut c_void, data) };
    match result {
        -1 => Err(Error::Tracee { what, tid, source: Errno::last() }),
        n => Ok(n),
    }
}

/// Waits for the next stop of one thread. Never for "any": that is quadratic in the number of threads.
fn wait(tid: i32) -> Result<Stop> {
    let mut status = 0;
    loop {
        // SAFETY: status is a valid place for one int.
        let result = unsafe { libc::waitpid(tid, &mut status, libc::__WALL) };
        if result == tid {
            break;
        }
        match Errno::last() {
            Errno::EINTR => continue,
            source => return Err(Error::Tracee { what: "wait for a stop", tid, source }),
        }
    }
    if libc::WIFEXITED(status) {
        return Err(Error::Gone { tid, how: format!("exit status {}", libc::WEXITSTATUS(status)) });
    }
    if libc::WIFSIGNALED(status) {
        return Err(Error::Gone { tid, how: format!("signal {}", libc::WTERMSIG(status)) });
    }
    let signal = libc::WSTOPSIG(status);
    Ok(match status >> 16 {
        libc::PTRACE_EVENT_STOP => Stop::Event { signal },
        0 => Stop::Signal(signal),
        libc::PTRACE_EVENT_EXIT => return Err(Error::Ends { tid }),
        event => return Err(Error::UnexpectedStop { tid, what: format!("ptrace event {event}") }),
    })
}

/// Waits for the next stop of one thread like [`wait`], but a signal that is about to be delivered stays so until it is
/// delivered: the kernel forgets the signal of a stop that has been waited for (`wait_task_stopped`, kernel/exit.c), and should
/// this tracer then be killed, the program would never get it.
fn wait_leaving_signals(tid: i32) -> Result<Stop> {
    match peek(libc::P_PID, tid, 0) {
        Ok(Some((_, Peeked::Stop(stop @ Stop::Signal(signal))))) if signal != SYSCALL_STOP => Ok(stop),
        _ => wait(tid),
    }
}

/// What [`peek`] found.
pub(crate) enum Peeked {
    /// It stands.
    Stop(Stop),
    /// It stands at a PTRACE_EVENT of another kind.
    Event,
    /// It has ended.
    End,
}

/// What has happened to one thread (P_PID), or to any that this OS thread traces (P_ALL), and stays to be waited for.
/// None: nothing, or nobody is left.
pub(crate) fn peek(which: libc::idtype_t, tid: i32, options: libc::c_int) -> Result<Option<(i32, Peeked)>> {
    // SAFETY: all zeros are a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // Nothing of another thread of this process is looked at.
    let options = options | libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: info is a valid place for one siginfo_t.
    if unsafe { libc::waitid(which, tid as libc::id_t, &mut info, options) } != 0 {
        return match Errno::last() {
            Errno::ECHILD | Errno::EINTR => Ok(None),
            source => Err(Error::Tracee { what: "look for a stop", tid, source }),
        };
    }
    // SAFETY: waitid has filled in these two, or left them zero.
    let (tid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(match info.si_code {
        _ if tid == 0 => None,
        libc::CLD_TRAPPED | libc::CLD_STOPPED => Some((tid, peeked(status & 0xff, status >> 8))),
        _ => Some((tid, Peeked::End)),
    })
}

fn peeked(signal: i32, event: i32) -> Peeked {
    match event {
        0 => Peeked::Stop(Stop::Signal(signal)),
        libc::PTRACE_EVENT_STOP => Peeked::Stop(Stop::Event { signal }),
        _ => Peeked::Event,
    }
}

/// Takes note of a stop, or an end, that [`peek`] has shown.
pub(crate) fn reap(tid: i32) {
    let mut status = 0;
    // SAFETY: status is a valid place for one int. It fails only when there is nothing to take note of.
    unsafe { libc::waitpid(tid, &mut status, libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG) };
}

impl Seized {
    /// Attaches without stopping (PTRACE_SEIZE). `kill_on_exit`: the thread dies with its tracer.
    ///
    /// Errors: EPERM when not permitted or traced by another, ESRCH when there is no such thread.
    pub fn seize(tid: i32, kill_on_exit: bool) -> Result<Seized> {
        Seized::seize_with(tid, if kill_on_exit { libc::PTRACE_O_EXITKILL } else { 0 })
    }

    /// Attaches without stopping, also to the threads that it makes from now on: these stop at their birth.
    pub(crate) fn seize_with_clones(tid: i32) -> Result<Seized> {
        Seized::seize_with(tid, libc::PTRACE_O_TRACECLONE)
    }

    pub(crate) fn seize_with(tid: i32, options: libc::c_int) -> Result<Seized> {
        // Without TRACESYSGOOD a thread whose tracer dies while it stands at a system call would get SIGTRAP, and die too
        // (`ptrace_report_syscall`, linux/ptrace.h: the stop's number is sent as a signal, and this one is none).
        let options = options | libc::PTRACE_O_TRACESYSGOOD;
        request("seize", libc::PTRACE_SEIZE, tid, 0, options as usize as *mut c_void)?;
        Ok(Seized::adopt(tid))
    }

    /// Takes a thread for what it is, standing: its stop has been seen elsewhere.
    pub(crate) fn stands(self) -> Stopped {
        Stopped {
            thread: self,
            registers: Cell::new(None),
            mask: Cell::new(None),
            rseq: Cell::new(None),
            owed: None,
            in_signal_stop: false,
            since: Instant::now(),
        }
    }

    /// A thread that is attached already, because a tracee made it with CLONE_PTRACE.
    pub fn adopt(tid: i32) -> Seized {
        Seized { tid, attached: true, notices_end: false, _bound_to_this_thread: PhantomData }
    }

    /// The thread.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Asks it to stop, and returns at once (PTRACE_INTERRUPT). [`Seized::wait_stopped`] then waits.
    pub fn interrupt(&self) -> Result<()> {
        request("interrupt", libc::PTRACE_INTERRUPT, self.tid, 0, std::ptr::null_mut()).map(drop)
    }

    /// Waits until it stands. Signals that arrive first are delivered as if nobody traced it.
    ///
    /// After Err the thread is gone, or on its way to its end, or nobody's tracee.
    pub fn wait_stopped(mut self) -> Result<(Stopped, Stop)> {
        loop {
            match wait_leaving_signals(self.tid) {
                Ok(Stop::Signal(signal)) => {
                    // Any stop takes an interruption back that came just before it (`ptrace_stop`, kernel/signal.c): so it does when
                    // the kernel has looked whether there is one, and lets others in while it sees to the timer whose signal it takes.
                    self.interrupt()?;
                    request("deliver a signal", libc::PTRACE_CONT, self.tid, 0, signal as usize as *mut c_void)?;
                }
                Ok(stop) => {
                    self.notice_end_no_more()?;
                    return Ok((self.stands(), stop));
                }
                Err(Error::Ends { .. }) => {
                    self.attached = false;
                    return Err(self.let_end());
                }
                Err(gone) => {
                    self.attached = false;
                    return Err(gone);
                }
            }
        }
    }
}

impl Drop for Seized {
    fn drop(&mut self) {
        if !self.attached {
            return;
        }
        // Detaching needs a stop. A thread that has ended needs nothing.
        self.attached = false;
        let thread = Seized::adopt(self.tid);
        if thread.interrupt().is_err() {
            std::mem::forget(thread);
        } else if let Ok((stopped, _)) = thread.wait_stopped() {
            let _ = stopped.resume_unnoticed();
        }
    }
}

impl Stopped {
    /// The thread.
    pub fn tid(&self) -> i32 {
        self.thread.tid
    }

    /// Since when it stands, as far as this tracer has seen.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Asks it to stop again, after [`Stopped::run`].
    pub(crate) fn interrupt(&self) -> Result<()> {
        self.thread.interrupt()
    }

    /// Takes what a record says of it, which was made while it stood and is younger than anything that was set.
    pub fn is_as(&self, record: &ThreadRecord) {
        if let Some((registers, mask)) = record.standing() {
            self.registers.set(Some(registers));
            self.mask.set(Some(mask));
        }
        if let Some(rseq) = record.rseq() {
            self.rseq.set(Some(rseq));
        }
    }

    /// Its general registers.
    pub fn registers(&self) -> Result<Registers> {
        if let Some(known) = self.registers.get() {
            return Ok(known);
        }
        let mut regs = Registers::default();
        let mut iov = libc::iovec { iov_base: (&raw mut regs).cast(), iov_len: size_of::<Registers>() };
        request("read the registers", libc::PTRACE_GETREGSET, self.tid(), NT_PRSTATUS, (&raw mut iov).cast())?;
        self.registers.set(Some(regs));
        Ok(regs)
    }

    /// Sets its general registers.
    pub fn set_registers(&mut self, regs: &Registers) -> Result<()> {
        // The kernel may take something else than it is given, flags above all.
        self.registers.set(None);
        let mut regs = *regs;
        let mut iov = libc::iovec { iov_base: (&raw mut regs).cast(), iov_len: size_of::<Registers>() };
        request("set the registers", libc::PTRACE_SETREGSET, self.tid(), NT_PRSTATUS, (&raw mut iov).cast()).map(drop)
    }

    /// Its whole XSAVE area: x87, SSE, AVX, AVX-512, PKRU (NT_X86_XSTATE). It is put into `area`, and returned as a part of that;
    /// whoever reads many has only to make room once.
    pub fn xstate<'a>(&self, area: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        loop {
            let mut iov = libc::iovec { iov_base: area.as_mut_ptr().cast(), iov_len: area.len() };
            request("read XSTATE", libc::PTRACE_GETREGSET, self.tid(), NT_X86_XSTATE, (&raw mut iov).cast())?;
            if iov.iov_len < area.len() {
                return Ok(area.get(..iov.iov_len).unwrap_or_default());
            }
            if area.len() >= XSTATE_LIMIT {
                return Err(Error::Unsupported(format!("XSAVE area of more than {XSTATE_LIMIT} bytes")));
            }
            area.resize((area.len() * 4).max(4096), 0);
        }
    }

    /// Sets the XSAVE area. EFAULT: shorter than this CPU's; EINVAL: it holds a component that this CPU lacks.
    pub fn set_xstate(&mut self, area: &[u8]) -> Result<()> {
        let mut iov = libc::iovec { iov_base: area.as_ptr().cast_mut().cast(), iov_len: area.len() };
        request("set XSTATE", libc::PTRACE_SETREGSET, self.tid(), NT_X86_XSTATE, (&raw mut iov).cast()).map(drop)
    }

    /// The signals that it blocks; the real mask, also inside ppoll and sigsuspend.
    pub fn signal_mask(&self) -> Result<u64> {
        if let Some(known) = self.mask.get() {
            return Ok(known);
        }
        let mut mask = 0u64;
        request("read the signal mask", libc::PTRACE_GETSIGMASK, self.tid(), 8, (&raw mut mask).cast())?;
        self.mask.set(Some(mask));
        Ok(mask)
    }

    /// Sets the signals that it blocks.
    pub fn set_signal_mask(&mut self, mask: u64) -> Result<()> {
        // The kernel takes these two out.
        let mut mask = mask & !(signal_bit(libc::SIGKILL) | signal_bit(libc::SIGSTOP));
        if self.mask.replace(None) != Some(mask) {
            request("set the signal mask", libc::PTRACE_SETSIGMASK, self.tid(), 8, (&raw mut mask).cast())?;
        }
        self.mask.set(Some(mask));
        Ok(())
    }

    /// Its rseq registration. EIO on kernels before 5.13 reads as none.
    pub fn rseq(&self) -> Result<RseqConfiguration> {
        if let Some(known) = self.rseq.get() {
            return Ok(known);
        }
        let conf = self.read_rseq()?;
        self.rseq.set(Some(conf));
        Ok(conf)
    }

    fn read_rseq(&self) -> Result<RseqConfiguration> {
        let mut conf = RseqConfiguration::default();
        let size = size_of::<RseqConfiguration>();
        match request("read rseq", PTRACE_GET_RSEQ_CONFIGURATION, self.tid(), size, (&raw mut conf).cast()) {
            Ok(_) => Ok(conf),
            Err(Error::Tracee { source: Errno::EIO | Errno::EINVAL, .. }) => Ok(RseqConfiguration::default()),
            Err(e) => Err(e),
        }
    }

    /// The debug register that switches hardware breakpoints on, as a tracer has set it (DR7).
    pub fn debug_control(&self) -> Result<u64> {
        let mut word = 0u64;
        let at = std::mem::offset_of!(libc::user, u_debugreg) + 7 * size_of::<u64>();
        // The system call itself, unlike the C function, stores the word.
        // SAFETY: a valid place for one word.
        let result = unsafe { libc::syscall(libc::SYS_ptrace, libc::PTRACE_PEEKUSER, self.tid(), at, &raw mut word) };
        match result {
            -1 => Err(Error::Tracee { what: "read a debug register", tid: self.tid(), source: Errno::last() }),
            _ => Ok(word),
        }
    }

    /// Waits until it has left its CPU, as each request does (`ptrace_check_attach`, kernel/ptrace.c): when its stop is told, it is
    /// still on its way.
    pub fn leave_cpu(&self) -> Result<()> {
        self.debug_control().map(drop)
    }

    /// Whether its system calls may be handed to the program (PR_SET_SYSCALL_USER_DISPATCH). Kernels before 6.4 do not tell: no.
    pub fn dispatches_calls(&self) -> Result<bool> {
        const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG: libc::c_uint = 0x4211;
        // `struct ptrace_sud_config`: mode, selector, offset, length.
        let mut config = [0u64; 4];
        let (op, size) = (PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, size_of_val(&config));
        match request("read the dispatch of system calls", op, self.tid(), size, config.as_mut_ptr().cast()) {
            Ok(_) => Ok(config.first() != Some(&0)),
            Err(Error::Tracee { source: Errno::EIO | Errno::EINVAL, .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether ioperm(2) has given it I/O ports. The kernel does not tell of iopl(2).
    pub fn may_use_ports(&self) -> Result<bool> {
        const NT_386_IOPERM: usize = 0x201;
        let mut first = [0u8; 8];
        let mut iov = libc::iovec { iov_base: first.as_mut_ptr().cast(), iov_len: first.len() };
        match request("read the I/O ports", libc::PTRACE_GETREGSET, self.tid(), NT_386_IOPERM, (&raw mut iov).cast()) {
            Ok(_) => Ok(true),
            // None, or a kernel without them.
            Err(Error::Tracee { source: Errno::ENXIO | Errno::ENODEV | Errno::EIO | Errno::EINVAL, .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The signals that wait for it (`shared`: for its process), oldest first, without taking them (PTRACE_PEEKSIGINFO).
    pub fn pending_signals(&self, shared: bool) -> Result<Vec<RawSiginfo>> {
        #[repr(C)]
        struct PeekArgs {
            offset: u64,
            flags: u32,
            count: i32,
        }
        const BATCH: usize = 32;
        let mut all = Vec::new();
        loop {
            let mut buffer = [[0u8; SIGINFO_SIZE]; BATCH];
            let mut args = PeekArgs {
                offset: all.len() as u64,
                flags: if shared { PTRACE_PEEKSIGINFO_SHARED } else { 0 },
                count: BATCH as i32,
            };
            let got = request(
                "read pending signals",
                libc::PTRACE_PEEKSIGINFO,
                self.tid(),
                (&raw mut args) as usize,
                buffer.as_mut_ptr().cast(),
            )? as usize;
            all.extend_from_slice(&buffer[..got.min(BATCH)]);
            if got < BATCH {
                return Ok(all);
            }
        }
    }

    /// The signal that arrived for the program during a batch and waits to be delivered with the thread's resumption.
    pub fn owed_signal(&self) -> Option<&RawSiginfo> {
        self.owed.as_ref().map(|(_, info)| info)
    }

    /// The siginfo of the present signal-delivery-stop.
    pub(crate) fn siginfo(&self) -> Result<RawSiginfo> {
        let mut info = MaybeUninit::<RawSiginfo>::zeroed();
        request("read the signal", libc::PTRACE_GETSIGINFO, self.tid(), 0, info.as_mut_ptr().cast())?;
        // SAFETY: zeroed beforehand and filled by the kernel; any bytes are a RawSiginfo.
        Ok(unsafe { info.assume_init() })
    }

    /// Keeps a signal of the program that came up during a batch.
    pub(crate) fn owe(&mut self, signal: i32, info: RawSiginfo) {
        self.owed = Some((signal, info));
    }

    /// Lets it run until its next stop, without delivering the signal of the present stop.
    pub(crate) fn run_to_stop(&mut self) -> Result<Stop> {
        self.run()?;
        self.wait_again()
    }

    /// Lets it run; [`Stopped::wait_again`] must follow before anything else.
    pub(crate) fn run(&mut self) -> Result<()> {
        self.forget();
        request("run", libc::PTRACE_CONT, self.tid(), 0, std::ptr::null_mut()).map(drop)
    }

    /// Waits for the stop after [`Stopped::run`].
    pub(crate) fn wait_again(&mut self) -> Result<Stop> {
        match wait(self.tid()) {
            Ok(stop) => {
                self.in_signal_stop = matches!(stop, Stop::Signal(_));
                Ok(stop)
            }
            Err(e) => {
                self.thread.attached = !matches!(e, Error::Gone { .. });
                Err(e)
            }
        }
    }

    /// Runs to the next entry into a system call, or out of it, or to another stop before that. Never a single step: a thread
    /// whose tracer dies during one, or while it stands behind one, is killed by SIGTRAP.
    pub(crate) fn run_to_syscall(&mut self) -> Result<Stop> {
        self.forget();
        request("run to a system call", libc::PTRACE_SYSCALL, self.tid(), 0, std::ptr::null_mut())?;
        self.wait_again()
    }

    /// From here on it outlives its tracer (no PTRACE_O_EXITKILL).
    pub fn outlive_tracer(&self) -> Result<()> {
        let options = libc::PTRACE_O_TRACESYSGOOD as usize as *mut c_void;
        request("set the options", libc::PTRACE_SETOPTIONS, self.tid(), 0, options).map(drop)
    }

    /// Takes back a signal that waits for its process, and lets the thread get the program's own signals that come before it.
    /// Not one instruction of the program runs: a waiting signal is taken on the way to it. None waits: nothing is done. Should a
    /// SIGCONT from outside take a SIGSTOP back between the look for it and the way to it, that is itself a stop for who was seized
    /// (`prepare_signal` and `ptrace_trap_notify`, kernel/signal.c).
    pub fn swallow_pending(&mut self, signal: i32) -> Result<()> {
        let mut deliver = 0;
        loop {
            // A SIGCONT from outside takes a SIGSTOP back too.
            if !self.pending_signals(true)?.iter().any(|info| signal_number(info) == signal) {
                // The present signal, if any, is delivered when the thread goes on.
                return match deliver {
                    0 => Ok(()),
                    other => self.siginfo().map(|info| self.owe(other, info)),
                };
            }
            self.forget();
            self.mask.set(None);
            request("deliver a signal", libc::PTRACE_CONT, self.tid(), 0, deliver as usize as *mut c_void)?;
            deliver = match self.wait_again()? {
                Stop::Signal(s) if s == signal => return Ok(()),
                // Lower numbers come first. It gets its handler's frame on the stack and goes on to the next one.
                Stop::Signal(other) if other < SYSCALL_STOP => other,
                Stop::Signal(_) | Stop::Event { .. } => 0,
            };
        }
    }

    /// Waits until the thread, whose process has been killed, has ended. Only then can its own parent reap it.
    pub fn wait_killed(mut self) {
        self.thread.attached = false;
        // A stop may still be reported before the end; any error means that nothing is left to wait for.
        while wait(self.tid()).is_ok() {}
    }

    /// It is about to run: what is known of it will no longer be so. No call that we have it make changes its mask.
    pub(crate) fn forget(&mut self) {
        self.registers.set(None);
        self.rseq.set(None);
    }

    /// Whether a signal waits that the thread does not block: then an interrupted call is that signal's doing.
    pub fn signal_due(&self) -> Result<bool> {
        let mask = self.signal_mask()?;
        let due = |info: &RawSiginfo| {
            let signal = signal_number(info);
            (1..=64).contains(&signal) && mask & (1 << (signal - 1)) == 0
        };
        Ok(self.pending_signals(false)?.iter().any(due) || self.pending_signals(true)?.iter().any(due))
    }

    /// Lets it run on, no longer traced, as if it had never been stopped: a call of it that the stop interrupted goes on too.
    pub fn resume_unnoticed(mut self) -> Result<()> {
        let hidden = self.hide_interruption();
        self.detach_now().and(hidden)
    }

    /// Sees to it that a call that the stop has interrupted goes on when the thread does.
    pub(crate) fn hide_interruption(&mut self) -> Result<()> {
        let regs = self.registers()?;
        // Nearly always nothing is to be done, and then signals need not be asked for.
        if regs.resumable(false, false) == regs {
            return Ok(());
        }
        let resumed = regs.resumable(false, self.signal_due()?);
        if resumed != regs {
            self.set_registers(&resumed)?;
        }
        Ok(())
    }

    /// Lets it run on, no longer traced, with its registers as they are. The signal that it is owed, if any, is delivered now.
    pub fn detach(self) -> Result<()> {
        let mut this = self;
        this.detach_now()
    }

    fn detach_now(&mut self) -> Result<()> {
        if !self.thread.attached {
            return Ok(());
        }
        self.thread.attached = false;
        let mut signal = 0;
        if let Some((owed, mut info)) = self.owed.take()
            && self.in_signal_stop
        {
            signal = owed;
            request("give back a signal", libc::PTRACE_SETSIGINFO, self.tid(), 0, info.as_mut_ptr().cast())?;
        }
        request("detach", libc::PTRACE_DETACH, self.tid(), 0, signal as usize as *mut c_void).map(drop)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Nothing more can be done for a thread that cannot be detached: it is gone.
        if self.thread.attached {
            let _ = self.hide_interruption();
            let _ = self.detach_now();
        }
    }
}
