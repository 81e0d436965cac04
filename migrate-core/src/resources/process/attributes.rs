//! What prctl(2) knows of a process: parent-death signal, child subreaper, dumpable, THP disabled.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::{Batch, RemoteBuffer, Results, Ticket};

use crate::error::{Error, Result};
use crate::resources::{FrozenThread, TaskKind};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AttributesImage {
    parent_death_signal: i32,
    subreaper: bool,
    dumpable: u64,
    thp_disabled: bool,
}

/// The kind.
pub enum Attributes {}

/// The questions.
pub struct Asked {
    parent_death_signal: RemoteBuffer,
    subreaper: RemoteBuffer,
    dumpable: Ticket,
    thp_disabled: Ticket,
}

const PR_GET_THP_DISABLE: i32 = 42;
const PR_SET_THP_DISABLE: i32 = 41;

impl TaskKind for Attributes {
    const NAME: &'static str = "process attributes";
    const MOVES: &'static str = "parent-death signal, child subreaper, dumpable, THP disabled";
    type Image = AttributesImage;
    type Asked = Asked;

    fn ask(batch: &mut Batch) -> Asked {
        let parent_death_signal = batch.buffer(8);
        let subreaper = batch.buffer(8);
        batch.must(libc::SYS_prctl, [libc::PR_GET_PDEATHSIG.into(), parent_death_signal.into()]);
        batch.must(libc::SYS_prctl, [libc::PR_GET_CHILD_SUBREAPER.into(), subreaper.into()]);
        let mut get =
            |option: i32| batch.call(libc::SYS_prctl, [option.into(), 0.into(), 0.into(), 0.into(), 0.into()]);
        Asked {
            dumpable: get(libc::PR_GET_DUMPABLE),
            thp_disabled: get(PR_GET_THP_DISABLE),
            parent_death_signal,
            subreaper,
        }
    }

    fn answer(asked: &Asked, results: &Results, _from: &FrozenThread) -> Result<AttributesImage> {
        let value = |ticket, what: &str| results.value(ticket).map_err(|e| Error::io(format!("read {what}"), e.into()));
        Ok(AttributesImage {
            parent_death_signal: results.word(asked.parent_death_signal, 0) as i32,
            subreaper: results.word(asked.subreaper, 0) as u32 != 0,
            dumpable: value(asked.dumpable, "dumpable")?,
            thp_disabled: value(asked.thp_disabled, "THP-disable")? != 0,
        })
    }

    fn restore(image: &AttributesImage, batch: &mut Batch) {
        let mut set = |option: i32, value: u64| {
            batch.must(libc::SYS_prctl, [option.into(), value.into(), 0.into(), 0.into(), 0.into()]);
        };
        set(libc::PR_SET_CHILD_SUBREAPER, u64::from(image.subreaper));
        set(PR_SET_THP_DISABLE, u64::from(image.thp_disabled));
    }
}

/// What a change of credentials resets (`commit_creds`, kernel/cred.c), and so comes after it.
pub fn restore_after_credentials(image: &AttributesImage, batch: &mut Batch) {
    let mut set = |option: i32, value: u64| {
        batch.must(libc::SYS_prctl, [option.into(), value.into(), 0.into(), 0.into(), 0.into()]);
    };
    // 2 (suid_dumpable) cannot be asked for; it is what changing the credentials leaves behind where the system is set so.
    if image.dumpable < 2 {
        set(libc::PR_SET_DUMPABLE, image.dumpable);
    }
    set(libc::PR_SET_PDEATHSIG, image.parent_death_signal as u64);
}
