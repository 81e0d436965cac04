//! What the operator asked for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use bincode::{Decode, Encode};

/// Where a process whose PID is taken at the destination goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub enum PidPolicy {
    /// Its own numbers in the destination's PID namespace, or it is refused.
    Keep,
    /// A fresh PID namespace, in which every number is free.
    Namespace,
    /// Keep when all are free, else a namespace.
    #[default]
    Auto,
}

/// Which way changed pages are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub enum TrackerChoice {
    /// The best that the kernel has.
    #[default]
    Auto,
    /// userfaultfd write-protection with PAGEMAP_SCAN (Linux 6.7).
    PagemapScan,
    /// Soft-dirty bits (CONFIG_MEM_SOFT_DIRTY).
    SoftDirty,
    /// None: all memory is copied while the process stands still.
    None,
}

/// Which way the kernel is asked for what it knows of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub enum KernelStateChoice {
    /// The quickest for so many threads.
    #[default]
    Auto,
    /// A BPF iterator: all threads at once (Linux 6.1 with BTF).
    Ebpf,
    /// The kernel module of this project: all threads at once.
    Kmod,
    /// Each thread by itself: ptrace, /proc, and calls made inside it.
    Ptrace,
}

/// What the process's clocks (CLOCK_MONOTONIC, CLOCK_BOOTTIME) are there, where the hosts' differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub enum ClockChoice {
    /// They go on, in a time namespace.
    #[default]
    Continue,
    /// Those of the host: they jump.
    Host,
}

/// What to do with a process that changes its memory faster than it can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub enum WhenNotConverging {
    /// Freeze it anyway and say so.
    #[default]
    Stop,
    /// Slow its threads down, in short steps.
    Throttle,
    /// Leave it where it is.
    Fail,
}

/// What the process finds at a descriptor's number there, in the place of what it has here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Instead {
    /// Nothing: the number is free.
    Close,
    /// `/dev/null`.
    Null,
    /// The file of this absolute path; what the process writes goes to its end, and it is made if it is not there.
    File(Vec<u8>),
}

/// How page batches are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Default)]
pub enum Compression {
    /// As they are.
    Off,
    /// lz4.
    Lz4,
    /// zstd, level 1.
    Zstd,
    /// As the link's speed suggests.
    #[default]
    Auto,
}

/// How many page connections there may be.
pub const STREAMS: RangeInclusive<u8> = 1..=16;

/// What `push` can be told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Options {
    /// Where its PID may go.
    pub pid: PidPolicy,
    /// The downtime that pre-copy aims at.
    pub max_downtime: Duration,
    /// Pre-copy rounds at most; 0 copies everything while the process stands still.
    pub max_rounds: u32,
    /// Parallel page connections.
    pub streams: u8,
    /// How changed pages are found.
    pub tracker: TrackerChoice,
    /// How the kernel is asked for the state of threads.
    pub kernel_state: KernelStateChoice,
    /// What its clocks are there.
    pub clock: ClockChoice,
    /// What to do when pre-copy does not converge.
    pub when_not_converging: WhenNotConverging,
    /// Bytes a second at most on the page connections; None: no limit.
    pub bandwidth: Option<u64>,
    /// How page batches are packed.
    pub compress: Compression,
    /// Compare a digest of the whole address space on both sides before the commit.
    pub verify: bool,
    /// Move to a CPU that can do less, too.
    pub ignore_cpu: bool,
    /// Have both kernels' schedulers measure the downtime, too.
    pub measure: bool,
    /// Descriptors that stay behind, by number.
    pub fds: BTreeMap<i32, Instead>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            pid: PidPolicy::default(),
            max_downtime: Duration::from_millis(50),
            max_rounds: 8,
            streams: 2,
            tracker: TrackerChoice::default(),
            kernel_state: KernelStateChoice::default(),
            clock: ClockChoice::default(),
            when_not_converging: WhenNotConverging::default(),
            bandwidth: None,
            compress: Compression::default(),
            verify: false,
            ignore_cpu: false,
            measure: false,
            fds: BTreeMap::new(),
        }
    }
}

/// A request to move one process.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Plan {
    /// The process, as the source's agent sees it.
    pub pid: i32,
    /// The destination as the operator wrote it, HOST or HOST:PORT.
    pub host: String,
    /// The rest.
    pub options: Options,
}

/// The port that agents listen on.
pub const DEFAULT_PORT: u16 = 7070;

/// The local socket of this host's agent.
pub const DEFAULT_SOCKET: &str = "/run/migrate/agent.sock";

/// State files of migrations between Prepare and their end.
pub const STATE_DIRECTORY: &str = "/run/migrate";
