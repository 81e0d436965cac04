//! The two hosts of scripts/hosts, and a process that moves between them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

const STATE: &str = "/run/migrate-hosts";

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Where processes start.
    Alpha,
    /// Where they are pushed to.
    Beta,
}

/// A directory with the compiled subject.
pub struct Work {
    directory: tempfile::TempDir,
}

/// The process that is moved.
pub struct Subject {
    program: PathBuf,
    file: PathBuf,
    name: String,
    wrapper: Child,
    pid: i32,
}

/// A push that is going on.
pub struct Push(Child);

/// Waits at most `seconds` until it holds.
pub fn soon(seconds: u64, holds: impl Fn() -> bool) -> Result<(), ()> {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > Duration::from_secs(seconds) {
            return Err(());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn script(words: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/hosts"));
    command.args(words).stdin(Stdio::null());
    command
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Host::Alpha => "alpha",
            Host::Beta => "beta",
        }
    }

    /// Its PID 1, as seen from outside.
    fn init(self) -> Option<i32> {
        let text = fs::read_to_string(format!("{STATE}/{}/init", self.name())).ok()?;
        text.split_whitespace().next()?.parse().ok()
    }

    fn pid_namespace(self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/ns/pid", self.init()?)).ok()
    }

    /// A directory as the host sees it.
    fn path(self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init().unwrap_or(0)))
    }

    fn agent(self) -> Option<i32> {
        fs::read_to_string(format!("{STATE}/{}/agent.pid", self.name())).ok()?.trim().parse().ok()
    }

    /// Whether its agent runs.
    pub fn agent_lives(self) -> bool {
        self.agent().is_some_and(|pid| self.path(&format!("/proc/{pid}/stat")).exists())
    }

    /// What its agents have logged.
    pub fn log(self) -> String {
        fs::read_to_string(format!("{STATE}/{}/agent.log", self.name())).unwrap_or_default()
    }

    /// Runs a command there that must succeed.
    pub fn run(self, words: &[&OsStr]) -> Result<(), String> {
        let status = script(&["exec", self.name(), "--"]).args(words).status().map_err(|e| e.to_string())?;
        status.success().then_some(()).ok_or_else(|| format!("{words:?} on {}: {status}", self.name()))
    }

    /// What migrate-cli prints there. Err: it failed, and what it said.
    pub fn cli(self, words: &[&str]) -> Result<String, String> {
        let output = script(&["exec", self.name(), "--", "migrate-cli"]).args(words).output();
        let output = output.map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Ends its agent if it runs, and starts one with this fault.
    pub fn restart_agent(self, fault: Option<&str>) -> Result<(), String> {
        if let Some(pid) = self.agent().filter(|_| self.agent_lives()) {
            let killed = script(&["exec", self.name(), "--", "kill", "-KILL", &pid.to_string()]).status();
            killed.map_err(|e| e.to_string())?;
            soon(5, || !self.agent_lives()).map_err(|()| "the agent does not end")?;
        }
        let mut start = script(&["start", self.name()]);
        match fault {
            Some(fault) => start.env("MIGRATE_FAULT", fault),
            None => start.env_remove("MIGRATE_FAULT"),
        };
        match start.stdout(Stdio::null()).status() {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("starting the agent on {}: {other:?}", self.name())),
        }
    }
}

impl Work {
    /// None, and a word, where this cannot be run.
    pub fn new() -> Option<Work> {
        if std::env::var_os("MIGRATE_HOSTS").is_none() {
            println!("SKIPPED faults: no hosts are up; scripts/test brings them up");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/ticker.c");
        let compiled = Command::new("cc")
            .args(["-O2", "-Wall", "-pthread", "-o"])
            .arg(directory.path().join("ticker"))
            .arg(source)
            .status()
            .expect("cc; scripts/setup installs it");
        assert!(compiled.success());
        Some(Work { directory })
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A running copy of a subject.
#[derive(Debug)]
struct Copy {
    host: Option<Host>,
    outside: i32,
    inside: i32,
    standing: bool,
    traced: bool,
}

impl Subject {
    /// Starts one on alpha.
    pub fn start(work: &Work, name: &str) -> Result<Subject, String> {
        let program = work.directory.path().join("ticker");
        let file = work.directory.path().join(name);
        let wrapper = script(&["exec", "alpha", "--"])
            .args([program.as_os_str(), file.as_os_str(), name.as_ref()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let mut subject = Subject { program, file, name: name.into(), wrapper, pid: 0 };
        soon(10, || subject.ticks().is_ok_and(|n| n >= 3)).map_err(|()| "the subject does not start")?;
        subject.pid = match subject.copies().as_slice() {
            [copy] => copy.inside,
            other => return Err(format!("{other:?}")),
        };
        Ok(subject)
    }

    /// Pushes it to beta, with a fault at the source or none, by a process of its own.
    pub fn push_in_background(&self, fault: Option<&str>) -> Result<Push, String> {
        self.push_with(fault, &[])
    }

    /// As [`Subject::push_in_background`], with more options.
    pub fn push_with(&self, fault: Option<&str>, options: &[&str]) -> Result<Push, String> {
        let mut push = script(&["exec", "alpha", "--", "migrate-cli", "push"]);
        push.arg(self.pid.to_string()).args(["beta", "--no-agent", "--json"]).args(options);
        if let Some(fault) = fault {
            push.env("MIGRATE_FAULT", fault);
        }
        push.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map(Push).map_err(|e| e.to_string())
    }

    fn is_it(&self, directory: &Path) -> bool {
        let command = fs::read(directory.join("cmdline")).unwrap_or_default();
        command.starts_with(self.program.as_os_str().as_encoded_bytes())
            && command.ends_with(format!("\0{}\0", self.name).as_bytes())
    }

    /// Its copies, on all hosts, by its program and its last argument.
    fn copies(&self) -> Vec<Copy> {
        let hosts = [Host::Alpha, Host::Beta].map(|host| (host, host.pid_namespace()));
        let mut copies = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(outside) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
            // The first thread shows nothing of that when it has ended, and others do not.
            let threads = || fs::read_dir(path.join("task")).into_iter().flatten().flatten();
            let alive = threads().map(|thread| thread.path()).find(|path| self.is_it(path));
            let Some(thread) = alive.and_then(|path| fs::read_to_string(path.join("status")).ok()) else { continue };
            fn value<'s>(status: &'s str, key: &str) -> &'s str {
                status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default().trim()
            }
            let namespace = fs::read_link(path.join("ns/pid")).ok();
            copies.push(Copy {
                host: hosts.iter().find(|(_, ns)| *ns == namespace).map(|(host, _)| *host),
                outside,
                inside: value(&status, "NSpid:").split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0),
                standing: value(&thread, "State:").starts_with(['T', 't']),
                traced: [&status, &thread].into_iter().any(|status| value(status, "TracerPid:") != "0"),
            });
        }
        copies
    }

    /// Whether its copy there stands and nobody traces it.
    pub fn stands_untraced_on(&self, host: Host) -> bool {
        let there = self.copies().into_iter().filter(|copy| copy.host == Some(host)).collect::<Vec<_>>();
        matches!(there.as_slice(), [Copy { standing: true, traced: false, .. }])
    }

    /// Waits until one copy is left, which runs; says where.
    pub fn runs_once(&self) -> Result<Host, String> {
        let settled = || {
            let copies = self.copies();
            matches!(copies.as_slice(), [Copy { host: Some(_), standing: false, traced: false, .. }])
        };
        soon(15, settled).map_err(|()| format!("its copies: {:?}", self.copies()))?;
        let before = self.ticks()?;
        soon(5, || self.ticks().map_or(true, |n| n > before + 5)).map_err(|()| "it does not go on")?;
        match self.copies().as_slice() {
            [Copy { host: Some(host), inside, standing: false, traced: false, .. }] if *inside == self.pid => Ok(*host),
            other => Err(format!("its copies: {other:?}")),
        }
    }

    /// Stops it, as job control does.
    pub fn stop(&self) -> Result<(), String> {
        self.signal("-STOP")?;
        soon(5, || self.stands_untraced_on(Host::Alpha)).map_err(|()| "it does not stop".into())
    }

    /// Waits until one copy is left, which stands and does nothing for so many seconds, and continues that.
    pub fn stands_once(&self, seconds: u64) -> Result<(), String> {
        let settled =
            || matches!(self.copies().as_slice(), [Copy { host: Some(_), standing: true, traced: false, .. }]);
        soon(15, settled).map_err(|()| format!("its copies: {:?}", self.copies()))?;
        let before = self.ticks()?;
        // An agent that settles what another has left may trace it for a moment.
        let works = || self.ticks().as_ref() != Ok(&before);
        soon(seconds, works).map_or(Ok(()), |()| Err("it works while it is stopped".to_string()))?;
        soon(15, settled).map_err(|()| format!("it does not stay so: {:?}", self.copies()))?;
        self.signal("-CONT")
    }

    /// Has procps send it a signal, with these words before its PID.
    pub fn send(&self, words: &[&str]) -> Result<(), String> {
        let pids = self.copies().into_iter().filter(|copy| copy.host == Some(Host::Alpha)).map(|copy| copy.outside);
        let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
        let sent = Command::new("/bin/kill").args(words).args(&pids).status().map_err(|e| e.to_string())?;
        sent.success().then_some(()).ok_or_else(|| format!("kill {words:?} {pids:?}: {sent}"))
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        let pids: Vec<String> = self.copies().iter().map(|copy| copy.outside.to_string()).collect();
        let sent = Command::new("kill").arg(signal).args(&pids).status().map_err(|e| e.to_string())?;
        sent.success().then_some(()).ok_or_else(|| format!("kill {signal} {pids:?}: {sent}"))
    }

    /// How far it is, when every line is there once.
    fn ticks(&self) -> Result<usize, String> {
        let text = fs::read_to_string(&self.file).map_err(|e| e.to_string())?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for (i, line) in whole.lines().enumerate() {
            if line != (i + 1).to_string() {
                return Err(format!("line {} of its work is {line:?}", i + 1));
            }
        }
        Ok(whole.lines().count())
    }

    /// That its work is whole, and that it has its record lock.
    pub fn check(&self) -> Result<(), String> {
        self.ticks()?;
        match self.is_locked() {
            Ok(true) => Ok(()),
            Ok(false) => Err("it has lost its record lock".into()),
            Err(e) => Err(format!("looking for its record lock: {e}")),
        }
    }

    fn is_locked(&self) -> io::Result<bool> {
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&File::open(&self.file)?, FcntlArg::F_GETLK(&mut lock))?;
        Ok(lock.l_type != libc::F_UNLCK as i16)
    }

    /// The flags of each of its mappings but those of devices and the kernel, where it runs.
    pub fn mapping_flags(&self) -> Vec<String> {
        let copies = self.copies();
        let smaps = copies.iter().map(|copy| fs::read_to_string(format!("/proc/{}/smaps", copy.outside)));
        let lines: Vec<String> =
            smaps.flatten().flat_map(|text| text.lines().map(String::from).collect::<Vec<_>>()).collect();
        let flags = lines.iter().filter_map(|line| line.strip_prefix("VmFlags:"));
        flags.filter(|flags| !flags.contains(" io") && !flags.contains(" pf")).map(String::from).collect()
    }

    /// Has it do what `what` means (ticker.c), and waits until it has.
    pub fn tell(&self, what: &str) -> Result<(), String> {
        let file = PathBuf::from(format!("{}.{what}", self.file.display()));
        fs::write(&file, "").map_err(|e| e.to_string())?;
        soon(5, || !file.exists()).map_err(|()| "it is not told".into())
    }

    /// Begins a push that stops at a point of the source, and waits until it has.
    pub fn push_and_pause(&self, point: u32) -> Result<Push, String> {
        let push = self.push_in_background(Some(&format!("{point}:pause")))?;
        soon(10, || !self.pausing().is_empty()).map(|()| push).map_err(|()| "the push does not pause".into())
    }

    /// Lets such a push go on.
    pub fn go_on(&self) -> Result<(), String> {
        for pid in self.pausing() {
            let _ = Command::new("kill").args(["-CONT", &pid.to_string()]).status();
        }
        soon(5, || self.pausing().is_empty()).map_err(|()| "the push does not go on".into())
    }

    /// Processes that push it, and are stopped.
    fn pausing(&self) -> Vec<i32> {
        let words = format!("\0push\0{}\0", self.pid);
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|e| e.file_name().to_str()?.parse().ok());
        let is_one = |pid: &i32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            command.windows(words.len()).any(|w| w == words.as_bytes()) && status.contains("\nState:\tT")
        };
        pids.filter(is_one).collect()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        for copy in self.copies() {
            let _ = Command::new("kill").args(["-KILL", &copy.outside.to_string()]).status();
        }
        let _ = soon(5, || self.copies().is_empty());
        let _ = self.wrapper.wait();
    }
}

impl Push {
    /// What it printed.
    pub fn wait(mut self) -> Result<String, String> {
        let mut said = String::new();
        for pipe in [self.0.stderr.take().map(Pipe::Err), self.0.stdout.take().map(Pipe::Out)].into_iter().flatten() {
            pipe.read(&mut said)?;
        }
        self.0.wait().map_err(|e| e.to_string())?;
        Ok(said)
    }
}

enum Pipe {
    Out(std::process::ChildStdout),
    Err(std::process::ChildStderr),
}

impl Pipe {
    fn read(self, text: &mut String) -> Result<(), String> {
        let read = match self {
            Pipe::Out(mut pipe) => pipe.read_to_string(text),
            Pipe::Err(mut pipe) => pipe.read_to_string(text),
        };
        read.map(drop).map_err(|e| e.to_string())
    }
}

/// No half-made process, and no state file of a migration that is not decided.
pub fn nothing_left() -> Result<(), String> {
    for host in [Host::Alpha, Host::Beta] {
        let undecided = || undecided_in(&host.path("/run/migrate"));
        soon(10, || undecided().is_empty()).map_err(|()| format!("{host:?} has {:?}", undecided()))?;
        soon(5, || receivers(host).is_empty()).map_err(|()| format!("{host:?} still runs {:?}", receivers(host)))?;
    }
    Ok(())
}

fn undecided_in(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.file_name());
    let names = names.map(|n| n.to_string_lossy().into_owned());
    names.filter(|n| [".prepared", ".committed", ".source", ".new"].iter().any(|end| n.ends_with(end))).collect()
}

/// Processes of a migration, also half-made ones, which still are copies of who makes them.
fn receivers(host: Host) -> Vec<i32> {
    let namespace = host.pid_namespace();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|e| e.file_name().to_str()?.parse().ok());
    let is_one = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.windows(9).any(|w| w == b"\0receive\0")
            && fs::read_link(format!("/proc/{pid}/ns/pid")).ok() == namespace
    };
    pids.filter(is_one).collect()
}
