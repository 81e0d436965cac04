//! The structures and numbers of kmod/uapi/migrate.h, which says what they mean; a test compares them.

/// Version of the interface.
pub const VERSION: u32 = 2;
/// In [`Hello::can`]: [`SET_WAIT`] works.
pub const CAN_SET_WAIT: u32 = 1;
/// In [`Hello::can`]: [`SET_NEXT_TIMER`] works.
pub const CAN_SET_NEXT_TIMER: u32 = 2;
/// In [`Hello::can`]: [`WATCH`] works.
pub const CAN_WATCH: u32 = 4;
/// In [`Hello::can`]: [`SET_CPU_TIME`] works.
pub const CAN_SET_CPU_TIME: u32 = 8;
/// Nanoseconds of CPU time, at most.
pub const MOST_CPU_TIME: u64 = 1 << 62;
/// In [`Thread::wait`] and [`SetWait::wait`].
pub const WAIT_SLEEP: u32 = 1;
/// Likewise.
pub const WAIT_POLL: u32 = 2;
/// Likewise.
pub const WAIT_FUTEX: u32 = 3;
/// In [`Thread::unusual`].
pub const TRAPS: u32 = 1;
/// In [`Thread::unusual`].
pub const PORTS: u32 = 2;
/// In [`Thread::unusual`].
pub const DISPATCHES: u32 = 4;
/// In [`Thread::unusual`].
pub const IS_ON_CPU: u32 = 8;
/// Supplementary groups that a record has room for.
pub const GROUPS: usize = 32;
/// In [`Timer::state`].
pub const TIMER_IS_SET: u32 = 1;
/// In [`Timer::state`].
pub const TIMER_NOT_READ: u32 = 2;

/// Structures of which every pattern of bits is one: integers without gaps, made and read by the kernel as bytes.
macro_rules! plain {
    ($($(#[$doc:meta])* struct $Name:ident, $size:literal { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(C)]
        #[allow(missing_docs)] // as in the header
        pub struct $Name { $(pub $field: $type,)* }
        const _: () = assert!(size_of::<$Name>() == $size);
        impl $Name {
            /// Its fields: name, offset, size.
            pub const FIELDS: &[(&str, usize, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($Name, $field), size_of::<$type>())),*];
            /// All of it 0.
            pub const ZERO: $Name = {
                // SAFETY: integers, and arrays and structures of them.
                unsafe { std::mem::zeroed() }
            };
        }
    )*};
}

plain! {
    /// `struct migrate_hello`
    struct Hello, 8 {
        version: u32,
        can: u32,
    }

    /// `struct migrate_cpu_time`
    struct CpuTime, 40 {
        runtime: u64,
        user: u64,
        system: u64,
        shown_user: u64,
        shown_system: u64,
    }

    /// `struct migrate_process_time`
    struct ProcessTime, 56 {
        ended_runtime: u64,
        ended_user: u64,
        ended_system: u64,
        shown_user: u64,
        shown_system: u64,
        children_user: u64,
        children_system: u64,
    }

    /// `struct migrate_thread`
    struct Thread, 456 {
        tid: i32,
        own_tid: i32,
        own_pid: i32,
        exit_state: u32,
        pending: u64,
        shared_pending: u64,
        clear_child_tid: u64,
        robust_list: u64,
        stack_address: u64,
        stack_size: u64,
        stack_flags: u32,
        personality: u32,
        timer_slack: u64,
        atomic_flags: u64,
        debug_control: u64,
        filters: u64,
        name: [u8; 16],
        uid: [u32; 4],
        gid: [u32; 4],
        inheritable: u64,
        permitted: u64,
        effective: u64,
        bounding: u64,
        ambient: u64,
        securebits: u32,
        flags: u32,
        parent_death_signal: i32,
        unusual: u32,
        parted: u32,
        seccomp: u32,
        wait: u32,
        group_count: u32,
        groups: [u32; GROUPS],
        restart: [u64; 5],
        cut_end: u64,
        cut_at: u64,
        cuts: u64,
        used: CpuTime,
    }

    /// `struct migrate_read_threads`
    struct ReadThreads, 104 {
        version: u32,
        record_size: u32,
        pid: i32,
        capacity: u32,
        records: u64,
        now: u64,
        boot_now: u64,
        count: u32,
        watched: u32,
        used: ProcessTime,
    }

    /// `struct migrate_timer`
    struct Timer, 40 {
        id: i32,
        state: u32,
        interval: u64,
        left: i64,
        missed: i64,
        missed_last: i64,
    }

    /// `struct migrate_read_timers`
    struct ReadTimers, 32 {
        version: u32,
        record_size: u32,
        pid: i32,
        capacity: u32,
        timers: u64,
        count: u32,
        reserved: u32,
    }

    /// `struct migrate_set_wait`
    struct SetWait, 24 {
        version: u32,
        wait: u32,
        tid: i32,
        reserved: u32,
        left: i64,
    }

    /// `struct migrate_set_next_timer`
    struct SetNextTimer, 16 {
        version: u32,
        pid: i32,
        id: i32,
        reserved: u32,
    }

    /// `struct migrate_watch`
    struct Watch, 8 {
        version: u32,
        pid: i32,
    }

    /// `struct migrate_set_missed`
    struct SetMissed, 24 {
        version: u32,
        pid: i32,
        id: i32,
        reserved: u32,
        missed_last: i64,
    }

    /// `struct migrate_used`
    struct Used, 48 {
        tid: i32,
        reserved: u32,
        used: CpuTime,
    }

    /// `struct migrate_set_cpu_time`
    struct SetCpuTime, 80 {
        version: u32,
        record_size: u32,
        pid: i32,
        count: u32,
        threads: u64,
        used: ProcessTime,
    }
}

impl CpuTime {
    /// In the order of its fields.
    pub fn to_words(self) -> [u64; 5] {
        [self.runtime, self.user, self.system, self.shown_user, self.shown_system]
    }

    /// Likewise.
    pub fn from_words([runtime, user, system, shown_user, shown_system]: [u64; 5]) -> CpuTime {
        CpuTime { runtime, user, system, shown_user, shown_system }
    }
}

impl ProcessTime {
    /// In the order of its fields.
    pub fn to_words(self) -> [u64; 7] {
        [
            self.ended_runtime,
            self.ended_user,
            self.ended_system,
            self.shown_user,
            self.shown_system,
            self.children_user,
            self.children_system,
        ]
    }

    /// Likewise.
    pub fn from_words(words: [u64; 7]) -> ProcessTime {
        let [ended_runtime, ended_user, ended_system, shown_user, shown_system, children_user, children_system] = words;
        ProcessTime {
            ended_runtime,
            ended_user,
            ended_system,
            shown_user,
            shown_system,
            children_user,
            children_system,
        }
    }
}

/// MIGRATE_HELLO
pub const HELLO: u64 = nix::request_code_read!(b'M', 0x60, size_of::<Hello>());
/// MIGRATE_READ_THREADS
pub const READ_THREADS: u64 = nix::request_code_readwrite!(b'M', 0x61, size_of::<ReadThreads>());
/// MIGRATE_READ_TIMERS
pub const READ_TIMERS: u64 = nix::request_code_readwrite!(b'M', 0x62, size_of::<ReadTimers>());
/// MIGRATE_SET_WAIT
pub const SET_WAIT: u64 = nix::request_code_write!(b'M', 0x63, size_of::<SetWait>());
/// MIGRATE_WATCH
pub const WATCH: u64 = nix::request_code_write!(b'M', 0x65, size_of::<Watch>());
/// MIGRATE_SET_NEXT_TIMER
pub const SET_NEXT_TIMER: u64 = nix::request_code_write!(b'M', 0x64, size_of::<SetNextTimer>());
/// MIGRATE_SET_CPU_TIME
pub const SET_CPU_TIME: u64 = nix::request_code_write!(b'M', 0x66, size_of::<SetCpuTime>());
/// MIGRATE_SET_MISSED
pub const SET_MISSED: u64 = nix::request_code_write!(b'M', 0x67, size_of::<SetMissed>());
