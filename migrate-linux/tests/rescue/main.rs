//! A tracer that is killed at any instruction must leave its tracee as if it had never been there: it runs on with its registers and
//! masks right, and no call of it fails. Here tracers run batches in a busy process and are killed at random moments.

#[path = "../common/compiled.rs"]
mod compiled;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use migrate_linux::libc;
use migrate_linux::process_memory::ProcessMemory;
use migrate_linux::remote::{self, Batch, EXECUTOR_SIZE, Executor, Foothold, NOOK_SIZE};
use migrate_linux::tracee::{Seized, Stopped};

use compiled::compiled;

/// Names the process that the tracer is to work on.
const VARIABLE: &str = "RESCUE_SUBJECT";
const TIME: Duration = Duration::from_secs(9);

struct Subject {
    process: Child,
    counts: PathBuf,
}

impl Subject {
    fn start(directory: &Path, sleeper_first: bool) -> Subject {
        let counts = directory.join("counts");
        let mut command = Command::new(directory.join("subject"));
        if sleeper_first {
            command.env("SLEEPER_FIRST", "1");
        }
        let process = command.arg(&counts).spawn().expect("started");
        let mut subject = Subject { process, counts };
        assert!(subject.goes_on(&[0; 4]), "it does not start");
        subject
    }

    fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    fn read(&self) -> [u64; 4] {
        let bytes = fs::read(&self.counts).unwrap_or_default();
        let word = |i: usize| bytes.get(i * 8..i * 8 + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        [word(0), word(1), word(2), word(3)]
    }

    /// Whether every thread gets further than `before`; without its first one sleeping, nobody counts at 1.
    fn goes_on(&mut self, before: &[u64; 4]) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            let now = self.read();
            if [0, 2, 3].into_iter().all(|i| now[i] > before[i]) && (now[1] == 1 || now[1] > before[1]) {
                return true;
            }
            if self.end().is_some() {
                return false;
            }
            sleep(Duration::from_micros(500));
        }
        false
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// How it has ended, if it has.
    fn end(&mut self) -> Option<String> {
        let status = self.process.try_wait().expect("waited")?;
        Some(status.signal().map_or(format!("status {:?}", status.code()), |s| format!("signal {s}")))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// This program again, as a tracer.
fn tracer(subject: i32) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "a_tracer_at_work", "--ignored", "--nocapture", "--test-threads=1"]);
    let mut tracer = command.env(VARIABLE, subject.to_string()).stdout(Stdio::piped()).spawn().expect("started");
    // Its first line of work, behind those of the harness.
    let mut lines = BufReader::new(tracer.stdout.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.is_ok_and(|l| l.ends_with("at work"))), "the tracer failed");
    tracer
}

fn kill_tracers(sleeper_first: bool) {
    let directory = tempfile::tempdir().expect("a directory");
    if compiled("rescue", directory.path()).is_none() {
        return;
    }
    let mut subject = Subject::start(directory.path(), sleeper_first);
    let (mut trials, mut ends, descriptors) = (0u32, Vec::new(), subject.descriptors());
    let begin = Instant::now();
    // Not random, but in no step with what the tracer does.
    let mut moment: u64 = 88_172_645_463_325_252;
    while begin.elapsed() < TIME {
        moment ^= moment << 13;
        moment ^= moment >> 7;
        moment ^= moment << 17;
        let mut tracer = tracer(subject.pid());
        sleep(Duration::from_micros(moment % 3000));
        tracer.kill().expect("killed");
        tracer.wait().expect("waited");
        trials += 1;
        let before = subject.read();
        if !subject.goes_on(&before) {
            ends.push(subject.end().unwrap_or_else(|| format!("stuck at {:?}", subject.read())));
            subject = Subject::start(directory.path(), sleeper_first);
        }
        assert_eq!(subject.descriptors(), descriptors, "after {trials} trials");
    }
    println!("{trials} tracers killed; {} subjects did not survive it", ends.len());
    assert!(trials > 50, "only {trials} trials");
    assert!(ends.is_empty(), "{ends:?}");
}

#[test]
fn a_running_process_survives_its_tracers() {
    kill_tracers(false);
}

#[test]
fn a_sleeping_process_survives_its_tracers() {
    kill_tracers(true);
}

/// A subject, and its first thread stopped. None, and a word, without root.
fn stopped_subject() -> Option<(tempfile::TempDir, Subject, Vec<Stopped>)> {
    let directory = tempfile::tempdir().expect("a directory");
    compiled("rescue", directory.path())?;
    let subject = Subject::start(directory.path(), false);
    let threads = freeze(subject.pid());
    Some((directory, subject, threads))
}

#[test]
fn a_descriptor_is_closed_also_without_a_way_back() {
    let Some((_directory, mut subject, mut threads)) = stopped_subject() else { return };
    let (pid, descriptors) = (subject.pid(), subject.descriptors());
    let memory = ProcessMemory::open(pid).expect("its memory");
    let (foothold, _) = ground(pid, &memory);
    for nook in [foothold.nook, None] {
        open_one(pid, threads.first_mut().expect("a thread"), &memory, Foothold { nook, ..foothold });
        assert_eq!(subject.descriptors(), descriptors);
    }
    let first = threads.first_mut().expect("a thread");
    let failing = (libc::SYS_epoll_create1, [u64::MAX, 0, 0, 0, 0, 0]);
    let error = remote::with_opened(first, &memory, foothold, failing, |number| number).expect_err("EINVAL");
    assert!(error.to_string().contains("EINVAL"), "{error}");
    threads.into_iter().for_each(|thread| thread.detach().expect("detached"));
    assert!(subject.goes_on(&subject.read()));
}

#[test]
fn an_executor_that_cannot_be_written_is_taken_out_again() {
    let Some((_directory, mut subject, mut threads)) = stopped_subject() else { return };
    let pid = subject.pid();
    let (foothold, hole) = ground(pid, &ProcessMemory::open(pid).expect("its memory"));
    let maps = || fs::read_to_string(format!("/proc/{pid}/maps")).expect("mappings");
    let before = maps();
    // Of this process, which has nothing there.
    let wrong = ProcessMemory::open(std::process::id() as i32).expect("the own memory");
    let foothold = Foothold { nook: None, ..foothold };
    let first = threads.first_mut().expect("a thread");
    let error = Executor::inject(first, wrong, hole, foothold, libc::SIGURG).expect_err("it is not its memory");
    assert!(error.to_string().contains("write the executor"), "{error}");
    assert_eq!(maps(), before);
    threads.into_iter().for_each(|thread| thread.detach().expect("detached"));
    assert!(subject.goes_on(&subject.read()));
}

#[test]
#[ignore = "run by the tests above, in a process of its own, which is killed"]
fn a_tracer_at_work() {
    let Ok(subject) = std::env::var(VARIABLE) else { return };
    let pid: i32 = subject.parse().expect("a number");
    let mut told = false;
    loop {
        let threads = freeze(pid);
        work(pid, threads);
        if !told {
            println!("at work");
            told = true;
        }
    }
}

fn freeze(pid: i32) -> Vec<Stopped> {
    let tids = fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten();
    let mut tids: Vec<i32> = tids.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    tids.sort_unstable();
    let seized: Vec<Seized> = tids.into_iter().map(|tid| Seized::seize(tid, false).expect("seized")).collect();
    seized.iter().for_each(|thread| thread.interrupt().expect("interrupted"));
    seized.into_iter().map(|thread| thread.wait_stopped().expect("stopped").0).collect()
}

/// Where calls can be made in a process, and room for an executor.
fn ground(pid: i32, memory: &ProcessMemory) -> (Foothold, u64) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("mappings");
    let bounds = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some((number(start)?, number(end)?, rest.ends_with("[vdso]"), rest.starts_with("r-xp") && rest.contains('/')))
    });
    let (mut hole, mut gadget, mut nook) = (0x1000_0000, None, None);
    for (start, end, is_vdso, is_code) in bounds {
        let mut last = [0; NOOK_SIZE as usize];
        if is_code && nook.is_none() && memory.read(end - NOOK_SIZE, &mut last).is_ok() && remote::is_nook(&last) {
            nook = Some(end - NOOK_SIZE);
        }
        if start < hole + EXECUTOR_SIZE && end > hole {
            hole = end;
        }
        if is_vdso {
            let mut code = vec![0; (end - start) as usize];
            memory.read(start, &mut code).expect("the vDSO");
            gadget = remote::find_gadget(start, &code);
        }
    }
    assert!(nook.is_some(), "no nook");
    (Foothold { gadget: gadget.expect("a system call in the vDSO"), nook }, hole)
}

/// Has it open a descriptor, which it must not keep.
fn open_one(pid: i32, first: &mut Stopped, memory: &ProcessMemory, foothold: Foothold) {
    let there = |number: i32| fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_ok();
    let call = (libc::SYS_eventfd2, [0; 6]);
    let seen = remote::with_opened(first, memory, foothold, call, there);
    assert!(seen.expect("opened"));
}

/// What a source does with a process that it does not move after all.
fn work(pid: i32, mut threads: Vec<Stopped>) {
    let memory = ProcessMemory::open(pid).expect("its memory");
    let (foothold, hole) = ground(pid, &memory);
    let gadget = foothold.gadget;
    let first = threads.first_mut().expect("a thread");
    open_one(pid, first, &memory, foothold);
    let executor = Executor::inject(first, memory, hole, foothold, libc::SIGURG).expect("injected");
    for thread in &mut threads {
        let mut batch = Batch::new();
        let mask = batch.buffer(8);
        let calls: Vec<_> = (0..20).map(|_| batch.call(libc::SYS_gettid, [])).collect();
        batch.must(libc::SYS_rt_sigprocmask, [0.into(), 0.into(), mask.into(), 8.into()]);
        let tid = thread.tid() as u64;
        let results = executor.calls_in(thread).expect("saved").run(&batch).expect("run");
        assert!(calls.into_iter().all(|call| results.value(call) == Ok(tid)));
    }
    executor.remove(threads.first_mut().expect("a thread"), gadget).expect("removed");
    for thread in threads {
        thread.detach().expect("detached");
    }
}
