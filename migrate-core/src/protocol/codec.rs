//! Values to bytes and back: the one module that names the serializer.
//!
//! Fixed-width little-endian integers, `u32` enum tags, `u64` lengths. A frame's checksum says that the bytes are those
//! that were sent; this module only says whether they are a value of the type.

use bincode::config::{self, Configuration, Fixint, Limit, LittleEndian};
use bincode::{Decode, Encode};

/// What one decoded value may take in memory, whatever the lengths in it say.
pub const MEMORY_LIMIT: usize = 64 * 1024 * 1024;

const FORMAT: Configuration<LittleEndian, Fixint, Limit<MEMORY_LIMIT>> = config::legacy().with_limit::<MEMORY_LIMIT>();

/// Bytes that are not the message that they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too short, an unknown enum tag, text that is not UTF-8, a length over [`MEMORY_LIMIT`].
    #[error("not a {what}: {why}")]
    Malformed {
        /// The type that was expected.
        what: &'static str,
        /// What the serializer says.
        why: String,
    },
    /// A whole value, and then more.
    #[error("{extra} bytes too many after a {what}")]
    Trailing {
        /// The type that was expected.
        what: &'static str,
        /// Bytes that were left.
        extra: usize,
    },
    /// A number that is no message of this channel.
    #[error("no message has the number {0} here")]
    UnknownKind(u16),
}

/// The bytes of `value`.
///
/// # Panics
/// When a part of `value` cannot be encoded at all: a `Path` that is not UTF-8, a poisoned lock, a time before 1970.
/// So wire types hold names as `Vec<u8>` or `OsString` bytes, and times as integers.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    match bincode::encode_to_vec(value, FORMAT) {
        Ok(bytes) => bytes,
        Err(e) => panic!("{} is no wire type: {e}", std::any::type_name::<T>()),
    }
}

/// The value that `bytes` are, all of them.
///
/// # Errors
/// [`DecodeError::Malformed`], [`DecodeError::Trailing`].
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, DecodeError> {
    let what = std::any::type_name::<T>();
    let (value, used) =
        bincode::decode_from_slice(bytes, FORMAT).map_err(|e| DecodeError::Malformed { what, why: e.to_string() })?;
    match bytes.len().saturating_sub(used) {
        0 => Ok(value),
        extra => Err(DecodeError::Trailing { what, extra }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Pair {
        number: u32,
        text: String,
    }

    #[test]
    fn a_value_survives() {
        let pair = Pair { number: 7, text: "seven".into() };
        assert_eq!(decode::<Pair>(&encode(&pair)), Ok(pair));
    }

    #[test]
    fn integers_are_fixed_and_little_endian() {
        assert_eq!(encode(&Pair { number: 1, text: "a".into() }), [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'a']);
    }

    #[test]
    fn what_follows_a_value_is_an_error() {
        let mut bytes = encode(&7_u32);
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(DecodeError::Trailing { extra: 1, .. })));
    }

    #[test]
    fn a_hostile_length_is_refused() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.push(1);
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(DecodeError::Malformed { .. })));
        assert!(matches!(decode::<Vec<Pair>>(&bytes), Err(DecodeError::Malformed { .. })));
        assert!(matches!(decode::<String>(&bytes), Err(DecodeError::Malformed { .. })));
    }
}
