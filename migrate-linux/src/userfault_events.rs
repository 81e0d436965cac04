//! What a program does with registered memory beside writing it. A userfaultfd tells of it, and the program waits in the call that does
//! it until that has been read (Documentation/admin-guide/mm/userfaultfd.rst, "non-cooperative userfaultfd"; fs/userfaultfd.c).

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use linux_raw_sys::general as raw;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use crate::userfaultfd::UserFaultFd;

/// What has been told of the memory that is registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// The process has forked: memory that is shared is the child's too. Told before the child runs.
    pub forked: bool,
    /// Some was moved, mapped once more, or unmapped. The call that did it returns after it was told.
    pub rearranged: bool,
    /// Some is given back (MADV_DONTNEED, MADV_REMOVE); told before that is done.
    pub given_back: bool,
}

/// Reads the events of a userfaultfd, in a thread of its own that does nothing else, so that the program hardly waits. Dropped, it
/// stops reading: then drop the userfaultfd too, which lets a program that waits go on.
#[derive(Debug)]
pub struct Listener {
    told: Arc<Mutex<Told>>,
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// For a userfaultfd that was opened O_NONBLOCK and has agreed on [`crate::userfaultfd::feature::EVENTS`].
    ///
    /// # Errors
    /// Those of eventfd(2) and of starting a thread.
    pub fn start(userfaultfd: Arc<UserFaultFd>) -> io::Result<Listener> {
        let (told, end) = (Arc::new(Mutex::new(Told::default())), Arc::new(EventFd::new()?));
        let (its_told, its_end) = (told.clone(), end.clone());
        let thread = std::thread::Builder::new()
            .name("events".into())
            .spawn(move || listen(&userfaultfd, &its_end, &its_told))?;
        Ok(Listener { told, end, thread: Some(thread) })
    }

    /// What has been told since `clear` made of it what it returns: all that the program has done before, because it waits in each
    /// call until that is noted here.
    pub fn take(&self, clear: impl FnOnce(Told) -> Told) -> Told {
        let mut told = lock(&self.told);
        let before = *told;
        *told = clear(before);
        before
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // An eventfd takes a one unless it is nearly full.
        let _ = self.end.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(userfaultfd: &UserFaultFd, end: &EventFd, told: &Mutex<Told>) {
    loop {
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [watch(userfaultfd.as_fd()), watch(end.as_fd())];
        let polled = poll(&mut fds, PollTimeout::NONE);
        if fds[1].any().unwrap_or(false) {
            return;
        }
        // Held from before it is read, which is when the program goes on, until it is noted.
        let mut told = lock(told);
        match polled.map_err(io::Error::from).and_then(|_| read_event(userfaultfd)) {
            Ok(Some(event)) => told.note(event),
            Ok(None) => {}
            // No descriptor is free for a child's: it is told again.
            Err(_) => {
                *told = Told { forked: true, rearranged: true, given_back: true };
                drop(told);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Told {
    fn note(&mut self, event: u32) {
        match event {
            raw::UFFD_EVENT_FORK => self.forked = true,
            raw::UFFD_EVENT_REMOVE => self.given_back = true,
            // UFFD_EVENT_REMAP, UFFD_EVENT_UNMAP, or what no kernel tells yet.
            _ => self.rearranged = true,
        }
    }
}

/// The next event, if there is one. A child's userfaultfd is closed at once: nothing of the child's is tracked.
fn read_event(userfaultfd: &UserFaultFd) -> io::Result<Option<u32>> {
    // struct uffd_msg of include/uapi/linux/userfaultfd.h: the event, and from byte 8 on what belongs to it.
    let mut message = [0; 32];
    match nix::unistd::read(userfaultfd, &mut message) {
        Ok(length) if length == message.len() => {}
        Ok(length) => return Err(io::Error::other(format!("an event of {length} bytes"))),
        Err(nix::Error::EAGAIN) => return Ok(None),
        Err(why) => return Err(why.into()),
    }
    let event = u32::from(message[0]);
    if event == raw::UFFD_EVENT_FORK {
        let number = i32::from_ne_bytes([message[8], message[9], message[10], message[11]]);
        // SAFETY: the kernel has just made this descriptor for whoever reads the event, and nothing else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok(Some(event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_files::{SharedMapping, new_shared_anonymous};
    use crate::userfaultfd::feature;

    const PAGE: u64 = crate::pagemap::PAGE_SIZE;

    #[test]
    fn tells_what_is_done_with_registered_memory() {
        let made = UserFaultFd::local_new().and_then(|fd| {
            nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
            fd.api(feature::TRACKING | feature::EVENTS)?;
            Ok(fd)
        });
        let fd = match made {
            Ok(fd) => Arc::new(fd),
            Err(why) => return println!("SKIPPED userfaultfd events: {why}"),
        };
        let listener = Listener::start(fd.clone()).unwrap();
        let object = new_shared_anonymous(4 * PAGE as usize).unwrap();
        let mapping = SharedMapping::new(&object, 4 * PAGE as usize).unwrap();
        let at = mapping.address();
        fd.register_wp(at..at + 4 * PAGE).unwrap();
        mapping.write(0, &[1]).unwrap();
        let all = || listener.take(|_| Told::default());
        assert_eq!(all(), Told::default(), "a write tells nothing");
        // SAFETY: shared memory that nothing refers to keeps its content.
        assert_eq!(unsafe { libc::madvise(at as *mut libc::c_void, PAGE as usize, libc::MADV_DONTNEED) }, 0);
        assert_eq!(all(), Told { given_back: true, ..Told::default() });
        // SAFETY: the child does nothing but end.
        match unsafe { libc::fork() } {
            // SAFETY: ends the child at once.
            0 => unsafe { libc::_exit(0) },
            child => assert_eq!(nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child), None).map(|_| ()), Ok(())),
        }
        assert_eq!(all(), Told { forked: true, ..Told::default() });
        drop(mapping);
        assert_eq!(all(), Told { rearranged: true, ..Told::default() });
    }
}
