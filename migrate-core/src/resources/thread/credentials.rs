//! Who a thread is: user and group IDs (real, effective, saved, file system), supplementary groups, the five capability sets,
//! securebits (keep-caps among them), no_new_privs (credentials(7), capabilities(7)).
//!
//! They are the thread's own; libc only makes them look like the process's. Of the first thread they are restored last of all:
//! afterwards it may not be allowed to restore what belongs to the process.

use bincode::{Decode, Encode};
use migrate_linux::libc;
use migrate_linux::remote::{Batch, Results, Ticket};
use migrate_linux::thread_probe::ThreadRecord;

use crate::error::{Error, Result};
use crate::proc::status::Status;
use crate::resources::{FrozenThread, TaskKind};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CredentialsImage {
    /// Real, effective, saved, file system.
    uid: [u32; 4],
    /// Real, effective, saved, file system.
    gid: [u32; 4],
    groups: Vec<u32>,
    inheritable: u64,
    permitted: u64,
    effective: u64,
    bounding: u64,
    ambient: u64,
    securebits: u32,
    no_new_privs: bool,
}

impl CredentialsImage {
    /// What a thread shows from outside: all but securebits, which nearly always are none.
    pub fn shown_by(status: &Status) -> CredentialsImage {
        CredentialsImage {
            uid: status.uid,
            gid: status.gid,
            groups: status.groups.clone(),
            inheritable: status.cap_inheritable,
            permitted: status.cap_permitted,
            effective: status.cap_effective,
            bounding: status.cap_bounding,
            ambient: status.cap_ambient,
            securebits: 0,
            no_new_privs: status.no_new_privs.unwrap_or(false),
        }
    }
}

impl CredentialsImage {
    /// Whether a thread like this may install a seccomp filter.
    pub fn may_filter(&self) -> bool {
        const SYS_ADMIN: u64 = 1 << 21;
        self.no_new_privs || self.effective & SYS_ADMIN != 0
    }

    /// What the probe tells: all. None: there are more groups than fit in a record.
    pub fn recorded(record: &ThreadRecord) -> Option<CredentialsImage> {
        Some(CredentialsImage {
            uid: record.uid,
            gid: record.gid,
            groups: record.groups()?.to_vec(),
            inheritable: record.inheritable,
            permitted: record.permitted,
            effective: record.effective,
            bounding: record.bounding,
            ambient: record.ambient,
            securebits: record.securebits,
            no_new_privs: record.atomic_flags & NO_NEW_PRIVS != 0,
        })
    }
}

/// The kind.
pub enum Credentials {}

/// PFA_NO_NEW_PRIVS of `atomic_flags`.
const NO_NEW_PRIVS: u64 = 1;
const SECBIT_NO_SETUID_FIXUP: u64 = 1 << 2;
const SECBIT_KEEP_CAPS: u64 = 1 << 4;
/// `struct __user_cap_header_struct` version 3: two words of 32 capabilities.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const CAPABILITIES: u64 = 64;

impl TaskKind for Credentials {
    const NAME: &'static str = "credentials";
    const MOVES: &'static str =
        "of each thread: user, group and supplementary IDs, five capability sets, securebits, no_new_privs";
    type Image = CredentialsImage;
    type Asked = Ticket;

    fn ask(batch: &mut Batch) -> Ticket {
        batch.call(libc::SYS_prctl, [libc::PR_GET_SECUREBITS.into()])
    }

    fn answer(asked: &Ticket, results: &Results, from: &FrozenThread) -> Result<CredentialsImage> {
        let securebits = results.value(*asked).map_err(|e| Error::io("read securebits".into(), e.into()))?;
        Ok(CredentialsImage { securebits: securebits as u32, ..from.shown.credentials.clone() })
    }

    fn restore(c: &CredentialsImage, batch: &mut Batch) {
        let prctl = |batch: &mut Batch, option: i32, a: u64, b: u64| {
            batch.must(libc::SYS_prctl, [option.into(), a.into(), b.into(), 0.into(), 0.into()]);
        };
        // Changing the user ID must not touch the capabilities: they are set exactly, afterwards.
        prctl(batch, libc::PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS, 0);
        let groups: Vec<u8> = c.groups.iter().flat_map(|g| g.to_le_bytes()).collect();
        let groups = batch.bytes(&groups);
        batch.must(libc::SYS_setgroups, [c.groups.len().into(), groups.into()]);
        let id = |id: u32| u64::from(id).into();
        batch.must(libc::SYS_setresgid, [id(c.gid[0]), id(c.gid[1]), id(c.gid[2])]);
        batch.call(libc::SYS_setfsgid, [id(c.gid[3])]);
        for capability in (0..CAPABILITIES).filter(|n| c.bounding & 1 << n == 0) {
            // EINVAL: this kernel has no such capability, so it is not in the set.
            batch
                .call(libc::SYS_prctl, [libc::PR_CAPBSET_DROP.into(), capability.into(), 0.into(), 0.into(), 0.into()]);
        }
        batch.must(libc::SYS_setresuid, [id(c.uid[0]), id(c.uid[1]), id(c.uid[2])]);
        batch.call(libc::SYS_setfsuid, [id(c.uid[3])]);
        if c.no_new_privs {
            prctl(batch, libc::PR_SET_NO_NEW_PRIVS, 1, 0);
        }
        // Ambient ones must be permitted and inheritable when they are raised, and securebits may forbid raising them: so with
        // everything still permitted, and then the exact sets.
        if c.ambient != 0 {
            set_capabilities(batch, c.permitted | SETPCAP, c.permitted | SETPCAP, c.inheritable);
            for capability in (0..CAPABILITIES).filter(|n| c.ambient & 1 << n != 0) {
                prctl(batch, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability);
            }
        }
        prctl(batch, libc::PR_SET_SECUREBITS, u64::from(c.securebits), 0);
        set_capabilities(batch, c.effective, c.permitted, c.inheritable);
    }
}

const SETPCAP: u64 = 1 << 8;

fn set_capabilities(batch: &mut Batch, effective: u64, permitted: u64, inheritable: u64) {
    let mut header = [0u8; 8];
    header[..4].copy_from_slice(&CAPABILITY_VERSION_3.to_le_bytes());
    let header = batch.bytes(&header);
    let mut data = Vec::with_capacity(24);
    for shift in [0, 32] {
        for set in [effective, permitted, inheritable] {
            data.extend_from_slice(&((set >> shift) as u32).to_le_bytes());
        }
    }
    let data = batch.bytes(&data);
    batch.must(libc::SYS_capset, [header.into(), data.into()]);
}
