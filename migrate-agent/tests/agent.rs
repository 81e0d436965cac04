//! The daemon from outside: its clients, its peers, and those who mean it ill.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use migrate_core::plan::{Options, Plan};
use migrate_core::protocol::connection::Connection;
use migrate_core::protocol::local::{AgentStatus, LocalReply, LocalRequest};
use migrate_core::protocol::preamble::{MigrationId, PREAMBLE_LENGTH, PROTOCOL_VERSION, PreambleError, Purpose, greet};
use migrate_core::protocol::question::{Answer, ask};

struct Agent {
    process: Child,
    socket: PathBuf,
    address: String,
    _directory: tempfile::TempDir,
}

fn command(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migrate-agent"));
    command.args(["--listen", "127.0.0.1:0", "--log", "warn", "--socket"]).arg(socket).stdin(Stdio::null());
    command
}

/// None, and a word on standard error, where an agent cannot run.
fn agent() -> Option<Agent> {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("run/agent.sock");
    let mut process = command(&socket).spawn().expect("started");
    loop {
        if let Some(status) = status_of(&socket) {
            return Some(Agent { process, socket, address: status.listen, _directory: directory });
        }
        if let Some(status) = process.try_wait().expect("waited") {
            let root = fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
            assert!(!root, "the agent ended with {status}");
            eprintln!("SKIPPED: an agent needs root");
            return None;
        }
        sleep(Duration::from_millis(5));
    }
}

fn status_of(socket: &Path) -> Option<AgentStatus> {
    let mut client = Connection::new(UnixStream::connect(socket).ok()?);
    client.send(&LocalRequest::Status).ok()?;
    match client.receive().ok()? {
        LocalReply::Status(status) => Some(status),
        other => panic!("{other:?}"),
    }
}

impl Agent {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a deadline");
        stream
    }

    fn status(&self) -> AgentStatus {
        status_of(&self.socket).expect("it answers")
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("its descriptors").count()
    }

    fn terminate(&mut self) -> std::process::ExitStatus {
        let done = Command::new("kill").arg(self.process.id().to_string()).status().expect("kill");
        assert!(done.success());
        self.process.wait().expect("waited")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until `what` holds.
fn soon(what: impl Fn() -> bool) {
    let begin = Instant::now();
    while !what() {
        assert!(begin.elapsed() < Duration::from_secs(15), "it does not happen");
        sleep(Duration::from_millis(10));
    }
}

/// That the peer closes, and nothing more comes.
fn assert_closes(mut stream: TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert_eq!(rest, []),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

fn refused(code: i32, command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().expect("run");
    assert_eq!(status.code(), Some(code));
    String::from_utf8(stderr).expect("text")
}

#[test]
fn a_push_is_answered_by_events_and_a_report() {
    let Some(agent) = agent() else { return };
    // No process has this number (proc(5), pid_max is 2^22 at most).
    let plan = Plan { pid: i32::MAX, host: "127.0.0.1:1".into(), options: Options::default() };
    let mut client = Connection::new(UnixStream::connect(&agent.socket).expect("connected"));
    client.send(&LocalRequest::Push(plan)).expect("sent");
    let report = loop {
        match client.receive().expect("a reply") {
            LocalReply::Event(_) => {}
            LocalReply::Report(report) => break *report,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((report.pid, report.exit_status()), (i32::MAX, 1));
    assert_eq!(agent.status().leaving, []);
    assert!(client.receive::<LocalReply>().expect_err("the end").is_closed());
}

#[test]
fn a_client_that_talks_nonsense_hurts_nobody() {
    let Some(agent) = agent() else { return };
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], b"x"]
    {
        let mut client = UnixStream::connect(&agent.socket).expect("connected");
        client.write_all(nonsense).expect("written");
    }
    agent.status();
}

#[test]
fn the_socket_is_its_owners_and_a_stale_one_is_replaced() {
    let Some(mut first) = agent() else { return };
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&first.socket), 0o600);
    assert_eq!(mode(first.socket.parent().expect("a directory")), 0o700);
    let error = refused(1, &mut command(&first.socket));
    assert!(error.contains("another agent answers at"), "{error}");

    assert!(first.terminate().success());
    assert!(!first.socket.exists(), "it removes its socket");
    drop(UnixListener::bind(&first.socket).expect("a stale socket"));
    let mut second = command(&first.socket).spawn().expect("started");
    soon(|| status_of(&first.socket).is_some());
    second.kill().expect("killed");
    second.wait().expect("waited");

    let file = first.socket.with_file_name("file");
    fs::write(&file, "precious").expect("written");
    let error = refused(1, &mut command(&file));
    assert!(error.contains("no socket") && file.exists(), "{error}");
}

#[test]
fn a_network_address_needs_a_word() {
    let directory = tempfile::tempdir().expect("a directory");
    if agent().is_none() {
        return;
    }
    let mut agent = Command::new(env!("CARGO_BIN_EXE_migrate-agent"));
    let error = refused(2, agent.args(["--listen", "0.0.0.0:0", "--socket"]).arg(directory.path().join("sock")));
    assert!(error.contains("can start processes as root") && error.contains("--insecure"), "{error}");
}

#[test]
fn a_taken_port_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    if agent().is_none() {
        return;
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("bound").to_string();
    let socket = directory.path().join("sock");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_migrate-agent"));
    let error = refused(1, agent.args(["--listen", &address, "--socket"]).arg(&socket));
    assert!(error.contains(&address) && error.contains("another agent"), "{error}");
    assert!(!socket.exists());
}

#[test]
fn another_version_is_told_ours() {
    let Some(agent) = agent() else { return };
    let mut stream = agent.connect();
    let mut theirs = *b"MIGRATE\0\x63\0\0\0\x01\0\0\0................";
    stream.write_all(&theirs).expect("written");
    stream.read_exact(&mut theirs).expect("an answer");
    assert_eq!(theirs[..8], *b"MIGRATE\0");
    assert_eq!(theirs[8..12], PROTOCOL_VERSION.to_le_bytes());
    assert_closes(stream);
}

#[test]
fn strangers_and_pages_of_nothing_are_turned_away() {
    let Some(agent) = agent() else { return };
    for bytes in [&[0_u8; PREAMBLE_LENGTH][..], b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", &[0xff; 100]] {
        let mut stream = agent.connect();
        stream.write_all(bytes).expect("written");
        assert_closes(stream);
    }
    for purpose in [Purpose::Pages, Purpose::Busy] {
        let answer = greet(&mut agent.connect(), purpose, MigrationId([9; 16]));
        assert!(matches!(answer, Err(PreambleError::Closed)), "{purpose:?} {answer:?}");
    }
    agent.status();
}

#[test]
fn a_question_about_nothing_is_answered() {
    let Some(agent) = agent() else { return };
    let address = agent.address.parse().expect("an address");
    let answer = ask(address, MigrationId([9; 16]), Duration::from_secs(5)).expect("an answer");
    assert_eq!(answer, Answer::Unknown);
}

#[test]
fn a_control_connection_is_served_by_a_process_that_ends_with_it() {
    let Some(agent) = agent() else { return };
    let before = agent.descriptors();
    for n in 0..4 {
        let id = MigrationId([n; 16]);
        let mut control = agent.connect();
        greet(&mut control, Purpose::Control, id).expect("served");
        drop(control);
        soon(|| agent.status().arriving.is_empty());
    }
    soon(|| agent.descriptors() <= before);
}

#[test]
fn a_storm_of_half_preambles_passes() {
    let Some(agent) = agent() else { return };
    let before = agent.descriptors();
    let storm: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = agent.connect();
            stream.write_all(b"MIGRATE\0").expect("written");
            stream
        })
        .collect();
    agent.status();
    assert!(agent.descriptors() <= before + 256 + 4, "no more than 256 are held");
    // Those who wait are let in when the storm's deadline has passed.
    greet(&mut agent.connect(), Purpose::Control, MigrationId([1; 16])).expect("served in the end");
    drop(storm);
    soon(|| agent.descriptors() <= before);
}

/// It makes no difference to start it again: systemd is told by the exit status.
#[test]
fn a_configuration_that_makes_no_sense_is_wrong_usage() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("agent.toml");
    fs::write(&file, "log = \"warn\"\nlisten-on = \"127.0.0.1:0\"\n").expect("written");
    let error = refused(2, Command::new(env!("CARGO_BIN_EXE_migrate-agent")).arg("--config").arg(&file));
    assert!(error.contains("agent.toml") && error.contains("listen-on") && error.contains("line 2"), "{error}");
}

#[test]
fn receive_is_not_for_people() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migrate-agent"));
    let command = command.args(["receive", "--id", "00112233445566778899aabbccddeeff"]).stdin(Stdio::null());
    let error = refused(1, command);
    assert!(error.contains("for the agent itself"), "{error}");
}
