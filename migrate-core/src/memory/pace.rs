//! `--bandwidth`: how fast the page streams of a running process may go, all of them together.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket that lets so many bytes through in a second and saves up none: what was not used is lost.
#[derive(Debug)]
pub struct Pace {
    /// Bytes a second.
    rate: u64,
    /// When the next byte may go.
    next: Mutex<Instant>,
}

/// Bytes that are waited for, and sent, in one go.
pub const PIECE: usize = 64 << 10;

/// Shorter waits are put off until they are worth a sleep.
const SHORTEST: Duration = Duration::from_millis(1);

impl Pace {
    /// So many bytes a second.
    pub fn new(rate: u64) -> Pace {
        Pace { rate: rate.max(1), next: Mutex::new(Instant::now()) }
    }

    /// Sleeps until so many bytes, at most [`PIECE`], may go.
    pub fn wait(&self, bytes: usize) {
        let due = self.book(bytes, Instant::now());
        if due >= SHORTEST {
            std::thread::sleep(due);
        }
    }

    /// How long these bytes have to wait, behind all that were booked before.
    fn book(&self, bytes: usize, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let start = (*next).max(now);
        *next = start + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        start - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_get_no_more_than_the_rate() {
        let pace = Pace::new(1000);
        let begin = Instant::now() + Duration::from_secs(1);
        let after = |seconds: f64| begin + Duration::from_secs_f64(seconds);
        let due = |at: f64| pace.book(500, after(at)).as_secs_f64();
        // Two senders, each with half a second's worth.
        assert_eq!([due(0.0), due(0.0), due(0.0)], [0.0, 0.5, 1.0]);
        // One comes when its turn is long over: nothing has been saved up for it.
        assert_eq!([due(10.0), due(10.0)], [0.0, 0.5]);
        assert!((due(10.75) - 0.25).abs() < 1e-9);
    }
}
