//! A short stop of the whole process while it is being pre-copied.

use std::time::{Duration, Instant};

use super::stop::{SeizedProcess, Standstill};
use super::subject::Subject;
use super::waits;
use crate::error::{Error, Result};

/// Does something while every thread stands. The program does not notice: a call that the stop interrupts goes on. Returns also how
/// long it stood.
///
/// Err: it runs; whether the work was done is told by its own error.
pub fn while_it_stands<T>(
    subject: &mut Subject,
    work: impl FnOnce(&mut Subject) -> Result<T>,
) -> Result<(T, Duration)> {
    let seized = SeizedProcess::seize(subject.process, None)?;
    let began = Instant::now();
    let Standstill { threads, leftover, .. } = seized.stop()?;
    let mut result = subject.is_still_reached(&threads);
    for thread in &threads {
        let noted = thread.stopped.registers().map(|regs| subject.interrupts(thread.stopped.tid(), &regs));
        result = result.and(noted.map_err(Error::from));
    }
    let registers = threads.iter().filter_map(|thread| Some((thread.stopped.tid(), thread.stopped.registers().ok()?)));
    let cut = waits::cut(subject, &registers.collect::<Vec<_>>());
    let done = result.and_then(|()| work(subject));
    let mut resumed = Ok(());
    for thread in threads {
        let one = thread.stopped.resume_unnoticed();
        resumed = resumed.and(one.map_err(Error::from));
    }
    waits::begin_anew(subject, cut);
    let stood = began.elapsed();
    drop(leftover);
    let done = done?;
    resumed?;
    Ok((done, stood))
}
