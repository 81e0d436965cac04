//! Other agents: every connection says in 32 bytes what it is for, and is handed to whoever serves that.
//!
//! Here is all that a stranger can reach. At most [`WAITING`] connections are undecided, each for [`DEADLINE`] at most;
//! more wait in the kernel's queue.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use migrate_core::protocol::preamble::{
    MigrationId, PREAMBLE_LENGTH, PROTOCOL_VERSION, Preamble, PreambleError, Purpose,
};
use migrate_core::protocol::question::encode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::receivers::Receivers;

/// Connections that have not said yet what they are for.
const WAITING: usize = 256;

/// The time that they have to do so.
const DEADLINE: Duration = Duration::from_secs(10);

/// Accepts connections for ever. Once `stopping`, no new migration; those that are being served get their page connections, and
/// questions their answers.
pub async fn accept(listener: TcpListener, receivers: Arc<Receivers>, stopping: Arc<AtomicBool>) -> Infallible {
    let waiting = Arc::new(Semaphore::new(WAITING));
    loop {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&waiting).acquire_owned().await;
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory, most likely: the queue is still there after a breath.
                tracing::warn!("accepting a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (receivers, stopping) = (Arc::clone(&receivers), Arc::clone(&stopping));
        tokio::spawn(async move {
            let _permit = permit;
            let outcome = timeout(DEADLINE, welcome(stream, from, &receivers, &stopping)).await;
            match outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("it did not say within {DEADLINE:?} what it is for")))
            {
                Ok(()) => {}
                Err(error) => tracing::info!("connection from {from} closed: {error:#}"),
            }
        });
    }
}

async fn welcome(
    mut stream: TcpStream,
    from: SocketAddr,
    receivers: &Arc<Receivers>,
    stopping: &AtomicBool,
) -> anyhow::Result<()> {
    let mut bytes = [0; PREAMBLE_LENGTH];
    stream.read_exact(&mut bytes).await.context("it ended before it said what it is for")?;
    let preamble = match Preamble::parse(bytes) {
        Ok(preamble) => preamble,
        Err(error) => {
            if let PreambleError::Version { .. } = error {
                // Whatever the other side speaks, it finds this agent's version in here.
                stream.write_all(&Preamble { purpose: Purpose::Busy, id: MigrationId([0; 16]) }.encode()).await?;
            }
            return Err(error.into());
        }
    };
    let id = preamble.id;
    match preamble.purpose {
        Purpose::Control => {
            if stopping.load(Ordering::Relaxed) {
                stream.write_all(&Preamble { purpose: Purpose::Stopping, id }.encode()).await?;
                anyhow::bail!("migration {id}: this agent is being stopped");
            }
            let Some(place) = receivers.place() else {
                stream.write_all(&Preamble { purpose: Purpose::Busy, id }.encode()).await?;
                anyhow::bail!("migration {id}: {} others are being served", crate::receivers::MOST);
            };
            stream.write_all(&preamble.encode()).await?;
            receivers.start(place, id, blocking(stream)?, from)
        }
        Purpose::Pages => {
            anyhow::ensure!(receivers.knows(id), "pages for migration {id}, which is unknown here");
            stream.write_all(&preamble.encode()).await?;
            receivers.give_pages(id, &blocking(stream)?)
        }
        Purpose::Question => {
            // It may wait for what is dying here.
            let answer = tokio::task::spawn_blocking(move || crate::doubts::answer(id)).await?;
            tracing::info!("{from} asks what became of migration {id}: {answer:?}");
            stream.write_all(&preamble.encode()).await?;
            Ok(stream.write_all(&encode(&answer)?).await?)
        }
        Purpose::Busy | Purpose::Stopping => {
            anyhow::bail!("an answer where a question should be (protocol {PROTOCOL_VERSION})")
        }
    }
}

/// The socket as the migration's process wants it. Nothing behind the preamble has been read.
fn blocking(stream: TcpStream) -> anyhow::Result<std::net::TcpStream> {
    let stream = stream.into_std().context("taking the socket")?;
    stream.set_nonblocking(false).context("making the socket blocking")?;
    Ok(stream)
}
