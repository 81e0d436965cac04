//! What the daemon can be told.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use migrate_core::protocol::preamble::MigrationId;
use serde::Deserialize;

/// Takes running processes from other hosts, and sends this host's away.
///
/// One agent runs on every host, as root. `migrate-cli push PID HOST` asks this host's agent, through its unix socket, to
/// move a process to the agent of HOST.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  migrate-agent                                     only this host can reach it
  migrate-agent --listen 10.0.0.1:7070 --insecure   other hosts can; read what --insecure says
  migrate-agent --config /etc/migrate/agent.toml    as that file says: listen = \"10.0.0.1:7070\", insecure = true

SIGTERM and SIGINT end it gracefully: moves that can still be undone are, others are finished. What has moved here is not touched."
)]
pub struct Arguments {
    /// Where other agents connect [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,

    /// Where this host's clients connect: a unix socket that only its owner may use [default: /run/migrate/agent.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Listen on a network without proof of who connects: whoever reaches the port can start processes as root here
    #[arg(long)]
    pub insecure: bool,

    /// How much to log, on standard error or to the journal [default: info]
    #[arg(long, global = true, value_name = "LEVEL", value_enum)]
    pub log: Option<LogLevel>,

    /// Read options from this file (TOML): each of these by its name; the command line goes before it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "their names say it")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve one incoming migration: the agent runs itself so, and nobody else does
    #[command(hide = true)]
    Receive {
        /// The migration.
        #[arg(long)]
        id: MigrationId,
    },

    /// Write the manual pages and shell completions into a directory: for packaging
    #[command(hide = true)]
    Manual {
        /// The directory.
        directory: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_hides_what_only_the_agent_runs_and_tells_the_defaults() {
        let help = Arguments::command().render_long_help().to_string();
        let Settings { listen, socket, .. } = Settings::default();
        for shown in ["--listen", &listen.to_string(), &socket.display().to_string(), "[default: info]", "--insecure"] {
            assert!(help.contains(shown), "{shown} is not in\n{help}");
        }
        assert!(!help.contains("receive") && !help.contains("packaging"), "{help}");
    }
}
