//! The first thread of a process that ends while others go on: whoever waits for it to stop is told, and slowing the process down works.

#[path = "../common/compiled.rs"]
mod compiled;
#[path = "../common/in_time.rs"]
mod in_time;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use migrate_linux::error::Error;
use migrate_linux::throttle::Throttle;
use migrate_linux::tracee::Seized;

use compiled::compiled;
use in_time::{PATIENCE, in_time};

struct Subject(Child);

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Subject {
    /// None, and a word, without root.
    fn begin() -> Option<Subject> {
        let directory = tempfile::tempdir().expect("a directory");
        compiled("ending", directory.path()).map(|program| Subject::start(&program))
    }

    fn start(program: &Path) -> Subject {
        let child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        let mut subject = Subject(child);
        subject.goes_on();
        subject
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn end_first(&mut self) {
        self.0.stdin.as_mut().expect("its input").write_all(b"x").expect("told");
    }

    /// Its second thread works.
    fn goes_on(&mut self) {
        let mut room = [0; 1 << 16];
        let output = self.0.stdout.as_mut().expect("its output");
        let before = output.read(&mut room).expect("it has written");
        // As many again are new.
        output.read_exact(&mut room[..before.min(64)]).expect("it writes");
    }

    /// Waits until the first thread is in this state, and untraced if it is a zombie.
    fn first_is(&self, letter: char) {
        let begin = Instant::now();
        let line = |text: &str, key: &str| text.lines().find_map(|l| Some(l.strip_prefix(key)?.trim().to_string()));
        loop {
            let text = fs::read_to_string(format!("/proc/{0}/task/{0}/status", self.pid())).expect("its status");
            let (state, tracer) = (line(&text, "State:"), line(&text, "TracerPid:"));
            if state.is_some_and(|state| state.starts_with(letter)) && (letter != 'Z' || tracer.as_deref() == Some("0"))
            {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{text}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn whoever_waits_for_it_is_told() {
    let Some(mut subject) = Subject::begin() else { return };
    let pid = subject.pid();
    in_time(pid, || {
        let first = Seized::seize_noticing_end(pid).expect("seized");
        subject.end_first();
        subject.first_is('t');
        first.interrupt().expect("interrupted");
        let waited = first.wait_stopped();
        assert!(matches!(waited, Err(Error::Gone { tid, .. }) if tid == pid), "{waited:?}");
        subject.first_is('Z');
    });
    subject.goes_on();
}

#[test]
fn let_go_of_it_goes_on_with_its_end() {
    let Some(mut subject) = Subject::begin() else { return };
    let pid = subject.pid();
    in_time(pid, || {
        let first = Seized::seize_noticing_end(pid).expect("seized");
        subject.end_first();
        subject.first_is('t');
        drop(first);
        subject.first_is('Z');
    });
    subject.goes_on();
}

#[test]
fn once_it_has_been_seen_to_stand_its_end_is_no_stop() {
    let Some(mut subject) = Subject::begin() else { return };
    let pid = subject.pid();
    in_time(pid, || {
        let first = Seized::seize_noticing_end(pid).expect("seized");
        first.interrupt().expect("interrupted");
        let (stopped, _) = first.wait_stopped().expect("it stands");
        subject.end_first();
        stopped.resume_unnoticed().expect("it runs");
        subject.first_is('Z');
    });
    subject.goes_on();
}

#[test]
fn however_the_two_meet_nobody_waits_for_ever() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(program) = compiled("ending", directory.path()) else { return };
    let (mut stood, mut gone) = (0, 0);
    for pause in 0..150 {
        let mut subject = Subject::start(&program);
        let pid = subject.pid();
        in_time(pid, || {
            let first = Seized::seize_noticing_end(pid).expect("seized");
            subject.end_first();
            (0..pause * 1000).for_each(|_| std::hint::spin_loop());
            first.interrupt().expect("interrupted");
            match first.wait_stopped() {
                Ok((stopped, _)) => {
                    stood += 1;
                    stopped.resume_unnoticed().expect("it runs");
                }
                Err(Error::Gone { .. }) => gone += 1,
                Err(other) => panic!("{other}"),
            }
            subject.first_is('Z');
        });
        subject.goes_on();
    }
    println!("it stood {stood} times, and had ended {gone} times");
}

#[test]
fn a_process_without_it_is_slowed_down() {
    let Some(mut subject) = Subject::begin() else { return };
    subject.end_first();
    subject.first_is('Z');
    let throttle = Throttle::start(subject.pid(), 50).expect("slowed down");
    subject.goes_on();
    throttle.end();
    subject.first_is('Z');
    subject.goes_on();
}
