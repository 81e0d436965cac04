//! Everything that cannot move: it is refused by name, before anything is touched, and the process has not noticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started, skipped};
use migrate_tests::moves::Pushed;
use migrate_tests::waiting::wait_for;
use tempfile::TempDir;

const PYTHON: &str = "/usr/bin/python3";

/// Counts in the file `ticks` until `stop` appears, and then writes `end`. What the test is about goes before it.
const TICKER: &str = "
import os, time
with open('ticks', 'w', buffering=1) as ticks:
    n = 0
    while not os.path.exists('stop'):
        n += 1
        ticks.seek(0)
        ticks.write(f'{n}\\n')
        time.sleep(0.005)
with open('end', 'w') as end:
    end.write(f'{n}\\n')
";

/// A program that counts, in alpha.
struct Ticker<'h>(Started<'h>);

impl<'h> Ticker<'h> {
    fn start(hosts: &'h Hosts, before: &str) -> Ticker<'h> {
        Ticker::start_in(hosts, Host::Alpha, TempDir::new().expect("a directory"), before)
    }

    fn start_in(hosts: &'h Hosts, host: Host, directory: TempDir, before: &str) -> Ticker<'h> {
        let program = format!("{before}\n{TICKER}");
        let ticker = Ticker(hosts.start(host, directory, &[PYTHON, "-S", "-B", "-c", &program]));
        let begun = wait_for(Duration::from_secs(20), || (ticker.count() > 0).then_some(()));
        assert!(begun.is_some(), "it does not count: {}", ticker.0.text("stderr"));
        ticker
    }

    fn count(&self) -> u64 {
        self.0.text("ticks").trim().parse().unwrap_or(0)
    }

    fn goes_on(&self) -> bool {
        let before = self.count();
        wait_for(Duration::from_secs(5), || (self.count() > before + 3).then_some(())).is_some()
    }

    fn push(&self, hosts: &Hosts, arguments: &[&str]) -> Pushed {
        hosts.push(self.0.pid, Host::Alpha, "beta", arguments)
    }

    /// It was refused with all of `words`, and runs as it did.
    fn stays(&self, pushed: Pushed, words: &[&str]) {
        let why = pushed.refused().unwrap_or_else(|said| panic!("not refused: {said}"));
        for word in words {
            assert!(why.contains(word), "no {word:?} in: {why}");
        }
        self.unharmed();
    }

    fn unharmed(&self) {
        assert!(
            self.0.runs_only(Host::Alpha),
            "in alpha {:?}, in beta {:?}",
            self.0.pids(Host::Alpha),
            self.0.pids(Host::Beta)
        );
        let seen = self.0.snapshot();
        assert_eq!(seen.process["TracerPid"], "0");
        assert!(self.goes_on(), "it does not count any more");
    }
}

/// A ticker that has something, and the words of its refusal. Without what it has, it moves: see `a_ticker_moves`.
fn refuses(test: &str, before: &str, words: &[&str]) {
    let Some(hosts) = hosts!(test, &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, before);
    ticker.stays(ticker.push(&hosts, &[]), words);
}

#[test]
fn a_ticker_moves() {
    let Some(hosts) = hosts!("a_ticker_moves", &[PYTHON]) else { return };
    let mut ticker = Ticker::start(&hosts, "");
    ticker.0.move_over().unwrap_or_else(|e| panic!("{e}"));
    assert!(ticker.goes_on());
    fs::write(ticker.0.path("stop"), "").expect("a file");
    ticker.0.wait_end(Duration::from_secs(10)).unwrap_or_else(|e| panic!("{e}"));
    assert!(!ticker.0.text("end").is_empty());
}

#[test]
fn a_socket() {
    refuses("a_socket", "import socket; s = socket.socket(socket.AF_VSOCK)", &["fd 3", "vsock socket", "close it"]);
}

/// How to get a descriptor of each of these, as an expression; its words.
const KERNELS_OWN: &[(&str, &str)] = &[
    ("call(300, 0, 0)", "a fanotify cannot move: "),
    ("call(323, 1)", "a userfaultfd cannot move: "),
    (
        "call(298, words('IIQ', 1, 128, 0) + bytes(112), 0, -1, -1, 0)",
        "a performance counter (perf_event_open) cannot move: ",
    ),
    ("call(321, 0, words('IIIII', 1, 4, 8, 16, 0) + bytes(100), 120)", "a BPF map cannot move: "),
    ("call(444, words('Q', 1), 8, 0)", "a Landlock ruleset cannot move: "),
    ("call(425, 4, bytes(120))", "an io_uring cannot move: "),
    ("mapped(call(425, 4, bytes(120)))", "the rings of an io_uring — this kind of memory cannot move; "),
    ("call(447, 0)", "secret memory (memfd_secret) cannot move: "),
    ("call(430, b'tmpfs', 0)", "a file system being configured (fsopen) cannot move: "),
    ("call(41, 40, 1, 0)", "vsock socket — this kind of socket cannot move: "),
    ("call(41, 38, 5, 0)", "AF_ALG socket (the kernel's cryptography) — this kind of socket cannot move: "),
    ("call(41, 44, 3, 0)", "XDP socket — this kind of socket cannot move: "),
    ("call(257, -100, b'/dev/kvm', 2)", "/dev/kvm — devices cannot move; "),
];

#[test]
fn what_only_the_kernel_knows() {
    let test = "what_only_the_kernel_knows";
    let Some(hosts) = hosts!(test, &[PYTHON]) else { return };
    for (expression, words) in KERNELS_OWN {
        let before = format!(
            "import ctypes, mmap, struct\nwords = struct.pack\n\
             def call(*arguments): return ctypes.CDLL(None).syscall(*arguments)\n\
             def mapped(fd):\n    global ring\n    if fd >= 0: ring = mmap.mmap(fd, 4096)\n    return fd\n\
             fd = {expression}\nif fd < 0: open('lacks', 'w')"
        );
        let ticker = Ticker::start(&hosts, &before);
        if ticker.0.path("lacks").exists() {
            skipped(test, &format!("this kernel does not give what is {:?}", words.trim_end_matches(" cannot move: ")));
            continue;
        }
        let why = ticker.push(&hosts, &[]).refused().unwrap_or_else(|said| panic!("not refused: {said}"));
        assert!(
            why.contains(words) && why.contains("close it, or leave it behind: --fd 3=close"),
            "no {words:?} in: {why}"
        );
        ticker.unharmed();
    }
}

/// Listens in its namespace for as long as the test lasts.
const LISTENS: &str = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 20301)); s.listen()";

#[test]
fn a_port_that_another_has_there() {
    let Some(hosts) = hosts!("a_port_that_another_has_there", &[PYTHON]) else { return };
    let there = Ticker::start_in(&hosts, Host::Beta, TempDir::new().expect("a directory"), LISTENS);
    let ticker = Ticker::start(&hosts, LISTENS);
    let holder = format!("process {} (python3", there.0.pid);
    ticker.stays(
        ticker.push(&hosts, &[]),
        &["TCP socket 127.0.0.1:20301", "the port is taken here", &holder, "descriptor 3"],
    );
    assert!(there.goes_on());
}

#[test]
fn an_address_that_is_not_there() {
    let before = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('10.77.0.1', 20302))";
    refuses(
        "an_address_that_is_not_there",
        before,
        &["UDP socket 10.77.0.1:20302", "does not have the address 10.77.0.1"],
    );
}

#[test]
fn a_child() {
    let before = "import os, time\nif os.fork() == 0: time.sleep(600)";
    let Some(hosts) = hosts!("a_child", &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, before);
    let why = ticker.push(&hosts, &[]).refused().unwrap_or_else(|said| panic!("not refused: {said}"));
    for word in ["1 child process", "python3", "wait until"] {
        assert!(why.contains(word), "no {word:?} in: {why}");
    }
    // Parent and child both have the mark.
    assert_eq!((ticker.0.pids(Host::Alpha).len(), ticker.0.pids(Host::Beta).len()), (2, 0));
    assert_eq!(ticker.0.snapshot().process["TracerPid"], "0");
    assert!(ticker.goes_on());
}

#[test]
fn memory_of_a_device() {
    let before = "import mmap, os; f = os.open('/dev/zero', os.O_RDWR); m = mmap.mmap(f, 4096, mmap.MAP_PRIVATE)";
    refuses("memory_of_a_device", before, &["/dev/zero", "memory of a device", "unmap it"]);
}

#[test]
fn memory_that_another_process_has_a_descriptor_of() {
    // The one that has it is no child of the ticker.
    let before = "\
import ctypes, os
libc = ctypes.CDLL(None)
fd = os.memfd_create('of two')
os.ftruncate(fd, 4096)
libc.mmap(None, ctypes.c_long(4096), 3, 1, fd, ctypes.c_long(0))
if os.fork() == 0:
    if os.fork() == 0:
        os.set_inheritable(fd, True)
        os.execv('/bin/sleep', ['sleep', '600'])
    os._exit(0)
os.wait()
os.close(fd)
";
    let Some(hosts) = hosts!("memory_that_another_process_has_a_descriptor_of", &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, before);
    let why = ticker.push(&hosts, &[]).refused().unwrap_or_else(|said| panic!("not refused: {said}"));
    for word in ["of two", "(sleep)", "descriptor"] {
        assert!(why.contains(word), "no {word:?} in: {why}");
    }
    assert!(ticker.goes_on());
}

#[test]
fn a_lock_that_another_process_has_too() {
    let before = "\
import fcntl, os
fd = os.open('locked', os.O_CREAT | os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX)
if os.fork() == 0:
    if os.fork() == 0:
        os.set_inheritable(fd, True)
        os.execv('/bin/sleep', ['sleep', '600'])
    os._exit(0)
os.wait()
";
    let Some(hosts) = hosts!("a_lock_that_another_process_has_too", &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, before);
    let why = ticker.push(&hosts, &[]).refused().unwrap_or_else(|said| panic!("not refused: {said}"));
    for word in ["has a lock on", "/locked", "(sleep)", "as fd 3"] {
        assert!(why.contains(word), "no {word:?} in: {why}");
    }
    assert!(ticker.goes_on());
}

#[test]
fn a_deleted_file_that_has_another_name() {
    let before = "import os; f = open('gone', 'w'); os.link('gone', 'still there'); os.unlink('gone')";
    refuses("a_deleted_file_that_has_another_name", before, &["fd 3", "/gone", "another name"]);
}

#[test]
fn huge_pages() {
    let pages = fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    if pages.trim().parse() == Ok(0) || pages.is_empty() {
        return skipped("huge_pages", "this machine has none set aside (/proc/sys/vm/nr_hugepages)");
    }
    let before = "import mmap; m = mmap.mmap(-1, 1 << 21, 0x40022)";
    refuses("huge_pages", before, &["huge"]);
}

#[test]
fn no_such_process() {
    let Some(hosts) = hosts!("no_such_process", &[PYTHON]) else { return };
    let pushed = hosts.push(3_999_999, Host::Alpha, "beta", &[]);
    let why = pushed.refused().unwrap_or_else(|said| panic!("not refused: {said}"));
    assert!(why.contains("no process 3999999"), "{why}");
}

#[test]
fn a_kernel_thread() {
    let Some(hosts) = hosts!("a_kernel_thread", &[PYTHON]) else { return };
    // Hosts have none: this asks from outside.
    let is_one = fs::read_to_string("/proc/2/status").is_ok_and(|status| status.contains("Name:\tkthreadd"));
    if !is_one {
        return skipped("a_kernel_thread", "process 2 is no kernel thread here: this machine is in a PID namespace");
    }
    let pushed = push_outside(&hosts, &["2", "10.77.0.2", "--no-agent"]);
    let why = pushed.refused().unwrap_or_else(|said| panic!("not refused: {said}"));
    assert!(why.contains("2 (kthreadd) is a kernel thread"), "{why}");
}

#[test]
fn not_permitted() {
    let Some(hosts) = hosts!("not_permitted", &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, "");
    let pid = ticker.0.pid.to_string();
    // A copy that everybody may run: the one that was built may be in a directory of root's own.
    let directory = TempDir::new().expect("a directory");
    let copy = directory.path().join("migrate-cli");
    fs::copy(program(&hosts), &copy).expect("a copy");
    open_to_all(directory.path());
    let copy = copy.display().to_string();
    let words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", &copy, "push", &pid, "beta", "--json"];
    let done = hosts.exec(Host::Alpha, &words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ticker.stays(
        Pushed::new(done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr)),
        &["root", "sudo"],
    );
}

#[test]
fn no_agent_there() {
    let Some(hosts) = hosts!("no_agent_there", &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, "");
    let pushed = hosts.push(ticker.0.pid, Host::Alpha, "10.77.0.2:7071", &[]);
    ticker.stays(pushed, &["10.77.0.2:7071", "refused", "agent"]);
}

#[test]
fn an_agent_of_another_version() {
    let Some(hosts) = hosts!("an_agent_of_another_version", &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, "");
    let inside = hosts.inside_program().display().to_string();
    let directory = TempDir::new().expect("a directory");
    let peer = hosts.start(Host::Beta, directory, &[&inside, "answer", "7072", "77"]);
    assert!(wait_for(Duration::from_secs(10), || peer.text("stdout").contains("listening").then_some(())).is_some());
    let pushed = hosts.push(ticker.0.pid, Host::Alpha, "10.77.0.2:7072", &[]);
    ticker.stays(pushed, &["10.77.0.2:7072", "protocol 77", "install the same version on both"]);
}

#[test]
fn what_is_no_agent() {
    let Some(hosts) = hosts!("what_is_no_agent", &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, "");
    let server = "import socket; s = socket.create_server(('', 7073)); print('listening', flush=True)\n\
                  c, _ = s.accept(); c.sendall(b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n' * 4); c.recv(1)";
    let peer = hosts.start(Host::Beta, TempDir::new().expect("a directory"), &[PYTHON, "-S", "-c", server]);
    assert!(wait_for(Duration::from_secs(10), || peer.text("stdout").contains("listening").then_some(())).is_some());
    let pushed = hosts.push(ticker.0.pid, Host::Alpha, "10.77.0.2:7073", &[]);
    ticker.stays(pushed, &["10.77.0.2:7073", "no migrate-agent"]);
}

#[test]
fn a_missing_file() {
    let Some(hosts) = hosts!("a_missing_file", &[PYTHON]) else { return };
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("data");
    fs::write(&file, "text").expect("a file");
    let ticker = Ticker::start(&hosts, &format!("f = open({:?})", file.display().to_string()));
    let _hidden = Mounted::new(&hosts, Host::Beta, &["-t", "tmpfs", "none"], directory.path());
    ticker.stays(ticker.push(&hosts, &[]), &[&file.display().to_string(), "is missing there"]);
}

#[test]
fn a_file_of_another_size() {
    different_file("a_file_of_another_size", "text", "longer", &["4 bytes here, 6 there", "same version on both"]);
}

#[test]
fn a_file_with_other_content() {
    different_file("a_file_with_other_content", "text", "TEXT", &["content differs", "same version on both"]);
}

/// By a shared mapping alone: its descriptor is closed.
#[test]
fn a_file_that_is_mapped_to_be_written() {
    let map = "import ctypes, os\nc = ctypes.CDLL(None)\nf = os.open({file}, os.O_RDWR)\n\
               at = c.mmap(None, ctypes.c_size_t(4096), 3, 1, f, ctypes.c_long(0))\nos.close(f)\nassert at != -1";
    let words = ["mapped to write it", "another time", "share the file"];
    different_file_had("a_file_that_is_mapped_to_be_written", map, "text", "text", &words);
}

fn different_file(test: &str, here: &str, there: &str, words: &[&str]) {
    different_file_had(test, "f = open({file})", here, there, words);
}

fn different_file_had(test: &str, before: &str, here: &str, there: &str, words: &[&str]) {
    let Some(hosts) = hosts!(test, &[PYTHON]) else { return };
    let directory = TempDir::new().expect("a directory");
    let (file, other) = (directory.path().join("data"), directory.path().join("other"));
    fs::write(&file, here).expect("a file");
    sleep(Duration::from_millis(20)); // so that the times of modification differ
    fs::write(&other, there).expect("a file");
    let ticker = Ticker::start(&hosts, &before.replace("{file}", &format!("{:?}", file.display().to_string())));
    let shown = other.display().to_string();
    let _hidden = Mounted::new(&hosts, Host::Beta, &["--bind", &shown], &file);
    let mut words = words.to_vec();
    let path = file.display().to_string();
    words.push(&path);
    ticker.stays(ticker.push(&hosts, &[]), &words);
}

#[test]
fn a_taken_pid() {
    let Some(hosts) = hosts!("a_taken_pid", &[PYTHON]) else { return };
    let mut ticker = Ticker::start(&hosts, "");
    let pid = ticker.0.pid.to_string();
    let occupier = Occupier::new(&hosts, Host::Beta, &pid);
    ticker
        .stays(ticker.push(&hosts, &["--pid", "keep"]), &[&format!("PID {pid} is taken"), "sleep", "--pid namespace"]);
    moves_into_namespace(&mut ticker, &hosts, "auto");
    drop(occupier);
}

#[test]
fn a_pid_namespace_when_wanted() {
    let Some(hosts) = hosts!("a_pid_namespace_when_wanted", &[PYTHON]) else { return };
    let mut ticker = Ticker::start(&hosts, "");
    moves_into_namespace(&mut ticker, &hosts, "namespace");
}

/// It goes on under its own number, which the host sees as another one, and ends there.
fn moves_into_namespace(ticker: &mut Ticker<'_>, hosts: &Hosts, policy: &str) {
    let report = ticker.push(hosts, &["--pid", policy]).moved().unwrap_or_else(|said| panic!("{said}"));
    assert_eq!(report.pid, ticker.0.pid);
    assert!(ticker.goes_on());
    assert!(ticker.0.pids(Host::Alpha).is_empty());
    let there = ticker.0.pids(Host::Beta);
    let [outer] = there[..] else { panic!("in beta: {there:?}") };
    let status = hosts.must(Host::Beta, &["cat", &format!("/proc/{outer}/status")]);
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<i32> = numbers.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    assert_eq!(numbers, [outer, ticker.0.pid]);
    fs::write(ticker.0.path("stop"), "").expect("a file");
    ticker.0.host = Host::Beta;
    ticker.0.wait_end(Duration::from_secs(10)).unwrap_or_else(|e| panic!("{e}"));
    assert!(!ticker.0.text("end").is_empty());
}

#[test]
fn a_traced_process() {
    let Some(hosts) = hosts!("a_traced_process", &[PYTHON]) else { return };
    let Some(strace) = ["/usr/bin/strace", "/usr/bin/gdb"].into_iter().find(|path| Path::new(path).exists()) else {
        return skipped("a_traced_process", "there is neither strace nor gdb");
    };
    let ticker = Ticker::start(&hosts, "");
    let pid = ticker.0.pid.to_string();
    let arguments: &[&str] = match strace {
        "/usr/bin/strace" => &[strace, "-o", "trace", "-p", &pid],
        _ => &[strace, "--batch", "-p", &pid, "-ex", "continue"],
    };
    let tracer = hosts.start(Host::Alpha, TempDir::new().expect("a directory"), arguments);
    let traced = || (ticker.0.snapshot().process["TracerPid"] == tracer.pid.to_string()).then_some(());
    assert!(wait_for(Duration::from_secs(20), traced).is_some(), "{}", tracer.text("stderr"));
    let why = ticker.push(&hosts, &[]).refused().unwrap_or_else(|said| panic!("not refused: {said}"));
    assert!(why.contains(&format!("is traced by {}", tracer.pid)) && why.contains("end that first"), "{why}");
    assert_eq!(ticker.0.snapshot().process["TracerPid"], tracer.pid.to_string());
    drop(tracer);
    ticker.unharmed();
}

#[test]
fn a_terminal_that_nothing_looks_into() {
    let Some(hosts) = hosts!("a_terminal_that_nothing_looks_into", &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, "import os, pty; master, slave = pty.openpty(); os.write(slave, b'unread')");
    let why = ticker.push(&hosts, &["--kernel-state", "ptrace"]).refused();
    let why = why.unwrap_or_else(|said| panic!("not refused: {said}"));
    assert!(
        why.contains("a terminal with 6 bytes that the program has not read") && why.contains("try again"),
        "{why}"
    );
    ticker.unharmed();
}

#[test]
fn a_terminal_that_is_stopped_and_nothing_looks_into() {
    let Some(hosts) = hosts!("a_terminal_that_is_stopped_and_nothing_looks_into", &[PYTHON]) else { return };
    let before = "import os, pty, termios; master, slave = pty.openpty(); termios.tcflow(slave, termios.TCOOFF)";
    let ticker = Ticker::start(&hosts, before);
    let pushed = ticker.push(&hosts, &["--kernel-state", "ptrace"]);
    ticker.stays(pushed, &["a terminal whose output is stopped (^S or TCOOFF)", "have it go on"]);
}

#[test]
fn a_directory_of_which_nothing_tells_what_is_signalled() {
    let Some(hosts) = hosts!("a_directory_of_which_nothing_tells_what_is_signalled", &[PYTHON]) else { return };
    let asks = "import fcntl, os, signal, threading; signal.signal(signal.SIGIO, signal.SIG_IGN); os.mkdir('watched'); \
        watched = os.open('watched', os.O_RDONLY); ask = lambda: fcntl.fcntl(watched, fcntl.F_NOTIFY, fcntl.DN_CREATE)";
    let another = "threading.Thread(target=lambda: (ask(), threading.Event().wait()), daemon=True).start()";
    for by in ["ask()", another] {
        let ticker = Ticker::start(&hosts, &format!("{asks}\n{by}"));
        let pushed = ticker.push(&hosts, &["--kernel-state", "ptrace"]);
        let words = ["a directory whose changes are signalled (F_NOTIFY)", "--kernel-state leaves it out"];
        ticker.stays(pushed, &words);
    }
}

#[test]
fn a_thread() {
    let before = "import threading, time; t = threading.Thread(target=time.sleep, args=(600,), daemon=True); t.start()";
    let Some(hosts) = hosts!("a_thread", &[PYTHON]) else { return };
    let ticker = Ticker::start(&hosts, before);
    let threads = ticker.0.snapshot().threads;
    let thread = threads.keys().find(|tid| **tid != ticker.0.pid).expect("a second thread");
    let why =
        hosts.push(*thread, Host::Alpha, "beta", &[]).refused().unwrap_or_else(|said| panic!("not refused: {said}"));
    assert!(why.contains(&format!("{thread} is a thread; give the PID of its process, {}", ticker.0.pid)), "{why}");
    ticker.unharmed();
}

/// A mount in one of the hosts, until it is dropped.
struct Mounted<'h> {
    hosts: &'h Hosts,
    host: Host,
    at: PathBuf,
}

impl<'h> Mounted<'h> {
    fn new(hosts: &'h Hosts, host: Host, what: &[&str], at: &Path) -> Mounted<'h> {
        let shown = at.display().to_string();
        let mut words = vec!["mount"];
        words.extend(what);
        words.push(&shown);
        hosts.must(host, &words);
        Mounted { hosts, host, at: at.into() }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        self.hosts.exec(self.host, &["umount".as_ref(), self.at.as_os_str()]);
    }
}

/// Another process that has a PID, until it is dropped.
struct Occupier<'h> {
    hosts: &'h Hosts,
    host: Host,
    pid: String,
}

impl<'h> Occupier<'h> {
    fn new(hosts: &'h Hosts, host: Host, pid: &str) -> Occupier<'h> {
        hosts.inside(host, &["occupy", pid]);
        Occupier { hosts, host, pid: pid.into() }
    }
}

impl Drop for Occupier<'_> {
    fn drop(&mut self) {
        self.hosts.exec(self.host, &["kill", "-KILL", &self.pid]);
    }
}

/// Where the hosts find `migrate-cli`.
fn program(hosts: &Hosts) -> PathBuf {
    hosts.must(Host::Alpha, &["sh", "-c", "command -v migrate-cli"]).trim().into()
}

fn push_outside(hosts: &Hosts, arguments: &[&str]) -> Pushed {
    let mut command = Command::new(program(hosts));
    command.arg("push").args(arguments).arg("--json");
    let done = command.output().expect("migrate-cli");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Pushed::new(done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("permissions");
}
