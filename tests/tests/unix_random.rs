//! Random graphs of unix sockets, with messages and descriptors in flight, moved there and back: `subjects/unix_random.c` with several
//! seeds. `MIGRATE_STRESS=N` makes it N seeds.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts};
use migrate_tests::waiting::wait_for_file;

const SEEDS: u64 = 5;
const MOVES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn random_graphs_of_unix_sockets_survive_moves() {
    let Some(hosts) = hosts!("random_graphs_of_unix_sockets_survive_moves") else { return };
    let wanted = std::env::var("MIGRATE_STRESS").ok().and_then(|n| n.parse().ok());
    // Others every time; which one it was is in what a failure says.
    let first = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs() * 1000);
    let mut wrong = Vec::new();
    for seed in first..first + wanted.unwrap_or(SEEDS) {
        wrong.extend(survives(&hosts, seed).err().map(|why| format!("seed {seed}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn survives(hosts: &Hosts, seed: u64) -> Result<(), String> {
    let program = Path::new(env!("OUT_DIR")).join("unix_random").display().to_string();
    let directory = tempfile::Builder::new().prefix("unix").tempdir().map_err(|e| e.to_string())?;
    let path = directory.path().display().to_string();
    let mut subject = hosts.start(Host::Alpha, directory, &[&program, &path, &seed.to_string()]);
    wait_for_file(&subject.path("ready"), PATIENCE).ok_or("it does not get ready")?;
    for round in 1..=MOVES {
        subject.move_over().map_err(|why| format!("move {round}: {why}\n{}", subject.said()))?;
    }
    fs::write(subject.path("check"), "").map_err(|e| e.to_string())?;
    let result = wait_for_file(&subject.path("result"), PATIENCE).ok_or("it does not check itself")?;
    if result.trim() == "ok" { Ok(()) } else { Err(result) }
}
