//! Instructions that fault in this thread: RDTSC (PR_SET_TSC of prctl(2)) and CPUID (ARCH_SET_CPUID of arch_prctl(2), where the CPU
//! can).

use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results, Ticket};
use migrate_linux::thread_probe::{TRAPS, ThreadRecord};
use migrate_linux::tracee::Stopped;

use crate::error::Result;
use crate::resources::{FrozenThread, TaskKind};

/// The kind; its image: whether RDTSC faults, and whether CPUID does.
pub enum Traps {}

const ARCH_GET_CPUID: i32 = 0x1011;
const ARCH_SET_CPUID: i32 = 0x1012;

impl TaskKind for Traps {
    const NAME: &'static str = "instruction traps";
    const MOVES: &'static str = "RDTSC and CPUID that fault, in the threads that want it so";
    type Image = (bool, bool);
    type Asked = (RemoteBuffer, Ticket);

    fn ask(batch: &mut Batch) -> (RemoteBuffer, Ticket) {
        let tsc = batch.buffer(8);
        batch.must(libc::SYS_prctl, [libc::PR_GET_TSC.into(), tsc.into()]);
        (tsc, batch.call(libc::SYS_arch_prctl, [ARCH_GET_CPUID.into(), 0.into()]))
    }

    fn answer((tsc, cpuid): &(RemoteBuffer, Ticket), results: &Results, _from: &FrozenThread) -> Result<(bool, bool)> {
        Ok((results.word(*tsc, 0) as i32 == libc::PR_TSC_SIGSEGV, results.value(*cpuid) == Ok(0)))
    }

    fn recorded(record: &ThreadRecord, _stopped: Option<&Stopped>) -> Option<(bool, bool)> {
        (record.unusual & TRAPS == 0).then_some((false, false))
    }

    fn restore(&(tsc, cpuid): &(bool, bool), batch: &mut Batch) {
        if tsc {
            batch.must(libc::SYS_prctl, [libc::PR_SET_TSC.into(), libc::PR_TSC_SIGSEGV.into()]);
        }
        if cpuid {
            batch.must(libc::SYS_arch_prctl, [ARCH_SET_CPUID.into(), 0.into()]);
        }
    }
}
