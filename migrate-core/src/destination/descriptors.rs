//! The new process's descriptors: made in this process as plain owned descriptors, those that can be before the freeze, and handed
//! over to their numbers.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};

use migrate_linux::closing::close_all;
use migrate_linux::libc;
use migrate_linux::remote::Batch;

use super::shell::Shell;
use super::unix_group;
use crate::error::{Error, Result};
use crate::image::{Descriptor, ObjectId, OpenFilesImage};
use crate::in_two::in_two;
use crate::resources::file::socket::unix_making::UnixSockets;
use crate::resources::file::socket::unix_places::Places;
use crate::resources::file::{self, FileImage, Made, NewFiles, Placed};

/// What has been made, and what is at its number.
#[derive(Debug, Default)]
pub struct Descriptors {
    made: HashMap<ObjectId, (FileImage, OwnedFd)>,
    installed: Vec<Descriptor>,
    unix: UnixSockets,
}

/// Descriptions for which there is something to do after the commit.
#[derive(Debug)]
pub struct GoingLive {
    files: Vec<(FileImage, OwnedFd)>,
    /// Where the files of unix sockets are until then.
    _places: Places,
}

impl GoingLive {
    /// Does it; nothing can be taken back. What failed.
    pub fn go_live(self) -> Vec<Error> {
        self.files.iter().filter_map(|(image, fd)| file::go_live(image, fd).err()).collect()
    }
}

/// Whether a peer's table makes sense: ascending, and no number beyond what a kernel gives.
pub fn is_valid(table: &[Descriptor]) -> bool {
    table.windows(2).all(|w| w[0].number < w[1].number) && table.iter().all(|d| (0..1 << 24).contains(&d.number))
}

impl Descriptors {
    /// Makes what is new, brings what has changed up to date, and puts everything at its number.
    pub fn install(&mut self, image: OpenFilesImage, mut new: NewFiles, shell: &mut Shell) -> Result<()> {
        let OpenFilesImage { files, descriptors, inside } = image;
        let table = descriptors.as_slice();
        if !is_valid(table) {
            return Err(Error::Invalid("the descriptor table makes no sense".into()));
        }
        let mut told: HashMap<ObjectId, FileImage> = files.into_iter().collect();
        let all = || table.iter().map(|d| d.object).chain(inside.iter().copied());
        let wanted: HashSet<ObjectId> = all().collect();
        let retold: HashSet<ObjectId> = told.keys().copied().collect();
        let mut known = Vec::with_capacity(self.made.len());
        for (object, made) in self.made.iter_mut().filter(|(object, _)| wanted.contains(object)) {
            known.push((*object, made, told.remove(object)));
        }
        // One that is as it was told must be looked at too: its file may have changed on this host.
        let updated = in_two(&mut known, |(_, (old, fd), now)| {
            let done = file::update(old, now.as_ref().unwrap_or(old), fd, &new)?;
            if let Some(now) = now.take() {
                *old = now;
            }
            Ok(done)
        })?;
        let anew = known.iter().zip(updated).filter(|(_, done)| !done);
        let mut missing: HashMap<_, _> = anew.map(|((object, (image, _), _), _)| (*object, image.clone())).collect();
        missing.extend(told);
        unix_group::spread(&mut missing, &self.made, &wanted);
        self.add_what_refers_to_these(&mut missing, &wanted);
        new.unix = unix_group::make(&mut self.unix, &missing, &self.made, &new, shell)?;
        let mut made_now = Vec::with_capacity(missing.len());
        let mut order: Vec<ObjectId> = all().filter(|object| missing.contains_key(object)).collect();
        order.sort_by_key(|object| missing.get(object).map(file::turn));
        for object in order {
            if let Some(image) = missing.remove(&object) {
                let fd = file::create(&image, &mut new)?;
                self.made.insert(object, (image, fd));
                made_now.push(object);
            }
        }
        drop(new);
        let made = Made::new(&self.made);
        for (image, fd) in made_now.iter().filter_map(|object| self.made.get(object)) {
            file::tie(image, fd, &made)?;
        }
        let changed: HashSet<ObjectId> = made_now.iter().copied().chain(retold).collect();
        let unix = unix_group::finished(&self.made, &wanted, |object| changed.contains(&object));
        self.unix.finish(&unix, &made, shell)?;
        let highest = table.last().map_or(0, |d| d.number).max(table.len() as i32);
        // One more than these is free for tying them together.
        if highest + 1 >= shell.socket_number() {
            // Everything goes, also what mappings were made of: they are there by now, or this is not the freeze.
            shell.close_all(highest)?;
            self.installed.clear();
        }
        if made_now.is_empty() && self.installed == table {
            return Ok(());
        }
        self.clear_numbers(table, &made_now.iter().copied().collect(), shell)?;
        self.hand_over(table, shell)?;
        self.connect(&made_now, table, shell)
    }

    /// With one that is made anew, those that refer to it must be made anew too.
    fn add_what_refers_to_these(&self, missing: &mut HashMap<ObjectId, FileImage>, wanted: &HashSet<ObjectId>) {
        if missing.is_empty() {
            return;
        }
        let kept = self.made.iter().filter(|(object, _)| wanted.contains(object));
        let referring = kept.map(|(object, (image, _))| (object, image, file::refers_to(image)));
        let referring: Vec<_> = referring.filter(|(_, _, others)| !others.is_empty()).collect();
        loop {
            let before = missing.len();
            for (object, image, others) in &referring {
                if !missing.contains_key(object) && others.iter().any(|other| missing.contains_key(other)) {
                    missing.insert(**object, (*image).clone());
                }
            }
            if missing.len() == before {
                return;
            }
        }
    }

    /// Closes this process's own ends of them all. The new process keeps its own.
    pub fn close(self) {
        close_all(self.made.into_values().map(|(_, fd)| fd).collect());
    }

    /// What is left to do after the commit.
    pub fn going_live(&mut self) -> GoingLive {
        let later = self.made.extract_if(|_, (image, _)| file::goes_live(image));
        GoingLive { files: later.map(|(_, made)| made).collect(), _places: self.unix.take_places() }
    }

    /// Closes numbers that are no longer used, or that are to be something else.
    fn clear_numbers(&mut self, table: &[Descriptor], made_now: &HashSet<ObjectId>, shell: &mut Shell) -> Result<()> {
        let wanted: HashMap<i32, &Descriptor> = table.iter().map(|d| (d.number, d)).collect();
        let mut batch = Batch::new();
        let mut kept = Vec::with_capacity(self.installed.len());
        for old in std::mem::take(&mut self.installed) {
            if wanted.get(&old.number).is_some_and(|d| **d == old) && !made_now.contains(&old.object) {
                kept.push(old);
                continue;
            }
            flush_if_full(&mut batch, shell)?;
            batch.must(libc::SYS_close, [old.number.into()]);
        }
        shell.run(&batch)?;
        self.installed = kept;
        Ok(())
    }

    /// One descriptor is sent for each number that is not there, duplicates too. They arrive at the lowest free numbers, in order, so
    /// the n-th arrives at a number that is at most its own; put in place from the last to the first, none overwrites one that is still
    /// to be moved.
    fn hand_over(&mut self, table: &[Descriptor], shell: &mut Shell) -> Result<()> {
        let there: HashSet<i32> = self.installed.iter().map(|d| d.number).collect();
        let missing: Vec<&Descriptor> = table.iter().filter(|d| !there.contains(&d.number)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut sent = Vec::with_capacity(missing.len());
        for descriptor in &missing {
            let fd = self.made.get(&descriptor.object).map(|(_, fd)| fd.as_fd());
            sent.push(fd.ok_or_else(|| Error::Invalid(format!("descriptor {} of nothing", descriptor.number)))?);
        }
        let arrived = shell.give(&sent)?;
        let mut batch = Batch::new();
        for (descriptor, from) in missing.iter().zip(arrived).rev() {
            flush_if_full(&mut batch, shell)?;
            if from == descriptor.number {
                let flags = if descriptor.close_on_exec { libc::FD_CLOEXEC } else { 0 };
                batch.must(libc::SYS_fcntl, [from.into(), libc::F_SETFD.into(), flags.into()]);
            } else {
                let flags = if descriptor.close_on_exec { libc::O_CLOEXEC } else { 0 };
                batch.must(libc::SYS_dup3, [from.into(), descriptor.number.into(), flags.into()]);
                batch.must(libc::SYS_close, [from.into()]);
            }
        }
        shell.run(&batch)?;
        self.installed.extend(missing.into_iter().copied());
        Ok(())
    }

    /// What ties descriptions to others, or to the process: every one is at its numbers by now.
    fn connect(&self, made_now: &[ObjectId], table: &[Descriptor], shell: &mut Shell) -> Result<()> {
        let aside = self.put_aside(made_now, table, shell)?;
        let mut batch = Batch::new();
        for object in made_now {
            if let Some(place) = Placed::of(*object, table, &aside)
                && let Some((image, _)) = self.made.get(object)
            {
                for part in 0..file::parts(image) {
                    flush_unless_room_for(&mut batch, file::CALLS_TO_CONNECT, shell)?;
                    file::connect(image, place.part(part), &mut batch)?;
                }
            }
        }
        for number in aside.into_values() {
            flush_if_full(&mut batch, shell)?;
            batch.must(libc::SYS_close, [number.into()]);
        }
        if !batch.is_empty() {
            shell.run(&batch)?;
        }
        Ok(())
    }

    /// Those that refer to others, or are referred to, and are only inside descriptions: they get numbers for now.
    fn put_aside(
        &self,
        made_now: &[ObjectId],
        table: &[Descriptor],
        shell: &mut Shell,
    ) -> Result<HashMap<ObjectId, i32>> {
        let mut wanted = HashSet::new();
        for (object, (image, _)) in made_now.iter().filter_map(|object| self.made.get_key_value(object)) {
            let others = file::refers_to(image);
            wanted.extend(others.first().map(|_| *object));
            wanted.extend(others);
        }
        for descriptor in table {
            wanted.remove(&descriptor.object);
        }
        let wanted: Vec<ObjectId> = wanted.into_iter().collect();
        let made = Made::new(&self.made);
        let fds = wanted.iter().map(|object| Ok(made.fd(*object)?.as_fd())).collect::<Result<Vec<_>>>()?;
        let numbers = shell.give_aside(&fds)?;
        Ok(wanted.into_iter().zip(numbers).collect())
    }
}

fn flush_if_full(batch: &mut Batch, shell: &mut Shell) -> Result<()> {
    flush_unless_room_for(batch, 2, shell)
}

/// `calls`: each of them with a few bytes.
fn flush_unless_room_for(batch: &mut Batch, calls: usize, shell: &mut Shell) -> Result<()> {
    if !batch.has_room_for(calls, calls * 16) {
        shell.run(batch)?;
        *batch = Batch::new();
    }
    Ok(())
}
