//! Restartable sequences: address, size and signature of the thread's registered area (rseq(2), PTRACE_GET_RSEQ_CONFIGURATION).
//! A sequence that the stop cut is the registers' business: [`super::cpu::abort_address`].

use migrate_linux::libc;
use migrate_linux::remote::{Batch, Results};
use migrate_linux::thread_probe::ThreadRecord;
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image is address (0: none), size, signature.
pub enum Rseq {}

impl TaskKind for Rseq {
    const NAME: &'static str = "rseq";
    const MOVES: &'static str =
        "the registration with its signature; a critical section that the stop cut goes to its abort handler";
    type Image = (u64, u32, u32);
    type Asked = ();

    fn ask(_batch: &mut Batch) {}

    fn answer(_asked: &(), _results: &Results, from: &FrozenThread) -> Result<(u64, u32, u32)> {
        let rseq = from.stopped.rseq()?;
        Ok((rseq.address, rseq.size, rseq.signature))
    }

    fn recorded(_record: &ThreadRecord, stopped: &Stopped) -> Option<(u64, u32, u32)> {
        let rseq = stopped.rseq().ok()?;
        Some((rseq.address, rseq.size, rseq.signature))
    }

    fn restore(&(address, size, signature): &(u64, u32, u32), batch: &mut Batch) {
        if address != 0 {
            let size = u64::from(size);
            batch.must(libc::SYS_rseq, [address.into(), size.into(), 0.into(), u64::from(signature).into()]);
        }
    }
}
