//! What the kernel tells of an epoll beside its items.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// `struct epoll_params` (linux/eventpoll.h): how it polls network devices (microseconds, packets at once, whether it prefers that).
pub type Polling = [u8; 8];

/// `_IOW(0x8A, 1, struct epoll_params)` and `_IOR(0x8A, 2, struct epoll_params)`; since Linux 6.9, not in the bindings.
const EPIOCSPARAMS: libc::c_ulong = 0x4008_8a01;
const EPIOCGPARAMS: libc::c_ulong = 0x8008_8a02;

/// How one polls. None: this kernel has no such thing (Linux 6.9 with CONFIG_NET_RX_BUSY_POLL has).
pub fn polling(epoll: &OwnedFd) -> Option<Polling> {
    let mut params = Polling::default();
    // SAFETY: the kernel fills in eight bytes.
    let result = unsafe { libc::ioctl(epoll.as_raw_fd(), EPIOCGPARAMS, &raw mut params) };
    (result == 0).then_some(params)
}

/// Sets that.
///
/// # Errors
/// `EINVAL` for what makes no sense, `ENOTTY` or `EOPNOTSUPP` where there is no such thing.
pub fn set_polling(epoll: &OwnedFd, params: &Polling) -> io::Result<()> {
    // SAFETY: the kernel reads eight bytes, which outlive the call.
    match unsafe { libc::ioctl(epoll.as_raw_fd(), EPIOCSPARAMS, params) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct kcmp_epoll_slot` (linux/kcmp.h).
#[repr(C)]
struct Slot {
    epoll: u32,
    number: u32,
    nth: u32,
}

/// Whether an epoll watches this description under this number, as the `nth` (from 0, in the order of its fdinfo) of all that it
/// watches under it.
///
/// # Errors
/// `ENOSYS` or `EOPNOTSUPP` on a kernel without CONFIG_KCMP.
pub fn is_item_of(description: &OwnedFd, epoll: &OwnedFd, number: i32, nth: u32) -> io::Result<bool> {
    const KCMP_EPOLL_TFD: i32 = 7;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let slot = Slot { epoll: epoll.as_raw_fd() as u32, number: number as u32, nth };
    let given = description.as_raw_fd() as libc::c_ulong;
    // SAFETY: for this kind kcmp reads the slot, which outlives the call.
    match unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_EPOLL_TFD, given, &raw const slot) } {
        -1 => match io::Error::last_os_error() {
            // It watches nothing under that number any more.
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            error => Err(error),
        },
        order => Ok(order == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
    use nix::sys::eventfd::EventFd;

    #[test]
    fn items_are_told_apart() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let made: Vec<OwnedFd> = (0..3).map(|_| EventFd::new().unwrap().into()).collect();
        for (data, fd) in made[..2].iter().enumerate() {
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, data as u64)).unwrap();
        }
        let epoll = epoll.0;
        let number = made[0].as_raw_fd();
        assert!(is_item_of(&made[0], &epoll, number, 0).unwrap());
        assert!(!is_item_of(&made[1], &epoll, number, 0).unwrap());
        assert!(!is_item_of(&made[0], &epoll, number, 1).unwrap());
        assert!(!is_item_of(&made[2], &epoll, made[2].as_raw_fd(), 0).unwrap());
        // The number stays the item's when it is something else.
        let kept = made[0].try_clone().unwrap();
        let mut first = made.into_iter().next().unwrap();
        nix::unistd::dup2(&epoll, &mut first).unwrap();
        assert!(is_item_of(&kept, &epoll, number, 0).unwrap());
    }

    #[test]
    fn how_it_polls_is_kept() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap().0;
        let Some(before) = polling(&epoll) else {
            println!("SKIPPED: this kernel has no EPIOCGPARAMS");
            return;
        };
        assert_eq!(before, Polling::default());
        let params = [50, 0, 0, 0, 8, 0, 1, 0];
        set_polling(&epoll, &params).unwrap();
        assert_eq!(polling(&epoll), Some(params));
    }
}
