//! The kernel's interface: everything that needs `unsafe` is here and nowhere else.

pub mod cpu;
pub mod epoll;
pub mod error;
pub mod executor;
pub mod fdpass;
pub mod file_handle;
mod group_stop;
pub mod kcmp;
pub mod map_files;
pub mod namespaces;
pub mod owner;
pub mod packet_diag;
pub mod page_entries;
pub mod pagemap;
mod parallel;
pub mod pid_namespace;
pub mod pidfd;
pub mod pipes;
pub mod posix_timers;
pub mod process_memory;
pub mod pty;
pub mod regs;
pub mod remote;
pub mod sched;
pub mod seccomp;
pub mod signalfd;
pub mod signals;
mod single;
mod sock_diag;
pub mod sockets;
pub mod sockopt;
pub mod spawn;
pub mod sysv_shm;
pub mod tcp_diag;
pub mod thread_probe;
pub mod throttle;
pub mod timerfd;
pub mod tracee;
mod traps;
pub mod unix_diag;
pub mod unix_messages;
pub mod userfault_events;
pub mod userfaultfd;
pub mod waits;

/// System call numbers and constants, for remote calls.
pub use libc;
