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

    fn recorded(record: &ThreadRecord, stopped: Option<&Stopped>) -> Option<(u64, u32, u32)> {
        let rseq = match stopped {
            Some(stopped) => stopped.rseq().ok()?,
            None => record.rseq()?,
        };
        Some((rseq.address, rseq.size, rseq.signature))
    }

    fn restore(&(address, size, signature): &(u64, u32, u32), batch: &mut Batch) {
        if address != 0 {
            let size = u64::from(size);
            batch.must(libc::SYS_rseq, [address.into(), size.into(), 0.into(), u64::from(signature).into()]);
        }
    }
}

/// Whether this kernel writes to the area whenever a thread comes back from having stood; then a thread that stands may be given one
/// before its memory is final. Linux 6.19 writes only what has changed since it wrote last (kernel/rseq.c).
pub fn is_written_always() -> bool {
    let uname = rustix::system::uname();
    let mut numbers =
        uname.release().to_str().unwrap_or_default().split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) < (6, 19))
}

/// Adds the call that ends it, if there is one: from then on the kernel writes no more to that address.
pub fn unregister(&(address, size, signature): &(u64, u32, u32), batch: &mut Batch) {
    const RSEQ_FLAG_UNREGISTER: u64 = 1;
    if address != 0 {
        let (size, signature) = (u64::from(size), u64::from(signature));
        batch.must(libc::SYS_rseq, [address.into(), size.into(), RSEQ_FLAG_UNREGISTER.into(), signature.into()]);
    }
}
