//! One process for each incoming migration: a fault in one, or bytes from one peer, reach no other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::env;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use migrate_core::protocol::handoff;
use migrate_core::protocol::local::Arriving;
use migrate_core::protocol::preamble::MigrationId;
use migrate_core::state::StateDirectory;
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::arguments::LogLevel;

/// Incoming migrations at a time.
pub const MOST: usize = 64;

/// The processes that serve incoming migrations.
pub struct Receivers {
    serving: Mutex<HashMap<MigrationId, Receiver>>,
    places: Arc<Semaphore>,
    count: watch::Sender<usize>,
    log: LogLevel,
}

struct Receiver {
    process: u32,
    from: SocketAddr,
    /// Page connections go in here; closed when the process has ended.
    pages: UnixStream,
}

/// The right to start one.
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Receivers {
    /// None yet; they will log as `log` says.
    pub fn new(log: LogLevel) -> Self {
        Receivers {
            serving: Mutex::default(),
            places: Arc::new(Semaphore::new(MOST)),
            count: watch::Sender::default(),
            log,
        }
    }

    /// Room for one more, if there is.
    pub fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(|permit| Place { _permit: permit })
    }

    /// How many are being served, now and from now on.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Whether migration `id` is being served.
    pub fn knows(&self, id: MigrationId) -> bool {
        self.serving().contains_key(&id)
    }

    /// Starts the process that serves migration `id` on `control`.
    pub fn start(
        self: &Arc<Self>,
        place: Place,
        id: MigrationId,
        control: TcpStream,
        from: SocketAddr,
    ) -> anyhow::Result<()> {
        let (pages, theirs) = UnixStream::pair().context("making a socket pair")?;
        let mut serving = self.serving();
        let Entry::Vacant(entry) = serving.entry(id) else { anyhow::bail!("migration {id} is being served already") };
        let child =
            self.spawn(id, control, theirs).with_context(|| format!("starting a process for migration {id}"))?;
        let process = child.id().unwrap_or(0);
        entry.insert(Receiver { process, from, pages });
        self.count.send_replace(serving.len());
        drop(serving);
        tracing::info!(%id, %from, process, "migration {id} from {from}: served by process {process}");
        tokio::spawn(reap(Arc::clone(self), place, id, child));
        Ok(())
    }

    /// Gives a page connection to the process that serves migration `id`.
    pub fn give_pages(&self, id: MigrationId, connection: &TcpStream) -> anyhow::Result<()> {
        let serving = self.serving();
        let receiver = serving.get(&id).with_context(|| format!("migration {id} has just ended"))?;
        handoff::give(&receiver.pages, connection)
            .with_context(|| format!("migration {id}: handing a page connection to process {}", receiver.process))
    }

    /// Who is being served.
    pub fn list(&self) -> Vec<Arriving> {
        let arriving =
            |(id, r): (&MigrationId, &Receiver)| Arriving { id: *id, from: r.from.to_string(), served_by: r.process };
        self.serving().iter().map(arriving).collect()
    }

    /// This very program, with the two sockets as its standard input and output: the two descriptors that a process can
    /// be given, and take back as owned, without `unsafe`. All others are close-on-exec.
    fn spawn(&self, id: MigrationId, control: TcpStream, pages: UnixStream) -> std::io::Result<Child> {
        // Also when the file has been replaced since: /proc/self/exe is what runs, not what lies at its path.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("migrate-agent").args(["receive", "--id", &id.to_string(), "--log", &self.log.to_string()]);
        command.stdin(Stdio::from(OwnedFd::from(control))).stdout(Stdio::from(OwnedFd::from(pages)));
        // Not the agent's notification socket, and not its terminal's Ctrl-C.
        command.env_clear().process_group(0);
        for kept in ["PATH", "RUST_BACKTRACE", "JOURNAL_STREAM"] {
            if let Some(value) = env::var_os(kept) {
                command.env(kept, value);
            }
        }
        #[cfg(feature = "faults")]
        if let Some(fault) = env::var_os(migrate_core::fault::VARIABLE) {
            command.env(migrate_core::fault::VARIABLE, fault);
        }
        command.spawn()
    }

    fn serving(&self) -> MutexGuard<'_, HashMap<MigrationId, Receiver>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The process lives as long as it likes; what it leaves behind is cleared here.
async fn reap(receivers: Arc<Receivers>, place: Place, id: MigrationId, mut child: Child) {
    let status = child.wait().await;
    {
        let mut serving = receivers.serving();
        serving.remove(&id);
        receivers.count.send_replace(serving.len());
    }
    // If it was killed, the process that it made may stand half handed over.
    let swept = tokio::task::spawn_blocking(|| StateDirectory::of_this_host().sweep()).await;
    if let Err(error) = swept {
        tracing::warn!("looking at the state files: {error}");
    }
    drop(place);
    match status {
        Ok(status) if status.success() => tracing::info!(%id, "migration {id}: its process has ended"),
        Ok(status) => tracing::warn!(%id, "migration {id}: its process ended with {status}"),
        Err(error) => tracing::warn!(%id, "migration {id}: waiting for its process: {error}"),
    }
}
