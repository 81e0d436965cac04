//! What a source whose connection broke asks: what became of a migration. The question is the preamble alone
//! ([`Purpose::Question`] with the migration's id), the answer one [`Answer`].

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::connection::{Connection, ConnectionError};
use super::preamble::{MigrationId, PreambleError, Purpose, greet};

crate::wire_messages! {
    /// What an agent answers. See [`crate::state`] for why an answer never becomes false.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Answer {
        /// It runs here, under this PID, or did until it ended.
        1 = Committed(i32) @ 4,
        /// It does not run here, and never will.
        2 = Refused,
        /// There is no trace of it here.
        3 = Unknown,
        /// It could not be found out.
        4 = Failed(String) @ 64 * 1024,
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// Nobody can be reached.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is no agent of this version.
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    /// No answer came.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// The answer's bytes.
///
/// # Errors
/// When it is too long.
pub fn encode(answer: &Answer) -> Result<Vec<u8>, ConnectionError> {
    let mut connection = Connection::new(Vec::new());
    connection.send(answer)?;
    Ok(connection.into_stream())
}

/// Asks the agent at `address`; takes at most three times `patience`.
///
/// # Errors
/// When no answer comes.
pub fn ask(address: SocketAddr, id: MigrationId, patience: Duration) -> Result<Answer, QuestionError> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    greet(&mut stream, Purpose::Question, id)?;
    Ok(Connection::new(stream).receive()?)
}

#[cfg(test)]
mod tests {
    use super::super::connection::WireMessage;
    use super::*;

    #[test]
    fn golden_bytes() {
        assert_eq!(encode(&Answer::Refused).expect("short")[..8], [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode(&Answer::Committed(7)).expect("short")[..8], [1, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|k| Answer::kind_name(k).is_some()), [false, true, true, true, true, false]);
    }
}
