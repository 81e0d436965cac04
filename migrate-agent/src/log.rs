//! Lines on standard error: for a person at a terminal, for the journal otherwise.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::LevelFilter;

use crate::arguments::LogLevel;

/// Starts logging. Called once, before any thread.
pub fn start(level: LogLevel) {
    let level = LevelFilter::from(level);
    let colours = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(colours).with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        lines.with_max_level(level).without_time().init(); // the journal has its own clock
    } else {
        lines.with_max_level(level).init();
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}
