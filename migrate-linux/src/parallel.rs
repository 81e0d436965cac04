//! Batches in many threads of one process at once: what costs is the way from one CPU to another and back, and so it is made by all
//! at the same time.

use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};
use crate::executor::{self, BLOCK_HEADER, CALL_RESULT, CALL_SIZE, Rescue};
use crate::regs::{CallState, Registers};
use crate::remote::{Batch, EXECUTOR_SIZE, Executor, RemoteAddr, Results};
use crate::single::SavedThread;
use crate::tracee::{Stop, Stopped, signal_bit};

/// Below each block of a thread that has something to go back to, for a signal handler that runs there should the tracer die: a frame
/// with AVX-512 state takes 3.5 KiB.
const STACK: u64 = 4096;

/// How often a thread that is to wait is looked at before it is interrupted anyway.
const LOOKS: usize = 1000;
/// How often it may be interrupted too early.
const TRIES: u32 = 500;
/// So much longer than before it is left alone after each time.
const START: Duration = Duration::from_micros(20);

/// What became of a wait that was begun in a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It has been interrupted: the kernel has noted when it ends, and goes on with it when the thread has the registers for that.
    Noted,
    /// It was over by itself, with this result.
    Over(i64),
}

/// Where the blocks of one wave lie, in the executor's data.
struct Wave {
    /// For each thread.
    addresses: Vec<RemoteAddr>,
    end: RemoteAddr,
}

impl Wave {
    /// As many as fit behind one another, each behind `stack` free bytes: at least one.
    fn of(executor: &Executor, batches: &[Batch], stack: u64) -> Result<Wave> {
        let range = executor.range();
        let mut wave = Wave { addresses: Vec::new(), end: range.start + (EXECUTOR_SIZE - Executor::room() as u64) };
        for batch in batches {
            let address = wave.end + stack;
            let end = (address + batch.image_size() as u64).next_multiple_of(64);
            if end > range.end {
                break;
            }
            wave.addresses.push(address);
            wave.end = end;
        }
        match (wave.addresses.is_empty(), batches.first()) {
            (true, Some(batch)) => Err(Error::Unsupported(format!("a batch of {} calls does not fit", batch.len()))),
            _ => Ok(wave),
        }
    }

    fn start(&self) -> RemoteAddr {
        self.addresses.first().copied().unwrap_or(self.end)
    }
}

impl Executor {
    /// Runs one batch in each thread. All of them are waited for, also after an error.
    pub fn run_in_all(&self, threads: &mut [&mut Stopped], batches: &[Batch]) -> Result<Vec<Results>> {
        let mut results = Vec::with_capacity(batches.len());
        while results.len() < threads.len().min(batches.len()) {
            let done = results.len();
            let wave = Wave::of(self, &batches[done..], STACK)?;
            let next = done + wave.addresses.len();
            let mut saved = Vec::with_capacity(wave.addresses.len());
            for thread in threads.get_mut(done..next).unwrap_or_default() {
                saved.push(SavedThread::save(thread)?);
            }
            let rescues = saved
                .iter()
                .map(|thread| Rescue { registers: thread.registers.resumable(true, false), mask: thread.mask });
            let mut blocks = self.write_blocks(&wave, &batches[done..next], rescues)?;
            let mut started = 0;
            let mut failure = Ok(());
            for ((thread, batch), &address) in saved.iter_mut().zip(&batches[done..]).zip(&wave.addresses) {
                let entry = executor::entry(self.range().start, address, batch.len(), &thread.registers);
                failure = thread.prepare(&entry, self.signal()).and_then(|()| thread.thread.run());
                if failure.is_err() {
                    break;
                }
                started += 1;
            }
            for thread in saved.iter_mut().take(started) {
                let stopped = thread.thread.wait_again().and_then(|stop| self.finish(thread.thread, stop));
                failure = failure.and(stopped);
            }
            failure?;
            drop(saved);
            results.extend(self.read_blocks(&wave, &batches[done..next], &mut blocks)?);
        }
        Ok(results)
    }

    /// Runs one batch in each of these threads, which have never run their program: their registers are not put back, and should the
    /// tracer die they must die with it. After an error some of them may be running still.
    pub fn run_in_new(&self, threads: &mut [&mut Stopped], batches: &[Batch]) -> Result<Vec<Results>> {
        let Some(first) = threads.first() else { return Ok(Vec::new()) };
        let template = first.registers()?;
        let mut results = Vec::with_capacity(batches.len());
        while results.len() < threads.len().min(batches.len()) {
            let done = results.len();
            let wave = Wave::of(self, &batches[done..], 0)?;
            let next = done + wave.addresses.len();
            let no_way_back = Rescue { registers: Registers::default(), mask: 0 };
            let mut blocks = self.write_blocks(&wave, &batches[done..next], std::iter::repeat(no_way_back))?;
            for ((thread, batch), &address) in threads[done..].iter_mut().zip(&batches[done..]).zip(&wave.addresses) {
                thread.set_registers(&executor::entry(self.range().start, address, batch.len(), &template))?;
                thread.set_signal_mask(!signal_bit(self.signal()))?;
                thread.run()?;
            }
            for thread in threads.get_mut(done..next).unwrap_or_default() {
                let stop = thread.wait_again()?;
                self.finish(thread, stop)?;
            }
            results.extend(self.read_blocks(&wave, &batches[done..next], &mut blocks)?);
        }
        Ok(results)
    }

    /// Has each of these threads, which have never run their program, begin the wait that is its batch's second call, and interrupts that.
    /// By what the first call stores it is seen how far they are; so that must be something else than 0.
    pub fn begin_waits(&self, threads: &mut [&mut Stopped], batches: &[Batch]) -> Result<Vec<Begun>> {
        let Some(first) = threads.first() else { return Ok(Vec::new()) };
        let template = first.registers()?;
        let mut begun = Vec::with_capacity(batches.len());
        while begun.len() < threads.len().min(batches.len()) {
            let done = begun.len();
            let wave = Wave::of(self, &batches[done..], 0)?;
            let next = done + wave.addresses.len();
            let no_way_back = Rescue { registers: Registers::default(), mask: 0 };
            let mut blocks = self.write_blocks(&wave, &batches[done..next], std::iter::repeat(no_way_back))?;
            for ((thread, batch), &address) in threads[done..].iter_mut().zip(&batches[done..]).zip(&wave.addresses) {
                thread.set_registers(&executor::entry(self.range().start, address, batch.len(), &template))?;
                thread.set_signal_mask(!signal_bit(self.signal()))?;
                thread.run()?;
            }
            self.wait_for_first_calls(&wave, &mut blocks)?;
            let waiting = threads.get_mut(done..next).unwrap_or_default();
            waiting.iter().try_for_each(|thread| thread.interrupt())?;
            let over = waiting.iter_mut().map(|thread| self.wait_is_over(thread)).collect::<Result<Vec<bool>>>()?;
            self.memory.read(wave.start(), &mut blocks).doing(|| self.exchange())?;
            for (over, &address) in over.into_iter().zip(&wave.addresses) {
                let result = (address - wave.start()) as usize + BLOCK_HEADER + CALL_SIZE + CALL_RESULT;
                begun.push(if over { Begun::Over(word(&blocks, result)) } else { Begun::Noted });
            }
        }
        Ok(begun)
    }

    /// Looks, for a while, whether each has made the first of its calls.
    fn wait_for_first_calls(&self, wave: &Wave, blocks: &mut [u8]) -> Result<()> {
        for _ in 0..LOOKS {
            self.memory.read(wave.start(), blocks).doing(|| self.exchange())?;
            let result = |address: &RemoteAddr| (address - wave.start()) as usize + BLOCK_HEADER + CALL_RESULT;
            if wave.addresses.iter().all(|address| word(blocks, result(address)) != 0) {
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Of a thread that is being interrupted: whether its wait was over before that.
    fn wait_is_over(&self, thread: &mut Stopped) -> Result<bool> {
        for tries in 0..TRIES {
            let stop = thread.wait_again()?;
            let regs = thread.registers()?;
            match stop {
                Stop::Event { .. } if regs.call_state() == CallState::RestartBlock => return Ok(false),
                // Not in it yet, or over and behind it. Interrupted at once again, it would not get anywhere.
                Stop::Event { .. } => {
                    thread.run()?;
                    let running = Instant::now();
                    while running.elapsed() < START * tries.min(50) {
                        std::thread::yield_now();
                    }
                    thread.interrupt()?;
                }
                stop => return self.finish(thread, stop).map(|()| true),
            }
        }
        Err(Error::UnexpectedStop { tid: thread.tid(), what: "it does not begin its wait".into() })
    }

    /// Has each of these threads end after its batch, one after the other, and waits for that. For threads that have never run their program.
    pub fn end_new(&self, threads: Vec<(Stopped, Batch)>) -> Result<()> {
        for (mut thread, mut batch) in threads {
            batch.call(libc::SYS_exit, [0.into()]);
            match self.run_in_new(&mut [&mut thread], std::slice::from_ref(&batch)) {
                Err(Error::Gone { .. }) => {}
                Err(e) => return Err(e),
                Ok(_) => {
                    return Err(Error::UnexpectedStop { tid: thread.tid(), what: "it goes on after exit".into() });
                }
            }
        }
        Ok(())
    }

    fn write_blocks(
        &self,
        wave: &Wave,
        batches: &[Batch],
        rescues: impl IntoIterator<Item = Rescue>,
    ) -> Result<Vec<u8>> {
        let start = wave.start();
        let mut bytes = vec![0u8; (wave.end - start) as usize];
        for ((batch, &address), rescue) in batches.iter().zip(&wave.addresses).zip(rescues) {
            let image = batch.image_for(address, self.signal(), &rescue);
            let at = (address - start) as usize;
            bytes[at..at + image.len()].copy_from_slice(&image);
        }
        self.memory.write(start, &bytes).doing(|| self.exchange())?;
        Ok(bytes)
    }

    /// `bytes`: as they were written.
    fn read_blocks(&self, wave: &Wave, batches: &[Batch], bytes: &mut [u8]) -> Result<Vec<Results>> {
        let start = wave.start();
        self.memory.read(start, bytes).doing(|| self.exchange())?;
        let outcomes = batches.iter().zip(&wave.addresses).map(|(batch, &address)| {
            let at = (address - start) as usize;
            batch.outcome(self.pid(), bytes.get(at..at + batch.image_size()).unwrap_or_default())
        });
        outcomes.collect()
    }

    fn exchange(&self) -> String {
        format!("exchange batches with process {}", self.pid())
    }
}

/// The word at this offset; 0 beyond the end.
fn word(bytes: &[u8], at: usize) -> i64 {
    bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, i64::from_le_bytes)
}
