//! The first 32 bytes of every TCP connection between agents, and of the answer to it.
//!
//! ```text
//! magic `MIGRATE\0` 8 | protocol version u32 | purpose u32 | migration id 16      integers little-endian
//! ```
//!
//! Its length, its magic and the place of the version are the same in every version ever: an agent that is asked in
//! another version answers with its own preamble and closes, so both sides can name both versions.
//! In the same version it answers with the purpose and the id that it was asked for, or with [`Purpose::Busy`] or
//! [`Purpose::Stopping`], and from there on the connection belongs to whoever serves that purpose.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::str::FromStr;

use bincode::{Decode, Encode};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Changes whenever a message's or an image's bytes do.
pub const PROTOCOL_VERSION: u32 = 5;

/// Bytes of a preamble.
pub const PREAMBLE_LENGTH: usize = size_of::<Raw>();

const MAGIC: [u8; 8] = *b"MIGRATE\0";

/// One migration, for both sides and for all time: random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct MigrationId(pub [u8; 16]);

impl MigrationId {
    /// A new one.
    ///
    /// # Errors
    /// When /dev/urandom cannot be read.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(MigrationId(bytes))
    }
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MigrationId({self})")
    }
}

/// Text that is no migration id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a migration id has 32 hexadecimal digits")]
pub struct NotAnId;

impl FromStr for MigrationId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        // from_str_radix takes a sign too.
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NotAnId);
        }
        u128::from_str_radix(text, 16).map(|n| MigrationId(n.to_be_bytes())).map_err(|_| NotAnId)
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The control connection of a new migration.
    Control,
    /// Pages of a migration that has a control connection.
    Pages,
    /// What became of a migration whose control connection broke.
    Question,
    /// Only as an answer: the agent cannot take another migration now.
    Busy,
    /// Only as an answer: the agent is about to end, and takes no migration any more.
    Stopping,
}

impl Purpose {
    fn number(self) -> u32 {
        match self {
            Purpose::Control => 1,
            Purpose::Pages => 2,
            Purpose::Question => 3,
            Purpose::Busy => 4,
            Purpose::Stopping => 5,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        [Purpose::Control, Purpose::Pages, Purpose::Question, Purpose::Busy, Purpose::Stopping]
            .into_iter()
            .find(|p| p.number() == number)
    }
}

/// The first words on a connection, of this protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// What it is for.
    pub purpose: Purpose,
    /// The migration that it belongs to.
    pub id: MigrationId,
}

/// Why a preamble, or the answer to one, is none.
#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    /// Something else speaks there.
    #[error("what speaks there is no migrate-agent")]
    NotAnAgent,
    /// It speaks another version.
    #[error("the other agent speaks protocol {theirs}, this one {PROTOCOL_VERSION}: install the same version on both")]
    Version {
        /// The other side's version.
        theirs: u32,
    },
    /// A purpose that this version does not have, or another than the one asked for.
    #[error("a connection for the unknown purpose {0}")]
    Purpose(u32),
    /// Another migration than the one asked for.
    #[error("the agent answers for migration {0}, and was asked for another")]
    OtherMigration(MigrationId),
    /// The agent there has as many migrations as it can have.
    #[error("the agent there is busy with other migrations: try again when they are done")]
    Busy,
    /// The agent there has been told to stop.
    #[error("the agent there is being stopped: try again when it runs again (systemctl status migrate-agent there)")]
    Stopping,
    /// The agent closed without an answer.
    #[error("the agent there closed the connection: its log says why")]
    Closed,
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    purpose: U32,
    id: [u8; 16],
}

impl Preamble {
    /// Its bytes.
    pub fn encode(&self) -> [u8; PREAMBLE_LENGTH] {
        let (version, purpose) = (PROTOCOL_VERSION.into(), self.purpose.number().into());
        zerocopy::transmute!(Raw { magic: MAGIC, version, purpose, id: self.id.0 })
    }

    /// The preamble that `bytes` are.
    ///
    /// # Errors
    /// [`PreambleError::NotAnAgent`], [`PreambleError::Version`], [`PreambleError::Purpose`].
    pub fn parse(bytes: [u8; PREAMBLE_LENGTH]) -> Result<Self, PreambleError> {
        let raw: Raw = zerocopy::transmute!(bytes);
        if raw.magic != MAGIC {
            return Err(PreambleError::NotAnAgent);
        }
        if raw.version != PROTOCOL_VERSION {
            return Err(PreambleError::Version { theirs: raw.version.get() });
        }
        let number = raw.purpose.get();
        let purpose = Purpose::from_number(number).ok_or(PreambleError::Purpose(number))?;
        Ok(Preamble { purpose, id: MigrationId(raw.id) })
    }
}

/// What the connecting side says and hears before anything else. Blocks for one round trip, within the stream's own
/// deadlines.
///
/// # Errors
/// [`PreambleError`]: the agent there is busy, of another version, or no agent.
pub fn greet(stream: &mut (impl Read + Write), purpose: Purpose, id: MigrationId) -> Result<(), PreambleError> {
    stream.write_all(&Preamble { purpose, id }.encode())?;
    let mut bytes = [0; PREAMBLE_LENGTH];
    stream.read_exact(&mut bytes).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => PreambleError::Closed,
        _ => PreambleError::Io(e),
    })?;
    let answer = Preamble::parse(bytes)?;
    match answer.purpose {
        Purpose::Busy => Err(PreambleError::Busy),
        Purpose::Stopping => Err(PreambleError::Stopping),
        other if other != purpose => Err(PreambleError::Purpose(other.number())),
        _ if answer.id != id => Err(PreambleError::OtherMigration(answer.id)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    const ID: MigrationId = MigrationId([0xab; 16]);

    #[test]
    fn golden_bytes() {
        let mut expected = b"MIGRATE\0\x05\0\0\0\x02\0\0\0".to_vec();
        expected.extend([0xab; 16]);
        assert_eq!(Preamble { purpose: Purpose::Pages, id: ID }.encode()[..], expected);
    }

    #[test]
    fn every_purpose_survives() {
        for purpose in [Purpose::Control, Purpose::Pages, Purpose::Question, Purpose::Busy, Purpose::Stopping] {
            let preamble = Preamble { purpose, id: ID };
            assert_eq!(Preamble::parse(preamble.encode()).expect("its own bytes"), preamble);
        }
    }

    #[test]
    fn strangers_other_versions_and_purposes_are_told_apart() {
        let good = Preamble { purpose: Purpose::Control, id: ID }.encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Preamble::parse(bytes)
        };
        assert!(matches!(with(0, b'm'), Err(PreambleError::NotAnAgent)));
        assert!(matches!(with(12, 0), Err(PreambleError::Purpose(0))));
        let error = with(8, 1).expect_err("another version").to_string();
        assert!(error.contains("protocol 1") && error.contains(&format!("this one {PROTOCOL_VERSION}")), "{error}");
    }

    #[test]
    fn ids_are_text_and_back() {
        let id = MigrationId::random().expect("urandom");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "ab", "+bababababababababababababababab", "gbababababababababababababababab"] {
            assert_eq!(bad.parse::<MigrationId>(), Err(NotAnId), "{bad}");
        }
    }

    fn answer(bytes: &[u8]) -> Result<(), PreambleError> {
        let (mut here, mut there) = UnixStream::pair().expect("a socket pair");
        there.write_all(bytes).expect("written");
        there.shutdown(std::net::Shutdown::Write).expect("shut");
        greet(&mut here, Purpose::Control, ID)
    }

    #[test]
    fn a_greeting_knows_its_answers() {
        let bytes = |purpose, id| Preamble { purpose, id }.encode();
        assert!(answer(&bytes(Purpose::Control, ID)).is_ok());
        assert!(matches!(answer(&bytes(Purpose::Busy, ID)), Err(PreambleError::Busy)));
        assert!(matches!(answer(&bytes(Purpose::Stopping, ID)), Err(PreambleError::Stopping)));
        assert!(matches!(answer(&bytes(Purpose::Pages, ID)), Err(PreambleError::Purpose(2))));
        let other = MigrationId([1; 16]);
        assert!(matches!(answer(&bytes(Purpose::Control, other)), Err(PreambleError::OtherMigration(_))));
        assert!(matches!(answer(b"HTTP/1.1 400 Bad Request\r\n"), Err(PreambleError::Closed)));
        assert!(matches!(answer(b"HTTP/1.1 400 Bad Request and more"), Err(PreambleError::NotAnAgent)));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: [u8; PREAMBLE_LENGTH]) {
            let _ = Preamble::parse(bytes);
        }
    }
}
