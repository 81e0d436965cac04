//! Subject programs and the harness that moves them between the two hosts of `scripts/hosts`.
//!
//! - [`hosts`]: the two hosts, and running things in them;
//! - [`moves`]: one `migrate-cli push` and its report;
//! - [`scripted`]: programs that a test writes on the spot;
//! - [`snapshot`]: all that /proc shows of a process;
//! - [`compare`]: what differs between two of these that should not.

pub mod areas;
pub mod busy;
pub mod compare;
pub mod hosts;
pub mod marked;
pub mod moves;
pub mod scripted;
pub mod snapshot;
pub mod waiting;
