//! Waiting that ends.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use migrate_linux::libc;

/// For what takes seconds at most.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Fails when it takes too long: by then the process has been killed, so that nobody waits any longer.
pub fn in_time(pid: i32, work: impl FnOnce() + Send) {
    let (done, end) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            work();
            let _ = done.send(());
        });
        let ended = end.recv_timeout(PATIENCE);
        if ended.is_err() {
            // SAFETY: no memory is involved.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        ended.expect("it is waited for for ever");
    });
}
