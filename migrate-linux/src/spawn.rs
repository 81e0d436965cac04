//! A new process with chosen numbers: clone3(2) with `set_tid`, and the session and process group that it is to be in.
//!
//! A session's number is its first process's PID, a group's too. So where the process does not lead them itself, short-lived
//! processes with these PIDs found them, and are gone once the process is there; the kernel keeps the numbers as long as
//! anybody is in them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Context, Error, Result};

/// The numbers of a process to be made, in the PID namespace of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Its PID.
    pub pid: i32,
    /// Its process group.
    pub group: i32,
    /// Its session. 0: whatever the caller's session is (it and the group are not restored).
    pub session: i32,
}

/// A step that failed in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Session = 1,
    Group = 2,
    Process = 3,
}

const CLONE_PARENT: u64 = 0x8000;

/// Kernel's `struct clone_args` (linux/sched.h), version 2.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneArgs {
    /// CLONE_* flags.
    pub flags: u64,
    /// Where a pidfd is stored.
    pub pidfd: u64,
    /// CLONE_CHILD_SETTID / CLONE_CHILD_CLEARTID address.
    pub child_tid: u64,
    /// CLONE_PARENT_SETTID address.
    pub parent_tid: u64,
    /// Signal to the parent at the end.
    pub exit_signal: u64,
    /// Lowest byte of the stack.
    pub stack: u64,
    /// Its size.
    pub stack_size: u64,
    /// CLONE_SETTLS value.
    pub tls: u64,
    /// Address of the array of PIDs, innermost namespace first.
    pub set_tid: u64,
    /// How many.
    pub set_tid_size: u64,
    /// CLONE_INTO_CGROUP descriptor.
    pub cgroup: u64,
}

impl CloneArgs {
    /// As bytes, for a remote call.
    pub fn to_bytes(&self) -> [u8; size_of::<CloneArgs>()] {
        // SAFETY: repr(C), eleven u64, no padding.
        unsafe { std::mem::transmute(*self) }
    }
}

/// A fork with a chosen PID. Only from a process with one thread: the child goes on with a copy of all memory.
fn fork_with_pid(pid: i32, flags: u64) -> std::result::Result<i32, Errno> {
    let set_tid = [pid];
    let args = CloneArgs {
        flags,
        exit_signal: if flags & CLONE_PARENT == 0 { libc::SIGCHLD as u64 } else { 0 },
        set_tid: set_tid.as_ptr() as u64,
        set_tid_size: 1,
        ..CloneArgs::default()
    };
    // SAFETY: args and set_tid live until the call returns; without CLONE_VM the child has a copy of everything, and
    // `spawn` has made sure that no other thread could have held a lock at this moment.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) } {
        -1 => Err(Errno::last()),
        child => Ok(child as i32),
    }
}

/// Makes the process. It is a copy of the caller's memory that waits in pause(2), and dies with the caller
/// (PR_SET_PDEATHSIG) until that is undone. Its parent is the caller, whoever founded its session.
///
/// Errors: EEXIST, when a number is taken, names which. Afterwards nothing is left over.
pub fn spawn(numbers: Numbers) -> Result<i32> {
    if crate::pid_namespace::thread_count().doing(|| "count this process's threads".into())? != 1 {
        return Err(Error::Unsupported("a new process can be made only by a process with a single thread".into()));
    }
    let mut ends = [0; 2];
    // SAFETY: a valid place for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error()).doing(|| "make a pipe".into());
    }
    // SAFETY: both have just been made and nobody else owns them.
    let (mut from_child, to_parent) = unsafe { (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    let Numbers { pid, group, session } = numbers;
    let founds_session = session != 0 && session != pid;
    let founds_group = session != 0 && group != pid && group != session;
    let report = to_parent.as_raw_fd();

    let first = if founds_session { session } else { pid };
    let mut founders = Vec::new();
    match fork_with_pid(first, 0) {
        Ok(0) => {
            if founds_session {
                // SAFETY: setsid has no memory effects.
                if unsafe { libc::setsid() } == -1 {
                    die(report, Step::Session, session);
                }
                if founds_group {
                    match fork_with_pid(group, CLONE_PARENT) {
                        Ok(0) => {
                            // SAFETY: as above.
                            if unsafe { libc::setpgid(0, 0) } == -1 {
                                die(report, Step::Group, group);
                            }
                        }
                        Ok(_) => leave(),
                        Err(e) => fail(report, Step::Group, group, e),
                    }
                }
                match fork_with_pid(pid, CLONE_PARENT) {
                    Ok(0) => become_the_process(report, numbers),
                    Ok(_) => leave(),
                    Err(e) => fail(report, Step::Process, pid, e),
                }
            }
            become_the_process(report, numbers)
        }
        Ok(child) if founds_session => {
            founders.push(child);
            if founds_group {
                founders.push(group);
            }
        }
        Ok(_) => {}
        Err(source) => return Err(taken(first, source)),
    }
    drop(to_parent);
    let mut answer = [0u8; 12];
    let got = from_child.read_exact(&mut answer);
    for founder in founders {
        // SAFETY: no status is asked for. A founder that never came to be is ECHILD, which is fine.
        unsafe { libc::waitpid(founder, std::ptr::null_mut(), libc::__WALL) };
    }
    let word = |at: usize| i32::from_le_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    match got {
        Err(source) => Err(source).doing(|| format!("make process {pid}")),
        Ok(()) if word(0) == 0 => Ok(pid),
        Ok(()) => Err(taken(word(4), Errno::from_raw(word(8)))),
    }
}

fn taken(number: i32, source: Errno) -> Error {
    Error::Io { what: format!("make a process with PID {number}"), source: source.into() }
}

/// In the child: the last step, then it waits to be taken over.
fn become_the_process(report: i32, n: Numbers) -> ! {
    // SAFETY: none of these calls touches memory that anybody else uses; the process is a copy.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if n.session == n.pid {
            if libc::setsid() == -1 {
                die(report, Step::Session, n.pid);
            }
        } else if n.session != 0 {
            let group = if n.group == n.pid { 0 } else { n.group };
            if libc::setpgid(0, group) == -1 {
                die(report, Step::Group, n.group);
            }
        }
        answer(report, 0, 0, 0);
        loop {
            libc::pause();
        }
    }
}

fn die(report: i32, step: Step, number: i32) -> ! {
    fail(report, step, number, Errno::last())
}

fn fail(report: i32, step: Step, number: i32, errno: Errno) -> ! {
    answer(report, step as i32, number, errno as i32);
    leave()
}

fn answer(report: i32, step: i32, number: i32, errno: i32) {
    let words = [step, number, errno];
    // SAFETY: twelve valid bytes; a pipe takes them whole.
    unsafe { libc::write(report, words.as_ptr().cast(), size_of_val(&words)) };
}

fn leave() -> ! {
    // SAFETY: ends this child at once, without the destructors and exit handlers that are its original's.
    unsafe { libc::_exit(0) }
}

/// Ends a process that is this one's child or tracee and waits until its number is free.
pub fn kill_and_reap(pid: i32) {
    // SAFETY: a plain system call without memory; the PID cannot have been reused, since nobody else reaps it.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // A traced thread stays until its tracer has waited for it, and the first one is not reported before all others are gone.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let others = threads.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|tid| *tid != pid);
    others.for_each(wait_for_end);
    wait_for_end(pid);
}

fn wait_for_end(tid: i32) {
    let mut status = 0;
    loop {
        // SAFETY: status is a valid place for one int.
        let waited = unsafe { libc::waitpid(tid, &mut status, libc::__WALL) };
        // A stop from before may be reported first. ECHILD: a thread that is not traced, which nobody needs to wait for.
        let again = (waited == tid && libc::WIFSTOPPED(status)) || (waited == -1 && Errno::last() == Errno::EINTR);
        if !again {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone_args_are_the_kernels() {
        assert_eq!(size_of::<CloneArgs>(), 88);
    }
}
