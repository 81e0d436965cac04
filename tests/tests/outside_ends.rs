//! What a process has open whose other end another process has: refused with both ends named, and left behind with `--fd`.

use std::fs;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started};
use migrate_tests::scripted::{self, PYTHON, finishes, refused};
use migrate_tests::waiting::{wait_for, wait_for_file};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// Has a process that is no child of it sleep with all that was opened so far.
const HOLDER: &str = "
import os, sys, time
def hold():
    if os.fork() == 0:
        if os.fork() == 0:
            os.execv('/bin/sleep', ['sleep', '600'])
        os._exit(0)
    os.wait()
";

/// As [`scripted::start`], in a directory of its own, with [`HOLDER`].
fn start<'h>(hosts: &'h Hosts, before: &str, after: &str) -> Started<'h> {
    scripted::start(hosts, TempDir::new().expect("a directory"), &format!("{HOLDER}\n{before}"), after)
}

/// Moved with these options, it does what it is to do there.
fn moves<'h>(mut started: Started<'h>, options: &[&str]) -> Started<'h> {
    started.pid = started.text("pid").trim().parse().expect("a PID");
    started.move_over_with(options).unwrap_or_else(|e| panic!("{e}"));
    finishes(&started);
    started
}

const PIPES: &str = "
r, w = os.pipe()
os.dup2(w, 7)
os.dup2(r, 8)
os.dup2(w, 9)
os.close(r); os.close(w)
for fd in 7, 8, 9: os.set_inheritable(fd, True)
hold()
";

#[test]
fn a_pipe_to_another_process() {
    let Some(hosts) = hosts!("a_pipe_to_another_process", &[PYTHON]) else { return };
    let after = "
os.write(7, b'one\\n')
assert os.read(8, 10) == b''
try:
    os.fstat(9)
    assert False, 'still there'
except OSError: pass
os.write(7, b'two\\n')
";
    let started = start(&hosts, PIPES, after);
    let log = started.path("log");
    refused(
        &hosts,
        &started,
        &[],
        &["a pipe", "fd 7,8,9", "(sleep) has as fd 7,8,9", "--fd 7,8,9=close|null|file:PATH"],
    );
    let to_log = format!("7=file:{}", log.display());
    refused(&hosts, &started, &["--fd", &to_log], &["a pipe", "fd 8"]);
    fs::write(&log, "before\n").expect("a file");
    let started = moves(started, &["--fd", &to_log, "--fd", "8=null", "--fd", "9=close"]);
    assert_eq!(started.text("log"), "before\none\ntwo\n");
    assert_eq!(started.text("done"), "ok");
}

#[test]
fn a_file_that_is_made_belongs_to_the_process() {
    let Some(hosts) = hosts!("a_file_that_is_made_belongs_to_the_process", &[PYTHON]) else { return };
    let before = format!("{PIPES}\nos.chmod('.', 0o777); os.setgid(65534); os.setuid(65534)");
    let started = start(&hosts, &before, "os.write(7, b'x')");
    let to_log = format!("7=file:{}", started.path("log").display());
    let started = moves(started, &["--fd", &to_log, "--fd", "8,9=close"]);
    use std::os::unix::fs::MetadataExt;
    let made = fs::metadata(started.path("log")).expect("the file");
    assert_eq!((made.uid(), made.gid(), made.len()), (65534, 65534, 1));
}

#[test]
fn a_terminal_stays_behind() {
    let Some(hosts) = hosts!("a_terminal_stays_behind", &[PYTHON]) else { return };
    let before = "
import pty
master, slave = pty.openpty()
os.set_inheritable(master, True)
hold()
os.close(master)
for fd in 0, 1, 2: os.dup2(slave, fd)
os.close(slave)
";
    let started = start(&hosts, before, "print('hello'); print(sys.stdin.read() == '', flush=True)");
    let log = format!("1,2=file:{}", started.path("log").display());
    let words = [
        "fd 0,1,2: the terminal /dev/pts/",
        ", whose master process ",
        " (sleep) has as fd ",
        " and stays; ",
        "--fd 0,1,2=close|null|file:PATH",
    ];
    refused(&hosts, &started, &[], &words);
    let started = moves(started, &["--fd", "0=null", "--fd", &log]);
    assert_eq!(started.text("log"), "hello\nTrue\n");
}

#[test]
fn what_is_asked_for_in_vain() {
    let Some(hosts) = hosts!("what_is_asked_for_in_vain", &[PYTHON]) else { return };
    let started = start(&hosts, PIPES, "");
    let rest = ["--fd", "8,9=close"];
    refused(&hosts, &started, &["--fd", "77=null"], &["--fd 77", "no descriptor 77"]);
    let nowhere = [&["--fd", "7=file:/nowhere/at/all"], &rest[..]].concat();
    refused(&hosts, &started, &nowhere, &["/nowhere/at/all", "--fd"]);
    moves(started, &["--fd", "7,8,9=null"]);
}

#[test]
fn a_replaced_descriptor_leaves_its_epoll() {
    let Some(hosts) = hosts!("a_replaced_descriptor_leaves_its_epoll", &[PYTHON]) else { return };
    let before = format!(
        "{PIPES}
import select
mine, yours = os.pipe()
epoll = select.epoll()
epoll.register(8, select.EPOLLIN)
epoll.register(mine, select.EPOLLIN)
"
    );
    let after = "
os.write(yours, b'x')
assert epoll.poll(5) == [(mine, select.EPOLLIN)]
";
    moves(start(&hosts, &before, after), &["--fd", "7,8,9=null"]);
}

#[test]
fn a_listener_that_another_process_has_too_moves_with_a_warning() {
    let Some(hosts) = hosts!("a_listener_that_another_process_has_too_moves_with_a_warning", &[PYTHON]) else { return };
    let before =
        "import socket\ns = socket.socket(); s.bind(('127.0.0.1', 20401)); s.listen(); s.set_inheritable(True)\nhold()";
    let started = start(&hosts, before, "");
    let report = hosts.push(started.pid, Host::Alpha, "beta", &[]).moved().unwrap_or_else(|e| panic!("{e}"));
    let warned = |words: &str| report.warnings.iter().any(|warning| warning.contains(words));
    assert!(warned("fd 3: process ") && warned("(sleep) has this TCP socket too, as fd 3"), "{:?}", report.warnings);
}

#[test]
fn a_unix_socket_of_another_process() {
    let Some(hosts) = hosts!("a_unix_socket_of_another_process", &[PYTHON]) else { return };
    let before = "
import socket
mine, theirs = socket.socketpair()
os.dup2(theirs.fileno(), 7); os.set_inheritable(7, True); theirs.close()
hold()
os.close(7)
os.dup2(mine.fileno(), 8); mine.close()
";
    let started = start(&hosts, before, "assert os.write(8, b'x') == 1");
    let words = ["fd 8", "connected to socket:[", "(sleep) has as fd 7", "--fd 8=close|null|file:PATH"];
    refused(&hosts, &started, &[], &words);
    moves(started, &["--fd", "8=null"]);
    // The same end in both.
    let before = before.replace("os.close(7)", "os.dup2(7, 9); os.close(7)");
    let started = start(&hosts, &before, "");
    refused(&hosts, &started, &["--fd", "8=close"], &["fd 9", "(sleep) has as fd 7", "--fd 9=close|null|file:PATH"]);
}

#[test]
fn a_unix_socket_to_what_is_left_behind() {
    let Some(hosts) = hosts!("a_unix_socket_to_what_is_left_behind", &[PYTHON]) else { return };
    let before = "
import socket
one, other = socket.socketpair()
os.dup2(other.fileno(), 7); other.close()
os.write(7, b'last words')
";
    let after = "
assert one.recv(100) == b'last words'
assert one.recv(100) == b''
";
    moves(start(&hosts, before, after), &["--fd", "7=close"]);
}

#[test]
fn what_nobody_has_accepted_and_cannot_be_read() {
    let Some(hosts) = hosts!("what_nobody_has_accepted_and_cannot_be_read", &[PYTHON]) else { return };
    let before = "
import socket
listener = socket.socket(socket.AF_UNIX); listener.bind('socket'); listener.listen()
client = socket.socket(socket.AF_UNIX); client.connect('socket')
client.send(b'too early')
";
    let after = "assert listener.accept()[0].recv(100) == b'too early'";
    let started = start(&hosts, before, after);
    refused(&hosts, &started, &[], &["nobody has accepted", "let the program accept it"]);
    finishes(&started);
}

#[test]
fn an_abstract_address_that_is_taken() {
    let Some(hosts) = hosts!("an_abstract_address_that_is_taken", &[PYTHON]) else { return };
    let before = "
import socket
listener = socket.socket(socket.AF_UNIX); listener.bind('socket'); listener.listen()
waiting = socket.socket(socket.AF_UNIX); waiting.connect('socket')
taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); taken.bind(b'\\0migrate taken')
taken.connect(b'\\0migrate taken'); taken.send(b'to itself')
";
    let after = "
client = socket.socket(socket.AF_UNIX); client.connect('socket')
for end in waiting, client:
    end.send(b'hello')
    assert listener.accept()[0].recv(10) == b'hello'
assert taken.recv(100) == b'to itself'
assert [name for name in os.listdir('.') if 'migrate' in name] == []
";
    let holder = "import socket, time
taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); taken.bind(b'\\0migrate taken')
open('ready', 'w').close()
time.sleep(600)";
    let directory = TempDir::new().expect("a directory");
    let holder = hosts.start(Host::Beta, directory, &[PYTHON, "-S", "-B", "-c", holder]);
    assert!(wait_for_file(&holder.path("ready"), PATIENCE).is_some(), "{}", holder.said());
    let start_it = || start(&hosts, before, after);
    let started = start_it();
    refused(&hosts, &started, &[], &["@migrate taken", "is taken on the destination by process", "(python3)"]);
    // It was taken back when nearly all had been done; here everything works as before.
    finishes(&started);
    drop(holder);
    drop(started);
    moves(start_it(), &[]);
}

#[test]
fn a_datagram_socket_that_speaks_to_another_process() {
    let Some(hosts) = hosts!("a_datagram_socket_that_speaks_to_another_process", &[PYTHON]) else { return };
    let server = "import os, socket
server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); server.bind(os.path.abspath('log'))
open('ready', 'w').close()
open('got', 'wb').write(server.recv(100))
import time; time.sleep(600)";
    let directory = TempDir::new().expect("a directory");
    // The file system is one for both, and so is what serves it.
    let server = hosts.start(Host::Alpha, directory, &[PYTHON, "-S", "-B", "-c", server]);
    assert!(wait_for_file(&server.path("ready"), PATIENCE).is_some(), "{}", server.said());
    let log = server.path("log");
    let before = format!(
        "import socket
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); log.connect('{}')",
        log.display()
    );
    let started = moves(start(&hosts, &before, "log.send(b'from there')"), &[]);
    assert_eq!(started.text("done"), "ok");
    let got = wait_for(PATIENCE, || (server.text("got") == "from there").then_some(()));
    assert!(got.is_some(), "{}", server.said());
    // Nobody has the name there.
    let moved_away = log.with_extension("old");
    let started = start(&hosts, &before, "");
    fs::rename(&log, &moved_away).expect("another name");
    refused(&hosts, &started, &[], &["connected to", "log", "cannot be had on the destination"]);
}
