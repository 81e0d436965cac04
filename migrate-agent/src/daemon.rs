//! The daemon's life: start, serve, stop.

use std::future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::LogLevel;
use crate::leaving::Departures;
use crate::local::{self, Desk};
use crate::receivers::Receivers;
use crate::settings::Settings;
use crate::{capabilities, doubts, peers};

/// What running moves may take once the agent has been told to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs until SIGTERM or SIGINT.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    capabilities::require()?;
    let clients = local::bind(&settings.socket)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    let served = runtime.block_on(serve(settings.listen, clients, settings.log));
    // At once: from here on the path may be another agent's.
    forget(settings.socket);
    runtime.block_on(finish(&*served?));
    Ok(())
}

/// Serves peers and clients until a signal says to stop; both listeners are closed then.
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

    tracing::info!("listening on {listen}, version {}", env!("CARGO_PKG_VERSION"));
    notify(NotifyState::Ready);
    tokio::select! {
        _ = peers::accept(peers, receivers) => {}
        _ = local::accept(clients, Arc::clone(&desk)) => {}
        _ = doubts::settle() => {}
        _ = feed_watchdog() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(desk)
}

/// Waits for the moves that are running. Those that arrive have processes of their own, and are left alone.
async fn finish(desk: &Desk) {
    notify(NotifyState::Stopping);
    tracing::info!("stopping; running moves are waited for");
    tokio::select! {
        _ = desk.idle() => tracing::info!("stopped"),
        _ = tokio::time::sleep(PATIENCE) => tracing::warn!("stopped while moves were still running"),
    }
}

/// Tells systemd twice in its interval that the control loop still turns (sd_watchdog_enabled(3)).
async fn feed_watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return future::pending().await };
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        notify(NotifyState::Watchdog);
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
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
