//! What a program does with registered memory beside writing it. A userfaultfd tells of it, and the program waits in the call that does
//! it until that has been read (Documentation/admin-guide/mm/userfaultfd.rst, "non-cooperative userfaultfd"; fs/userfaultfd.c).

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use linux_raw_sys::general as raw;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use crate::userfaultfd::UserFaultFd;

/// More places than this are not remembered one by one.
const MOST_PLACES: usize = 4096;

/// What has been told of the memory that is registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The process has forked: memory that is shared is the child's too. Told before the child runs.
    pub forked: bool,
    /// Some was moved, mapped once more, or unmapped, or more than can be remembered was given back. The call that did it returns after it
    /// was told.
    pub rearranged: bool,
    /// What is given back (MADV_DONTNEED, MADV_REMOVE), by its addresses at that time; told before that is done.
    pub given_back: Vec<Range<u64>>,
}

impl Told {
    /// Whether nothing has been told.
    pub fn is_nothing(&self) -> bool {
        !self.forked && !self.rearranged && self.given_back.is_empty()
    }

    /// Adds what was told after this.
    pub fn add(&mut self, later: Told) {
        self.forked |= later.forked;
        self.rearranged |= later.rearranged;
        later.given_back.into_iter().for_each(|range| self.give_back(range));
    }

    fn give_back(&mut self, range: Range<u64>) {
        match self.given_back.len() {
            MOST_PLACES.. => self.rearranged = true,
            _ => self.given_back.push(range),
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Fork => self.forked = true,
            Event::Remove(range) => self.give_back(range),
            Event::Other => self.rearranged = true,
        }
    }
}

/// One event.
#[derive(Debug)]
enum Event {
    Fork,
    Remove(Range<u64>),
    /// UFFD_EVENT_REMAP, UFFD_EVENT_UNMAP, or what no kernel tells yet.
    Other,
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

    /// What has been told since it was last taken: all that the program has done before, because it waits in each call until that is
    /// noted here.
    pub fn take(&self) -> Told {
        std::mem::take(&mut *lock(&self.told))
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
                (told.forked, told.rearranged) = (true, true);
                drop(told);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// The next event, if there is one. A child's userfaultfd is closed at once: nothing of the child's is tracked.
fn read_event(userfaultfd: &UserFaultFd) -> io::Result<Option<Event>> {
    // struct uffd_msg of include/uapi/linux/userfaultfd.h: the event, and from byte 8 on what belongs to it (little endian).
    let mut message = [0; 32];
    match nix::unistd::read(userfaultfd, &mut message) {
        Ok(length) if length == message.len() => {}
        Ok(length) => return Err(io::Error::other(format!("an event of {length} bytes"))),
        Err(nix::Error::EAGAIN) => return Ok(None),
        Err(why) => return Err(why.into()),
    }
    let word = |at: usize| message[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    Ok(Some(match u32::from(message[0]) {
        raw::UFFD_EVENT_FORK => {
            // SAFETY: the kernel has just made this descriptor for whoever reads the event, and nothing else owns it.
            drop(unsafe { OwnedFd::from_raw_fd(word(8) as u32 as i32) });
            Event::Fork
        }
        raw::UFFD_EVENT_REMOVE => Event::Remove(word(8)..word(16)),
        _ => Event::Other,
    }))
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
        let all = || listener.take();
        assert_eq!(all(), Told::default(), "a write tells nothing");
        // SAFETY: shared memory that nothing refers to keeps its content.
        assert_eq!(unsafe { libc::madvise(at as *mut libc::c_void, PAGE as usize, libc::MADV_DONTNEED) }, 0);
        let Told { forked: false, rearranged: false, given_back } = all() else { panic!("something else is told") };
        assert_eq!(given_back.iter().map(|r| (r.start, r.end)).collect::<Vec<_>>(), [(at, at + PAGE)]);
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
