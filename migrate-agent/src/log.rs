//! Where the agent's lines go: to the journal, with fields, where systemd has started it; else to standard error.
//!
//! In the journal every value of a line is a field: `MIGRATE_PID`, `MIGRATE_HOST`, `MIGRATE_ID`, `MIGRATE_PHASE`, `MIGRATE_OUTCOME`,
//! `MIGRATE_DOWNTIME_US` and so on. The lines of both hosts about one migration have the same `MIGRATE_ID`.

use std::fs;
use std::io::{self, IsTerminal};

use nix::sys::stat::fstat;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::arguments::LogLevel;

/// Starts logging. Called once, before any thread.
pub fn start(level: LogLevel) {
    let level = LevelFilter::from(level);
    if let Some(journal) = journal() {
        tracing_subscriber::registry().with(level).with(journal).init();
        return;
    }
    // The message says it all, but for the migration to which it belongs.
    let fields = format::debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        "id" => write!(writer, "{value:?} "),
        _ => Ok(()),
    });
    let colours = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(colours).with_target(false);
    lines.with_max_level(level).fmt_fields(fields).init();
}

/// The journal, if standard error leads there.
fn journal() -> Option<tracing_journald::Layer> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = fstat(io::stderr()).ok()?;
    // A program that redirects the agent's output has the variable too (systemd.exec(5)).
    if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
        return None;
    }
    let layer = tracing_journald::layer().ok()?;
    let layer = layer
        .with_field_prefix(Some("MIGRATE".into()))
        .with_syslog_identifier("migrate-agent".into())
        .with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        });
    // `journalctl -u` shows what is said about a unit too. What serves a migration leaves the agent's unit.
    let unit = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| service_of(&text).map(str::to_owned));
    Some(layer.with_custom_fields(unit.map(|unit| ("OBJECT_SYSTEMD_UNIT", unit))))
}

/// The service that a process belongs to, from its /proc/PID/cgroup.
fn service_of(cgroup: &str) -> Option<&str> {
    let systemd = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
    let paths = cgroup.lines().filter(systemd);
    paths.flat_map(|line| line.rsplit('/')).find(|part| part.ends_with(".service"))
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

#[cfg(test)]
mod tests {
    use super::service_of;

    #[test]
    fn a_service_is_found_in_either_hierarchy() {
        assert_eq!(service_of("0::/system.slice/migrate-agent.service\n"), Some("migrate-agent.service"));
        let hybrid = "4:memory:/x.service\n1:name=systemd:/system.slice/a.service/sub\n0::/\n";
        assert_eq!(service_of(hybrid), Some("a.service"));
        assert_eq!(service_of("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(service_of(""), None);
    }
}
