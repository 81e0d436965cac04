//! The stack for signal handlers (sigaltstack(2)): address, size, SS_DISABLE, SS_AUTODISARM. It also moves while a handler
//! runs on it: the kernel tells that from the stack pointer alone.

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image is `stack_t` as three words: address, flags, size.
pub enum AlternateStack {}

const SS_DISABLE: u64 = 2;
const SS_ONSTACK: u64 = 1;
const SS_AUTODISARM: u64 = 1 << 31;

impl TaskKind for AlternateStack {
    const NAME: &'static str = "alternate signal stack";
    const MOVES: &'static str = "place, size and flags, also while a handler runs on it";
    type Image = (u64, u64, u64);
    type Asked = RemoteBuffer;

    fn ask(batch: &mut Batch) -> RemoteBuffer {
        let place = batch.buffer(24);
        batch.must(libc::SYS_sigaltstack, [0.into(), place.into()]);
        place
    }

    fn answer(asked: &RemoteBuffer, results: &Results, _from: &FrozenThread) -> Result<(u64, u64, u64)> {
        let flags = results.word(*asked, 8) & 0xffff_ffff & !SS_ONSTACK;
        Ok((results.word(*asked, 0), flags, results.word(*asked, 16)))
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<(u64, u64, u64)> {
        // As sigaltstack(2) shows it (do_sigaltstack, kernel/signal.c).
        let none = if record.stack_size == 0 { SS_DISABLE } else { 0 };
        let flags = none | u64::from(record.stack_flags) & SS_AUTODISARM;
        Some((record.stack_address, flags, record.stack_size))
    }

    fn restore(&(address, flags, size): &(u64, u64, u64), batch: &mut Batch) {
        if flags & SS_DISABLE == 0 {
            let mut bytes = [0u8; 24];
            for (i, word) in [address, flags, size].into_iter().enumerate() {
                bytes[i * 8..i * 8 + 8].copy_from_slice(&word.to_le_bytes());
            }
            let stack = batch.bytes(&bytes);
            batch.must(libc::SYS_sigaltstack, [stack.into(), 0.into()]);
        }
    }
}
