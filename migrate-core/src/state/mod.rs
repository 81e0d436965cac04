//! State files: what became of a migration, for whoever asks after an agent has died. They lie in /run/migrate: they must outlive
//! an agent, not the host (nor does the process), so nothing is synced.
//!
//! A file's *name* says how things stand, its content names a process by PID and start time, and whoever works on it holds a lock
//! (flock(2)) on it that ends with that process, also by SIGKILL.
//!
//! ```text
//! at the destination                                                    at the source
//!
//!   ID.prepared ──▶ ID.committed ──▶ ID.running                         ID.source, from before Commit until it is known
//!        │                                                              where the process runs
//!        └────────▶ ID.refused
//! ```
//!
//! **One rename decides.** A prepared process may be committed by the process that serves the migration, or refused by the agent
//! when the source, whose connection broke, asks what became of it. Both do it by rename(2) of `ID.prepared`, which exactly one of
//! them can find there. So an agent that has answered "it does not run here" knows that it never will, however late a Commit is
//! read from a socket; and one that has committed never answers that. An answer that only looked at the file would be true when it
//! was given, and false when it arrives. Nothing ever makes a decided file prepared again.
//!
//! - `prepared`, not locked: who served it died before the commit. It is refused, and what is left of the process killed.
//! - `committed`, not locked: who served it died while letting it run. It is continued (it may stand by a SIGSTOP), unless it was
//!   stopped before it moved.
//! - `running` and `refused` are kept for [`KEPT`], in case that the source asks late.
//! - `source`, not locked: the agent here died in the commit, or got no answer in time. It is in doubt: [`Doubt`].
//! - no file of that migration at all: this host knows nothing of it. That is no "it does not run here".

mod arriving;
mod leaving;
mod named;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use arriving::{Arrival, Verdict};
pub use leaving::{Doubt, Leaving, Place, Settled};
pub use named::Named;

use crate::plan::STATE_DIRECTORY;
use crate::protocol::preamble::MigrationId;

/// How long a decided migration's file is kept at the destination. Sources ask within seconds, unless their agent is down.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The directory of a host's state files.
#[derive(Debug, Clone)]
pub struct StateDirectory(PathBuf);

/// How a migration stands: a file name's extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    Prepared,
    Committed,
    Running,
    Refused,
    Source,
}

impl Stand {
    const ALL: [Stand; 5] = [Stand::Prepared, Stand::Committed, Stand::Running, Stand::Refused, Stand::Source];

    fn word(self) -> &'static str {
        match self {
            Stand::Prepared => "prepared",
            Stand::Committed => "committed",
            Stand::Running => "running",
            Stand::Refused => "refused",
            Stand::Source => "source",
        }
    }
}

/// How a file says whether the process was stopped by job control before it moved.
fn job_word(stopped: bool) -> &'static str {
    if stopped { "stopped" } else { "running" }
}

/// What [`job_word`] said.
fn was_stopped(word: &str) -> Option<bool> {
    [true, false].into_iter().find(|stopped| job_word(*stopped) == word)
}

impl StateDirectory {
    /// This host's.
    pub fn of_this_host() -> StateDirectory {
        StateDirectory(PathBuf::from(STATE_DIRECTORY))
    }

    /// Another one, for tests.
    pub fn at(path: &Path) -> StateDirectory {
        StateDirectory(path.into())
    }

    fn path(&self, id: MigrationId, stand: Stand) -> PathBuf {
        self.0.join(format!("{id}.{}", stand.word()))
    }

    /// Makes a file in one piece, locked by whoever holds what is returned.
    fn create(&self, id: MigrationId, stand: Stand, text: &str) -> io::Result<File> {
        fs::create_dir_all(&self.0)?;
        let new = self.0.join(format!("{id}.new"));
        let mut file = File::create(&new)?;
        file.lock()?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        fs::rename(new, self.path(id, stand))?;
        Ok(file)
    }

    /// The one step that decides. Ok(false): somebody else has made it before.
    fn step(&self, id: MigrationId, from: Stand, to: Stand) -> io::Result<bool> {
        match fs::rename(self.path(id, from), self.path(id, to)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Reads a file. None: there is none.
    fn read(&self, id: MigrationId, stand: Stand) -> io::Result<Option<String>> {
        match fs::read_to_string(self.path(id, stand)) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Takes a file over from one who has died. None: it is not there, or somebody works on it.
    fn take_over(&self, id: MigrationId, stand: Stand) -> io::Result<Option<(File, String)>> {
        let path = self.path(id, stand);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(e)) => return Err(e),
        }
        // Its owner may have renamed it between the opening and the lock.
        if !path.exists() {
            return Ok(None);
        }
        let mut text = String::new();
        io::Read::read_to_string(&mut file, &mut text)?;
        Ok(Some((file, text)))
    }

    fn list(&self) -> io::Result<Vec<(MigrationId, Stand)>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let Some((id, word)) = name.to_str().and_then(|n| n.split_once('.')) else { continue };
            let stand = Stand::ALL.into_iter().find(|s| s.word() == word);
            if let (Ok(id), Some(stand)) = (id.parse(), stand) {
                found.push((id, stand));
            }
        }
        Ok(found)
    }
}

fn malformed(path: &Path, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {text:?} is no state", path.display()))
}
