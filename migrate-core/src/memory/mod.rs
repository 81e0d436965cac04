//! A process's memory: what its address space looks like, which pages must travel, and the streams that carry them.

pub mod layout;
pub mod receive;
pub mod select;
pub mod send;
