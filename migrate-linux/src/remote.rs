//! System calls inside a tracee. [`RemoteSyscalls`] is the only way to run one: it saves the thread's registers and signal
//! mask, and puts them back when it is dropped.

use std::fmt;
use std::ops::Range;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use crate::executor::{self, BLOCK_HEADER, CALL_MUST_SUCCEED, CALL_RESULT, CALL_SIZE, Call, Rescue};
pub use crate::parallel::Begun;
use crate::process_memory::ProcessMemory;
pub use crate::single::{Foothold, NOOK_SIZE, find_gadget, is_nook, with_opened};
use crate::single::{SavedThread, Stub};
use crate::tracee::{RawSiginfo, Stop, Stopped, signal_bit};

/// Bytes of a tracee's executor mapping: code, a stack for the unlikely, and room for a block.
pub const EXECUTOR_SIZE: u64 = 512 * 1024;
const PAGE: u64 = 4096;
const STACK: u64 = 16 * 1024;
/// Where the block lies in the mapping.
const BLOCK: u64 = PAGE + STACK;
/// Bytes for a block and its arena.
const ROOM: usize = (EXECUTOR_SIZE - BLOCK) as usize;

/// An address in another process. An integer: it cannot be dereferenced here.
pub type RemoteAddr = u64;

/// A list of system calls, with the bytes that they point at.
#[derive(Default, Debug)]
pub struct Batch {
    calls: Vec<(Call, [bool; 6])>,
    arena: Vec<u8>,
    /// Words of the arena that are addresses of other places in it.
    pointers: Vec<(usize, usize)>,
}

/// Bytes in a batch's arena: what a call is given, or what it fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteBuffer {
    offset: usize,
    len: usize,
}

impl RemoteBuffer {
    /// What is left behind its first `n` bytes.
    pub fn skip(&self, n: usize) -> RemoteBuffer {
        let n = n.min(self.len);
        RemoteBuffer { offset: self.offset + n, len: self.len - n }
    }
}

/// Which call of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(usize);

/// An argument of a remote call.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// A number or an address that is valid in the tracee.
    Value(u64),
    /// The address of a buffer of the same batch.
    Buffer(RemoteBuffer),
}

impl From<u64> for Arg {
    fn from(value: u64) -> Arg {
        Arg::Value(value)
    }
}
impl From<i32> for Arg {
    fn from(value: i32) -> Arg {
        Arg::Value(i64::from(value) as u64)
    }
}
impl From<usize> for Arg {
    fn from(value: usize) -> Arg {
        Arg::Value(value as u64)
    }
}
impl From<RemoteBuffer> for Arg {
    fn from(buffer: RemoteBuffer) -> Arg {
        Arg::Buffer(buffer)
    }
}

impl Batch {
    /// An empty list.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// How many calls there are.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Copies `bytes` along; calls may point at them.
    pub fn bytes(&mut self, bytes: &[u8]) -> RemoteBuffer {
        self.arena.resize(self.arena.len().next_multiple_of(16), 0);
        let buffer = RemoteBuffer { offset: self.arena.len(), len: bytes.len() };
        self.arena.extend_from_slice(bytes);
        buffer
    }

    /// A zero-terminated string.
    pub fn string(&mut self, text: &[u8]) -> RemoteBuffer {
        let mut bytes = text.to_vec();
        bytes.push(0);
        self.bytes(&bytes)
    }

    /// Room that a call fills in.
    pub fn buffer(&mut self, len: usize) -> RemoteBuffer {
        self.arena.resize(self.arena.len().next_multiple_of(16), 0);
        let buffer = RemoteBuffer { offset: self.arena.len(), len };
        self.arena.resize(buffer.offset + len, 0);
        buffer
    }

    /// Makes the word at `at` of one buffer the address of another.
    pub fn point(&mut self, buffer: RemoteBuffer, at: usize, target: RemoteBuffer) {
        self.pointers.push((buffer.offset + at, target.offset));
    }

    /// Adds a call whose failure is its caller's business.
    pub fn call<const N: usize>(&mut self, number: libc::c_long, args: [Arg; N]) -> Ticket {
        self.push(number, 0, args)
    }

    /// Adds a call; when it fails the batch ends there and [`RemoteSyscalls::run`] returns the error.
    pub fn must<const N: usize>(&mut self, number: libc::c_long, args: [Arg; N]) -> Ticket {
        self.push(number, CALL_MUST_SUCCEED, args)
    }

    fn push<const N: usize>(&mut self, number: libc::c_long, flags: u32, args: [Arg; N]) -> Ticket {
        const { assert!(N <= 6) };
        let mut values = [0; 6];
        let mut in_arena = [false; 6];
        for (i, arg) in args.into_iter().enumerate() {
            (values[i], in_arena[i]) = match arg {
                Arg::Value(value) => (value, false),
                Arg::Buffer(buffer) => (buffer.offset as u64, true),
            };
        }
        self.calls.push((Call { number: number as u32, flags, args: values }, in_arena));
        Ticket(self.calls.len() - 1)
    }

    /// Whether it still fits into one run together with `calls` more calls and `bytes` more bytes.
    pub fn has_room_for(&self, calls: usize, bytes: usize) -> bool {
        let used = BLOCK_HEADER + (self.calls.len() + calls) * CALL_SIZE + self.arena.len() + bytes;
        used + 64 <= ROOM
    }

    fn resolved(&self, arena: RemoteAddr) -> Vec<Call> {
        self.calls
            .iter()
            .map(|(call, in_arena)| {
                let mut call = *call;
                for (value, relative) in call.args.iter_mut().zip(in_arena) {
                    if *relative {
                        *value += arena;
                    }
                }
                call
            })
            .collect()
    }

    fn arena_at(&self, address: RemoteAddr) -> Vec<u8> {
        let mut arena = self.arena.clone();
        for &(at, target) in &self.pointers {
            if let Some(word) = arena.get_mut(at..at + 8) {
                word.copy_from_slice(&(address + target as u64).to_le_bytes());
            }
        }
        arena
    }

    /// The batch as a block for `address`, with its arena behind it.
    pub(crate) fn image_for(&self, address: RemoteAddr, signal: i32, rescue: &Rescue) -> Vec<u8> {
        let arena = address + arena_offset(self.calls.len()) as u64;
        let mut bytes = executor::block(address, &self.resolved(arena), signal, rescue);
        bytes.resize(arena_offset(self.calls.len()), 0);
        bytes.extend_from_slice(&self.arena_at(arena));
        bytes
    }

    /// Bytes of its image.
    pub(crate) fn image_size(&self) -> usize {
        arena_offset(self.calls.len()) + self.arena.len()
    }

    /// What an image that has run says; `bytes` is what lies there now.
    pub(crate) fn outcome(&self, pid: i32, bytes: &[u8]) -> Result<Results> {
        let calls = self.resolved(0);
        Results::read(pid, &calls, bytes, arena_offset(self.calls.len()))
    }
}

fn arena_offset(calls: usize) -> usize {
    (BLOCK_HEADER + calls * CALL_SIZE).next_multiple_of(64)
}

/// What the calls of a batch returned.
#[derive(Debug)]
pub struct Results {
    values: Vec<i64>,
    arena: Vec<u8>,
}

impl Results {
    fn read(pid: i32, calls: &[Call], bytes: &[u8], arena: usize) -> Result<Results> {
        let word = |at: usize| -> i64 {
            bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(-i64::from(libc::EIO), i64::from_le_bytes)
        };
        let mut values = Vec::with_capacity(calls.len());
        for (i, call) in calls.iter().enumerate() {
            let value = word(BLOCK_HEADER + i * CALL_SIZE + CALL_RESULT);
            if call.flags & CALL_MUST_SUCCEED != 0 && (-4095..0).contains(&value) {
                let source = Errno::from_raw(-value as i32);
                return Err(Error::Remote { call: CallName(call).to_string(), pid, source });
            }
            values.push(value);
        }
        Ok(Results { values, arena: bytes.get(arena..).unwrap_or_default().to_vec() })
    }

    /// What a call returned.
    pub fn value(&self, ticket: Ticket) -> std::result::Result<u64, Errno> {
        match self.values.get(ticket.0) {
            Some(&value) if (-4095..0).contains(&value) => Err(Errno::from_raw(-value as i32)),
            Some(&value) => Ok(value as u64),
            None => Err(Errno::EIO),
        }
    }

    /// What is in a buffer now.
    pub fn buffer(&self, buffer: RemoteBuffer) -> &[u8] {
        self.arena.get(buffer.offset..buffer.offset + buffer.len).unwrap_or_default()
    }

    /// A little-endian word of a buffer; 0 beyond its end.
    pub fn word(&self, buffer: RemoteBuffer, at: usize) -> u64 {
        let bytes = self.buffer(buffer).get(at..at + 8).unwrap_or_default();
        bytes.try_into().map_or(0, u64::from_le_bytes)
    }
}

pub(crate) struct CallName<'a>(pub(crate) &'a Call);

impl fmt::Display for CallName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match i64::from(self.0.number) {
            libc::SYS_mmap => "mmap",
            libc::SYS_munmap => "munmap",
            libc::SYS_mremap => "mremap",
            libc::SYS_mprotect => "mprotect",
            libc::SYS_madvise => "madvise",
            libc::SYS_mlock2 => "mlock2",
            libc::SYS_prctl => "prctl",
            libc::SYS_arch_prctl => "arch_prctl",
            libc::SYS_rt_sigaction => "rt_sigaction",
            libc::SYS_clone3 => "clone3",
            libc::SYS_dup3 => "dup3",
            libc::SYS_recvmsg => "recvmsg",
            libc::SYS_rseq => "rseq",
            libc::SYS_setresuid => "setresuid",
            libc::SYS_setresgid => "setresgid",
            libc::SYS_setgroups => "setgroups",
            libc::SYS_capset => "capset",
            libc::SYS_fchdir => "fchdir",
            libc::SYS_chroot => "chroot",
            libc::SYS_sigaltstack => "sigaltstack",
            libc::SYS_userfaultfd => "userfaultfd",
            number => return write!(f, "system call {number}({:x?})", self.0.args),
        };
        write!(f, "{name}({:x?})", self.0.args)
    }
}

/// An executor in a tracee. It stays there until [`Executor::remove`] or the process's end.
#[derive(Debug)]
pub struct Executor {
    base: RemoteAddr,
    /// The process's memory.
    pub memory: ProcessMemory,
    pid: i32,
    signal: i32,
    nook: Option<RemoteAddr>,
}

impl Executor {
    /// Puts an executor at `base`, where [`EXECUTOR_SIZE`] bytes must be free in the thread's process.
    ///
    /// `signal`: one that the program
    /// ignores, or would not mind to see once should this tracer die in the middle; see [`quiet_signal`].
    pub fn inject(
        thread: &mut Stopped,
        memory: ProcessMemory,
        base: RemoteAddr,
        foothold: Foothold,
        signal: i32,
    ) -> Result<Executor> {
        let pid = memory.pid();
        let mut saved = SavedThread::save(thread)?;
        let stub = Stub::place(foothold, &memory, &saved)?;
        let mut mapped = 0;
        let result = (|| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
            let (code, data) = (libc::PROT_READ | libc::PROT_EXEC, libc::PROT_READ | libc::PROT_WRITE);
            for (length, protection) in [(PAGE, code), (EXECUTOR_SIZE - PAGE, data)] {
                let args = [base + mapped, length, protection as u64, flags as u64, u64::MAX, 0];
                saved.inject_one(&stub, libc::SYS_mmap, args)?;
                mapped += length;
            }
            memory.write(base, executor::code()).doing(|| format!("write the executor into process {pid}"))
        })();
        if result.is_err() && mapped > 0 {
            let _ = saved.inject_one(&stub, libc::SYS_munmap, [base, mapped, 0, 0, 0, 0]);
        }
        // The registers first: until then the thread may need what the stub holds.
        drop(saved);
        drop(stub);
        result?;
        Ok(Executor { base, memory, pid, signal, nook: foothold.nook })
    }

    /// The addresses that it takes up.
    pub fn range(&self) -> Range<RemoteAddr> {
        self.base..self.base + EXECUTOR_SIZE
    }

    /// Takes it out again.
    pub fn remove(&self, thread: &mut Stopped, gadget: RemoteAddr) -> Result<()> {
        let mut saved = SavedThread::save(thread)?;
        let stub = Stub::place(Foothold { gadget, nook: self.nook }, &self.memory, &saved)?;
        let removed = saved.inject_one(&stub, libc::SYS_munmap, [self.base, EXECUTOR_SIZE, 0, 0, 0, 0]);
        drop(saved); // before the stub, as above
        drop(stub);
        removed.map(drop)
    }

    /// Prepares to run batches in a thread.
    pub fn calls_in<'a>(&'a self, thread: &'a mut Stopped) -> Result<RemoteSyscalls<'a>> {
        Ok(RemoteSyscalls { saved: SavedThread::save(thread)?, executor: self })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn signal(&self) -> i32 {
        self.signal
    }

    /// Bytes of its mapping that blocks may take.
    pub(crate) fn room() -> usize {
        ROOM
    }

    /// Goes on until the thread stands at the end of its block.
    pub(crate) fn finish(&self, thread: &mut Stopped, mut stop: Stop) -> Result<()> {
        let end = self.base + executor::stop_offset();
        loop {
            let regs = thread.registers()?;
            match stop {
                Stop::Signal(s) if s == self.signal => {
                    let info = thread.siginfo()?;
                    // Our own always comes at the end.
                    if !is_ours(&info) || regs.rip != end {
                        thread.owe(s, info);
                    }
                    if regs.rip == end {
                        return Ok(());
                    }
                }
                // A SIGSTOP from outside: queue it again for afterwards.
                Stop::Signal(libc::SIGSTOP) => {
                    let info = thread.siginfo()?;
                    thread.owe(libc::SIGSTOP, info);
                }
                Stop::Signal(s) => {
                    return Err(Error::UnexpectedStop {
                        tid: thread.tid(),
                        what: format!("signal {s} at {:#x} in a batch of system calls", regs.rip),
                    });
                }
                Stop::Event { .. } => {}
            }
            stop = thread.run_to_stop()?;
        }
    }
}

/// Whether the executor sent this signal itself (SI_TKILL).
fn is_ours(info: &RawSiginfo) -> bool {
    let code = i32::from_le_bytes([info[8], info[9], info[10], info[11]]);
    code == libc::SI_TKILL
}

/// A signal for [`Executor::inject`]: one of those that are ignored unless a program asks for them, and that this one does
/// not ask for (`caught`: SigCgt of /proc/PID/status) nor has pending. When it asks for all, SIGURG: programs expect that
/// one to come without a reason.
pub fn quiet_signal(caught: u64, pending: u64) -> i32 {
    [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD]
        .into_iter()
        .find(|&s| (caught | pending) & signal_bit(s) == 0)
        .unwrap_or(libc::SIGURG)
}

/// Runs batches in one stopped thread.
pub struct RemoteSyscalls<'a> {
    saved: SavedThread<'a>,
    executor: &'a Executor,
}

impl RemoteSyscalls<'_> {
    /// Runs a batch. Err: a call that must succeed did not (those before it have taken effect, those after it were not
    /// made), the thread ended, or the batch is too large for one run.
    pub fn run(&mut self, batch: &Batch) -> Result<Results> {
        if !batch.has_room_for(0, 0) {
            return Err(Error::Unsupported(format!("a batch of {} calls does not fit", batch.len())));
        }
        let executor = self.executor;
        let address = executor.base + BLOCK;
        let rescue = Rescue { registers: self.saved.registers.resumable(true, false), mask: self.saved.mask };
        let mut bytes = batch.image_for(address, executor.signal, &rescue);
        let context = || format!("exchange a batch with process {}", executor.pid);
        executor.memory.write(address, &bytes).doing(context)?;
        let entry = executor::entry(executor.base, address, batch.len(), &self.saved.registers);
        self.saved.prepare(&entry, executor.signal)?;
        let stop = self.saved.thread.run_to_stop()?;
        executor.finish(self.saved.thread, stop)?;
        executor.memory.read(address, &mut bytes).doing(context)?;
        batch.outcome(executor.pid, &bytes)
    }
}
