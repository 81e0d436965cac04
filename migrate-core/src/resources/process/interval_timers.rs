//! setitimer's three timers, alarm(2) among them: what is left and the interval (getitimer(2)).

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results};

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image is three `struct itimerval` as words: interval s and µs, remaining s and µs.
pub enum IntervalTimers {}

/// A periodic timer that has expired, whose SIGALRM waits: the kernel starts its next period when the signal is taken
/// (`dequeue_signal`, kernel/signal.c). Nothing left would mean disarmed.
fn begun_again([interval_s, interval_us, s, us]: [u64; 4]) -> [u64; 4] {
    match (s, us) {
        (0, 0) => [interval_s, interval_us, interval_s, interval_us],
        _ => [interval_s, interval_us, s, us],
    }
}

/// setitimer adds a tick to what is left of the two CPU-time timers (`set_cpu_itimer`, kernel/time/itimer.c), and getitimer tells it
/// with that: taken off here, so that a timer does not grow with every move.
fn a_tick_less([interval_s, interval_us, s, us]: [u64; 4]) -> [u64; 4] {
    let tick = nix::time::ClockId::CLOCK_MONOTONIC_COARSE.res().map_or(0, |t| t.tv_nsec() as u64 / 1000);
    let left = s.saturating_mul(1_000_000).saturating_add(us);
    // 0 would disarm it.
    let left = if left == 0 { 0 } else { left.saturating_sub(tick).max(1) };
    [interval_s, interval_us, left / 1_000_000, left % 1_000_000]
}

const SIZE: usize = 32;
const TIMERS: [i32; 3] = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];

impl TaskKind for IntervalTimers {
    const NAME: &'static str = "interval timers";
    const MOVES: &'static str = "setitimer's three, alarm among them: what is left, and the interval";
    type Image = [[u64; 4]; 3];
    type Asked = RemoteBuffer;

    fn ask(batch: &mut Batch) -> RemoteBuffer {
        let places = batch.buffer(SIZE * TIMERS.len());
        for (i, timer) in TIMERS.into_iter().enumerate() {
            batch.must(libc::SYS_getitimer, [timer.into(), places.skip(i * SIZE).into()]);
        }
        places
    }

    fn answer(asked: &RemoteBuffer, results: &Results, _from: &FrozenThread) -> Result<[[u64; 4]; 3]> {
        let word = |i: usize, j: usize| results.word(*asked, i * SIZE + j * 8);
        Ok([0, 1, 2].map(|i| [0, 1, 2, 3].map(|j| word(i, j))))
    }

    fn restore(image: &[[u64; 4]; 3], batch: &mut Batch) {
        for (timer, words) in TIMERS.into_iter().zip(image) {
            if words.iter().any(|w| *w != 0) {
                let words = if timer == libc::ITIMER_REAL { begun_again(*words) } else { a_tick_less(*words) };
                let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
                let value = batch.bytes(&bytes);
                batch.must(libc::SYS_setitimer, [timer.into(), value.into(), 0.into()]);
            }
        }
    }
}
