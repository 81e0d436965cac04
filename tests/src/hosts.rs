//! The two hosts, and running things in them.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::marked;
use crate::moves::Pushed;
use crate::snapshot::Snapshot;
use crate::waiting::{wait_for, wait_for_file};

/// Seconds that a command in a host may take.
const LIMIT: &str = "60";

/// One of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// 10.77.0.1
    Alpha,
    /// 10.77.0.2
    Beta,
}

impl Host {
    /// The other one.
    pub fn other(self) -> Host {
        match self {
            Host::Alpha => Host::Beta,
            Host::Beta => Host::Alpha,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Host::Alpha => "alpha",
            Host::Beta => "beta",
        })
    }
}

/// The two hosts, while a test has them.
#[derive(Debug)]
pub struct Hosts {
    inside: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// Takes the hosts for the test `$name`, which needs these programs, if it says so; None when one or the other cannot be had, which
/// has then been said.
#[macro_export]
macro_rules! hosts {
    ($name:expr) => {
        $crate::hosts::Hosts::take($name, env!("CARGO_BIN_EXE_inside"))
    };
    ($name:expr, $programs:expr) => {
        if $crate::hosts::have($name, $programs) { $crate::hosts!($name) } else { None }
    };
}

/// Whether these programs are there; else the test is skipped.
pub fn have(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !Path::new(program).exists());
    if let Some(missing) = missing {
        skipped(test, &format!("there is no {missing}; scripts/setup --programs installs it"));
    }
    missing.is_none()
}

/// Counts a test as skipped (`scripts/test` reads this line); a colon would end the name.
pub fn skipped(test: &str, reason: &str) {
    println!("SKIPPED {}: {reason}", test.replace(':', " "));
}

impl Hosts {
    /// Takes them: those that are up when MIGRATE_HOSTS=up says so (`scripts/test` does), else a pair that lasts as long as
    /// this program. `inside` is the program of this package that looks at a host from inside. Without root it says that
    /// `test` is skipped.
    pub fn take(test: &str, inside: &str) -> Option<Hosts> {
        // One test at a time: what one occupies or mounts would be in the way of another.
        static ALONE: Mutex<()> = Mutex::new(());
        static OURS: OnceLock<Result<Child, String>> = OnceLock::new();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        if !nix::unistd::geteuid().is_root() {
            skipped(test, "moving a process needs root: sudo scripts/test");
            return None;
        }
        if std::env::var_os("MIGRATE_HOSTS").is_none_or(|v| v != "up")
            && let Err(why) = OURS.get_or_init(bring_up)
        {
            panic!("{why}");
        }
        let hosts = Hosts { inside: inside.into(), _alone: alone };
        // What is started here must not have a number that is taken there; `scripts/hosts` begins with these.
        hosts.inside(Host::Alpha, &["number", "4000", "16000"]);
        hosts.inside(Host::Beta, &["number", "20000", "30000"]);
        Some(hosts)
    }

    /// Runs a command in a host and waits for it.
    pub fn exec<S: AsRef<OsStr>>(&self, host: Host, command: &[S]) -> Output {
        let done = Command::new("timeout")
            .args(["--kill-after=5", LIMIT])
            .arg(script())
            .args(["exec", &host.to_string(), "--"])
            .args(command)
            .stdin(Stdio::null())
            .output();
        done.unwrap_or_else(|e| panic!("scripts/hosts exec {host}: {e}"))
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn must<S: AsRef<OsStr>>(&self, host: Host, command: &[S]) -> String {
        let done = self.exec(host, command);
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let shown: Vec<_> = command.iter().map(|w| w.as_ref().to_string_lossy()).collect();
        assert!(done.status.success(), "{} in {host}: {}\n{out}{err}", shown.join(" "), done.status);
        out.into_owned()
    }

    /// Runs the `inside` program in a host.
    pub fn inside(&self, host: Host, arguments: &[&str]) -> String {
        let mut command = vec![self.inside.as_os_str()];
        command.extend(arguments.iter().map(OsStr::new));
        self.must(host, &command)
    }

    /// Where the `inside` program is.
    pub fn inside_program(&self) -> &Path {
        &self.inside
    }

    /// Starts a program: the leader of its own session, the child of the host's PID 1, its working directory `directory`,
    /// its input /dev/null, its outputs the files `stdout` and `stderr` there, and no other descriptor.
    pub fn start(&self, host: Host, directory: TempDir, command: &[&str]) -> Started<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        const SCRIPT: &str = "echo $$ >pid.new && mv pid.new pid && exec \"$@\" </dev/null >stdout 2>stderr";
        let mark = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let variable = format!("{}={mark}", marked::VARIABLE);
        let chdir = format!("--chdir={}", directory.path().display());
        let mut words = vec!["env", &chdir, &variable, "setsid", "--fork", "sh", "-c", SCRIPT, "sh"];
        words.extend(command);
        let mut started = Started { hosts: self, directory, mark, host, pid: 0 };
        self.must(host, &words);
        let pid = wait_for_file(&started.path("pid"), Duration::from_secs(10));
        started.pid =
            pid.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("{command:?} did not start"));
        started
    }

    /// Runs `migrate-cli push` in a host.
    pub fn push(&self, pid: i32, from: Host, to: &str, arguments: &[&str]) -> Pushed {
        let number = pid.to_string();
        let mut words = vec!["migrate-cli", "push", &number, to, "--json"];
        words.extend(arguments);
        let done = self.exec(from, &words);
        let status = done.status.code().unwrap_or(-1);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Pushed::new(status, text(&done.stdout), text(&done.stderr))
    }

    /// What /proc shows of a process.
    pub fn snapshot(&self, host: Host, pid: i32) -> Snapshot {
        let text = self.inside(host, &["snapshot", &pid.to_string()]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("the snapshot of {pid} in {host}: {e}"))
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/hosts")
}

/// The hosts go down when this program ends, however it ends: then whoever reads from the pipe reads its end.
fn bring_up() -> Result<Child, String> {
    let owner = std::process::id().to_string();
    let owned = |program: &Path| {
        let mut command = Command::new(program);
        command.env("MIGRATE_HOSTS_OWNER", &owner).env("MIGRATE_HOSTS_OWNER_NAME", "cargo test");
        command
    };
    let up = owned(&script()).args(["up", "--fresh"]).output().map_err(|e| format!("scripts/hosts: {e}"))?;
    if !up.status.success() {
        return Err(format!("scripts/hosts up: {}", String::from_utf8_lossy(&up.stderr)));
    }
    let mut down = owned(Path::new("setsid")); // so that a Ctrl-C does not end it
    down.args(["sh", "-c", "read _; exec \"$0\" down"]).arg(script());
    down.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    down.spawn().map_err(|e| format!("setsid: {e}"))
}

/// A program that a test started. Dropped, it is killed wherever it is by now, and its directory removed.
#[derive(Debug)]
pub struct Started<'h> {
    /// Where it runs.
    pub hosts: &'h Hosts,
    directory: TempDir,
    mark: String,
    /// Where it was when it was last moved or started.
    pub host: Host,
    /// Its PID in its own PID namespace.
    pub pid: i32,
}

impl Started<'_> {
    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The text of a file in its directory; empty when there is none.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// Its PIDs in a host, as seen there: none or one, if all is well.
    pub fn pids(&self, host: Host) -> Vec<i32> {
        let text = self.hosts.inside(host, &["find", &self.mark]);
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// Whether it runs in `host` under its own PID, and not in the other one.
    pub fn runs_only(&self, host: Host) -> bool {
        self.pids(host) == [self.pid] && self.pids(host.other()).is_empty()
    }

    /// Whether it has not ended, wherever it is.
    pub fn runs(&self) -> bool {
        [Host::Alpha, Host::Beta].into_iter().any(|host| !self.pids(host).is_empty())
    }

    /// Where it is and what it wrote.
    pub fn said(&self) -> String {
        let (here, there) = (self.pids(Host::Alpha), self.pids(Host::Beta));
        let [result, stdout, stderr] = ["result", "stdout", "stderr"].map(|name| self.text(name));
        format!("(process {}; in alpha: {here:?}, in beta: {there:?}) {result}{stdout}{stderr}", self.pid)
    }

    /// Pushes it to the other host.
    ///
    /// # Errors
    /// What was said when it did not move; what is wrong when it is not there afterwards.
    pub fn move_over(&mut self) -> Result<crate::moves::Report, String> {
        self.move_over_with(&[])
    }

    /// Pushes it to the other host, with more options.
    ///
    /// # Errors
    /// As for [`Started::move_over`].
    pub fn move_over_with(&mut self, options: &[&str]) -> Result<crate::moves::Report, String> {
        let to = self.host.other();
        let options = [&["--pid", "keep"], options].concat();
        let report = self.hosts.push(self.pid, self.host, &to.to_string(), &options).moved()?;
        self.host = to;
        Ok(report)
    }

    /// Waits for it to end.
    ///
    /// # Errors
    /// It runs on after `limit`.
    pub fn wait_end(&self, limit: Duration) -> Result<(), String> {
        let ended = || (self.pids(self.host).is_empty()).then_some(());
        wait_for(limit, ended).ok_or_else(|| format!("{} still runs in {} after {limit:?}", self.pid, self.host))
    }

    /// What /proc shows of it.
    pub fn snapshot(&self) -> Snapshot {
        self.hosts.snapshot(self.host, self.pid)
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        for host in [Host::Alpha, Host::Beta] {
            let command = [self.hosts.inside.as_os_str(), OsStr::new("end"), OsStr::new(&self.mark)];
            self.hosts.exec(host, &command);
        }
    }
}
