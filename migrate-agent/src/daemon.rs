//! The daemon's life: start, serve, stop.

use std::convert::Infallible;
use std::future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::arguments::LogLevel;
use crate::leaving::Departures;
use crate::local::{self, Desk};
use crate::receivers::Receivers;
use crate::settings::Settings;
use crate::{capabilities, doubts, peers};

/// What moves that cannot be undone any more may take once the agent has been told to stop. The unit's TimeoutStopSec is longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    capabilities::require()?;
    let clients = local::bind(&settings.socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    let served = runtime.block_on(serve(settings.listen, clients, settings.log));
    // At once: from here on the path may be another agent's.
    forget(settings.socket);
    let desk = served?;
    match runtime.block_on(async { timeout(PATIENCE, desk.all_answered()).await }) {
        Ok(()) => tracing::info!("stopped"),
        Err(_) => tracing::warn!("stopped while moves were still running: their processes go on where they are"),
    }
    Ok(())
}

/// Serves peers and clients until a signal says to stop, and then for as long as moves from here need to end. Both listeners are
/// closed after that.
///
/// Moves to here have processes of their own, and are left alone: they go on without this one.
async fn serve(listen: SocketAddr, clients: UnixListener, log: LogLevel) -> anyhow::Result<Arc<Desk>> {
    let peers = TcpListener::bind(listen).await.with_context(|| {
        format!("listening on {listen}: is another agent running there? --listen takes another address or port")
    })?;
    let listen = peers.local_addr().context("listening")?;
    let receivers = Arc::new(Receivers::new(log));
    let departures = Arc::new(Departures::default());
    let desk = Arc::new(Desk::new(listen, Arc::clone(&departures), Arc::clone(&receivers)));
    let clients = tokio::net::UnixListener::from_std(clients).context("listening for clients")?;
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let stopping = Arc::new(AtomicBool::new(false));
    let mut leaving = departures.count();
    let status = tell_status(listen, departures.count(), receivers.count());
    let for_clients = Arc::clone(&desk);
    let service = async {
        tokio::select! {
            never = peers::accept(peers, Arc::clone(&receivers), Arc::clone(&stopping)) => never,
            never = local::accept(clients, for_clients) => never,
            never = doubts::settle() => never,
            never = feed_watchdog() => never,
            never = status => never,
        }
    };
    tokio::pin!(service);

    tracing::info!("listening on {listen}, version {}", env!("CARGO_PKG_VERSION"));
    notify(&[NotifyState::Ready]);
    let why = tokio::select! {
        never = &mut service => match never {},
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    notify(&[NotifyState::Stopping]);
    stopping.store(true, Ordering::Relaxed);
    departures.stop();
    match *leaving.borrow() {
        0 => tracing::info!("stopping ({why})"),
        moves => tracing::info!(moves, "stopping ({why}); moves away from here that must end first: {moves}"),
    }
    tokio::select! {
        never = &mut service => match never {},
        _ = leaving.wait_for(|count| *count == 0) => {}
        _ = tokio::time::sleep(PATIENCE) => {}
    }
    Ok(desk)
}

/// Says in `systemctl status` what the agent is doing.
async fn tell_status(
    listen: SocketAddr,
    mut leaving: watch::Receiver<usize>,
    mut arriving: watch::Receiver<usize>,
) -> Infallible {
    loop {
        let (out, into) = (*leaving.borrow_and_update(), *arriving.borrow_and_update());
        notify(&[NotifyState::Status(&format!(
            "listening on {listen}; moves from here: {out}, served to here: {into}"
        ))]);
        // An agent whose lists are gone ends.
        let _ = tokio::select! {
            changed = leaving.changed() => changed,
            changed = arriving.changed() => changed,
        };
    }
}

/// Tells systemd twice in its interval that the control loop still turns (sd_watchdog_enabled(3)).
async fn feed_watchdog() -> Infallible {
    let Some(interval) = sd_notify::watchdog_enabled() else { return future::pending().await };
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("telling systemd: {error}");
    }
}

fn forget(socket: PathBuf) {
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("removing {}: {error}", socket.display());
        }
        _ => {}
    }
}
