//! Typed messages over a blocking stream.

use std::io::{Read, Write};

use super::codec::DecodeError;
use super::frame::{self, FrameError};

/// The messages of one direction of one channel. [`wire_messages!`](crate::wire_messages) writes it.
pub trait WireMessage: Sized {
    /// Its number on the wire; never 0.
    fn kind(&self) -> u16;
    /// The most bytes that a message of this kind may have; None when there is no such kind.
    fn limit(kind: u16) -> Option<u32>;
    /// The name of a kind, for errors and logs.
    fn kind_name(kind: u16) -> Option<&'static str>;
    /// Its payload.
    fn encode_body(&self) -> Vec<u8>;
    /// The message that a payload is.
    ///
    /// # Errors
    /// When it is none of this kind.
    fn decode_body(kind: u16, body: &[u8]) -> Result<Self, DecodeError>;
}

/// Why a message could not be sent or received. The connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Below the messages.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The checksum is right, the content is not: the other side is of another version, or broken.
    #[error("the message {message} cannot be understood: {source}")]
    Decode {
        /// Its name.
        message: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
}

impl ConnectionError {
    /// Whether the peer closed the connection between two messages.
    pub fn is_closed(&self) -> bool {
        matches!(self, ConnectionError::Frame(FrameError::Closed))
    }
}

/// Sends and receives whole messages, one at a time, blocking; counts bytes.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    bytes_sent: u64,
}

impl<S> Connection<S> {
    /// Speaks over `stream`. Deadlines are the stream's own (`set_read_timeout`).
    pub fn new(stream: S) -> Self {
        Connection { stream, bytes_sent: 0 }
    }

    /// All bytes sent so far, headers included.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// The stream, for its options.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream, for what follows the messages.
    pub fn into_stream(self) -> S {
        self.stream
    }
}

impl<S: Write> Connection<S> {
    /// Sends one message.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when the peer would refuse it, and whatever the stream says.
    pub fn send<M: WireMessage>(&mut self, message: &M) -> Result<(), ConnectionError> {
        let (kind, body) = (message.kind(), message.encode_body());
        let limit = M::limit(kind).unwrap_or(0);
        if body.len() as u64 > u64::from(limit) {
            return Err(FrameError::TooLong { kind, length: body.len() as u64, limit }.into());
        }
        self.bytes_sent += frame::write_frame(&mut self.stream, kind, &body)?;
        Ok(())
    }
}

impl<S: Read> Connection<S> {
    /// Waits for one message.
    ///
    /// # Errors
    /// [`ConnectionError`]; [`ConnectionError::is_closed`] says whether the peer just went away.
    pub fn receive<M: WireMessage>(&mut self) -> Result<M, ConnectionError> {
        let (kind, body) = frame::read_frame(&mut self.stream, M::limit)?;
        let message = M::kind_name(kind).unwrap_or("unknown");
        M::decode_body(kind, &body).map_err(|source| ConnectionError::Decode { message, source })
    }
}

/// Writes the enum of a channel's messages and its [`WireMessage`](crate::protocol::connection::WireMessage).
///
/// `NUMBER = Name(Payload) @ most bytes`, or `NUMBER = Name` for a message without content:
///
/// ```
/// migrate_core::wire_messages! {
///     /// What a client may say.
///     #[derive(Debug)]
///     pub enum Request {
///         /// A number.
///         1 = Number(u32) @ 4,
///         /// Nothing more.
///         2 = Bye,
///     }
/// }
/// ```
///
/// A number that is used twice does not compile:
///
/// ```compile_fail,E0081
/// migrate_core::wire_messages! {
///     /// What a client may say.
///     pub enum Request {
///         /// A number.
///         1 = Number(u32) @ 4,
///         /// Another.
///         1 = Other(u32) @ 4,
///     }
/// }
/// ```
///
/// Nor does number 0:
///
/// ```compile_fail,E0080
/// migrate_core::wire_messages! {
///     /// What a client may say.
///     pub enum Request {
///         /// Nothing.
///         0 = Nothing,
///     }
/// }
/// ```
#[macro_export]
macro_rules! wire_messages {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$variant_meta:meta])* $kind:literal = $variant:ident $( ($payload:ty) @ $limit:expr )? ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $( $(#[$variant_meta])* $variant $( ($payload) )?, )+
        }

        const _: () = {
            // Two variants of one number are an error of the compiler's own.
            #[allow(dead_code)]
            #[repr(u16)]
            enum Kinds { $( $variant = $kind, )+ }
            $( assert!($kind != 0, "a message cannot have the number 0"); )+
        };

        impl $crate::protocol::connection::WireMessage for $name {
            fn kind(&self) -> u16 {
                match self { $( Self::$variant { .. } => $kind, )+ }
            }

            fn limit(kind: u16) -> Option<u32> {
                match kind {
                    $( $kind => Some(0 $( + ($limit) )?), )+
                    _ => None,
                }
            }

            fn kind_name(kind: u16) -> Option<&'static str> {
                match kind {
                    $( $kind => Some(stringify!($variant)), )+
                    _ => None,
                }
            }

            fn encode_body(&self) -> Vec<u8> {
                match self {
                    $( Self::$variant $( ($crate::wire_messages!(@bind body $payload)) )? =>
                        $crate::wire_messages!(@encode $( body $payload )?), )+
                }
            }

            fn decode_body(kind: u16, body: &[u8]) -> Result<Self, $crate::protocol::codec::DecodeError> {
                match kind {
                    $( $kind => $crate::wire_messages!(@decode $variant body $( $payload )?), )+
                    unknown => Err($crate::protocol::codec::DecodeError::UnknownKind(unknown)),
                }
            }
        }
    };
    (@bind $body:ident $payload:ty) => { $body };
    (@encode) => { Vec::new() };
    (@encode $body:ident $payload:ty) => { $crate::protocol::codec::encode::<$payload>($body) };
    (@decode $variant:ident $body:ident) => { $crate::protocol::codec::decode::<()>($body).map(|()| Self::$variant) };
    (@decode $variant:ident $body:ident $payload:ty) => {
        $crate::protocol::codec::decode::<$payload>($body).map(Self::$variant)
    };
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use bincode::{Decode, Encode};
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::frame::HEADER_LENGTH;

    #[derive(Debug, Clone, PartialEq, Encode, Decode)]
    struct Greeting {
        version: u32,
        name: String,
    }

    wire_messages! {
        #[derive(Debug, Clone, PartialEq)]
        enum Message {
            1 = Greeting(Greeting) @ 1024,
            2 = Numbers(Vec<u64>) @ 64 * 1024,
            7 = Bye,
        }
    }

    fn messages() -> [Message; 3] {
        [
            Message::Greeting(Greeting { version: 1, name: "alpha".into() }),
            Message::Numbers(vec![1, 2, 3]),
            Message::Bye,
        ]
    }

    #[test]
    fn messages_go_over_a_socket() {
        let (here, there) = UnixStream::pair().expect("a socket pair");
        let (mut here, mut there) = (Connection::new(here), Connection::new(there));
        for message in messages() {
            here.send(&message).expect("sent");
            assert_eq!(there.receive::<Message>().expect("received"), message);
        }
        assert_eq!(here.bytes_sent(), (3 * HEADER_LENGTH + (4 + 8 + 5) + (8 + 24)) as u64);
        drop(here);
        assert!(there.receive::<Message>().expect_err("closed").is_closed());
    }

    #[test]
    fn golden_bytes() {
        let mut connection = Connection::new(Vec::new());
        connection.send(&messages()[0]).expect("sent");
        let expected = [
            1, 0, 0, 0, 17, 0, 0, 0, // kind, flags, length
            0x9a, 0x47, 0xa4, 0x45, // CRC-32 of the rest
            1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, b'a', b'l', b'p', b'h', b'a',
        ];
        assert_eq!(connection.into_stream(), expected);
    }

    #[test]
    fn numbers_have_names_and_limits() {
        assert_eq!(Message::kind_name(2), Some("Numbers"));
        assert_eq!(Message::kind_name(3), None);
        assert_eq!([1, 2, 7, 0].map(Message::limit), [Some(1024), Some(65536), Some(0), None]);
    }

    #[test]
    fn a_message_over_its_limit_is_not_sent() {
        let mut connection = Connection::new(Vec::new());
        let error = connection.send(&Message::Numbers(vec![0; 8192])).expect_err("too long");
        assert!(matches!(error, ConnectionError::Frame(FrameError::TooLong { kind: 2, length: 65544, limit: 65536 })));
        assert!(connection.into_stream().is_empty());
    }

    #[test]
    fn content_of_another_shape_names_the_message() {
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, 1, b"nonsense").expect("written");
        let error = Connection::new(&bytes[..]).receive::<Message>().expect_err("nonsense");
        assert!(error.to_string().contains("Greeting"), "{error}");
    }

    proptest! {
        #[test]
        fn random_bodies_never_panic(kind in 0_u16..9, body in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Message::decode_body(kind, &body);
        }

        #[test]
        fn random_streams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Connection::new(&bytes[..]).receive::<Message>();
        }
    }
}
