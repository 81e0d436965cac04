//! Whatever bytes a peer sends as a message: they are refused or understood, and what is understood is exactly what was sent.

use std::fmt::Debug;

use proptest::prelude::*;

use super::connection::WireMessage;
use super::local::{LocalReply, LocalRequest};
use super::message::{ToDestination, ToSource};
use super::question;

/// Mostly zeros and small numbers: as lengths and tags they lead deep into a message before it makes no sense.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => Just(0u8), 3 => 1u8..4, 1 => any::<u8>()];
    proptest::collection::vec(byte, 0..600)
}

/// Returns whether the bytes are a message.
fn is_understood<M: WireMessage + Debug>(kind: u16, bytes: &[u8]) -> bool {
    let Ok(message) = M::decode_body(kind, bytes) else { return false };
    assert_eq!(message.kind(), kind);
    assert!(message.encode_body() == bytes, "{message:?}");
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn are_refused_or_understood(kind in 0u16..16, bytes in bytes()) {
        is_understood::<ToDestination>(kind, &bytes);
        is_understood::<ToSource>(kind, &bytes);
        is_understood::<LocalRequest>(kind, &bytes);
        is_understood::<LocalReply>(kind, &bytes);
        is_understood::<question::Answer>(kind, &bytes);
    }

    /// A message that is empty but for its lengths and tags, with a few bytes of it changed.
    #[test]
    fn that_are_nearly_a_message_too(
        length in 0usize..600,
        changes in proptest::collection::vec((0usize..600, any::<u8>()), 0..4),
        kind in 1u16..16,
    ) {
        let mut bytes = vec![0; length];
        for (at, byte) in changes {
            bytes.get_mut(at).into_iter().for_each(|place| *place = byte);
        }
        is_understood::<ToDestination>(kind, &bytes);
        is_understood::<ToSource>(kind, &bytes);
        is_understood::<LocalReply>(kind, &bytes);
    }
}

/// So that the properties above are not only about what is refused.
#[test]
fn zeros_of_the_right_length_are_messages() {
    fn all<M: WireMessage + Debug>() {
        for kind in (0..100).filter(|kind| M::kind_name(*kind).is_some()) {
            let understood = (0..2000).any(|length| is_understood::<M>(kind, &vec![0; length]));
            assert!(understood, "{:?}", M::kind_name(kind));
        }
    }
    all::<ToDestination>();
    all::<ToSource>();
    all::<LocalRequest>();
    all::<LocalReply>();
    all::<question::Answer>();
}
