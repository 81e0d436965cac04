//! The open files as they travel: those that can be made ahead while the process still runs, and all of them in the freeze.

use std::collections::BTreeSet;

use migrate_linux::libc;
use migrate_linux::remote::Batch;

use super::freeze::FrozenProcess;
use super::known_files::KnownFiles;
use super::open_files::{OpenFiles, SharedFile};
use crate::error::{Doing, Error, Result};
use crate::image::{Descriptor, ObjectId, OpenFilesImage};
use crate::in_two::in_two;
use crate::plan::Instead;
use crate::proc::timer_list::await_due;
use crate::resources::file::owner::{self, Around, OwnerImage};
use crate::resources::file::replaced::ReplacedImage;
use crate::resources::file::socket::memberships::Groups;
use crate::resources::file::{self, FileImage, HeldFile, Others};
use crate::resources::process::file_locks::{self, FileLock};

/// The open files of the frozen process.
pub struct CapturedFiles {
    /// They.
    pub image: OpenFilesImage,
    /// The locks on them.
    pub locks: Vec<FileLock>,
    /// Whom the kernel tells of events on them.
    pub owners: Vec<OwnerImage>,
}

impl OpenFiles {
    /// What can be opened at the destination while the process still runs, and the descriptors that refer to it.
    pub fn early(&mut self) -> Result<OpenFilesImage> {
        // The others are captured again in the freeze; what is wrong with one shows there.
        let ahead = |image: Result<Option<FileImage>>| image.ok().flatten().filter(file::is_ahead);
        let mut images: Vec<Option<FileImage>> = self.capture_all(true)?.into_iter().map(ahead).collect();
        // What one is inside of is filled in the freeze.
        let inside = self.list.iter().zip(&mut images).filter(|(shared, _)| shared.numbers.is_empty());
        inside.for_each(|(_, image)| *image = None);
        self.leave_out_what_refers_to_others(&mut images);
        let (mut files, mut descriptors) = (Vec::new(), Vec::new());
        for (shared, image) in self.list.iter_mut().zip(images) {
            let Some(image) = image else { continue };
            shared.told = Some(image.clone());
            files.push((shared.object, image));
            let close_on_exec = shared.file.view.info.flags & libc::O_CLOEXEC as u32 != 0;
            let descriptor = |&number: &i32| Descriptor { number, close_on_exec, object: shared.object };
            descriptors.extend(shared.numbers.iter().map(descriptor));
        }
        descriptors.sort_by_key(|d| d.number);
        // What is not there yet cannot be inside anything.
        Ok(OpenFilesImage { files, descriptors, inside: Vec::new() })
    }

    /// Leaves out of what can be made ahead what refers to something that cannot.
    fn leave_out_what_refers_to_others(&self, images: &mut [Option<FileImage>]) {
        loop {
            let ahead = self.list.iter().zip(&*images).filter(|(_, image)| image.is_some());
            let ahead: BTreeSet<ObjectId> = ahead.map(|(shared, _)| shared.object).collect();
            let mut complete = true;
            for image in images.iter_mut() {
                let refers = |image: &FileImage| file::refers_to(image).iter().all(|object| ahead.contains(object));
                if image.as_ref().is_some_and(|image| !refers(image)) {
                    (*image, complete) = (None, false);
                }
            }
            if complete {
                return;
            }
        }
    }

    /// None: it is nothing there. `early`: only what may be made before the freeze; some cannot be read while the process runs
    /// without its noticing. Else what the kernel was just about to change is waited for.
    fn capture_all(&self, early: bool) -> Result<Vec<Result<Option<FileImage>>>> {
        let known = KnownFiles::new(&self.list, self.known());
        let groups = Groups::default();
        let terminals = if early { None } else { self.read_terminals()? };
        let others = Others::new(&known, &self.fresh, &groups, self.corked.get()).with_terminals(terminals.as_deref());
        let mut list: Vec<&SharedFile> = self.list.iter().collect();
        let mut images = in_two(&mut list, |shared| Ok(self.capture_one(shared, early, others)))?;
        if early {
            return Ok(images);
        }
        let in_doubt = |image: &Result<Option<FileImage>>| matches!(image, Ok(Some(read)) if file::is_in_doubt(read));
        if images.iter().any(in_doubt) {
            await_due().doing(|| "wait for timers of this host that are due; push it again".into())?;
        }
        for (shared, image) in list.into_iter().zip(&mut images).filter(|(_, image)| in_doubt(image)) {
            let Ok(Some(read)) = &*image else { continue };
            match file::is_settled(read, &shared.file) {
                Ok(true) => {}
                Ok(false) => *image = self.capture_one(shared, false, others),
                Err(error) => *image = Err(error),
            }
        }
        Ok(images)
    }

    fn capture_one<'a>(&self, shared: &'a SharedFile, early: bool, others: Others<'a>) -> Result<Option<FileImage>> {
        match &shared.instead {
            None if early && !file::may_be_ahead(&shared.file.view) => Ok(None),
            None => file::capture(&shared.file, &others.about(shared.told.as_ref())).map(Some),
            Some(instead) => {
                let image = ReplacedImage::new(instead, &shared.file.view, self.owner);
                Ok(image.map(FileImage::Replaced))
            }
        }
    }

    /// Reads them, and the file locks, in the frozen process, which has just been looked at again.
    pub fn capture(&self, process: &mut FrozenProcess) -> Result<CapturedFiles> {
        let (mut files, mut locks, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let groups = &process.status.ns_pgid;
        let group = (groups.first().copied().unwrap_or(0), groups.last().copied().unwrap_or(0));
        let (notified, own) = (self.read_notified()?, self.own.reading());
        let hidden = |held: &HeldFile| own.owner(held);
        let around = Around { threads: &process.threads, group, notified: notified.as_deref(), hidden: &hidden };
        for (shared, image) in self.list.iter().zip(self.capture_all(false)?) {
            let view = &shared.file.view;
            if shared.moves() {
                locks.extend(file_locks::parse(view.number, &view.info).map_err(|why| Error::Refused(vec![why]))?);
                let owner = owner::capture(&shared.file, &shared.numbers, &around)?;
                owners.extend(owner.filter(|_| !shared.numbers.is_empty()));
            }
            if let Some(image) = image?.filter(|image| shared.told.as_ref() != Some(image)) {
                files.push((shared.object, image));
            }
        }
        let mut descriptors = Vec::new();
        let mut unknown = Vec::new();
        for shared in self.list.iter().filter(|shared| shared.instead != Some(Instead::Close)) {
            let view = &shared.file.view;
            let close_on_exec = view.info.flags & libc::O_CLOEXEC as u32 != 0;
            for &number in &shared.numbers {
                // The others of one description have it or not each for itself.
                let list = if number == view.number { &mut descriptors } else { &mut unknown };
                list.push(Descriptor { number, close_on_exec, object: shared.object });
            }
        }
        if !unknown.is_empty() {
            read_close_on_exec(&mut unknown, process)?;
            descriptors.append(&mut unknown);
        }
        descriptors.sort_unstable_by_key(|d| d.number);
        let inside = self.list.iter().filter(|shared| shared.numbers.is_empty()).map(|shared| shared.object).collect();
        Ok(CapturedFiles { image: OpenFilesImage { files, descriptors, inside }, locks, owners })
    }
}

/// FD_CLOEXEC belongs to each number, and no duplicate has it.
fn read_close_on_exec(descriptors: &mut [Descriptor], process: &mut FrozenProcess) -> Result<()> {
    for part in descriptors.chunks_mut(2000) {
        let mut batch = Batch::new();
        let asked: Vec<_> =
            part.iter().map(|d| batch.call(libc::SYS_fcntl, [d.number.into(), libc::F_GETFD.into()])).collect();
        let results = process.run(&batch)?;
        for (descriptor, ticket) in part.iter_mut().zip(asked) {
            let flags = results.value(ticket);
            let flags = flags.map_err(|e| Error::io(format!("read descriptor {}", descriptor.number), e.into()))?;
            descriptor.close_on_exec = flags & libc::FD_CLOEXEC as u64 != 0;
        }
    }
    Ok(())
}
