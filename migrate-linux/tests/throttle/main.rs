//! A process that is slowed down notices nothing but the time: every call of it does all of what it would have done. And it runs on
//! as before, whether it is let go of or whoever slows it down is killed.

#[path = "../common/compiled.rs"]
mod compiled;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use migrate_linux::sched::Urgent;
use migrate_linux::throttle::Throttle;
use migrate_linux::tracee::Seized;

use compiled::compiled;

/// Names the process that is to be slowed down.
const VARIABLE: &str = "THROTTLE_SUBJECT";
const THREADS: usize = 10;

struct Subject {
    process: Child,
    counts: PathBuf,
    _directory: tempfile::TempDir,
}

/// None, and a word, without root.
fn start() -> Option<Subject> {
    let directory = tempfile::tempdir().expect("a directory");
    let program = compiled("throttle", directory.path())?;
    let counts = directory.path().join("counts");
    let process = Command::new(program).arg(&counts).spawn().expect("started");
    let mut subject = Subject { process, counts, _directory: directory };
    subject.goes_on();
    Some(subject)
}

impl Subject {
    fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    fn words(&self, from: usize) -> [u64; THREADS] {
        let bytes = fs::read(&self.counts).unwrap_or_default();
        std::array::from_fn(|i| {
            let at = (from + i) * 8;
            bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
        })
    }

    /// How often calls of each thread were cut short.
    fn cut_short(&self) -> [u64; THREADS] {
        self.words(16)
    }

    /// Waits until every thread has got further.
    fn goes_on(&mut self) {
        let before = self.words(0);
        let begin = Instant::now();
        while self.words(0).iter().zip(before).any(|(now, before)| *now <= before + 2) {
            let end = self.process.try_wait().expect("waited");
            assert!(end.is_none(), "it has ended: {end:?}");
            assert!(begin.elapsed() < Duration::from_secs(30), "{before:?}, and much later {:?}", self.words(0));
            sleep(Duration::from_millis(1));
        }
    }

    fn status(&self, key: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().trim().to_string()
    }

    /// Nobody traces it, no thread of it is stopped, and all go on.
    fn is_free(&mut self) {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("its threads").flatten();
        for status in tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok()) {
            let free = status.contains("\nTracerPid:\t0\n") && !status.contains("\nState:\tt ");
            assert!(free, "{status}");
        }
        self.goes_on();
    }

    /// CPU time of the whole process (proc_pid_stat(5)), in ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("its stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.get(11..13).into_iter().flatten().filter_map(|f| f.parse::<u64>().ok()).sum()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn no_call_is_cut_short() {
    let Some(mut subject) = start() else { return };
    let throttle = Throttle::start(subject.pid(), 20).expect("slowed down");
    assert_ne!(subject.status("TracerPid:"), "0");
    for percent in [20, 50, 80, 95] {
        throttle.set(percent);
        for _ in 0..2 {
            subject.goes_on();
        }
    }
    let cut_short = subject.cut_short();
    let stood = throttle.end();
    assert!(stood > Duration::from_millis(100), "{stood:?}");
    subject.is_free();
    println!("stood for {stood:?} in all; got to {:?}; cut short: {cut_short:?}", subject.words(0));
    // The first stop of a thread may find it in a call that has done a part of its work.
    assert!(cut_short.iter().all(|n| *n <= 1), "{cut_short:?}");
    assert_eq!(subject.cut_short(), cut_short, "afterwards");
}

#[test]
fn it_gets_less_time() {
    let Some(mut subject) = start() else { return };
    let throttle = Throttle::start(subject.pid(), 90).expect("slowed down");
    subject.goes_on();
    let (ticks, begin) = (subject.ticks(), Instant::now());
    sleep(Duration::from_secs(2));
    // Of two CPUs or more that it would have.
    let share = (subject.ticks() - ticks) as f64 / 100.0 / begin.elapsed().as_secs_f64();
    println!("of 90 % less, {share:.2} CPUs are left");
    assert!(share < 0.5, "{share}");
    drop(throttle);
    subject.is_free();
}

#[test]
fn it_survives_whoever_slows_it_down() {
    let Some(mut subject) = start() else { return };
    let (mut trials, mut moment) = (0u64, 88_172_645_463_325_252u64);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(6) {
        moment ^= moment << 13;
        moment ^= moment >> 7;
        moment ^= moment << 17;
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "someone_who_is_killed", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(VARIABLE, subject.pid().to_string()).stdout(Stdio::piped());
        let mut other = command.spawn().expect("started");
        let mut lines = BufReader::new(other.stdout.take().expect("a pipe")).lines();
        assert!(lines.any(|line| line.is_ok_and(|l| l.ends_with("at work"))), "it failed");
        sleep(Duration::from_micros(moment % 30_000));
        other.kill().expect("killed");
        other.wait().expect("waited");
        trials += 1;
        subject.is_free();
    }
    let cut_short = subject.cut_short();
    println!("killed {trials} times; cut short: {cut_short:?}");
    assert!(trials > 20, "only {trials} trials");
    assert!(cut_short.iter().all(|n| *n <= trials), "{cut_short:?}");
}

#[test]
fn whoever_ends_it_can_stop_it_right_then() {
    let Some(mut subject) = start() else { return };
    for _ in 0..50 {
        let throttle = Throttle::start(subject.pid(), 70).expect("slowed down");
        let urgent = Urgent::begin();
        throttle.end();
        // EPERM as long as it is traced by another OS thread.
        drop(Seized::seize(subject.pid(), false).expect("let go"));
        drop(urgent);
    }
    subject.is_free();
}

#[test]
#[ignore = "run by the test above, in a process of its own, which is killed"]
fn someone_who_is_killed() {
    let Ok(subject) = std::env::var(VARIABLE) else { return };
    let throttle = Throttle::start(subject.parse().expect("a number"), 70).expect("slowed down");
    println!("at work");
    sleep(Duration::from_secs(60));
    drop(throttle);
}

#[test]
fn a_process_that_is_gone_cannot_be_slowed_down() {
    assert!(Throttle::start(i32::MAX, 50).is_err());
}
