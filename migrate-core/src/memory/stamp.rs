//! Whether a file may have been written since it was looked at last, without reading it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::time::ClockId;

/// The kernel stamps files by a clock that advances with its timer: by 10 ms at most.
const TICK: Duration = Duration::from_millis(10);

/// What every change of a file's content changes as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    size: u64,
    modified: (i64, i64),
    /// Nobody can set this one.
    changed: (i64, i64),
    /// A change after this stamp was taken shows in the next one: the clock has gone on since the change before.
    is_settled: bool,
}

impl Stamp {
    /// Takes it, and lets writes that had begun before end: what is read afterwards is what the stamp is of, or shows in the next one.
    pub fn take(file: &File) -> io::Result<Stamp> {
        // Before the file is looked at.
        let now = Duration::from(ClockId::CLOCK_REALTIME_COARSE.now()?);
        let metadata = file.metadata()?;
        // A write stamps the file when it begins, and has it locked until it ends; so has this, which does nothing: there is no such
        // attribute. That it fails is as it should be.
        let _ = rustix::fs::fremovexattr(file, c"user.migrate.none");
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let age = now.saturating_sub(Duration::new(changed.0.max(0) as u64, changed.1 as u32));
        Ok(Stamp {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed,
            is_settled: age > TICK,
        })
    }

    /// Whether the file has the content now that it had then.
    pub fn is_as_before(&self, before: &Stamp) -> bool {
        before.is_settled && (self.size, self.modified, self.changed) == (before.size, before.modified, before.changed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_fresh_stamp_is_not_believed_and_an_old_one_shows_every_write() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one").unwrap();
        let fresh = Stamp::take(&file).unwrap();
        assert!(!fresh.is_as_before(&fresh));
        let old = loop {
            std::thread::sleep(TICK / 4);
            let stamp = Stamp::take(&file).unwrap();
            if stamp.is_settled {
                break stamp;
            }
        };
        assert!(Stamp::take(&file).unwrap().is_as_before(&old));
        // The size stays, and the time of writing can be set back.
        let times = std::fs::FileTimes::new().set_modified(file.metadata().unwrap().modified().unwrap());
        std::os::unix::fs::FileExt::write_all_at(&file, b"two", 0).unwrap();
        file.set_times(times).unwrap();
        assert!(!Stamp::take(&file).unwrap().is_as_before(&old));
    }
}
