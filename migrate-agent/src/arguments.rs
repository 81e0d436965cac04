//! What the daemon can be told.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use migrate_core::plan::{DEFAULT_PORT, DEFAULT_SOCKET};
use migrate_core::protocol::preamble::MigrationId;

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
  migrate-agent --listen 10.0.0.1:7070 --insecure   other hosts can; read what --insecure says"
)]
pub struct Arguments {
    /// Where other agents connect
    #[arg(long, value_name = "ADDR:PORT", default_value_t = SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)))]
    pub listen: SocketAddr,

    /// Where this host's clients connect: a unix socket that only its owner may use
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// Listen on a network without proof of who connects: whoever reaches the port can start processes as root here
    #[arg(long)]
    pub insecure: bool,

    /// How much to log, on standard error
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info",
          value_parser = PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"]))]
    pub log: String,

    #[command(subcommand)]
    pub command: Option<Command>,
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
}

impl Arguments {
    /// Refuses a network address unless the operator has said that it is meant.
    pub fn refuse_exposure(&self) -> anyhow::Result<()> {
        let ip = self.listen.ip().to_canonical();
        if self.insecure || ip.is_loopback() {
            return Ok(());
        }
        anyhow::bail!(
            "--listen {}: whoever can reach this port can start processes as root on this host, because agents do not \
             prove to each other yet who they are (mutual TLS). Listen on 127.0.0.1, or add --insecure when everybody \
             on that network may have root here",
            self.listen
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split_whitespace()).expect("valid")
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn only_loopback_needs_no_word() {
        for listen in ["127.0.0.1:7070", "127.8.0.1:1", "[::1]:7070", "[::ffff:127.0.0.1]:7070"] {
            assert!(parse(&format!("agent --listen {listen}")).refuse_exposure().is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:7070", "10.0.0.1:7070", "[::]:7070"] {
            let error = parse(&format!("agent --listen {listen}")).refuse_exposure().expect_err(listen).to_string();
            assert!(error.contains("root") && error.contains("--insecure"), "{error}");
            assert!(parse(&format!("agent --listen {listen} --insecure")).refuse_exposure().is_ok(), "{listen}");
        }
    }

    #[test]
    fn the_help_hides_what_only_the_agent_runs() {
        let help = Arguments::command().render_long_help().to_string();
        assert!(help.contains("--listen") && help.contains("127.0.0.1:7070") && help.contains("--insecure"), "{help}");
        assert!(!help.contains("receive"), "{help}");
    }
}
