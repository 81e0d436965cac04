//! Ctrl-C, a closed terminal and `kill` during a move.

use std::io::Write;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// From here on these signals reach `arrived` instead of ending this process. Called before any other thread is made,
/// so that all inherit the mask.
pub fn take_over(mut arrived: impl FnMut() + Send + 'static) -> nix::Result<()> {
    let signals: SigSet = SIGNALS.into_iter().collect();
    signals.thread_block()?;
    let wait = move || {
        while signals.wait().is_ok() {
            arrived();
        }
    };
    // Without the thread the signals just wait until the move has ended.
    let _ = thread::Builder::new().name("signals".into()).spawn(wait);
    Ok(())
}

/// A line on standard error, which may be gone.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "\n{line}");
}
