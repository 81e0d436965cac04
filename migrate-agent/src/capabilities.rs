//! What the agent must be allowed to do.
//!
//! Nothing is dropped: a process that arrives may have any capability, and the kernel gives none that its creator's
//! bounding set lacks (capabilities(7)).

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};

/// Without these some processes cannot move; which ones is found in their preflight.
const WANTED: [Capability; 14] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SYS_RESOURCE,
    Capability::CAP_KILL,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_SYS_NICE,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_IPC_LOCK,
];

/// Refuses to go on without what every move needs; warns of what some need.
pub fn require() -> anyhow::Result<()> {
    let have = caps::read(None, CapSet::Effective).context("reading the agent's own capabilities")?;
    let missing = judge(&have)?;
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(ToString::to_string).collect();
        tracing::warn!("processes that need one of these here cannot move: {}", names.join(", "));
    }
    Ok(())
}

/// What is missing among the wanted ones, or why the agent is of no use at all.
fn judge(have: &CapsHashSet) -> anyhow::Result<Vec<Capability>> {
    if !have.contains(&Capability::CAP_SYS_PTRACE) {
        anyhow::bail!("CAP_SYS_PTRACE is missing: no process can be frozen or rebuilt. Start the agent as root");
    }
    if !have.contains(&Capability::CAP_CHECKPOINT_RESTORE) && !have.contains(&Capability::CAP_SYS_ADMIN) {
        anyhow::bail!(
            "CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN) is missing: a process cannot get its own process ID. \
             Start the agent as root, or give it the capability"
        );
    }
    Ok(WANTED.into_iter().filter(|cap| !have.contains(cap)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_without_is_named() {
        let mut have = CapsHashSet::new();
        assert!(judge(&have).expect_err("nothing").to_string().contains("CAP_SYS_PTRACE"));
        have.insert(Capability::CAP_SYS_PTRACE);
        assert!(judge(&have).expect_err("no PIDs").to_string().contains("CAP_CHECKPOINT_RESTORE"));
        have.insert(Capability::CAP_CHECKPOINT_RESTORE);
        assert_eq!(judge(&have).expect("enough"), WANTED);
        have.extend(WANTED);
        assert_eq!(judge(&have).expect("all"), []);
    }
}
