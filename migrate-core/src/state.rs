//! State files: what became of a migration, for whoever asks after an agent has died. In /run: they must outlive an agent, not the
//! host, so nothing is synced.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::plan::STATE_DIRECTORY;
use crate::protocol::preamble::MigrationId;

/// How far the destination of a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// It could run here, and does not.
    Prepared,
    /// It is to run here, and only here.
    Committed,
    /// It runs here.
    Running,
}

impl Stand {
    fn word(self) -> &'static str {
        match self {
            Stand::Prepared => "prepared",
            Stand::Committed => "committed",
            Stand::Running => "running",
        }
    }
}

fn path(id: MigrationId) -> PathBuf {
    PathBuf::from(STATE_DIRECTORY).join(format!("{id}.destination"))
}

/// Writes it, in one piece: a reader sees the old file or the new one.
pub fn write(id: MigrationId, stand: Stand, pid: i32) -> io::Result<()> {
    let place = path(id);
    let new = place.with_extension("new");
    fs::create_dir_all(STATE_DIRECTORY)?;
    fs::write(&new, format!("{} {pid}\n", stand.word()))?;
    fs::rename(new, place)
}

/// Reads it. None: this host has never been ready to run it, or has discarded it.
pub fn read(id: MigrationId) -> io::Result<Option<(Stand, i32)>> {
    let text = match fs::read_to_string(path(id)) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut words = text.split_whitespace();
    let stand = [Stand::Prepared, Stand::Committed, Stand::Running]
        .into_iter()
        .find(|s| words.clone().next() == Some(s.word()));
    let pid = words.nth(1).and_then(|w| w.parse().ok());
    stand
        .zip(pid)
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {text:?}", path(id).display())))
}

/// Removes it.
pub fn remove(id: MigrationId) {
    // It is not there when the destination never was ready.
    let _ = fs::remove_file(path(id));
}
