//! The calls by which unix sockets get to know who is at their other end: made inside the new process, under the IDs that it had when
//! it made them.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use migrate_linux::remote::{Batch, RemoteBuffer, Results, Ticket};
use migrate_linux::{libc, unix_messages};

use super::unix::{Owner, UnixImage};
use crate::error::{Doing, Error, Result};

/// The new process, for the calls that it must make itself.
pub trait NewProcess {
    /// Gives it descriptors; the numbers that they have there.
    fn give(&mut self, fds: &[BorrowedFd<'_>]) -> Result<Vec<i32>>;
    /// Makes calls in it.
    fn run(&mut self, batch: &Batch) -> Result<Results>;
    /// A duplicate of one of its descriptors.
    fn take(&self, number: i32) -> Result<OwnedFd>;
}

/// A socket that is being made: one of the process, by its inode, or the other end of that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum End {
    Of(u32),
    Partner(u32),
    /// A listener for the connection to this one.
    Listener(u32),
    /// One that has been closed, in the queue of this listener at this place.
    Closed(u32, usize),
}

/// What the new process is to do.
#[derive(Debug)]
pub(super) enum Call {
    Pair { kind: i32, ends: (End, End) },
    Listen { listener: End, backlog: i32 },
    Connect { client: End, listener: End, accepted: Option<End> },
}

impl Call {
    /// Those of a lower step come first.
    pub(super) fn step(&self) -> u8 {
        match self {
            Call::Pair { .. } => 0,
            Call::Listen { .. } => 1,
            Call::Connect { .. } => 2,
        }
    }
}

/// Calls, and under which IDs.
pub(super) type Calls<'i> = Vec<(Option<&'i Owner>, Call)>;

/// So many calls at most are made at once.
const AT_ONCE: usize = 100;

/// Makes calls in the new process. `fds`: what is there; what they make is added.
pub(super) fn run(
    calls: &Calls<'_>,
    fds: &mut HashMap<End, OwnedFd>,
    there: &HashMap<u32, (&UnixImage, &OwnedFd)>,
    process: &mut dyn NewProcess,
) -> Result<()> {
    for part in calls.chunks(AT_ONCE) {
        let mut given = Given::default();
        {
            let fd = |end: End| match (fds.get(&end), end) {
                (Some(fd), _) => Ok(fd),
                (None, End::Of(inode)) if there.contains_key(&inode) => Ok(there[&inode].1),
                _ => Err(Error::Invalid(format!("unix socket {end:?} is referred to, and is none"))),
            };
            for (_, call) in part {
                match call {
                    Call::Pair { .. } => {}
                    Call::Listen { listener, .. } => given.add(*listener, fd(*listener)?),
                    Call::Connect { client, listener, .. } => {
                        given.add(*client, fd(*client)?);
                        given.add(*listener, fd(*listener)?);
                        given.add_file(*listener, fd(*listener)?)?;
                    }
                }
            }
            given.give(process)?;
        }
        let made = given.run(part, process)?;
        for (end, number) in &made {
            fds.insert(*end, process.take(*number)?);
        }
        let mut closing = Batch::new();
        for number in given.numbers.iter().copied().chain(made.iter().map(|(_, number)| *number)) {
            closing.must(libc::SYS_close, [number.into()]);
        }
        process.run(&closing)?;
    }
    Ok(())
}

/// What the process has been given for some calls.
#[derive(Default)]
struct Given {
    ends: Vec<(End, OwnedFd)>,
    /// The files of listeners that are bound by path, and the names of the others.
    files: Vec<(End, OwnedFd)>,
    names: HashMap<End, Vec<u8>>,
    numbers: Vec<i32>,
}

impl Given {
    fn add(&mut self, end: End, fd: &OwnedFd) {
        if !self.ends.iter().any(|(known, _)| *known == end)
            && let Ok(fd) = fd.try_clone()
        {
            self.ends.push((end, fd));
        }
    }

    fn add_file(&mut self, end: End, fd: &OwnedFd) -> Result<()> {
        if self.names.contains_key(&end) || self.files.iter().any(|(known, _)| *known == end) {
            return Ok(());
        }
        let finding = || "find the name of a listener".to_string();
        match unix_messages::bound_file(fd).doing(finding)? {
            Some(file) => self.files.push((end, file)),
            None => drop(self.names.insert(end, unix_messages::name(fd).doing(finding)?)),
        }
        Ok(())
    }

    fn give(&mut self, process: &mut dyn NewProcess) -> Result<()> {
        let fds: Vec<BorrowedFd<'_>> = self.ends.iter().chain(&self.files).map(|(_, fd)| fd.as_fd()).collect();
        if !fds.is_empty() {
            self.numbers = process.give(&fds)?;
        }
        Ok(())
    }

    fn number(&self, end: End) -> Result<i32> {
        let place = self.ends.iter().position(|(known, _)| *known == end);
        let number = place.and_then(|place| self.numbers.get(place));
        number.copied().ok_or_else(|| Error::Invalid("a unix socket that was not given".into()))
    }

    /// Where others connect to a listener.
    fn address(&self, end: End) -> Result<Vec<u8>> {
        if let Some(name) = self.names.get(&end) {
            return Ok(name.clone());
        }
        let place = self.files.iter().position(|(known, _)| *known == end);
        let number = place.and_then(|place| self.numbers.get(self.ends.len() + place));
        let number = number.ok_or_else(|| Error::Invalid("a unix socket without an address".into()))?;
        Ok(format!("/proc/self/fd/{number}").into_bytes())
    }

    /// Makes the calls; what they have made, by number.
    fn run(&self, calls: &[(Option<&Owner>, Call)], process: &mut dyn NewProcess) -> Result<Vec<(End, i32)>> {
        enum Made {
            Pair((End, End), RemoteBuffer),
            One(End, Ticket),
        }
        let mut batch = Batch::new();
        let mut made = Vec::new();
        let mut now = None;
        let own = Owner::of_this_process()?;
        for (owner, call) in calls {
            let owner = owner.filter(|owner| **owner != own);
            if now != owner {
                if now.is_some() {
                    own.restore(&mut batch);
                }
                if let Some(owner) = owner {
                    owner.assume(&mut batch);
                }
                now = owner;
            }
            match call {
                Call::Pair { kind, ends } => {
                    let numbers = batch.buffer(8);
                    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
                    batch.must(libc::SYS_socketpair, [libc::AF_UNIX.into(), kind.into(), 0.into(), numbers.into()]);
                    made.push(Made::Pair(*ends, numbers));
                }
                Call::Listen { listener, backlog } => {
                    batch.must(libc::SYS_listen, [self.number(*listener)?.into(), (*backlog).into()]);
                }
                Call::Connect { client, listener, accepted } => {
                    let name = self.address(*listener)?;
                    let bytes = unix_messages::address_bytes(&name).doing(|| "connect".into())?;
                    let address = batch.bytes(&bytes);
                    let client = self.number(*client)?;
                    batch.must(libc::SYS_connect, [client.into(), address.into(), bytes.len().into()]);
                    if let Some(accepted) = accepted {
                        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
                        let listener = self.number(*listener)?;
                        let number = batch.must(libc::SYS_accept4, [listener.into(), 0.into(), 0.into(), flags.into()]);
                        made.push(Made::One(*accepted, number));
                    }
                }
            }
        }
        if now.is_some() {
            own.restore(&mut batch);
        }
        let results = process.run(&batch)?;
        let mut numbers = Vec::new();
        for made in made {
            match made {
                Made::One(end, ticket) => {
                    let number = results.value(ticket).map_err(|e| Error::io("accept".into(), e.into()))?;
                    numbers.push((end, number as i32));
                }
                Made::Pair((one, other), buffer) => {
                    let both = results.word(buffer, 0);
                    numbers.extend([(one, both as u32 as i32), (other, (both >> 32) as i32)]);
                }
            }
        }
        Ok(numbers)
    }
}

impl Owner {
    fn of_this_process() -> Result<Owner> {
        let groups = nix::unistd::getgroups().map_err(Into::into).doing(|| "read the agent's groups".into())?;
        let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
        Ok(Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw(), groups })
    }

    /// From here on calls are made under these IDs. The saved ones stay: they are the way back.
    fn assume(&self, batch: &mut Batch) {
        self.set_groups(batch);
        batch.must(libc::SYS_setresgid, [(-1).into(), u64::from(self.gid).into(), (-1).into()]);
        batch.must(libc::SYS_setresuid, [(-1).into(), u64::from(self.uid).into(), (-1).into()]);
    }

    /// The way back: of the process that made the new one.
    fn restore(&self, batch: &mut Batch) {
        batch.must(libc::SYS_setresuid, [(-1).into(), u64::from(self.uid).into(), (-1).into()]);
        batch.must(libc::SYS_setresgid, [(-1).into(), u64::from(self.gid).into(), (-1).into()]);
        self.set_groups(batch);
    }

    fn set_groups(&self, batch: &mut Batch) {
        let groups: Vec<u8> = self.groups.iter().flat_map(|group| group.to_ne_bytes()).collect();
        let groups_at = batch.bytes(&groups);
        batch.must(libc::SYS_setgroups, [self.groups.len().into(), groups_at.into()]);
    }
}
