//! A process that gets signals of its timers all the time stops whenever it is asked to.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use migrate_linux::libc;
use migrate_linux::tracee::Seized;

const PATIENCE: Duration = Duration::from_secs(60);
const TIMES: u32 = 100_000;

#[test]
fn a_signal_of_a_timer_takes_no_interruption_back() {
    // SAFETY: no memory is involved.
    if unsafe { libc::geteuid() } != 0 {
        return println!("SKIPPED interrupting: it needs root");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("subject");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interrupting/subject.c");
    let done = Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&program).arg(source).status();
    assert!(done.expect("cc; scripts/setup installs it").success());
    let mut child = Command::new(&program).stdout(Stdio::piped()).spawn().expect("started");
    child.stdout.as_mut().expect("its output").read_exact(&mut [0]).expect("begun");
    let pid = child.id() as i32;
    let (over, watched) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            // Whoever waits for it in vain then hears of its end.
            let _ = watched.recv_timeout(PATIENCE);
            let _ = child.kill();
            let _ = child.wait();
        });
        let stops = (0..TIMES).try_for_each(|_| {
            let thread = Seized::seize(pid, false)?;
            thread.interrupt()?;
            thread.wait_stopped()?.0.resume_unnoticed()
        });
        let _ = over.send(());
        stops.expect("it stops");
    });
}
