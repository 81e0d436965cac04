//! Batches in many threads of one process at once: what costs is the way from one CPU to another and back, and so it is made by all
//! at the same time.

use crate::error::{Context, Result};
use crate::executor::{self, Rescue};
use crate::remote::{Batch, EXECUTOR_SIZE, Executor, Results};
use crate::single::SavedThread;
use crate::tracee::Stopped;

/// Below each block, for a signal handler that runs there should the tracer die: a frame with AVX-512 state takes 3.5 KiB.
const STACK: u64 = 4096;

/// Where the blocks of one wave lie, in the executor's data.
struct Wave {
    /// For each thread.
    addresses: Vec<u64>,
    end: u64,
}

impl Executor {
    /// Runs one batch in each thread. All of them are waited for, also after an error.
    pub fn run_in_all(&self, threads: &mut [&mut Stopped], batches: &[Batch]) -> Result<Vec<Results>> {
        let mut results = Vec::with_capacity(batches.len());
        let mut done = 0;
        while done < threads.len().min(batches.len()) {
            let wave = self.wave(&batches[done..]);
            let next = done + wave.addresses.len().max(1);
            let threads = threads.get_mut(done..next).unwrap_or_default();
            results.extend(self.run_wave(threads, &batches[done..next], &wave)?);
            done = next;
        }
        Ok(results)
    }

    /// As many as fit, and at least one.
    fn wave(&self, batches: &[Batch]) -> Wave {
        let range = self.range();
        let mut wave = Wave { addresses: Vec::new(), end: range.start + (EXECUTOR_SIZE - Executor::room() as u64) };
        for batch in batches {
            let address = wave.end + STACK;
            let end = (address + batch.image_size() as u64).next_multiple_of(64);
            if end > range.end && !wave.addresses.is_empty() {
                break;
            }
            wave.addresses.push(address);
            wave.end = end;
        }
        wave
    }

    fn run_wave(&self, threads: &mut [&mut Stopped], batches: &[Batch], wave: &Wave) -> Result<Vec<Results>> {
        let Some(&base) = wave.addresses.first() else { return Ok(Vec::new()) };
        let context = || format!("exchange batches with process {}", self.pid());
        let mut bytes = vec![0u8; (wave.end - base) as usize];
        let mut saved = Vec::with_capacity(threads.len());
        for ((thread, batch), &address) in threads.iter_mut().zip(batches).zip(&wave.addresses) {
            let thread = SavedThread::save(thread, self.signal())?;
            let rescue = Rescue { registers: thread.registers.resumable(true, false), mask: thread.mask };
            let image = batch.image_for(address, self.signal(), &rescue);
            let at = (address - base) as usize;
            bytes[at..at + image.len()].copy_from_slice(&image);
            saved.push(thread);
        }
        self.memory.write(base, &bytes).doing(context)?;
        let mut started = 0;
        let mut failure = Ok(());
        for ((thread, batch), &address) in saved.iter_mut().zip(batches).zip(&wave.addresses) {
            let entry = executor::entry(self.range().start, address, batch.len(), &thread.registers);
            failure = thread.prepare(&entry).and_then(|()| thread.thread.run());
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
        self.memory.read(base, &mut bytes).doing(context)?;
        let outcomes = batches.iter().zip(&wave.addresses).map(|(batch, &address)| {
            let at = (address - base) as usize;
            batch.outcome(self.pid(), bytes.get(at..at + batch.image_size()).unwrap_or_default())
        });
        outcomes.collect()
    }
}
