//! What moves and how: images, protocol, phases, resources.
//!
//! Begin with [`phases::source`]: the story of one migration on one screen.
#![forbid(unsafe_code)]

pub mod phase;
pub mod plan;
