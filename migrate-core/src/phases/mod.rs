//! The source's phases, each a state of its own. [`source`] tells the story.

mod capture;
pub mod check;
mod commit;
mod freeze;
pub use freeze::LOWEST;
mod locks;
pub use locks::take_again_in;
mod held_files;
mod kernel_state;
mod known_files;
mod open_files;
mod outside_ends;
mod pages;
mod peer;
mod pre_copy;
mod preflight;
mod record;
pub mod source;
mod standstill;
mod stop;
mod subject;
mod terminals;
pub use subject::boot_id;
mod transfer;
mod undo;
mod unix_peers;
mod waits;
