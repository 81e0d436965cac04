//! This host's clients, over the unix socket: each request has a thread of its own, each move another.
//!
//! A move owns its thread from beginning to end, because ptrace(2) accepts a tracee's requests only from the thread that
//! attached to it.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use migrate_core::cancel::Cancel;
use migrate_core::phase::{Event, Outcome, Report};
use migrate_core::phases::source;
use migrate_core::plan::Plan;
use migrate_core::protocol::connection::{Connection, ConnectionError};
use migrate_core::protocol::local::{AgentStatus, LocalReply, LocalRequest};
use migrate_core::protocol::preamble::PROTOCOL_VERSION;
use tokio::sync::Semaphore;

use crate::leaving::{Departures, Ticket};
use crate::receivers::Receivers;

/// Clients at a time, and so moves at a time.
const CLIENTS: u32 = 64;

/// The time that a client has to ask, and to take an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Events that a slow client may be behind; more are dropped, so that the move never waits for it.
const BACKLOG: usize = 1024;

/// What answers a client.
pub struct Desk {
    listen: SocketAddr,
    departures: Arc<Departures>,
    receivers: Arc<Receivers>,
    clients: Arc<Semaphore>,
}

impl Desk {
    /// For an agent that listens on `listen`.
    pub fn new(listen: SocketAddr, departures: Arc<Departures>, receivers: Arc<Receivers>) -> Self {
        Desk { listen, departures, receivers, clients: Arc::new(Semaphore::new(CLIENTS as usize)) }
    }

    /// Waits until every client that has been accepted has been answered. None must be accepted meanwhile.
    pub async fn all_answered(&self) {
        let _all = self.clients.acquire_many(CLIENTS).await;
    }

    fn status(&self) -> AgentStatus {
        AgentStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL_VERSION,
            listen: self.listen.to_string(),
            leaving: self.departures.list(),
            arriving: self.receivers.list(),
        }
    }

    fn answer(&self, stream: UnixStream) -> Result<(), ConnectionError> {
        let failed = |e: io::Error| ConnectionError::Frame(e.into());
        stream.set_nonblocking(false).map_err(failed)?;
        stream.set_read_timeout(Some(DEADLINE)).map_err(failed)?;
        stream.set_write_timeout(Some(DEADLINE)).map_err(failed)?;
        let mut client = Connection::new(stream);
        match client.receive::<LocalRequest>()? {
            LocalRequest::Status => client.send(&LocalReply::Status(self.status())),
            LocalRequest::Push(plan) => match self.departures.enter(&plan) {
                Ok(ticket) => push(client, plan, ticket, self.departures.cancel()),
                Err(why) => client.send(&LocalReply::Refused(why)),
            },
        }
    }
}

/// Makes the socket at `path`, for its owner alone.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("making the directory {}", directory.display()))?;
    }
    if let Ok(found) = fs::symlink_metadata(path) {
        anyhow::ensure!(found.file_type().is_socket(), "{} is there and no socket: remove it", path.display());
        if UnixStream::connect(path).is_ok() {
            anyhow::bail!("another agent answers at {}: stop it, or give this one another --socket", path.display());
        }
        fs::remove_file(path).with_context(|| format!("removing the stale socket {}", path.display()))?;
    }
    // Nobody else may connect, also not between bind and chmod. The process has one thread yet.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    let listener = bound.with_context(|| format!("making the socket {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).context("protecting the socket")?;
    listener.set_nonblocking(true).context("listening for clients")?;
    Ok(listener)
}

/// Accepts clients for ever.
pub async fn accept(listener: tokio::net::UnixListener, desk: Arc<Desk>) -> Infallible {
    loop {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&desk.clients).acquire_owned().await;
        let accepted = listener.accept().await.and_then(|(stream, _)| stream.into_std());
        let result = accepted.and_then(|stream| {
            let desk = Arc::clone(&desk);
            thread::Builder::new().name("client".into()).spawn(move || {
                let _permit = permit;
                match desk.answer(stream) {
                    Ok(()) => {}
                    Err(error) if error.is_closed() => tracing::debug!("a client left without a word"),
                    Err(error) => tracing::warn!("a client: {error}"),
                }
            })
        });
        if let Err(error) = result {
            tracing::warn!("accepting a client: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Runs the move that `plan` asks for in a thread of its own and tells `client` about it, for as long as it listens.
fn push(client: Connection<UnixStream>, plan: Plan, ticket: Ticket, cancel: Cancel) -> Result<(), ConnectionError> {
    let pid = plan.pid;
    let span = tracing::error_span!("push", pid, host = plan.host, id = tracing::field::Empty);
    let _entered = span.enter();
    tracing::info!("moving {pid} to {}", plan.host);
    let (tell, told) = sync_channel(BACKLOG);
    let inside = span.clone();
    let mover = thread::Builder::new().name(format!("move {pid}")).spawn(move || {
        let _entered = inside.enter();
        let events = tell.clone();
        let report =
            source::run(plan, &mut move |event: Event| drop(events.try_send(LocalReply::Event(event))), cancel);
        drop(tell.send(LocalReply::Report(Box::new(report))));
    });
    let mover = mover.map_err(|e| ConnectionError::Frame(e.into()))?;
    relay(client, told, pid, ticket);
    if mover.join().is_err() {
        tracing::error!(
            "moving {pid}: the agent failed inside, which is a fault of it; {pid} runs on where it was, unless \
                         the commit was logged"
        );
    }
    Ok(())
}

/// Logs what a move says, and passes it on until the client is gone.
fn relay(client: Connection<UnixStream>, told: Receiver<LocalReply>, pid: i32, ticket: Ticket) {
    let mut client = Some(client);
    let mut ticket = Some(ticket);
    for reply in told {
        match &reply {
            LocalReply::Event(event) => log(pid, event, ticket.as_ref()),
            LocalReply::Report(report) => {
                // Off the list first: whoever hears that it has ended may ask for the next.
                drop(ticket.take());
                conclude(report);
            }
            LocalReply::Status(_) | LocalReply::Refused(_) => {}
        }
        if let Some(Err(error)) = client.as_mut().map(|client| client.send(&reply)) {
            tracing::warn!("the client that asked to move {pid} is gone ({error}); the move goes on");
            client = None;
        }
    }
}

fn log(pid: i32, event: &Event, ticket: Option<&Ticket>) {
    match event {
        Event::Phase(phase) => {
            tracing::info!(phase = phase.name(), "moving {pid}: {phase}");
            if let Some(ticket) = ticket {
                ticket.reached(phase);
            }
        }
        Event::Progress { sent, expected } => tracing::debug!("moving {pid}: {sent} of {expected} bytes"),
        Event::Warning(warning) => tracing::warn!("moving {pid}: {warning}"),
        Event::Throttle(percent) => tracing::info!("moving {pid}: slowing it down by {percent} %"),
    }
}

fn conclude(report: &Report) {
    let outcome = match report.outcome {
        Outcome::Moved => "moved",
        Outcome::StayedHere { .. } | Outcome::Ended { .. } => "stayed",
        Outcome::InDoubt { .. } => "in-doubt",
    };
    let Report { name, downtime_us, total_us, bytes_sent, .. } = report;
    let rounds = report.rounds.len();
    // The macro takes the level as a constant.
    macro_rules! tell {
        ($level:ident) => {
            tracing::$level!(outcome, name, downtime_us, total_us, bytes_sent, rounds, "{}", report.sentence())
        };
    }
    match report.outcome {
        Outcome::Moved => tell!(info),
        _ => tell!(warn),
    }
}
