//! The control group of a process that arrives: a scope of its own in migrate.slice, which systemd makes when asked.
//!
//! In the agent's service it would be stopped, limited and counted with the agent.
//!
//! systemd is asked over its private socket, as `systemctl` does: it is there without a message bus, and for root alone. What is
//! said there is D-Bus (D-Bus specification, "Message Protocol"), of which the few bytes that one call needs are made here:
//! StartTransientUnit (org.freedesktop.systemd1(5)) with PID 0, which is whoever asks.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// There only where systemd runs (sd_booted(3)), and for this host's root.
const SOCKET: &str = "/run/systemd/private";

/// What systemd may take for one answer. Nothing stands still meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest message of systemd's that is read; those that matter are short.
const LONGEST: usize = 1 << 20;

/// Messages about other units that may come before the answer.
const PATIENT: usize = 10_000;

const CALL: u8 = 1;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Puts this process, and with it what it makes from now on, into the scope `unit`. Nothing happens where there is no systemd.
///
/// # Errors
/// systemd does not do it, or does not say that it did within [`PATIENCE`]. The process is where it was, then, or in the scope.
pub fn enter(unit: &str, description: &str) -> anyhow::Result<()> {
    enter_by(Path::new(SOCKET), unit, description)
}

fn enter_by(socket: &Path, unit: &str, description: &str) -> anyhow::Result<()> {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(());
        }
        Err(error) => return Err(error).with_context(|| format!("connecting to {}", socket.display())),
    };
    stream.set_read_timeout(Some(PATIENCE)).context("setting a deadline")?;
    stream.set_write_timeout(Some(PATIENCE)).context("setting a deadline")?;
    authenticate(&mut stream).context("greeting systemd")?;
    stream.write_all(&start_transient_unit(unit, description)).context("asking systemd for a scope")?;
    for _ in 0..PATIENT {
        let Message { kind, member, body } = read_message(&mut stream).context("waiting for systemd's scope")?;
        let mut body = Reader { bytes: &body, at: 0 };
        match kind {
            ERROR => bail!("systemd refuses {unit}: {}", body.text().unwrap_or_default()),
            // JobRemoved(u id, o job, s unit, s result)
            SIGNAL if member == "JobRemoved" => {
                let (Some(_), Some(_), Some(of), Some(result)) = (body.number(), body.text(), body.text(), body.text())
                else {
                    continue;
                };
                if of == unit {
                    ensure!(result == "done", "systemd does not make {unit}: {result}");
                    return Ok(());
                }
            }
            _ => {}
        }
    }
    bail!("systemd does not say what became of {unit}")
}

/// EXTERNAL: who asks is known by the socket. The user is said in hexadecimal digits of its decimal ones.
fn authenticate(stream: &mut UnixStream) -> anyhow::Result<()> {
    let user: String = nix::unistd::geteuid().to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        ensure!(line.len() < 1024, "it answers something else than D-Bus");
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    ensure!(line.starts_with(b"OK "), "it says {}", String::from_utf8_lossy(&line).trim_end());
    Ok(stream.write_all(b"BEGIN\r\n")?)
}

/// StartTransientUnit(s name, s mode, a(sv) properties, a(sa(sv)) others)
fn start_transient_unit(unit: &str, description: &str) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(unit);
    body.text("fail");
    body.array(8, |properties| {
        let mut property = |name: &str, signature: &str, value: &dyn Fn(&mut Writer)| {
            properties.align(8);
            properties.text(name);
            properties.signature(signature);
            value(properties);
        };
        property("Description", "s", &|w| w.text(description));
        property("Slice", "s", &|w| w.text("migrate.slice"));
        property("PIDs", "au", &|w| w.array(4, |pids| pids.number(0)));
        // Its own limits come with it.
        property("TasksMax", "t", &|w| w.long(u64::MAX));
        // One that was killed leaves nothing behind.
        property("CollectMode", "s", &|w| w.text("inactive-or-failed"));
    });
    body.array(8, |_| {});
    let mut message = Writer::default();
    message.bytes.extend([b'l', CALL, 0, 1]);
    message.number(body.bytes.len() as u32);
    message.number(1);
    message.array(8, |fields| {
        for (code, signature, value) in [
            (1, "o", "/org/freedesktop/systemd1"),
            (2, "s", "org.freedesktop.systemd1.Manager"),
            (3, "s", "StartTransientUnit"),
            (6, "s", "org.freedesktop.systemd1"),
        ] {
            fields.align(8);
            fields.bytes.push(code);
            fields.signature(signature);
            fields.text(value);
        }
        fields.align(8);
        fields.bytes.push(8);
        fields.signature("g");
        fields.signature("ssa(sv)a(sa(sv))");
    });
    message.align(8);
    message.bytes.extend(body.bytes);
    message.bytes
}

struct Message {
    kind: u8,
    member: String,
    body: Vec<u8>,
}

fn read_message(stream: &mut impl Read) -> anyhow::Result<Message> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed)?;
    ensure!(fixed[0] == b'l', "a message that is not little-endian");
    let mut header = Reader { bytes: &fixed, at: 4 };
    let (body, _, fields) = (header.number(), header.number(), header.number());
    let (body, fields) = (body.unwrap_or(0) as usize, fields.unwrap_or(0) as usize);
    ensure!(body <= LONGEST && fields <= LONGEST, "a message of {body} bytes");
    let mut bytes = vec![0; fields.next_multiple_of(8) + body];
    stream.read_exact(&mut bytes)?;
    let body = bytes.split_off(fields.next_multiple_of(8));
    Ok(Message { kind: fixed[1], member: member(&bytes).unwrap_or_default(), body })
}

/// The field MEMBER (3); the values of the others that come before it are texts, signatures and numbers.
fn member(fields: &[u8]) -> Option<String> {
    let mut fields = Reader { bytes: fields, at: 0 };
    loop {
        fields.align(8);
        let code = fields.byte()?;
        let signature = fields.signature()?;
        match signature.as_str() {
            "s" | "o" if code == 3 => return fields.text(),
            "s" | "o" => drop(fields.text()?),
            "g" => drop(fields.signature()?),
            "u" => drop(fields.number()?),
            _ => return None,
        }
    }
}

/// Values as D-Bus lays them out.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn long(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    fn text(&mut self, value: &str) {
        self.number(value.len() as u32);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, value: &str) {
        self.bytes.push(value.len() as u8);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    /// An array of elements that are aligned to `to`; its length does not count what aligns the first one.
    fn array(&mut self, to: usize, elements: impl FnOnce(&mut Writer)) {
        self.number(0);
        let length_at = self.bytes.len() - 4;
        self.align(to);
        let begin = self.bytes.len();
        elements(self);
        let length = (self.bytes.len() - begin) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }
}

/// Reads what a [`Writer`] may have written; None: it is not there.
struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).and_then(|bytes| bytes.first().copied())
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.ended(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.ended(length)
    }

    fn ended(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1).map(|_| text)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A message of systemd's, with a body that `body` writes.
    fn message(kind: u8, member: &str, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut content = Writer::default();
        body(&mut content);
        let mut message = Writer::default();
        message.bytes.extend([b'l', kind, 0, 1]);
        message.number(content.bytes.len() as u32);
        message.number(7);
        message.array(8, |fields| {
            fields.bytes.push(5);
            fields.signature("u");
            fields.number(1);
            fields.align(8);
            fields.bytes.push(3);
            fields.signature("s");
            fields.text(member);
        });
        message.align(8);
        message.bytes.extend(content.bytes);
        message.bytes
    }

    fn job_removed(unit: &str, result: &str) -> Vec<u8> {
        message(SIGNAL, "JobRemoved", |body| {
            body.number(3);
            body.text("/org/freedesktop/systemd1/job/3");
            body.text(unit);
            body.text(result);
        })
    }

    /// What entering comes to when systemd answers `answers`; and what it was asked.
    fn ask(answers: Vec<Vec<u8>>) -> (anyhow::Result<()>, Vec<u8>) {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("private");
        let listener = UnixListener::bind(&socket).expect("bound");
        let systemd = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut greeting = vec![0; "\0AUTH EXTERNAL \r\n".len() + 2 * nix::unistd::geteuid().to_string().len()];
            stream.read_exact(&mut greeting).expect("a greeting");
            stream.write_all(b"OK 0123456789abcdef\r\n").expect("written");
            let mut asked = vec![0; "BEGIN\r\n".len() + start_transient_unit("m.scope", "it").len()];
            stream.read_exact(&mut asked).expect("a call");
            for answer in answers {
                stream.write_all(&answer).expect("written");
            }
            asked.split_off("BEGIN\r\n".len())
        });
        let entered = enter_by(&socket, "m.scope", "it");
        (entered, systemd.join().expect("systemd's side"))
    }

    #[test]
    fn it_is_in_when_the_job_is_done() {
        let reply = message(2, "", |body| body.text("/org/freedesktop/systemd1/job/3"));
        let other = message(SIGNAL, "UnitNew", |body| body.text("m.scope"));
        let (entered, asked) =
            ask(vec![job_removed("x.scope", "failed"), reply, other, job_removed("m.scope", "done")]);
        entered.expect("in");
        assert_eq!(read_message(&mut &asked[..]).expect("a message").member, "StartTransientUnit");
    }

    #[test]
    fn what_systemd_says_against_it_is_told() {
        let error = message(ERROR, "", |body| body.text("Unit m.scope already exists."));
        assert!(ask(vec![error]).0.expect_err("refused").to_string().contains("already exists"));
        let failed = ask(vec![job_removed("m.scope", "failed")]).0.expect_err("failed");
        assert!(failed.to_string().contains("m.scope: failed"), "{failed}");
        assert!(ask(vec![]).0.is_err(), "closed");
    }

    #[test]
    fn where_there_is_no_systemd_nothing_happens() {
        enter_by(Path::new("/nonexistent/private"), "m.scope", "it").expect("nothing to do");
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [
            vec![b'B'; 16],
            vec![b'l'; 16],
            b"l\x04\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0".to_vec(),
            vec![b'l', 4, 0, 1],
        ] {
            assert!(read_message(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
        let cut = job_removed("m.scope", "done");
        for length in 16..cut.len() {
            let _ = read_message(&mut &cut[..length]);
            let _ = member(&cut[16..length]);
        }
    }
}
