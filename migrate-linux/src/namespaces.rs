//! Namespaces, and the ties between the agent's helper processes.

use std::io;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
pub use nix::unistd::ForkResult;

/// Gives the calling thread a mount namespace of its own, and the children that it makes from now on a new
/// PID namespace: the first of them is its init.
///
/// Mounts made here do not reach the old namespace; those made there still come in.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`; `ENOSPC` at the limit of /proc/sys/user/max_pid_namespaces or of nesting;
/// `EINVAL` in a thread that shares its root with another (`CLONE_FS`) where that cannot be undone.
pub fn unshare_pid_and_mount() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
    Ok(())
}

/// Gives the children that the calling process makes from now on a time namespace of their own: its offsets can be written to
/// /proc/self/timens_offsets until the first of them is made. A child that shares memory (`CLONE_VM`) stays outside.
///
/// # Errors
/// `EINVAL` without CONFIG_TIME_NS; `EPERM` without `CAP_SYS_ADMIN`; `ENOSPC` at the limit of
/// /proc/sys/user/max_time_namespaces.
pub fn unshare_time() -> io::Result<()> {
    // linux/sched.h; not in nix.
    const CLONE_NEWTIME: libc::c_int = 0x80;
    Ok(nix::sched::unshare(CloneFlags::from_bits_retain(CLONE_NEWTIME))?)
}

/// Has the children that the calling process makes from now on live in its own time namespace again. Before Linux 6.3 a process
/// whose children are to live in another one can make no threads: `EINVAL` (`copy_namespaces`, kernel/nsproxy.c).
///
/// # Errors
/// `EUSERS` when it has threads already; `EPERM` without `CAP_SYS_ADMIN`.
pub fn stay_in_own_time_namespace() -> io::Result<()> {
    const CLONE_NEWTIME: libc::c_int = 0x80;
    let own = std::fs::File::open("/proc/self/ns/time")?;
    Ok(nix::sched::setns(own, CloneFlags::from_bits_retain(CLONE_NEWTIME))?)
}

/// fork(2) in a process that has one thread, so that all may be done in the child that could be done here.
///
/// # Errors
/// `Other` when there are more threads: a lock that one of them holds would stay locked in the child for
/// ever. Those of fork(2), and of reading /proc/self/task.
pub fn fork_single_threaded() -> io::Result<ForkResult> {
    let threads = crate::pid_namespace::thread_count()?;
    if threads != 1 {
        return Err(io::Error::other(format!(
            "a process of {threads} threads must not fork and go on: start the helper before any thread"
        )));
    }
    // SAFETY: the only thread is this one (no other could start one since), so no lock is held by a thread
    // that the child lacks.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// Whether orphaned descendants become children of this process, to be waited for by it
/// (`PR_SET_CHILD_SUBREAPER`). Not inherited by children.
///
/// # Errors
/// None that is known.
pub fn set_subreaper(on: bool) -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(on)?)
}

/// The signal that this process gets when its parent dies, or none (`PR_SET_PDEATHSIG`).
///
/// "The parent" is the *thread* that made this process: its end is enough. A parent that has died before the
/// call goes unnoticed: compare getppid(2) afterwards. Executing a set-user-ID program or one with
/// capabilities clears it.
///
/// # Errors
/// None that is known.
pub fn set_parent_death_signal(signal: Option<Signal>) -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(signal)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use std::process::Command;

    /// Runs another test of this file in a process of its own, with one thread.
    fn alone(test: &str) {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--test-threads=1", "--nocapture"])
            .arg(format!("namespaces::tests::{test}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for line in text.lines().filter(|line| line.contains("SKIPPED")) {
            println!("{line}");
        }
    }

    #[test]
    fn a_threaded_process_is_not_forked() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || stopped.recv());
        assert!(fork_single_threaded().is_err());
        drop(stop);
        let _ = other.join().unwrap();
    }

    #[test]
    fn one_thread_forks_into_a_new_namespace() {
        alone("alone_in_a_new_namespace");
    }

    #[test]
    #[ignore = "run by another test, in a process of its own"]
    fn alone_in_a_new_namespace() {
        // The test harness has a thread for the test, so one more fork.
        // SAFETY: the only other thread of this process waits for this one and holds no lock.
        let forked = unsafe { nix::unistd::fork() }.unwrap();
        let ForkResult::Parent { child } = forked else {
            let code = std::panic::catch_unwind(in_a_new_namespace).unwrap_or(1);
            std::process::exit(code);
        };
        match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, 0) => {}
            WaitStatus::Exited(_, 77) => println!("SKIPPED new namespaces: not permitted"),
            status => panic!("{status:?}"),
        }
    }

    /// The body of the test above, in a process of one thread; 77 when it cannot be run.
    fn in_a_new_namespace() -> i32 {
        let old = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        if unshare_pid_and_mount().is_err() {
            return 77;
        }
        assert_ne!(std::fs::read_link("/proc/self/ns/mnt").unwrap(), old);
        match fork_single_threaded().unwrap() {
            ForkResult::Child => std::process::exit(if std::process::id() == 1 { 7 } else { 8 }),
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 7));
            }
        }
        // A mount made here stays here.
        let place = tempfile::tempdir().unwrap();
        let (tmpfs, none) = (Some("tmpfs"), None::<&str>);
        nix::mount::mount(none, place.path(), tmpfs, MsFlags::empty(), none).unwrap();
        let seen_by = |pid: &str| {
            let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
            mounts.contains(place.path().to_str().unwrap())
        };
        assert!(seen_by("self"));
        assert!(!seen_by(&std::os::unix::process::parent_id().to_string()));
        nix::mount::umount(place.path()).unwrap();
        0
    }

    #[test]
    fn orphans_come_to_the_subreaper() {
        alone("alone_as_subreaper");
    }

    #[test]
    #[ignore = "run by another test, in a process of its own"]
    fn alone_as_subreaper() {
        set_subreaper(true).unwrap();
        let shell = Command::new("sh").args(["-c", "(exit 9) & exit 0"]).spawn();
        let shell = shell.unwrap().id() as i32;
        let mut codes = Vec::new();
        while let Ok(status) = waitpid(None, None) {
            if let WaitStatus::Exited(pid, code) = status {
                codes.push((pid.as_raw() == shell, code));
            }
        }
        // The orphan is one only when the shell has ended before it.
        assert!(codes.contains(&(true, 0)), "{codes:?}");
        set_subreaper(false).unwrap();
        assert!(!nix::sys::prctl::get_child_subreaper().unwrap());
    }

    #[test]
    fn the_death_signal_is_set() {
        // Of a thread's own making: set for the process, so put back.
        set_parent_death_signal(Some(Signal::SIGWINCH)).unwrap();
        assert_eq!(nix::sys::prctl::get_pdeathsig().unwrap(), Some(Signal::SIGWINCH));
        set_parent_death_signal(None).unwrap();
        assert_eq!(nix::sys::prctl::get_pdeathsig().unwrap(), None);
    }
}
