//! What is done to System V semaphores when a process ends (SEM_UNDO of semop(2)): a BPF iterator over its threads
//! (ebpf/semaphores.bpf.c) reads the adjustments that the kernel keeps.

use crate::error::{Error, Result};
use crate::task_iterator::TaskIterator;

/// What will be done to one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// Whose adjustments they are: the process, or a thread that does not share them with the first one, or the first that goes on
    /// (CLONE_SYSVSEM).
    pub tid: i32,
    /// The set.
    pub set: i32,
    /// What is added to which of its semaphores; those that are missing stay as they are. None: how many it has was not said.
    pub adjustments: Option<Vec<(u16, i16)>>,
}

const AT_ONCE: usize = 64;

/// As the program writes it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Record {
    tid: i32,
    set: i32,
    first: u32,
    what: u32,
    adjustments: [i16; AT_ONCE],
}

const UNKNOWN: u32 = 1;
const UNFINISHED: u32 = 2;

impl Record {
    const SIZE: usize = size_of::<Record>();

    fn from_bytes(bytes: &[u8; Record::SIZE]) -> Record {
        // SAFETY: as many bytes as it has; every pattern of bits is one of it, for it is made of integers without gaps.
        unsafe { bytes.as_ptr().cast::<Record>().read_unaligned() }
    }
}

/// Reads the adjustments of one process.
#[derive(Debug)]
pub struct UndoProbe {
    threads: TaskIterator,
    counts: Counts,
}

impl UndoProbe {
    /// Loads the program for a process. Takes 60 ms, most of it for the kernel's description of itself.
    ///
    /// # Errors
    /// As [`crate::file_probe::FileProbe::load`].
    pub fn load(pid: i32) -> Result<UndoProbe> {
        load(pid).map_err(|why| Error::Unsupported(format!("the probe for semaphores cannot be loaded: {why}")))
    }

    /// Every set on which the process has an entry, be it one that does nothing. `sets`: how many semaphores each has; what was said
    /// before is still known. Of a process that runs, an entry may be half made.
    ///
    /// # Errors
    /// There are more than can be read: some two hundred sets.
    pub fn read(&mut self, sets: &[(i32, u32)]) -> Result<Vec<Undo>> {
        let unsupported =
            |why: &dyn std::fmt::Display| Error::Unsupported(format!("read what semop is to undo: {why}"));
        say(&mut self.counts, sets).map_err(|why| unsupported(&why))?;
        gather(self.threads.records(64, Record::from_bytes)?).ok_or_else(|| unsupported(&"it is too much"))
    }
}

/// None: it is not all.
fn gather(records: Vec<Record>) -> Option<Vec<Undo>> {
    let mut all: Vec<Undo> = Vec::new();
    for Record { tid, set, first, what, adjustments } in records {
        if what & UNFINISHED != 0 {
            return None;
        }
        let numbered = (first..).zip(adjustments).filter(|(_, change)| *change != 0);
        let here = numbered.map(|(number, change)| Some((u16::try_from(number).ok()?, change)));
        let here = here.collect::<Option<Vec<_>>>()?;
        match all.last_mut().filter(|last| first != 0 && (last.tid, last.set) == (tid, set)) {
            Some(last) => last.adjustments.as_mut()?.extend(here),
            None => all.push(Undo { tid, set, adjustments: Some(here).filter(|_| what & UNKNOWN == 0) }),
        }
    }
    Some(all)
}

/// How many semaphores each set has, for the program.
#[cfg(probes)]
type Counts = aya::maps::HashMap<aya::maps::MapData, i32, u32>;
#[cfg(not(probes))]
type Counts = ();

#[cfg(probes)]
fn say(counts: &mut Counts, sets: &[(i32, u32)]) -> std::result::Result<(), aya::maps::MapError> {
    sets.iter().try_for_each(|(set, count)| counts.insert(set, count, 0))
}

#[cfg(not(probes))]
fn say(_: &mut Counts, _: &[(i32, u32)]) -> std::result::Result<(), String> {
    Ok(())
}

#[cfg(probes)]
fn load(pid: i32) -> std::result::Result<UndoProbe, Box<dyn std::error::Error>> {
    use std::os::fd::AsFd;

    static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/semaphores.bpf.o"));
    let kernel = aya::Btf::from_sys_fs()?;
    let mut object = aya::EbpfLoader::new().btf(Some(&kernel)).load(OBJECT)?;
    let program = crate::probe::program(&mut object, "read_undo", "task", &kernel)?;
    let counts = object.take_map("counts").ok_or("its map is not in the object")?.try_into()?;
    let mut probe = UndoProbe { threads: TaskIterator::of_process(program.as_fd(), pid)?, counts };
    probe.read(&[])?;
    Ok(probe)
}

#[cfg(not(probes))]
fn load(_: i32) -> std::result::Result<UndoProbe, Box<dyn std::error::Error>> {
    Err(crate::probe::BUILT_WITHOUT.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysv_ipc::Kind;

    /// A set that is removed when this is dropped.
    struct Set(i32);

    impl Set {
        fn new(count: i32) -> Set {
            // SAFETY: takes numbers alone.
            Set(unsafe { libc::semget(libc::IPC_PRIVATE, count, 0o600) })
        }

        fn operate(&self, semaphore: u16, change: i16, flags: i32) {
            let mut operation = libc::sembuf { sem_num: semaphore, sem_op: change, sem_flg: flags as i16 };
            // SAFETY: one struct sembuf, as said.
            assert_eq!(unsafe { libc::semop(self.0, &raw mut operation, 1) }, 0);
        }
    }

    impl Drop for Set {
        fn drop(&mut self) {
            let _ = Kind::Semaphores.remove(self.0);
        }
    }

    #[test]
    fn it_tells_what_semop_is_to_undo() {
        let mut probe = match UndoProbe::load(std::process::id() as i32) {
            Ok(probe) => probe,
            Err(why) => return println!("SKIPPED probe for semaphores: {why}"),
        };
        let (one, large, other) = (Set::new(3), Set::new(250), Set::new(1));
        one.operate(0, 5, 0);
        one.operate(0, -2, libc::SEM_UNDO);
        one.operate(2, 7, libc::SEM_UNDO);
        large.operate(1, 1, 0);
        large.operate(249, 3, libc::SEM_UNDO);
        large.operate(64, 4, libc::SEM_UNDO);
        large.operate(64, -4, libc::SEM_UNDO);
        other.operate(0, 1, 0);
        let known = [(one.0, 3), (large.0, 250), (other.0, 1)];
        // Other tests run beside this one, in threads that share what is to be undone.
        let mut told = |sets: &[(i32, u32)]| {
            let mut told = probe.read(sets).unwrap();
            told.retain(|undo| known.iter().any(|(set, _)| *set == undo.set));
            told.sort_by_key(|undo| undo.set);
            told
        };
        let before = told(&[(one.0, 3)]);
        let of = |all: &[Undo], set: &Set| all.iter().find(|undo| undo.set == set.0).cloned();
        assert_eq!(of(&before, &large).unwrap().adjustments, None);
        let all = told(&known);
        assert_eq!(of(&all, &one).unwrap().adjustments.unwrap(), [(0, 2), (2, -7)]);
        assert_eq!(of(&all, &large).unwrap().adjustments.unwrap(), [(249, -3)]);
        assert_eq!(of(&all, &other), None);
        assert!(all.iter().all(|undo| undo.tid == std::process::id() as i32));
        let own = std::thread::scope(|scope| {
            let parted = scope.spawn(|| {
                // SAFETY: takes numbers alone; of this thread only.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_SYSVSEM) }, 0);
                one.operate(1, 1, libc::SEM_UNDO);
                let tid = nix::unistd::gettid().as_raw();
                told(&known).into_iter().find(|undo| undo.tid == tid)
            });
            parted.join().unwrap().unwrap()
        });
        assert_eq!((own.set, own.adjustments.unwrap()), (one.0, vec![(1, -1)]));
    }

    #[test]
    fn pieces_of_a_set_are_put_together() {
        let piece = |set, first, what, change| Record { tid: 7, set, first, what, adjustments: [change; AT_ONCE] };
        let whole = gather(vec![piece(3, 0, 0, 0), piece(3, 128, 0, -1), piece(4, 0, UNKNOWN, 0)]).unwrap();
        let expected: Vec<(u16, i16)> = (128..192).map(|number| (number, -1)).collect();
        assert_eq!(whole.first().unwrap().adjustments, Some(expected));
        assert_eq!((whole.len(), whole.last().unwrap().adjustments.clone()), (2, None));
        assert_eq!(gather(vec![piece(3, 0, 0, 0), piece(3, 64, UNFINISHED, 0)]), None);
        assert_eq!(gather(vec![piece(3, 1 << 16, 0, 1)]), None);
    }
}
