//! FIFOs, which others find by their names: another process that has one, here or there, and one that is another FIFO on the destination.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts};
use migrate_tests::scripted::{PYTHON, finishes, refused, start};
use migrate_tests::waiting::wait_for_file;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A file system of its own in beta, at a directory, until it is dropped.
struct Apart<'h> {
    hosts: &'h Hosts,
    at: PathBuf,
}

impl<'h> Apart<'h> {
    fn new(hosts: &'h Hosts, at: PathBuf) -> Apart<'h> {
        fs::create_dir(&at).expect("a directory");
        hosts.must(Host::Beta, &["mount", "-t", "tmpfs", "apart", &at.display().to_string()]);
        Apart { hosts, at }
    }

    fn make_fifo(&self) {
        self.hosts.must(Host::Beta, &["mkfifo", &self.at.join("fifo").display().to_string()]);
    }
}

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        // The process may still have it open.
        self.hosts.exec(Host::Beta, &["umount".as_ref(), "--lazy".as_ref(), self.at.as_os_str()]);
    }
}

#[test]
fn one_that_another_process_has() {
    let Some(hosts) = hosts!("one_that_another_process_has", &[PYTHON]) else { return };
    let before = "
os.mkfifo('fifo')
first = os.open('fifo', os.O_RDWR)
os.dup2(first, 7)
os.close(first)
";
    let started = start(&hosts, TempDir::new().expect("a directory"), before, "assert os.write(7, b'one') == 3");
    let fifo = started.path("fifo").display().to_string();
    let holder = format!("exec 9<>{fifo} && touch {fifo}.held && exec sleep 600");
    let other = hosts.start(Host::Alpha, TempDir::new().expect("a directory"), &["sh", "-c", &holder]);
    assert!(wait_for_file(&started.path("fifo.held"), PATIENCE).is_some(), "{}", other.said());
    let named = format!("the FIFO {fifo}, which process {} (", other.pid);
    refused(&hosts, &started, &[], &[&named, ") has open as fd 9 and stays; ", "--fd 7=close|null|file:PATH"]);
    let mut started = started;
    started.move_over_with(&["--fd", "7=null"]).unwrap_or_else(|e| panic!("{e}"));
    finishes(&started);
}

#[test]
fn one_that_is_another_there() {
    let Some(hosts) = hosts!("one_that_is_another_there", &[PYTHON]) else { return };
    let directory = TempDir::new().expect("a directory");
    let apart = Apart::new(&hosts, directory.path().join("apart"));
    let before = "
import fcntl, select
os.mkfifo('apart/fifo')
reader = os.open('apart/fifo', os.O_RDONLY | os.O_NONBLOCK)
writer = os.open('apart/fifo', os.O_WRONLY)
fcntl.fcntl(writer, 1031, 1 << 18)
fcntl.fcntl(writer, fcntl.F_SETFL, os.O_DIRECT)
os.write(writer, b'first')
os.write(writer, b'packet')
os.mkfifo('apart/waits')
waits = os.open('apart/waits', os.O_RDONLY | os.O_NONBLOCK)
os.mkfifo('apart/unread')
first = os.open('apart/unread', os.O_RDONLY | os.O_NONBLOCK)
unread = os.open('apart/unread', os.O_WRONLY)
os.write(unread, b'unread')
os.close(first)
";
    let after = "
for fd in reader, writer:
    ours, named = os.fstat(fd), os.stat('apart/fifo')
    assert (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino), (ours, named)
assert fcntl.fcntl(reader, 1032) == 1 << 18
assert os.read(reader, 100) == b'first'
assert os.read(reader, 2) == b'pa'
try:
    assert not os.read(reader, 100)
except BlockingIOError: pass
asked = select.poll(); asked.register(waits)
assert asked.poll(0) == []
late = os.open('apart/unread', os.O_RDONLY | os.O_NONBLOCK)
assert os.read(late, 100) == b'unread'
";
    let mut started = start(&hosts, directory, before, after);
    refused(&hosts, &started, &[], &["apart/fifo is missing there; make it there (mkfifo), or share the file system"]);
    apart.make_fifo();
    for other in ["waits", "unread"] {
        hosts.must(Host::Beta, &["mkfifo", &apart.at.join(other).display().to_string()]);
    }
    // Somebody there reads from it.
    let fifo = apart.at.join("fifo").display().to_string();
    let holder = format!("exec 9<>{fifo} && touch held && exec sleep 600");
    let other = hosts.start(Host::Beta, TempDir::new().expect("a directory"), &["sh", "-c", &holder]);
    assert!(wait_for_file(&other.path("held"), PATIENCE).is_some(), "{}", other.said());
    refused(&hosts, &started, &[], &[&format!("another process on this host has the FIFO {fifo} open")]);
    drop(other);
    started.move_over().unwrap_or_else(|e| panic!("{e}"));
    finishes(&started);
}

#[test]
fn one_that_is_something_else_there() {
    let Some(hosts) = hosts!("one_that_is_something_else_there", &[PYTHON]) else { return };
    let directory = TempDir::new().expect("a directory");
    let apart = Apart::new(&hosts, directory.path().join("apart"));
    let before = "
os.mkfifo('apart/fifo')
both = os.open('apart/fifo', os.O_RDWR)
os.write(both, b'content')
";
    let started = start(&hosts, directory, before, "assert os.read(both, 100) == b'content'");
    hosts.must(Host::Beta, &["touch", &apart.at.join("fifo").display().to_string()]);
    refused(&hosts, &started, &[], &["apart/fifo is a regular file there"]);
    finishes(&started);
}
