//! Sockets.

pub mod options;

use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use super::SocketView;
use crate::error::{Doing, Error, Result};

/// A new one; close-on-exec.
fn fresh(sort: SocketView) -> Result<OwnedFd> {
    let SocketView { domain, kind, protocol } = sort;
    let odd = || Error::Invalid(format!("a socket of domain {domain}, type {kind}, protocol {protocol}"));
    let family = AddressFamily::from_raw(domain.try_into().map_err(|_| odd())?);
    let sort = SocketType::from_raw(kind.try_into().map_err(|_| odd())?);
    let number = NonZeroU32::new(protocol.try_into().map_err(|_| odd())?);
    let made = socket_with(family, sort, SocketFlags::CLOEXEC, number.map(Protocol::from_raw)).map_err(Into::into);
    made.doing(|| format!("make a socket of domain {domain}, type {kind}, protocol {protocol}"))
}
