//! What each of the 64 signals does: handler, flags, restorer, mask (rt_sigaction(2)).

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results};

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// One disposition that is not the default: the kernel's `struct sigaction`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Disposition {
    signal: i32,
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// The kind.
pub enum Handlers {}

const SIZE: usize = 32;
const SIGNALS: i32 = 64;

impl TaskKind for Handlers {
    const NAME: &'static str = "signal handlers";
    const MOVES: &'static str = "handler, mask, flags and restorer of each signal";
    type Image = Vec<Disposition>;
    type Asked = RemoteBuffer;

    fn ask(batch: &mut Batch) -> RemoteBuffer {
        let places = batch.buffer(SIZE * SIGNALS as usize);
        for signal in changeable() {
            let place = places.skip(SIZE * (signal as usize - 1));
            batch.must(libc::SYS_rt_sigaction, [signal.into(), 0.into(), place.into(), 8.into()]);
        }
        places
    }

    fn answer(asked: &RemoteBuffer, results: &Results, _from: &FrozenThread) -> Result<Vec<Disposition>> {
        let all = changeable().map(|signal| {
            let word = |i: usize| results.word(*asked, SIZE * (signal as usize - 1) + i * 8);
            Disposition { signal, handler: word(0), flags: word(1), restorer: word(2), mask: word(3) }
        });
        Ok(all.filter(|d| (d.handler, d.flags, d.mask) != (0, 0, 0)).collect())
    }

    fn restore(image: &Vec<Disposition>, batch: &mut Batch) {
        // Whatever the agent's own dispositions were, the new process begins with the defaults.
        let default = batch.bytes(&[0u8; SIZE]);
        for signal in changeable().filter(|s| image.iter().all(|d| d.signal != *s)) {
            batch.must(libc::SYS_rt_sigaction, [signal.into(), default.into(), 0.into(), 8.into()]);
        }
        for d in image {
            let mut bytes = [0u8; SIZE];
            for (i, word) in [d.handler, d.flags, d.restorer, d.mask].into_iter().enumerate() {
                bytes[i * 8..i * 8 + 8].copy_from_slice(&word.to_le_bytes());
            }
            let action = batch.bytes(&bytes);
            batch.must(libc::SYS_rt_sigaction, [d.signal.into(), action.into(), 0.into(), 8.into()]);
        }
    }
}

fn changeable() -> impl Iterator<Item = i32> {
    (1..=SIGNALS).filter(|s| *s != libc::SIGKILL && *s != libc::SIGSTOP)
}
