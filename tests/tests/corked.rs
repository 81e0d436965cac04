//! Data that UDP sockets hold back: what leaves which host, and when it stays.

use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started};
use migrate_tests::scripted::{PYTHON, finishes, refused, start};
use migrate_tests::waiting::{wait_for, wait_for_file};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// Where nothing is but, sometimes, a way from alpha.
const NOWHERE: &str = "198.51.100.0/24";

/// Writes each datagram that comes to port 20411 into the file `got`: how long it is, and its first and last bytes.
const WATCHER: &str = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 20411))
open('ready', 'w').close()
while True:
    data = s.recv(70000)
    with open('got', 'a') as got: got.write(f'{len(data)} {data[:4].decode()} {data[-4:].decode()}\\n')
";

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

fn watch(hosts: &Hosts, host: Host) -> Started<'_> {
    let watcher = hosts.start(host, directory(), &[PYTHON, "-S", "-B", "-c", WATCHER]);
    assert!(wait_for_file(&watcher.path("ready"), PATIENCE).is_some(), "{}", watcher.said());
    watcher
}

/// Each of them has got this in the end, and did not get anything else before: sends them a datagram that comes behind.
fn have_got(hosts: &Hosts, watchers: [(&Started<'_>, &str); 2]) {
    let last = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'last', ('127.0.0.1', 20411))";
    for (watcher, expected) in watchers {
        hosts.must(watcher.host, &[PYTHON, "-S", "-B", "-c", last]);
        let ends = || watcher.text("got").ends_with("4 last last\n").then_some(());
        assert!(wait_for(PATIENCE, ends).is_some(), "{}: {}", watcher.host, watcher.text("got"));
        assert_eq!(watcher.text("got"), format!("{expected}4 last last\n"), "{}", watcher.host);
    }
}

/// It holds back `much` bytes for this address.
fn held_for(address: &str, much: usize) -> String {
    format!(
        "
import socket
MSG_MORE = 0x8000
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
assert s.sendto(b'kept' + bytes({much} - 4), MSG_MORE, ('{address}', 20411)) == {much}
"
    )
}

const SEND_THE_REST: &str = "assert s.send(b'rest') == 4";

#[test]
fn it_is_sent_once_and_from_there() {
    let Some(hosts) = hosts!("it_is_sent_once_and_from_there", &[PYTHON]) else { return };
    let (here, there) = (watch(&hosts, Host::Alpha), watch(&hosts, Host::Beta));
    let mut started = start(&hosts, directory(), &held_for("127.0.0.1", 1000), SEND_THE_REST);
    started.move_over().unwrap_or_else(|e| panic!("{e}"));
    finishes(&started);
    have_got(&hosts, [(&here, ""), (&there, "1004 kept rest\n")]);
}

/// Between the hosts a packet is small: it holds back many. And the host that it is sent from has another address.
#[test]
fn it_comes_from_the_host_that_it_is_sent_from() {
    let Some(hosts) = hosts!("it_comes_from_the_host_that_it_is_sent_from", &[PYTHON]) else { return };
    let (here, there) = (watch(&hosts, Host::Alpha), watch(&hosts, Host::Beta));
    let mut started = start(&hosts, directory(), &held_for("10.77.0.2", 60_000), SEND_THE_REST);
    started.move_over().unwrap_or_else(|e| panic!("{e}"));
    finishes(&started);
    have_got(&hosts, [(&here, ""), (&there, "60004 kept rest\n")]);
}

#[test]
fn a_move_that_is_undone_sends_nothing() {
    let Some(hosts) = hosts!("a_move_that_is_undone_sends_nothing", &[PYTHON]) else { return };
    let (here, there) = (watch(&hosts, Host::Alpha), watch(&hosts, Host::Beta));
    let before = held_for("127.0.0.1", 1000)
        + "
lost = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
assert lost.sendto(b'lost', MSG_MORE, ('198.51.100.7', 9)) == 4
";
    hosts.must(Host::Alpha, &["ip", "route", "add", NOWHERE, "dev", "lo"]);
    let started = start(&hosts, directory(), &before, SEND_THE_REST);
    hosts.must(Host::Alpha, &["ip", "route", "del", NOWHERE, "dev", "lo"]);
    let words = ["holds back data for 198.51.100.7:9", "unreachable", "let the program send it"];
    refused(&hosts, &started, &[], &words);
    finishes(&started);
    have_got(&hosts, [(&here, "1004 kept rest\n"), (&there, "")]);
}

#[test]
fn where_nothing_tells_of_it_it_stays() {
    let Some(hosts) = hosts!("where_nothing_tells_of_it_it_stays", &[PYTHON]) else { return };
    let here = watch(&hosts, Host::Alpha);
    let there = watch(&hosts, Host::Beta);
    let started = start(&hosts, directory(), &held_for("127.0.0.1", 1000), SEND_THE_REST);
    let words =
        ["fd 3: a UDP socket with data that it holds back (UDP_CORK, MSG_MORE)", "--kernel-state leaves it out"];
    refused(&hosts, &started, &["--kernel-state", "ptrace"], &words);
    finishes(&started);
    have_got(&hosts, [(&here, "1004 kept rest\n"), (&there, "")]);
}
