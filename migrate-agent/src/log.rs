//! Lines on standard error: for a person at a terminal, for the journal otherwise.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::LevelFilter;

/// Starts logging. Called once, before any thread.
pub fn start(level: &str) {
    let level = level.parse().unwrap_or(LevelFilter::INFO);
    let colours = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(colours).with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.with_max_level(level).without_time().init(); // the journal has its own clock
    } else {
        lines.with_max_level(level).init();
    }
}
