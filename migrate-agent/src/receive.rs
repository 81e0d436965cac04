//! The process that serves one incoming migration: takes over what the agent gave it.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use migrate_core::protocol::preamble::MigrationId;
use nix::unistd::{dup2_stdin, dup2_stdout};

use crate::scope;

/// Serves migration `id` on the two sockets that are its standard input and output.
pub fn run(id: MigrationId) -> anyhow::Result<()> {
    let control = TcpStream::from(io::stdin().as_fd().try_clone_to_owned().context("taking the control connection")?);
    let pages = UnixStream::from(io::stdout().as_fd().try_clone_to_owned().context("taking the agent's socket")?);
    if control.peer_addr().is_err() || pages.local_addr().is_err() {
        anyhow::bail!("`receive` is for the agent itself: run migrate-agent without it");
    }
    // Whatever reads or prints by mistake must not meet the protocol.
    let null = File::options().read(true).write(true).open("/dev/null").context("opening /dev/null")?;
    dup2_stdin(&null).context("replacing standard input")?;
    dup2_stdout(&null).context("replacing standard output")?;
    drop(null);
    let _span = tracing::error_span!("receive", %id).entered();
    migrate_core::destination::serve(control, pages, id, &|pid, name| leave_service(id, pid, name))
        .map_err(anyhow::Error::from)
        .with_context(|| format!("migration {id}"))
}

/// The process that is about to be made, and this one that may become its init, must not be in the agent's control group.
fn leave_service(id: MigrationId, pid: i32, name: &str) {
    let id = id.to_string();
    let unit = format!("migrate-{pid}-{}.scope", id.get(..8).unwrap_or_default());
    // systemd wants one line of text.
    let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if let Err(error) = scope::enter(&unit, &format!("{name} ({pid}), moved here")) {
        tracing::warn!(pid, "{pid} stays in the control group of this host's agent: {error:#}");
    }
}
