//! The destination, as the source speaks to it.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use migrate_linux::sockets;

use crate::error::{Doing, Error, Result};
use crate::plan::DEFAULT_PORT;
use crate::protocol::connection::Connection;
use crate::protocol::message::{ToDestination, ToSource};
use crate::protocol::preamble::{MigrationId, Purpose, greet};

/// How long a peer may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to answer. Comparing the content of large files is the longest that it does.
const ANSWER: Duration = Duration::from_secs(120);

/// How long its last words may be on their way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection to the destination's agent.
pub struct Peer {
    connection: Connection<TcpStream>,
    address: SocketAddr,
    /// As the operator wrote it.
    pub host: String,
    pid: i32,
    /// The migration.
    pub id: MigrationId,
}

impl Peer {
    /// Connects and greets.
    pub fn connect(host: &str, pid: i32) -> Result<Peer> {
        let id = MigrationId::random().doing(|| "make a migration id".into())?;
        let addresses = resolve(host)?;
        let mut last = None;
        for address in addresses {
            match open(address, Purpose::Control, id, host) {
                Ok(stream) => {
                    let connection = Connection::new(stream);
                    return Ok(Peer { connection, address, host: host.into(), pid, id });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Invalid(format!("{host} has no address"))))
    }

    /// Opens a page connection.
    pub fn open_page_stream(&self) -> Result<TcpStream> {
        let stream = open(self.address, Purpose::Pages, self.id, &self.host)?;
        // Pages wait for as long as the destination needs to place them.
        stream.set_read_timeout(Some(ANSWER)).doing(|| "set a deadline".into())?;
        sockets::tune_for_pages(&stream);
        Ok(stream)
    }

    /// Sends a message.
    pub fn send(&mut self, message: &ToDestination) -> Result<()> {
        self.connection.send(message).map_err(|source| Error::Connection { host: self.host.clone(), source })
    }

    /// Waits for the answer. A refusal is an error, in the destination's own words.
    pub fn receive(&mut self) -> Result<ToSource> {
        let message =
            self.connection.receive().map_err(|source| Error::Connection { host: self.host.clone(), source })?;
        match message {
            ToSource::Refused(why) => Err(Error::RefusedThere { host: self.host.clone(), pid: self.pid, why }),
            other => Ok(other),
        }
    }

    /// Why a page connection was lost: the destination's own words, if it refused and went away. Else the error as it is.
    pub fn reason_for(&mut self, lost: Error) -> Error {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match &lost {
            Error::Io { source, .. } if matches!(source.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => {}
            _ => return lost,
        }
        // What it said, it said before.
        let waits = self.stream().set_read_timeout(Some(LAST_WORDS));
        match waits.map(|()| self.receive()) {
            Ok(Err(refusal @ Error::RefusedThere { .. })) => refusal,
            _ => lost,
        }
    }

    /// A message that must not come now.
    pub fn unexpected(&self, message: &ToSource) -> Error {
        Error::Invalid(format!("{} answered out of turn: {message:?}", self.host))
    }

    /// The control connection.
    pub fn stream(&self) -> &TcpStream {
        self.connection.stream()
    }

    /// Where its agent answered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes sent on the control connection.
    pub fn bytes_sent(&self) -> u64 {
        self.connection.bytes_sent()
    }
}

fn resolve(host: &str) -> Result<Vec<SocketAddr>> {
    let with_port = if has_port(host) { host.to_string() } else { format!("{host}:{DEFAULT_PORT}") };
    let resolved = with_port.to_socket_addrs();
    Ok(resolved.doing(|| format!("find the host {host}"))?.collect())
}

fn has_port(host: &str) -> bool {
    match host.rsplit_once(':') {
        // An IPv6 address has a port only behind brackets.
        Some((name, port)) => port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']')),
        None => false,
    }
}

fn open(address: SocketAddr, purpose: Purpose, id: MigrationId, host: &str) -> Result<TcpStream> {
    let connected = TcpStream::connect_timeout(&address, CONNECT);
    let mut stream = connected.doing(|| {
        format!("reach the agent of {host} at {address} (is migrate-agent running there, and does it listen on that address?)")
    })?;
    let context = || format!("greet the agent of {host} at {address}");
    stream.set_nodelay(true).doing(context)?;
    sockets::notice_silence(&stream).doing(context)?;
    stream.set_read_timeout(Some(CONNECT)).doing(context)?;
    stream.set_write_timeout(Some(ANSWER)).doing(context)?;
    greet(&mut stream, purpose, id).map_err(|e| Error::Invalid(format!("{host} ({address}): {e}")))?;
    stream.set_read_timeout(Some(ANSWER)).doing(context)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::has_port;

    #[test]
    fn ports_are_told_from_addresses() {
        assert!(has_port("beta:7070") && has_port("[::1]:7070") && has_port("10.0.0.1:1"));
        assert!(!has_port("beta") && !has_port("::1") && !has_port("10.0.0.1"));
    }
}
