//! File locks: only one of the two processes can have them. The original gives them up right before the commit, and takes
//! them again when it stays.

use std::time::{Duration, Instant};

use migrate_linux::remote::Batch;

use super::freeze::FrozenProcess;
use super::undo::UndoList;
use crate::error::{Error, Result};
use crate::resources::process::file_locks::{self, AT_ONCE, FileLock};

/// For how long somebody else may have one of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last thing before the commit.
pub fn give_up(undo: &mut UndoList, locks: Vec<FileLock>) -> Result<()> {
    let again = locks.clone();
    undo.push("take its locks again", move |held| {
        let frozen = held.frozen.as_mut().ok_or_else(|| Error::Invalid("nothing is frozen".into()))?;
        take_again(frozen, &again)
    });
    let frozen = undo.held.frozen.as_mut().ok_or_else(|| Error::Invalid("nothing is frozen".into()))?;
    for part in locks.chunks(AT_ONCE) {
        let mut batch = Batch::new();
        file_locks::add_calls(part, false, &mut batch);
        frozen.run(&batch)?;
    }
    Ok(())
}

/// Nobody else is likely to have been quicker. Err: somebody was, and keeps what it has taken.
fn take_again(frozen: &mut FrozenProcess, locks: &[FileLock]) -> Result<()> {
    let since = Instant::now();
    loop {
        let mut missing = Vec::new();
        for part in locks.chunks(AT_ONCE) {
            let mut batch = Batch::new();
            let tickets = file_locks::add_calls(part, true, &mut batch);
            let results = frozen.run(&batch)?;
            missing.extend(part.iter().zip(tickets).filter(|(_, ticket)| results.value(*ticket).is_err()));
        }
        let Some((first, _)) = missing.first() else { return Ok(()) };
        if since.elapsed() > PATIENCE {
            let descriptor = first.descriptor;
            return Err(Error::Invalid(format!(
                "another process has locked the file of its descriptor {descriptor} meanwhile, and keeps that: it goes on without {} of its {} file locks",
                missing.len(),
                locks.len()
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The same in a process that nobody traces. If it stands by a SIGSTOP, it still does afterwards.
///
/// # Errors
/// As above; or calls cannot be made in it.
pub fn take_again_in(pid: i32, locks: &[FileLock]) -> Result<()> {
    if locks.is_empty() {
        return Ok(());
    }
    let mut process = FrozenProcess::one_thread_of(pid)?;
    let taken = take_again(&mut process, locks);
    process.thaw().and(taken)
}
