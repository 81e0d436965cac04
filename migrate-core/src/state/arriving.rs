//! The destination's files.

use std::fs::File;
use std::io;
use std::time::SystemTime;

use nix::libc;

use super::{KEPT, Named, Stand, StateDirectory, job_word, malformed, was_stopped};
use crate::protocol::preamble::MigrationId;

/// What became of a migration, as its destination knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It runs here, or did until it ended.
    Committed(Named),
    /// It does not run here, and never will.
    Refused,
    /// There is no trace of it.
    Unknown,
}

/// A process that is ready to run, for the process that made it. Dropped before [`Arrival::commit`], it is refused.
#[derive(Debug)]
pub struct Arrival {
    directory: StateDirectory,
    id: MigrationId,
    committed: bool,
    /// Locked for as long as this process lives.
    _file: File,
}

impl Arrival {
    /// It could run, as `process` of the host; `stopped`: job control has stopped it, and it is to stay so.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn prepared(directory: StateDirectory, id: MigrationId, process: Named, stopped: bool) -> io::Result<Arrival> {
        let file = directory.create(id, Stand::Prepared, &content(process, stopped))?;
        Ok(Arrival { directory, id, committed: false, _file: file })
    }

    /// From here on it is to run here, and only here. Ok(false): the source has been told that it never will.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn commit(&mut self) -> io::Result<bool> {
        self.committed = self.directory.step(self.id, Stand::Prepared, Stand::Committed)?;
        Ok(self.committed)
    }

    /// It runs.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn running(self) -> io::Result<()> {
        self.directory.step(self.id, Stand::Committed, Stand::Running).map(drop)
    }
}

fn content(process: Named, stopped: bool) -> String {
    format!("{process}\n{}\n", job_word(stopped))
}

fn parse(text: &str) -> Option<(Named, bool)> {
    let (process, job) = text.split_once('\n')?;
    Some((process.parse().ok()?, was_stopped(job.trim_end())?))
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = self.directory.step(self.id, Stand::Prepared, Stand::Refused)
        {
            tracing::warn!("noting that migration {} is refused: {error}", self.id);
        }
    }
}

impl StateDirectory {
    /// What became of a migration, for a source whose connection broke. A process that is not committed yet never will be after
    /// this. Only a host's agent may ask: it sees the PIDs that the files name.
    ///
    /// # Errors
    /// When the files cannot be read or renamed; nothing is known then.
    pub fn settle(&self, id: MigrationId) -> io::Result<Verdict> {
        if self.step(id, Stand::Prepared, Stand::Refused)? {
            self.finish(id)?;
            return Ok(Verdict::Refused);
        }
        self.finish(id)?;
        // In the order in which they become one another.
        for stand in [Stand::Committed, Stand::Running] {
            if let Some(text) = self.read(id, stand)? {
                let (named, _) = parse(&text).ok_or_else(|| malformed(&self.path(id, stand), &text))?;
                return Ok(Verdict::Committed(named));
            }
        }
        Ok(if self.path(id, Stand::Refused).exists() { Verdict::Refused } else { Verdict::Unknown })
    }

    /// Does what a process that served a migration would have done next, had it not died.
    fn finish(&self, id: MigrationId) -> io::Result<()> {
        if let Some((_lock, text)) = self.take_over(id, Stand::Committed)? {
            let (named, stopped) = parse(&text).ok_or_else(|| malformed(&self.path(id, Stand::Committed), &text))?;
            if !stopped {
                named.go_on()?;
            }
            self.step(id, Stand::Committed, Stand::Running)?;
        }
        // Its creator's end was its own, but for the moment in which it is handed over.
        if let Some((_lock, text)) = self.take_over(id, Stand::Refused)?
            && let Some((named, _)) = parse(&text)
        {
            named.signal(libc::SIGKILL)?;
        }
        Ok(())
    }

    /// Brings to an end what dead processes have left half done, and removes what is [`KEPT`] no longer.
    pub fn sweep(&self) {
        let listed = self.list().unwrap_or_else(|error| {
            tracing::warn!("listing the state files: {error}");
            Vec::new()
        });
        for (id, stand) in listed {
            let swept = match stand {
                Stand::Prepared => self.refuse_orphan(id),
                Stand::Committed => self.finish(id),
                Stand::Refused => self.finish(id).and_then(|()| self.forget_old(id, stand)),
                Stand::Running => self.forget_old(id, stand),
                Stand::Source => Ok(()),
            };
            if let Err(error) = swept {
                tracing::warn!("migration {id}, {}: {error}", stand.word());
            }
        }
    }

    fn refuse_orphan(&self, id: MigrationId) -> io::Result<()> {
        let Some((lock, _)) = self.take_over(id, Stand::Prepared)? else { return Ok(()) };
        let refused = self.step(id, Stand::Prepared, Stand::Refused)?;
        drop(lock);
        if refused { self.finish(id) } else { Ok(()) }
    }

    fn forget_old(&self, id: MigrationId, stand: Stand) -> io::Result<()> {
        let path = self.path(id, stand);
        let written = match path.metadata() {
            Ok(metadata) => metadata.modified()?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        // A clock that was set back makes files of the future: they are kept.
        if SystemTime::now().duration_since(written).is_ok_and(|age| age > KEPT) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    const ID: MigrationId = MigrationId([7; 16]);

    fn directory() -> (tempfile::TempDir, StateDirectory) {
        let held = tempfile::tempdir().expect("a directory");
        let states = StateDirectory::at(&held.path().join("states"));
        (held, states)
    }

    fn sleeper() -> (Child, Named) {
        let child = Command::new("sleep").arg("100").spawn().expect("sleep");
        let named = Named::of(child.id() as i32).expect("it is there");
        (child, named)
    }

    #[test]
    fn each_stand_has_its_answer() {
        let (_held, states) = directory();
        let me = Named::of(std::process::id() as i32).expect("this process");
        assert_eq!(states.settle(ID).expect("asked"), Verdict::Unknown);
        let mut arrival = Arrival::prepared(states.clone(), ID, me, false).expect("written");
        assert!(arrival.commit().expect("renamed"));
        assert_eq!(states.settle(ID).expect("asked"), Verdict::Committed(me));
        arrival.running().expect("renamed");
        assert_eq!(states.settle(ID).expect("asked"), Verdict::Committed(me));
    }

    #[test]
    fn what_was_answered_stays_so() {
        let (_held, states) = directory();
        let (mut child, named) = sleeper();
        let mut arrival = Arrival::prepared(states.clone(), ID, named, false).expect("written");
        assert_eq!(states.settle(ID).expect("asked"), Verdict::Refused);
        assert!(!arrival.commit().expect("asked"), "it was refused");
        assert!(named.is_there().expect("asked"), "as long as its creator lives, it is its creator's to kill");
        drop(arrival);
        assert_eq!(states.settle(ID).expect("asked"), Verdict::Refused);
        child.wait().expect("waited");
    }

    #[test]
    fn dropped_it_is_refused() {
        let (_held, states) = directory();
        let (mut child, named) = sleeper();
        drop(Arrival::prepared(states.clone(), ID, named, false).expect("written"));
        assert_eq!(states.settle(ID).expect("asked"), Verdict::Refused);
        assert_eq!(child.wait().expect("waited").signal(), Some(libc::SIGKILL), "what is left of it is killed");
    }

    #[test]
    fn a_commit_and_a_question_at_once_agree() {
        let (mut child, named) = sleeper();
        let (mut committed, mut refused) = (0, 0);
        for _ in 0..500 {
            let (_held, states) = directory();
            let mut arrival = Arrival::prepared(states.clone(), ID, named, false).expect("written");
            let together = Barrier::new(2);
            let (went, verdict) = thread::scope(|s| {
                let commit = s.spawn(|| {
                    together.wait();
                    arrival.commit().expect("asked")
                });
                together.wait();
                let verdict = states.settle(ID).expect("asked");
                (commit.join().expect("joined"), verdict)
            });
            match went {
                true => assert_eq!(verdict, Verdict::Committed(named)),
                false => assert_eq!(verdict, Verdict::Refused),
            }
            *if went { &mut committed } else { &mut refused } += 1;
        }
        child.kill().expect("killed");
        child.wait().expect("waited");
        println!("{committed} committed, {refused} refused");
    }

    #[test]
    fn what_the_dead_left_is_finished() {
        let (_held, states) = directory();
        let text = |named: Named| content(named, false);
        let (mut stopped, committed) = sleeper();
        let (mut half_made, prepared) = sleeper();
        committed.signal(libc::SIGSTOP).expect("stopped");
        while !crate::proc::stat::read_stat(committed.pid).is_ok_and(|s| s.state == b'T') {
            thread::yield_now();
        }
        let other = MigrationId([8; 16]);
        drop(states.create(ID, Stand::Committed, &text(committed)).expect("written"));
        drop(states.create(other, Stand::Prepared, &text(prepared)).expect("written"));
        states.sweep();
        assert_eq!(half_made.wait().expect("waited").signal(), Some(libc::SIGKILL));
        assert_eq!(states.settle(other).expect("asked"), Verdict::Refused);
        assert_eq!(states.settle(ID).expect("asked"), Verdict::Committed(committed));
        assert!(states.path(ID, Stand::Running).exists());
        while crate::proc::stat::read_stat(committed.pid).is_ok_and(|s| s.state == b'T') {
            thread::yield_now();
        }
        stopped.kill().expect("killed");
        stopped.wait().expect("waited");
    }

    #[test]
    fn only_the_old_is_forgotten() {
        let (_held, states) = directory();
        let (old, new) = (MigrationId([1; 16]), MigrationId([2; 16]));
        for id in [old, new] {
            drop(states.create(id, Stand::Refused, "1 1\n").expect("written"));
        }
        let past = SystemTime::now() - KEPT * 2;
        let file = File::options().write(true).open(states.path(old, Stand::Refused)).expect("there");
        file.set_modified(past).expect("set");
        fs::write(states.0.join("agent.sock"), "").expect("written");
        states.sweep();
        assert_eq!(states.list().expect("listed"), [(new, Stand::Refused)]);
    }
}
