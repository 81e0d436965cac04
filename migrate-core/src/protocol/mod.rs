//! What two agents say to each other, and a client to its agent.

#[cfg(test)]
mod any_bytes;
pub mod codec;
pub mod connection;
pub mod frame;
pub mod handoff;
pub mod local;
pub mod message;
pub mod pages;
pub mod preamble;
pub mod question;
