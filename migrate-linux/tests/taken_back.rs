//! A SIGSTOP that pins a process is taken back, whatever others do about it meanwhile.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use migrate_linux::libc;
use migrate_linux::tracee::Seized;

struct Subject(Child);

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn send(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

/// Pins it and takes that back, again and again.
fn pin_and_unpin(pid: i32) {
    let thread = Seized::seize(pid, false).expect("seized");
    thread.interrupt().expect("interrupted");
    let (mut stopped, _) = thread.wait_stopped().expect("stopped");
    for _ in 0..20_000 {
        send(pid, libc::SIGSTOP);
        stopped.swallow_pending(libc::SIGSTOP).expect("taken back");
    }
    stopped.resume_unnoticed().expect("detached");
}

#[test]
fn a_stop_is_taken_back_also_when_somebody_continues_the_process_just_then() {
    // SAFETY: no memory is involved.
    if unsafe { libc::geteuid() } != 0 {
        println!("SKIPPED taken back: it needs root");
        return;
    }
    let subject = Subject(Command::new("sleep").arg("600").spawn().expect("sleep"));
    let pid = subject.0.id() as i32;
    let (done, end) = mpsc::channel();
    let others_go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while others_go_on.load(Ordering::Relaxed) {
                send(pid, libc::SIGCONT);
            }
        });
        scope.spawn(|| {
            pin_and_unpin(pid);
            let _ = done.send(());
        });
        let ended = end.recv_timeout(Duration::from_secs(60));
        others_go_on.store(false, Ordering::Relaxed);
        if ended.is_err() {
            // Whoever waits for it is to go on.
            send(pid, libc::SIGKILL);
        }
        ended.expect("it is waited for for ever");
    });
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
    assert!(stat.contains(") S "), "it does not sleep on: {stat}");
}
