//! What prctl(2) knows of a process: child subreaper, dumpable, huge pages disabled (perhaps but where they are advised), merging of
//! equal pages (KSM), memory-deny-write-execute. A local descriptor table (modify_ldt(2)) is refused.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results, Ticket};

use crate::error::{Error, Result};
use crate::resources::{FrozenThread, TaskKind};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AttributesImage {
    subreaper: bool,
    dumpable: u64,
    /// As PR_GET_THP_DISABLE tells it: 1, and flags above.
    huge_pages_disabled: u64,
    merges_pages: bool,
    /// PR_MDWE_REFUSE_EXEC_GAIN, PR_MDWE_NO_INHERIT.
    denies_write_execute: u64,
}

/// The kind.
pub enum Attributes {}

/// The questions.
pub struct Asked {
    subreaper: RemoteBuffer,
    dumpable: Ticket,
    huge_pages_disabled: Ticket,
    merges_pages: Ticket,
    denies_write_execute: Ticket,
    descriptor_table: Ticket,
}

const PR_GET_THP_DISABLE: i32 = 42;
const PR_SET_THP_DISABLE: i32 = 41;
const PR_SET_MDWE: i32 = 65;
const PR_GET_MDWE: i32 = 66;
const PR_SET_MEMORY_MERGE: i32 = 67;
const PR_GET_MEMORY_MERGE: i32 = 68;

impl TaskKind for Attributes {
    const NAME: &'static str = "process attributes";
    const MOVES: &'static str =
        "child subreaper, dumpable, THP disabled, merging of equal pages (KSM), memory-deny-write-execute";
    type Image = AttributesImage;
    type Asked = Asked;

    fn ask(batch: &mut Batch) -> Asked {
        let subreaper = batch.buffer(8);
        batch.must(libc::SYS_prctl, [libc::PR_GET_CHILD_SUBREAPER.into(), subreaper.into()]);
        let table = batch.buffer(8);
        let mut get =
            |option: i32| batch.call(libc::SYS_prctl, [option.into(), 0.into(), 0.into(), 0.into(), 0.into()]);
        Asked {
            subreaper,
            dumpable: get(libc::PR_GET_DUMPABLE),
            huge_pages_disabled: get(PR_GET_THP_DISABLE),
            merges_pages: get(PR_GET_MEMORY_MERGE),
            denies_write_execute: get(PR_GET_MDWE),
            // Reads: how many bytes there are to be read.
            descriptor_table: batch.call(libc::SYS_modify_ldt, [0.into(), table.into(), 8.into()]),
        }
    }

    fn answer(asked: &Asked, results: &Results, _from: &FrozenThread) -> Result<AttributesImage> {
        if results.value(asked.descriptor_table).is_ok_and(|bytes| bytes > 0) {
            return Err(Error::Refused(vec!["it has a local descriptor table (modify_ldt), which cannot move".into()]));
        }
        let value = |ticket, what: &str| results.value(ticket).map_err(|e| Error::io(format!("read {what}"), e.into()));
        Ok(AttributesImage {
            subreaper: results.word(asked.subreaper, 0) as u32 != 0,
            dumpable: value(asked.dumpable, "dumpable")?,
            huge_pages_disabled: value(asked.huge_pages_disabled, "THP-disable")?,
            // Older kernels know neither (6.4, 6.3).
            merges_pages: results.value(asked.merges_pages) == Ok(1),
            denies_write_execute: results.value(asked.denies_write_execute).unwrap_or(0),
        })
    }

    fn restore(image: &AttributesImage, batch: &mut Batch) {
        set(batch, libc::PR_SET_CHILD_SUBREAPER, u64::from(image.subreaper), 0);
        set(batch, PR_SET_THP_DISABLE, image.huge_pages_disabled & 1, image.huge_pages_disabled & !1);
        if image.merges_pages {
            set(batch, PR_SET_MEMORY_MERGE, 1, 0);
        }
        // Nothing is mapped or protected after this: it cannot be taken back.
        if image.denies_write_execute != 0 {
            set(batch, PR_SET_MDWE, image.denies_write_execute, 0);
        }
    }
}

fn set(batch: &mut Batch, option: i32, value: u64, flags: u64) {
    batch.must(libc::SYS_prctl, [option.into(), value.into(), flags.into(), 0.into(), 0.into()]);
}

/// What a change of credentials resets (`commit_creds`, kernel/cred.c), and so comes after it.
pub fn restore_after_credentials(image: &AttributesImage, batch: &mut Batch) {
    // 2 (suid_dumpable) cannot be asked for; it is what changing the credentials leaves behind where the system is set so.
    if image.dumpable < 2 {
        set(batch, libc::PR_SET_DUMPABLE, image.dumpable, 0);
    }
}
