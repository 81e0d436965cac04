//! TCP that is not connected (tcp(7)): closed, bound, listening; options, filter, backlog, reuseport groups, flags.
//!
//! A listener is made in the freeze, and listens before the commit, so that a port that is taken is found in time. Until the commit
//! a filter keeps out whoever wants to connect: it is not refused, and tries again a second later by itself.
//!
//! Refused: a connection, at any stage, a listener for which connections wait, and one with keys for signed connections. Those that
//! get through to the source's listener between the freeze and the commit are reset. Lost: SYN cookies under way, and an error that
//! waits.

use std::os::fd::OwnedFd;

use bincode::{Decode, Encode};
use migrate_linux::{libc, sockopt, tcp_diag};
use rustix::event::PollFlags;

use super::address::{Bound, local, peer};
use super::options::FreshOptions;
use super::{name_of, of_descriptor, polled};
use crate::error::{Doing, Error, Result};
use crate::resources::Verdict;
use crate::resources::file::{FileKind, FileView, HeldFile, NewFiles, Others, flags_now, or_instead, set_flags};

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TcpImage {
    bound: Bound,
    /// How many connections may wait, where it listens.
    backlog: Option<u32>,
    flags: i32,
}

/// The kind.
pub enum Tcp {}

/// BPF_RET|BPF_K with 0: nothing passes.
const NOTHING: [u8; 8] = [6, 0, 0, 0, 0, 0, 0, 0];

/// What `TCP_INFO` tells (include/uapi/linux/tcp.h). Of a listener the kernel puts its queue's fields in the place of others
/// (net/ipv4/tcp.c, `tcp_get_info`).
struct Info {
    state: u8,
    waiting: u32,
    backlog: u32,
}

/// Of include/net/tcp_states.h.
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

impl Info {
    fn of(socket: &OwnedFd) -> Result<Info> {
        let mut info = [0; 32];
        sockopt::get(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)
            .doing(|| "read the state of a socket".into())?;
        let [state, .., a, b, c, d, e, f, g, h] = info;
        Ok(Info { state, waiting: u32::from_ne_bytes([a, b, c, d]), backlog: u32::from_ne_bytes([e, f, g, h]) })
    }
}

/// Why one cannot move as it is now.
fn obstacle(from: &HeldFile) -> Result<Option<String>> {
    let (number, socket) = (from.view.number, &from.duplicate);
    let info = Info::of(socket)?;
    let settle = or_instead(&[number]);
    let why = match info.state {
        LISTEN if info.waiting > 0 => format!(
            "a TCP socket that listens at {}, for which {} connection{} wait{}; connections cannot move yet: try again when the program has accepted and closed them",
            local(socket)?,
            info.waiting,
            if info.waiting == 1 { "" } else { "s" },
            if info.waiting == 1 { "s" } else { "" },
        ),
        LISTEN => return Ok(None),
        CLOSE => {
            let events = polled(socket)?;
            if !events.intersects(PollFlags::RDHUP | PollFlags::ERR) {
                return Ok(None);
            }
            format!("a TCP connection that has ended, at {}, which cannot move yet; {settle}", local(socket)?)
        }
        state => {
            let stage = match state {
                1 => "TCP connection",
                2 | 3 | 12 => "TCP connection that is being made",
                _ => "TCP connection that is being closed",
            };
            let peer = peer(socket)?.map(|peer| format!(" to {peer}")).unwrap_or_default();
            format!("a {stage} from {}{peer}, which cannot move yet; {settle}", local(socket)?)
        }
    };
    Ok(Some(format!("fd {number}: {why}")))
}

/// Why a listener stays that only takes signed connections: the kernel does not give out the keys.
fn keys(from: &HeldFile) -> Result<Option<String>> {
    let inode = from.view.stat.st_ino;
    let signed = match tcp_diag::listeners_with_keys() {
        Ok(found) => found.iter().any(|one| u64::from(*one) == inode),
        // A kernel that does not tell.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(Error::io("read which sockets have keys".into(), e)),
    };
    // TCP_AO_INFO of include/uapi/linux/tcp.h: ENOENT where there are none.
    let signed = signed || sockopt::get(&from.duplicate, libc::IPPROTO_TCP, 40, &mut [0; 64]).is_ok();
    let number = from.view.number;
    Ok(signed.then(|| {
        format!(
            "fd {number}: a TCP socket with keys for signed connections (TCP_MD5SIG, TCP_AO), which are not moved; {}",
            or_instead(&[number])
        )
    }))
}

impl FileKind for Tcp {
    const NAME: &'static str = "TCP socket";
    const MOVES: &'static str = "closed, bound or listening: address, port, device, reuseport groups, options, backlog, classic filter; not connections, nor listeners for which connections wait. The address must be on the destination, and the port free";
    type Image = TcpImage;

    fn recognise(view: &FileView) -> bool {
        view.socket.is_some_and(|s| {
            matches!(s.domain, libc::AF_INET | libc::AF_INET6)
                && s.kind == libc::SOCK_STREAM
                && s.protocol == libc::IPPROTO_TCP
        })
    }

    fn preflight(_view: &FileView) -> Verdict {
        Verdict::Supported
    }

    fn examine(from: &HeldFile) -> Result<Verdict> {
        let why = match obstacle(from)? {
            None => keys(from)?,
            why => why,
        };
        match why {
            Some(why) => Ok(Verdict::Unsupported(why)),
            None => super::group_program(from),
        }
    }

    fn address(from: &HeldFile, fresh: &FreshOptions) -> Result<Option<Bound>> {
        Bound::of(from, fresh)
    }

    fn capture(from: &HeldFile, others: &Others<'_>) -> Result<TcpImage> {
        let (number, socket) = (from.view.number, &from.duplicate);
        let sort = from.view.socket.ok_or_else(|| Error::Invalid(format!("fd {number}: no socket")))?;
        if let Some(why) = obstacle(from)? {
            return Err(Error::Refused(vec![why]));
        }
        let mut ulp = [0; 16];
        let length = sockopt::get(socket, libc::IPPROTO_TCP, libc::TCP_ULP, &mut ulp).unwrap_or(0);
        if let Some(name) = ulp.get(..length).filter(|name| name.first().is_some_and(|first| *first != 0)) {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            return Err(Error::Refused(vec![format!(
                "fd {number}: a {} with the upper layer protocol {} (TCP_ULP), which cannot move; let the program close it",
                name_of(sort),
                name.escape_ascii()
            )]));
        }
        let info = Info::of(socket)?;
        let bound = Bound::capture(socket, sort, others.fresh).map_err(|e| of_descriptor(number, sort, e))?;
        Ok(TcpImage { bound, backlog: (info.state == LISTEN).then_some(info.backlog), flags: flags_now(from)? })
    }

    fn create(image: &TcpImage, _new: &mut NewFiles) -> Result<OwnedFd> {
        let bound = &image.bound;
        if bound.peer.is_some() {
            return Err(Error::Invalid("a TCP connection".into()));
        }
        let socket = bound.make(true)?;
        bound.options.restore_last_but_filter(&socket, bound.sort())?;
        if let Some(backlog) = image.backlog {
            sockopt::attach_filter(&socket, &[NOTHING]).doing(|| "keep connections out".into())?;
            let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
            rustix::net::listen(&socket, backlog).map_err(Into::into).doing(|| format!("listen at {}", bound.local))?;
        } else {
            bound.options.restore_filter(&socket)?;
        }
        set_flags(&socket, image.flags)?;
        Ok(socket)
    }

    fn goes_live(image: &TcpImage) -> bool {
        image.backlog.is_some()
    }

    fn go_live(image: &TcpImage, socket: &OwnedFd) -> Result<()> {
        if !image.bound.options.has_filter() {
            sockopt::detach_filter(socket).doing(|| format!("let connections in at {}", image.bound.local))?;
        }
        image.bound.options.restore_filter(socket)
    }
}
