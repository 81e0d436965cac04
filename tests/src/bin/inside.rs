//! What the harness runs inside a host: `inside snapshot PID`, `find MARK`, `end MARK`, `occupy PID`, `answer PORT VERSION`,
//! `number FIRST LAST`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use migrate_tests::marked;
use migrate_tests::snapshot::Snapshot;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["snapshot", pid] => {
            let snapshot = Snapshot::take(pid.parse()?).with_context(|| format!("process {pid}"))?;
            println!("{}", serde_json::to_string(&snapshot)?);
        }
        ["find", mark] => marked::find(mark).iter().for_each(|pid| println!("{pid}")),
        ["end", mark] => marked::end(mark),
        ["occupy", pid] => occupy(pid.parse()?)?,
        ["answer", port, version] => answer(port.parse()?, version.parse()?)?,
        ["number", first, last] => number(first.parse()?, last.parse()?)?,
        _ => bail!(
            "usage: inside snapshot PID | find MARK | end MARK | occupy PID | answer PORT VERSION | number FIRST LAST"
        ),
    }
    Ok(())
}

const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Has new PIDs begin anew with `first` once they are beyond `last`.
fn number(first: u32, last: u32) -> Result<()> {
    let now: u32 = fs::read_to_string(LAST_PID).context("ns_last_pid")?.trim().parse()?;
    if !(first..last).contains(&now) {
        fs::write(LAST_PID, first.to_string()).context("ns_last_pid")?;
    }
    Ok(())
}

/// Starts `sleep` under a PID of choice, and leaves it running.
fn occupy(pid: u32) -> Result<()> {
    for _ in 0..50 {
        fs::write(LAST_PID, (pid - 1).to_string()).context("ns_last_pid")?;
        let mut sleep = Command::new("sleep");
        sleep.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = sleep.spawn().context("sleep")?;
        if child.id() == pid {
            println!("{pid}");
            return Ok(());
        }
        child.kill()?;
        child.wait()?;
    }
    bail!("PID {pid} is not to be had")
}

/// Answers one connection as an agent of another version does: with its own preamble.
fn answer(port: u16, version: u32) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("listening");
    let (mut peer, _) = listener.accept()?;
    let mut preamble = [0; 32];
    peer.read_exact(&mut preamble)?;
    ensure!(preamble.starts_with(b"MIGRATE\0"), "no preamble: {preamble:?}");
    preamble[8..12].copy_from_slice(&version.to_le_bytes());
    peer.write_all(&preamble)?;
    Ok(())
}
