//! Single calls in a stopped thread, from a `syscall` instruction of the program's or of a [`Stub`]: what puts an executor in and
//! takes it out.

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use crate::executor::{self, Call, Rescue};
use crate::process_memory::ProcessMemory;
use crate::regs::{NOT_IN_A_CALL, Registers, SYSCALL};
use crate::remote::{CallName, RemoteAddr};
use crate::tracee::{SYSCALL_STOP, Stop, Stopped, signal_bit};

/// Where calls can be made one by one.
#[derive(Clone, Copy, Debug)]
pub struct Foothold {
    /// The address of a `syscall` instruction that the process may execute.
    pub gadget: RemoteAddr,
    /// [`NOOK_SIZE`] unused bytes of private executable memory; see [`is_nook`]. With it the process survives its tracer's death also
    /// during the few single calls that put an executor in and take it out; without, it crashes when that happens (some 30 µs each).
    pub nook: Option<RemoteAddr>,
}

/// Bytes of a nook.
pub const NOOK_SIZE: u64 = executor::STUB_SIZE as u64;

/// Whether these [`NOOK_SIZE`] bytes can be a [`Foothold`]'s nook. The zeros behind the last instruction of a program or a library
/// can: the kernel maps whole pages. Writing there through /proc/PID/mem gives the process a page of its own, and touches no file.
pub fn is_nook(bytes: &[u8]) -> bool {
    executor::is_room_for_stub(bytes)
}

/// A thread whose registers and mask are put back when this is dropped.
///
/// The mask is changed after the registers and put back before them: should the tracer die in between, the thread stands where the
/// way back begins, which puts both right. The other way round it would go on in the program with a mask of ours.
pub(crate) struct SavedThread<'a> {
    pub(crate) thread: &'a mut Stopped,
    pub(crate) registers: Registers,
    pub(crate) mask: u64,
}

impl<'a> SavedThread<'a> {
    pub(crate) fn save(thread: &'a mut Stopped) -> Result<SavedThread<'a>> {
        let registers = thread.registers()?;
        let mask = thread.signal_mask()?;
        Ok(SavedThread { thread, registers, mask })
    }

    /// Gives it the registers of many calls, at whose end it stops by `signal`: no other is let through.
    pub(crate) fn prepare(&mut self, registers: &Registers, signal: i32) -> Result<()> {
        self.thread.set_registers(registers)?;
        self.thread.set_signal_mask(!signal_bit(signal))
    }

    /// Gives it the registers of one call, during which no signal comes.
    fn prepare_one(&mut self, registers: &Registers) -> Result<()> {
        self.thread.set_registers(registers)?;
        self.thread.set_signal_mask(!0)
    }

    /// One call, of a `syscall` instruction of the program's or of a stub: 20–75 µs.
    pub(crate) fn inject_one(&mut self, stub: &Stub, number: libc::c_long, args: [u64; 6]) -> Result<u64> {
        let at = stub.call();
        self.prepare_one(&self.calling(at, number, args))?;
        self.through_a_call(at, number, args)
    }

    /// The same for a call that opens a descriptor. `take` sees it, and then it is closed; also when this tracer is killed, if the stub
    /// has a way back.
    fn inject_open<T>(
        &mut self,
        stub: &Stub,
        number: libc::c_long,
        args: [u64; 6],
        take: impl FnOnce(i32) -> T,
    ) -> Result<T> {
        let close = |descriptor: u64| [descriptor, 0, 0, 0, 0, 0];
        if stub.placed_in.is_none() {
            let descriptor = self.inject_one(stub, number, args)?;
            let taken = take(descriptor as i32);
            return self.inject_one(stub, libc::SYS_close, close(descriptor)).map(|_| taken);
        }
        self.prepare_one(&self.calling(stub.address, number, args))?;
        let descriptor = self.through_a_call(stub.address, number, args)?;
        let taken = take(descriptor as i32);
        self.through_a_call(stub.call(), libc::SYS_close, close(descriptor)).map(|_| taken)
    }

    /// The registers with which it makes a call of the `syscall` instruction at `at`.
    fn calling(&self, at: RemoteAddr, number: libc::c_long, [rdi, rsi, rdx, r10, r8, r9]: [u64; 6]) -> Registers {
        Registers {
            rip: at,
            rax: number as u64,
            orig_rax: NOT_IN_A_CALL,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            eflags: 0x202,
            rsp: self.registers.rsp.wrapping_sub(executor::STUB_STACK),
            ..self.registers
        }
    }

    /// Runs into the call at `at`, and out of it. `number` and `args` are for its error.
    fn through_a_call(&mut self, at: RemoteAddr, number: libc::c_long, args: [u64; 6]) -> Result<u64> {
        let tid = self.thread.tid();
        for _ in 0..2 {
            loop {
                match self.thread.run_to_syscall()? {
                    Stop::Signal(SYSCALL_STOP) => break,
                    Stop::Event { .. } => continue,
                    // From outside: it gets it when it goes on.
                    Stop::Signal(libc::SIGSTOP) => {
                        let info = self.thread.siginfo()?;
                        self.thread.owe(libc::SIGSTOP, info);
                    }
                    Stop::Signal(signal) => {
                        let what = format!("signal {signal} in an injected call");
                        return Err(Error::UnexpectedStop { tid, what });
                    }
                }
            }
        }
        let result = self.thread.registers()?;
        if result.rip != at + 2 {
            return Err(Error::UnexpectedStop { tid, what: format!("injected call ended at {:#x}", result.rip) });
        }
        match result.rax as i64 {
            e @ -4095..0 => Err(Error::Remote {
                call: CallName(&Call { number: number as u32, flags: 0, args }).to_string(),
                pid: tid,
                source: Errno::from_raw(-e as i32),
            }),
            value => Ok(value as u64),
        }
    }
}

/// A `syscall` instruction, with the way back behind it if there is a nook. Taken out again when dropped.
pub(crate) struct Stub<'m> {
    address: RemoteAddr,
    placed_in: Option<&'m ProcessMemory>,
}

impl<'m> Stub<'m> {
    pub(crate) fn place(foothold: Foothold, memory: &'m ProcessMemory, thread: &SavedThread<'_>) -> Result<Stub<'m>> {
        let Some(nook) = foothold.nook else { return Ok(Stub { address: foothold.gadget, placed_in: None }) };
        let rescue = Rescue { registers: thread.registers.resumable(true, false), mask: thread.mask };
        let context = || format!("write into a nook of process {}", memory.pid());
        memory.write(nook, &executor::stub(&rescue)).doing(context)?;
        Ok(Stub { address: nook, placed_in: Some(memory) })
    }

    /// Where its plain `syscall` instruction is.
    fn call(&self) -> RemoteAddr {
        self.address + if self.placed_in.is_some() { executor::STUB_CALL } else { 0 }
    }
}

impl Drop for Stub<'_> {
    fn drop(&mut self) {
        if let Some(memory) = self.placed_in {
            // What stays is never run, and known for what it is.
            let _ = memory.write(self.address, &[0; executor::STUB_SIZE]);
        }
    }
}

impl Drop for SavedThread<'_> {
    fn drop(&mut self) {
        // Both fail only when the thread is gone; the next request on it will say so.
        let _ = self.thread.set_signal_mask(self.mask);
        let _ = self.thread.set_registers(&self.registers);
    }
}

/// Has a stopped thread make a call that opens a descriptor, and close it once `take` has seen it.
///
/// # Errors
/// The calls' own, or those of the thread.
pub fn with_opened<T>(
    thread: &mut Stopped,
    memory: &ProcessMemory,
    foothold: Foothold,
    (number, args): (libc::c_long, [u64; 6]),
    take: impl FnOnce(i32) -> T,
) -> Result<T> {
    let mut saved = SavedThread::save(thread)?;
    let stub = Stub::place(foothold, memory, &saved)?;
    let result = saved.inject_open(&stub, number, args, take);
    drop(saved); // first: until then the thread may need what the stub holds
    drop(stub);
    result
}

/// The first `syscall` instruction in `code`, which lies at `base`.
pub fn find_gadget(base: RemoteAddr, code: &[u8]) -> Option<RemoteAddr> {
    code.windows(2).position(|w| w == SYSCALL).map(|at| base + at as u64)
}
