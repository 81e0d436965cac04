//! A SIGSTOP that pins a process is taken back, whatever others do about it meanwhile.

use std::fs;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use migrate_linux::libc;
use migrate_linux::tracee::Seized;

const PATIENCE: Duration = Duration::from_secs(60);

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
    // Where SIGCONT is blocked it takes a SIGSTOP back too, and is not delivered: nothing but the kernel's word to the tracer is left
    // to stop the program.
    let command = ["--block-signal=CONT", "sleep", "600"];
    let subject = Subject(Command::new("env").args(command).spawn().expect("env"));
    let pid = subject.0.id() as i32;
    let sleeps = || {
        let begin = Instant::now();
        while !fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains("(sleep) S ")) {
            assert!(begin.elapsed() < PATIENCE, "it does not sleep");
            thread::sleep(Duration::from_millis(1));
        }
    };
    sleeps();
    let (done, end) = mpsc::channel();
    let others_go_on = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            for pause in (0..1000).cycle().take_while(|_| others_go_on.load(Ordering::Relaxed)) {
                (0..pause).for_each(|_| std::hint::spin_loop());
                send(pid, libc::SIGCONT);
            }
        });
        scope.spawn(|| {
            pin_and_unpin(pid);
            let _ = done.send(());
        });
        let ended = end.recv_timeout(PATIENCE);
        others_go_on.store(false, Ordering::Relaxed);
        if ended.is_err() {
            // Whoever waits for it is to go on.
            send(pid, libc::SIGKILL);
        }
        ended.expect("it is waited for for ever");
    });
    sleeps();
}
