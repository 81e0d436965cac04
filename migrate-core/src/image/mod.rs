//! What travels: the process as data. Pages do not; they have a stream of their own ([`crate::memory`]).

pub mod layout;
pub mod sysv_ipc;

use bincode::{Decode, Encode};
use migrate_linux::cpu::{CpuFeatures, StateComponent};

use crate::clocks::Offsets;
use crate::identity::FileIdentity;
use crate::memory::verify::Digest;
use crate::plan::PidPolicy;
use crate::resources::file::FileImage;
use crate::resources::file::owner::OwnerImage;
use crate::resources::file::socket::address::Bound;
use crate::resources::process::ProcessState;
use crate::resources::process::file_locks::FileLock;
use crate::resources::thread::scheduling::Defaults;
use crate::resources::thread::{CredentialsImage, EndedThread, ThreadCalls, ThreadState};
use crate::vdso::Vdso;
use layout::{Layout, LayoutChange, ObjectState, ShmObject};
use sysv_ipc::{Announced, Images};

/// Identifies an open file description within one image. Descriptors that share one carry the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ObjectId(pub u32);

/// What the source wants to send: enough for the destination to say no before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// The program's name.
    pub name: String,
    /// Its PID, in its own PID namespace.
    pub pid: i32,
    /// Its process group there.
    pub group: i32,
    /// Its session there.
    pub session: i32,
    /// Its threads' IDs there, its own first.
    pub tids: Vec<i32>,
    /// Where the numbers may go.
    pub pid_policy: PidPolicy,
    /// Bytes of memory that it needs there.
    pub memory: u64,
    /// Every file that must be there, in the version that it is here.
    pub files: Vec<NeededFile>,
    /// What its CPU can do.
    pub cpu: CpuDescription,
    /// It is to move to a CPU that can do less, too.
    pub ignore_cpu: bool,
    /// What its threads have there when nothing was chosen for them.
    pub scheduling: Defaults,
    /// Every socket that must have its address and port there.
    pub addresses: Vec<Bound>,
    /// Its vDSO.
    pub vdso: Option<Vdso>,
    /// The user and group IDs that it has.
    pub uid: u32,
    /// Its kernel, as long as it runs (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// Its semaphores and message queues, whose IDs and keys it must have there.
    pub sysv: Announced,
}

/// A file that must be at the destination.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NeededFile {
    /// What it is here.
    pub identity: FileIdentity,
    /// The process may be writing it: it must be there, but only the frozen process says in which state.
    pub written: bool,
}

/// What a program may use on a CPU; see [`migrate_linux::cpu`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct CpuDescription {
    /// Feature words, in the order of `migrate_linux::cpu`.
    pub words: Vec<u32>,
    /// State components that the kernel saves (XCR0).
    pub xcr0: u64,
    /// Bytes of the XSAVE area.
    pub xsave_size: u32,
    /// Where state components lie in it: bit, offset and size.
    pub components: Vec<(u32, u32, u32)>,
}

impl From<CpuFeatures> for CpuDescription {
    fn from(cpu: CpuFeatures) -> CpuDescription {
        let components = cpu.components.iter().map(|c| (c.bit, c.offset, c.size)).collect();
        CpuDescription { words: cpu.words, xcr0: cpu.xcr0, xsave_size: cpu.xsave_size, components }
    }
}

impl CpuDescription {
    /// As it was before it travelled.
    pub fn features(&self) -> CpuFeatures {
        let component = |&(bit, offset, size): &(u32, u32, u32)| StateComponent { bit, offset, size };
        let components = self.components.iter().take(64).map(component).collect();
        CpuFeatures { words: self.words.clone(), xcr0: self.xcr0, xsave_size: self.xsave_size, components }
    }
}

/// What the destination builds while the process still runs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Skeleton {
    /// The address space as it is now.
    pub layout: Layout,
    /// Objects without a name, behind mappings and descriptors.
    pub objects: Vec<ShmObject>,
    /// Parallel page connections that will come.
    pub streams: u8,
    /// The highest descriptor number that it has.
    pub highest_descriptor: i32,
    /// The offsets of the time namespace that it needs; None: the destination's own will do.
    pub clocks: Option<Offsets>,
    /// When it first runs there is to be noted (`--measure`).
    pub measure: bool,
    /// Private memory without a file that huge pages are behind.
    pub huge: Vec<(u64, u64)>,
}

/// Between two rounds: how the address space has changed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct LayoutUpdate {
    /// Mappings to take away and to make, in this order.
    pub change: LayoutChange,
    /// Objects that are new.
    pub objects: Vec<ShmObject>,
    /// Objects that are not as was told before.
    pub states: Vec<ObjectState>,
    /// Ranges whose pages the program has given back: they read as if never touched.
    pub drops: Vec<(u64, u64)>,
    /// Guard pages (MADV_GUARD_INSTALL); told only when the process stands still, and then all.
    pub guards: Vec<(u64, u64)>,
}

impl LayoutUpdate {
    /// Whether there is anything to do.
    pub fn is_needed(&self) -> bool {
        !(self.change.is_empty() && self.objects.is_empty() && self.states.is_empty() && self.drops.is_empty())
    }
}

/// A number in the descriptor table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Descriptor {
    /// The number.
    pub number: i32,
    /// FD_CLOEXEC.
    pub close_on_exec: bool,
    /// What it refers to.
    pub object: ObjectId,
}

/// The open file descriptions of a process, and where it has them.
#[derive(Debug, Clone, PartialEq, Encode, Decode, Default)]
pub struct OpenFilesImage {
    /// Descriptions that are new or have changed since the destination was told of them.
    pub files: Vec<(ObjectId, FileImage)>,
    /// The descriptor table, ascending.
    pub descriptors: Vec<Descriptor>,
    /// Descriptions that no number refers to: they are inside others.
    pub inside: Vec<ObjectId>,
}

/// What the destination can make while the process still runs, as it was then.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Early {
    /// Those open files that can be.
    pub files: OpenFilesImage,
    /// The threads beside the first.
    pub threads: Vec<EarlyThread>,
    /// Its semaphores and message queues.
    pub sysv: Announced,
}

/// A thread that can be made before it is known in full.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct EarlyThread {
    /// Its ID in its own PID namespace.
    pub tid: i32,
    /// Who it is.
    pub credentials: CredentialsImage,
    /// What else it has, as it was before the freeze.
    pub calls: Option<ThreadCalls>,
}

/// Everything but pages, as it was when the process stood still.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Final {
    /// What changed in the address space since the last update.
    pub layout: LayoutUpdate,
    /// Its open files.
    pub files: OpenFilesImage,
    /// When this was sent: the source's [`time_here`](crate::resources::file::time_here).
    pub sent: u64,
    /// Its CLOCK_MONOTONIC when this was sent, nanoseconds; it must not show less over there.
    pub monotonic: i64,
    /// Its file locks.
    pub locks: Vec<FileLock>,
    /// Whom the kernel tells of events on its descriptors.
    pub owners: Vec<OwnerImage>,
    /// What belongs to the process.
    pub process: ProcessState,
    /// Its semaphores and message queues.
    pub sysv: Images,
    /// Its threads, the first one first; if that has ended, those that go on.
    pub threads: Vec<ThreadState>,
    /// What is left of the first one, if it has ended.
    pub ended_first: Option<EndedThread>,
    /// Address of a `syscall` instruction in its code.
    pub gadget: u64,
    /// The source's kernel, as long as it runs (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// Which page stream rounds must be in place, the last one's number.
    pub last_round: u32,
    /// What its memory must be there, if that is to be compared.
    pub digest: Option<Digest>,
}
