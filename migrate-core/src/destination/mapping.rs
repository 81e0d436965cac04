//! The new process's address space: made before the freeze, changed as the original's changes.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpStream;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use migrate_linux::cpu::CpuFeatures;
use migrate_linux::kernel_module::KernelModule;
use migrate_linux::libc;
use migrate_linux::pidfd::PidFd;
use migrate_linux::remote::Batch;
use migrate_linux::spawn::Numbers;
use migrate_linux::userfaultfd::UserFaultFd;
use nix::errno::Errno;

use super::Making;
use super::huge_pages::{self, Collapsing};
use super::running::Init;
use super::shell::Shell;
use super::vdso::is_kernels_own;
use crate::error::{Doing, Error, Result};
use crate::fault;
use crate::image::layout::{Backing, FileStamp, Layout, LayoutChange, MappedFile, ShmObject, Vma, WRITE};
use crate::image::{LayoutUpdate, Offer, Skeleton};
use crate::memory::fresh::{self, Fresh};
use crate::memory::receive::{self, Placement};
use crate::plan::STREAMS;
use crate::proc::smaps::VmFlags;
use crate::protocol::handoff;
use crate::resources::Outside;
use crate::resources::file::socket::unix_calls::NewProcess;
use crate::resources::thread::scheduling::Defaults;

/// The most files of one process that this side keeps open.
const TABLE_LIMIT: usize = 100_000;
const MLOCK_ONFAULT: i32 = 1;
const LOCKED_AT_ONCE: usize = 1000;
const MADV_GUARD_INSTALL: i32 = 102;
/// Linux 6.10; not in libc.
const SYS_MSEAL: i64 = 462;

/// Files and objects that mappings name, by their numbers in the new process.
#[derive(Debug, Default)]
pub struct Tables {
    pub files: Vec<i32>,
    pub objects: Vec<(u32, i32)>,
    /// The same opened for reading alone, of those that are mapped so that they cannot be written.
    read_only: Vec<(u32, i32)>,
}

/// Makes the process with its first layout, and lets page connections come.
pub fn build(
    offer: &Offer,
    skeleton: &Skeleton,
    pages: Option<UnixStream>,
    init: &Init,
    control: &TcpStream,
) -> Result<Making> {
    let pages = pages.ok_or_else(|| Error::Invalid("page connections were given up".into()))?;
    if !skeleton.layout.is_valid() {
        return Err(Error::Invalid("the address space makes no sense".into()));
    }
    if !STREAMS.contains(&skeleton.streams) {
        return Err(Error::Invalid(format!("{} page connections", skeleton.streams)));
    }
    let numbers = Numbers { pid: offer.pid, group: offer.group, session: offer.session };
    let taken: Vec<(u64, u64)> = skeleton.layout.vmas.iter().map(|v| (v.start, v.end)).collect();
    make_room_for_descriptors(control, skeleton.highest_descriptor);
    let shell = Shell::make(numbers, &taken, skeleton.highest_descriptor, init.spawn_namespace())?;
    if skeleton.clocks.is_some() {
        migrate_linux::namespaces::stay_in_own_time_namespace().doing(|| "return to the own time namespace".into())?;
    }
    let named = init.named(shell.pid)?;
    fault::point(22, control)?;
    let placement = Arc::new(Placement::new(shell.memory.try_clone().doing(|| "open the memory again".into())?));
    let streams = usize::from(skeleton.streams);
    let mut making = Making {
        shell,
        named,
        placement,
        collapsing: Collapsing::default(),
        streams,
        tables: Tables::default(),
        contents: Default::default(),
        states: Default::default(),
        segments: Default::default(),
        posix_shm: Default::default(),
        sysv: Default::default(),
        descriptors: Default::default(),
        threads: Default::default(),
        outside: Outside { origin: offer.scheduling.clone(), here: Defaults::of_this_host(), warnings: Vec::new() },
        module: KernelModule::open().ok(),
        layout: Layout::default(),
        old_vdso: None,
        clocks: skeleton.clocks,
        other_cpu: Some(offer.cpu.features()).filter(|cpu| !CpuFeatures::of_this_cpu().has_areas_of(cpu)),
    };
    making.old_vdso = making.map_vdso(&skeleton.layout, offer)?;
    let change = LayoutChange { files: skeleton.layout.files.clone(), ..Layout::default().change_to(&skeleton.layout) };
    making.change(&change, &skeleton.objects, true)?;
    fault::point(23, control)?;
    making.layout = skeleton.layout.clone();
    let fresh = fresh::worth_while(&skeleton.layout, &skeleton.huge);
    if !fresh.is_empty() && !huge_pages::given_everywhere() {
        match making.register(fresh) {
            Ok(fresh) => making.placement.begin_with(fresh, streams),
            // It only takes longer.
            Err(error) => tracing::debug!("fill in missing pages at once: {error}"),
        }
    }
    if !skeleton.huge.is_empty() {
        let process = PidFd::open(making.shell.pid).doing(|| "open the new process".into())?;
        making.collapsing = Collapsing::begin(process, &making.shell.memory, &skeleton.layout, &skeleton.huge);
    }
    let door = making.placement.clone();
    let spawned = std::thread::Builder::new().name("page door".into()).spawn(move || open_door(&pages, streams, &door));
    spawned.doing(|| "start a thread".into())?;
    Ok(making)
}

/// Takes the page connections as they come, each to a thread of its own.
fn open_door(pages: &UnixStream, streams: usize, placement: &Arc<Placement>) {
    for _ in 0..streams {
        let stream = match handoff::take(pages) {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("a page connection: {error}");
                return;
            }
        };
        migrate_linux::sockets::tune_for_pages(&stream);
        let placement = placement.clone();
        let spawned = std::thread::Builder::new().name("pages".into()).spawn(move || {
            if let Err(error) = receive::serve(stream, &placement) {
                tracing::warn!("{error}");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!("start a thread: {error}");
        }
    }
}

impl Making {
    /// Has the new process make a userfaultfd, takes it, and has it close its own.
    fn register(&mut self, fresh: Vec<Range<u64>>) -> Result<Fresh> {
        // User faults only: so it may be made whatever vm.unprivileged_userfaultfd says (userfaultfd(2)).
        const UFFD_USER_MODE_ONLY: i32 = 1;
        let mut batch = Batch::new();
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | UFFD_USER_MODE_ONLY;
        let made = batch.must(libc::SYS_userfaultfd, [flags.into()]);
        let made = self.shell.run(&batch)?.value(made).unwrap_or_default() as i32;
        let taken = self.shell.take(made);
        let mut batch = Batch::new();
        batch.must(libc::SYS_close, [made.into()]);
        self.shell.run(&batch)?;
        Fresh::register(UserFaultFd::from(taken?), fresh).doing(|| "register new memory".into())
    }

    /// Applies an update between two rounds, or the last one.
    pub fn apply(&mut self, update: &LayoutUpdate) -> Result<()> {
        self.layout.apply(&update.change);
        if !self.layout.is_valid() {
            return Err(Error::Invalid("a change of the address space makes no sense".into()));
        }
        let LayoutChange { unmap, map, adjust, .. } = &update.change;
        let places = unmap.iter().copied().chain(map.iter().chain(adjust).map(|vma| (vma.start, vma.end)));
        self.placement.changes(places);
        self.change(&update.change, &update.objects, false)?;
        self.resize_objects(&update.states)?;
        self.set_states()?;
        let mut batch = Batch::new();
        for (ranges, advice) in [(&update.drops, libc::MADV_DONTNEED), (&update.guards, MADV_GUARD_INSTALL)] {
            for &(start, end) in ranges {
                self.flush_if_full(&mut batch)?;
                batch.must(libc::SYS_madvise, [start.into(), end.saturating_sub(start).into(), advice.into()]);
            }
        }
        self.shell.run(&batch)?;
        self.placement.layout_done();
        Ok(())
    }

    /// Refuses a file that is mapped to be written and is another one here than in the original, which stands still.
    pub fn check_written_files(&self, same_kernel: bool) -> Result<()> {
        for (number, file) in self.layout.files.iter().enumerate().filter(|(_, file)| file.writable) {
            let maps_it = |v: &Vma| matches!(v.backing, Backing::File { file, .. } if file as usize == number);
            if !self.layout.vmas.iter().any(maps_it) {
                continue;
            }
            let path = path_of(file);
            let here = std::fs::metadata(path).doing(|| format!("look at {}", path.display()))?;
            if let Some(why) = file.stamp.difference(&FileStamp::of(&here), same_kernel) {
                let path = path.display();
                return Err(Error::Refused(vec![format!(
                    "{path}, which the process has mapped to write it, {why}; the hosts must share the file"
                )]));
            }
        }
        Ok(())
    }

    /// `compared`: preflight has found the files to be the same as there.
    fn change(&mut self, change: &LayoutChange, objects: &[ShmObject], compared: bool) -> Result<()> {
        self.open_files(&change.files, compared)?;
        self.make_objects(objects)?;
        self.open_read_only(&change.map)?;
        let mut batch = Batch::new();
        for &(start, end) in &change.unmap {
            self.flush_if_full(&mut batch)?;
            batch.must(libc::SYS_munmap, [start.into(), end.saturating_sub(start).into()]);
        }
        for vma in &change.map {
            if is_kernels_own(vma) {
                continue;
            }
            let executor = self.shell.executor.range();
            let in_the_way = self.old_vdso.as_ref().is_some_and(|old| old.is_in_the_way_of(vma));
            if in_the_way || vma.start < executor.end && executor.start < vma.end {
                return Err(Error::Invalid(format!(
                    "a new mapping at {:#x} is where this side works; try again",
                    vma.start
                )));
            }
            self.flush_if_full(&mut batch)?;
            self.map(vma, &mut batch)?;
        }
        for vma in &change.adjust {
            self.flush_if_full(&mut batch)?;
            batch.must(libc::SYS_mprotect, [vma.start.into(), vma.len().into(), u64::from(vma.protection).into()]);
            advise(vma, &mut batch);
        }
        self.shell.run(&batch)?;
        Ok(())
    }

    fn flush_if_full(&mut self, batch: &mut Batch) -> Result<()> {
        if !batch.has_room_for(16, 512) {
            self.shell.run(batch)?;
            *batch = Batch::new();
        }
        Ok(())
    }

    fn map(&self, vma: &Vma, batch: &mut Batch) -> Result<()> {
        if let Backing::Object { object, offset } = vma.backing
            && let Some(segment) = self.segments.get(&object)
        {
            segment.attach(vma, offset, batch);
            advise(vma, batch);
            return Ok(());
        }
        let mut flags = libc::MAP_FIXED_NOREPLACE | if vma.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        let (fd, offset) = match vma.backing {
            Backing::Anonymous => {
                flags |= libc::MAP_ANONYMOUS;
                (-1, 0)
            }
            Backing::File { file, offset } => (
                *self
                    .tables
                    .files
                    .get(file as usize)
                    .ok_or_else(|| Error::Invalid(format!("a mapping of file {file}")))?,
                offset,
            ),
            Backing::Object { object, offset } => {
                let may_write = !vma.shared || vma.flags & VmFlags::MAY_WRITE != 0;
                let table = if may_write { &self.tables.objects } else { &self.tables.read_only };
                let known = table.iter().find(|(id, _)| *id == object);
                (known.ok_or_else(|| Error::Invalid(format!("a mapping of shared object {object}")))?.1, offset)
            }
            Backing::Vdso | Backing::Vvar | Backing::VvarVclock => return Ok(()),
        };
        for (flag, with) in [(VmFlags::GROWS_DOWN, libc::MAP_GROWSDOWN), (VmFlags::NO_RESERVE, libc::MAP_NORESERVE)] {
            if vma.flags & flag != 0 {
                flags |= with;
            }
        }
        // Memory that was writable once is accounted for even when it no longer is.
        let was_writable = !vma.shared && vma.protection & WRITE == 0 && vma.flags & VmFlags::ACCOUNTABLE != 0;
        let protection = vma.protection | if was_writable { WRITE } else { 0 };
        batch.must(
            libc::SYS_mmap,
            [vma.start.into(), vma.len().into(), u64::from(protection).into(), flags.into(), fd.into(), offset.into()],
        );
        if was_writable {
            batch.must(libc::SYS_mprotect, [vma.start.into(), vma.len().into(), u64::from(vma.protection).into()]);
        }
        advise(vma, batch);
        Ok(())
    }

    fn open_files(&mut self, files: &[MappedFile], compared: bool) -> Result<()> {
        let new = files.get(self.tables.files.len()..).unwrap_or_default();
        if files.len() > TABLE_LIMIT {
            return Err(Error::Invalid(format!("{} mapped files", files.len())));
        }
        let opened = new.iter().map(|file| open_mapped_file(file, compared)).collect::<Result<Vec<OwnedFd>>>()?;
        let numbers = self.shell.give_aside(&super::shell::borrow(&opened))?;
        self.tables.files.extend(numbers);
        Ok(())
    }

    /// A shared mapping of a description that cannot write can never be made writable, and does not keep a memfd from being sealed.
    fn open_read_only(&mut self, vmas: &[Vma]) -> Result<()> {
        for vma in vmas {
            let Backing::Object { object, .. } = vma.backing else { continue };
            let known = self.tables.read_only.iter().any(|(id, _)| *id == object);
            if known || self.segments.contains_key(&object) || !vma.shared || vma.flags & VmFlags::MAY_WRITE != 0 {
                continue;
            }
            let Some(content) = self.contents.get(&object) else { continue };
            let again = File::open(format!("/proc/self/fd/{}", content.file.as_raw_fd()));
            let again = again.doing(|| "open a file without a name for reading".into())?;
            let number = self.shell.give_aside(&[again.as_fd()])?;
            self.tables.read_only.extend(number.first().map(|n| (object, *n)));
        }
        Ok(())
    }

    /// Locks what was locked: late, because it fills in pages. And seals what was sealed: later still, because then nothing can be
    /// changed about it.
    pub fn lock_and_seal(&mut self) -> Result<()> {
        let mut batch = Batch::new();
        // Where the vDSO is another, what its mappings were is of no importance.
        let of_program = |v: &&Vma| self.old_vdso.is_none() || !is_kernels_own(v);
        let with = |flag| self.layout.vmas.iter().filter(of_program).filter(move |v| v.flags & flag != 0).cloned();
        let locked: Vec<Vma> = with(VmFlags::LOCKED).collect();
        let sealed: Vec<Vma> = with(VmFlags::SEALED).collect();
        for part in locked.chunks(LOCKED_AT_ONCE) {
            let lock = |vma: &Vma| {
                let on_fault = if vma.flags & VmFlags::LOCK_ON_FAULT != 0 { MLOCK_ONFAULT } else { 0 };
                batch.call(libc::SYS_mlock2, [vma.start.into(), vma.len().into(), on_fault.into()])
            };
            let tickets: Vec<_> = part.iter().map(lock).collect();
            let results = self.shell.run(&std::mem::take(&mut batch))?;
            for (vma, ticket) in part.iter().zip(tickets) {
                match results.value(ticket) {
                    // It is locked, and has pages that cannot be filled in, as it had there: PROT_NONE, behind the end of a file.
                    Ok(_) | Err(Errno::ENOMEM) => {}
                    Err(e) => return Err(Error::io(format!("lock the memory at {:#x}", vma.start), e.into())),
                }
            }
        }
        for vma in sealed {
            self.flush_if_full(&mut batch)?;
            batch.must(SYS_MSEAL, [vma.start.into(), vma.len().into(), 0.into()]);
        }
        self.shell.run(&batch)?;
        Ok(())
    }
}

fn advise(vma: &Vma, batch: &mut Batch) {
    const ADVICE: [(u64, i32); 8] = [
        (VmFlags::HUGE_PAGE, libc::MADV_HUGEPAGE),
        (VmFlags::NO_HUGE_PAGE, libc::MADV_NOHUGEPAGE),
        (VmFlags::DONT_FORK, libc::MADV_DONTFORK),
        (VmFlags::DONT_DUMP, libc::MADV_DONTDUMP),
        (VmFlags::WIPE_ON_FORK, libc::MADV_WIPEONFORK),
        (VmFlags::MERGEABLE, libc::MADV_MERGEABLE),
        (VmFlags::SEQUENTIAL, libc::MADV_SEQUENTIAL),
        (VmFlags::RANDOM, libc::MADV_RANDOM),
    ];
    for (flag, advice) in ADVICE {
        if vma.flags & flag != 0 {
            batch.must(libc::SYS_madvise, [vma.start.into(), vma.len().into(), advice.into()]);
        }
    }
    if !vma.name.is_empty() {
        const PR_SET_VMA: i32 = 0x5356_4d41;
        let name = batch.string(&vma.name);
        // A kernel without names loses nothing but the name.
        batch.call(libc::SYS_prctl, [PR_SET_VMA.into(), 0.into(), vma.start.into(), vma.len().into(), name.into()]);
    }
}

fn open_mapped_file(file: &MappedFile, compared: bool) -> Result<OwnedFd> {
    let path = path_of(file);
    let opened = File::options().read(true).write(file.writable).open(path);
    let opened = opened.doing(|| format!("open {}", path.display()))?;
    let here = opened.metadata().doing(|| format!("look at {}", path.display()))?;
    // What may be written is compared when the process stands still.
    if !compared
        && !file.writable
        && let Some(why) = file.stamp.difference(&FileStamp::of(&here), false)
    {
        let path = path.display();
        return Err(Error::Refused(vec![format!(
            "{path}, which the process has mapped meanwhile, {why}; try again: its content is compared beforehand then"
        )]));
    }
    Ok(opened.into())
}

fn path_of(file: &MappedFile) -> &Path {
    Path::new(OsStr::from_bytes(&file.path))
}

/// This process makes them in the freeze. Having threads, it waits for all CPUs whenever its table of descriptors grows
/// (fs/file.c, `expand_fdtable`: synchronize_rcu): ten milliseconds each time.
fn make_room_for_descriptors(any: &TcpStream, highest: i32) {
    const MOST: i32 = 1 << 16;
    const OWN: i32 = 200;
    // It may not have so many: then it is found out when they are made.
    let _ = rustix::io::fcntl_dupfd_cloexec(any, highest.clamp(0, MOST) + OWN);
}
