//! The source's file: a process that stands still here while it may run over there.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;

use nix::libc;

use super::{Named, Stand, StateDirectory, job_word, malformed, was_stopped};
use crate::phases::take_again_in;
use crate::protocol::preamble::MigrationId;
use crate::resources::process::file_locks::FileLock;

/// Where a process in doubt is said to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On this host: it goes on.
    Here,
    /// At the destination: what stands here is killed.
    There,
}

/// A migration whose outcome nobody knows; from its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The migration.
    pub id: MigrationId,
    /// The process here.
    pub process: Named,
    /// Where its destination's agent answered.
    pub address: SocketAddr,
    /// The destination as the operator wrote it.
    pub host: String,
    /// It was stopped before it was to move (by job control), and stays so when it goes on here.
    pub stopped: bool,
    /// The file locks that the process had; it may have given them up.
    pub locks: Vec<FileLock>,
}

/// A doubt that is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// It.
    pub doubt: Doubt,
    /// The process had not ended.
    pub was_there: bool,
    /// It goes on here, but not as it was: without some of its locks.
    pub warning: Option<String>,
}

/// The file, while its migration is at work. Dropped, it stays: then the migration is in doubt.
#[derive(Debug)]
pub struct Leaving {
    directory: StateDirectory,
    id: MigrationId,
    /// Locked for as long as this process lives.
    _file: File,
}

impl Leaving {
    /// Notes it: to be done before Commit is sent.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note(directory: StateDirectory, doubt: &Doubt) -> io::Result<Leaving> {
        let Doubt { id, process, address, host, stopped, locks } = doubt;
        let mut text = format!("{process}\n{address}\n{host}\n{}\n", job_word(*stopped));
        locks.iter().for_each(|lock| text.extend([lock.to_string().as_str(), "\n"]));
        let file = directory.create(*id, Stand::Source, &text)?;
        Ok(Leaving { directory, id: *id, _file: file })
    }

    /// It is known where the process runs, and there is nothing left to be done.
    pub fn settled(self) {
        if let Err(error) = fs::remove_file(self.directory.path(self.id, Stand::Source)) {
            tracing::warn!("removing the state file of migration {}: {error}", self.id);
        }
    }
}

impl StateDirectory {
    /// The migrations that are in doubt here and that nobody is working on.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn doubts(&self) -> io::Result<Vec<Doubt>> {
        let mut doubts = Vec::new();
        for (id, stand) in self.list()? {
            if stand == Stand::Source
                && let Some((_lock, doubt)) = self.doubt(id)?
            {
                doubts.push(doubt);
            }
        }
        doubts.sort_by_key(|d| d.process.pid);
        Ok(doubts)
    }

    fn doubt(&self, id: MigrationId) -> io::Result<Option<(File, Doubt)>> {
        let Some((lock, text)) = self.take_over(id, Stand::Source)? else { return Ok(None) };
        let mut lines = text.lines();
        let process = lines.next().and_then(|l| l.parse().ok());
        let address = lines.next().and_then(|l| l.parse().ok());
        let host = lines.next();
        let stopped = lines.next().and_then(was_stopped);
        let (Some(process), Some(address), Some(host), Some(stopped)) = (process, address, host, stopped) else {
            return Err(malformed(&self.path(id, Stand::Source), &text));
        };
        let locks = lines.map(str::parse).collect::<Result<_, _>>();
        let locks = locks.map_err(|()| malformed(&self.path(id, Stand::Source), &text))?;
        Ok(Some((lock, Doubt { id, process, address, host: host.into(), stopped, locks })))
    }

    /// Settles one. Ok(None): it is not in doubt here, or somebody is settling it.
    ///
    /// # Errors
    /// When its file cannot be read or removed, or the process not signalled.
    pub fn resolve(&self, id: MigrationId, place: Place) -> io::Result<Option<Settled>> {
        let Some((_lock, doubt)) = self.doubt(id)? else { return Ok(None) };
        let (was_there, warning) = match place {
            Place::Here => go_on(&doubt)?,
            Place::There => (doubt.process.signal(libc::SIGKILL)?, None),
        };
        fs::remove_file(self.path(id, Stand::Source))?;
        Ok(Some(Settled { doubt, was_there, warning }))
    }
}

/// Whether it has not ended, and what it goes on without.
fn go_on(doubt: &Doubt) -> io::Result<(bool, Option<String>)> {
    let Some(stands) = doubt.process.stands_let_go()? else { return Ok((false, None)) };
    let warning = take_again_in(doubt.process.pid, &doubt.locks).err().map(|error| error.to_string());
    // Whether it stands does not show right after that.
    let was_there = if stands && !doubt.stopped { doubt.process.signal(libc::SIGCONT)? } else { true };
    Ok((was_there, warning))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;
    use crate::resources::process::file_locks::LockKind;

    #[test]
    fn a_doubt_is_settled_once() {
        let held = tempfile::tempdir().expect("a directory");
        let states = StateDirectory::at(held.path());
        let mut child = Command::new("sleep").arg("100").spawn().expect("sleep");
        let doubt = Doubt {
            id: MigrationId([5; 16]),
            process: Named::of(child.id() as i32).expect("it is there"),
            address: "10.0.0.2:7070".parse().expect("an address"),
            host: "beta".into(),
            stopped: true,
            locks: vec![
                FileLock { kind: LockKind::Posix, descriptor: 3, write: true, start: 0, length: 0 },
                FileLock { kind: LockKind::Flock, descriptor: 4, write: false, start: 7, length: 8 },
            ],
        };
        let leaving = Leaving::note(states.clone(), &doubt).expect("written");
        assert_eq!(states.doubts().expect("listed"), [], "at work");
        assert_eq!(states.resolve(doubt.id, Place::There).expect("asked"), None, "at work");
        drop(leaving);
        assert_eq!(states.doubts().expect("listed"), std::slice::from_ref(&doubt));
        assert_eq!(
            states.resolve(doubt.id, Place::There).expect("killed"),
            Some(Settled { doubt: doubt.clone(), was_there: true, warning: None })
        );
        assert_eq!(child.wait().expect("waited").signal(), Some(libc::SIGKILL));
        assert_eq!(states.resolve(doubt.id, Place::There).expect("asked"), None);
        Leaving::note(states.clone(), &doubt).expect("written").settled();
        assert_eq!(states.doubts().expect("listed"), []);
    }
}
