//! What moves and how: images, protocol, phases, resources.
//!
//! Begin with [`phases::source`]: the story of one migration on one screen.
#![forbid(unsafe_code)]

pub mod cancel;
pub mod clocks;
pub mod destination;
pub mod error;
pub mod fault;
pub mod identity;
pub mod image;
mod in_two;
pub mod memory;
pub mod phase;
pub mod phases;
pub mod plan;
pub mod proc;
pub mod profile;
pub mod protocol;
pub mod resources;
pub mod state;
pub mod vdso;
