//! A process that gets signals of its timers all the time stops whenever it is asked to.

#[path = "../common/compiled.rs"]
mod compiled;
#[path = "../common/in_time.rs"]
mod in_time;

use std::io::Read;
use std::process::{Command, Stdio};

use migrate_linux::tracee::Seized;

use compiled::compiled;
use in_time::in_time;

const TIMES: u32 = 100_000;

#[test]
fn a_signal_of_a_timer_takes_no_interruption_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(program) = compiled("interrupting", directory.path()) else { return };
    let mut child = Command::new(&program).stdout(Stdio::piped()).spawn().expect("started");
    child.stdout.as_mut().expect("its output").read_exact(&mut [0]).expect("begun");
    let pid = child.id() as i32;
    in_time(pid, || {
        for _ in 0..TIMES {
            let thread = Seized::seize(pid, false).expect("seized");
            thread.interrupt().expect("interrupted");
            thread.wait_stopped().expect("it stops").0.resume_unnoticed().expect("it runs");
        }
    });
    child.kill().expect("killed");
    child.wait().expect("ended");
}
