//! What a program has is random, and is moved there and back: subjects that take a seed, with several. `MIGRATE_STRESS=N` makes it N
//! seeds, `MIGRATE_SEED=SEED` lets it begin with that one.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts};
use migrate_tests::waiting::wait_for_file;

const SEEDS: u64 = 5;
const MOVES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// With messages and descriptors in flight.
#[test]
fn random_graphs_of_unix_sockets_survive_moves() {
    // It has failed once: an empty packet with descriptors in what receives no more.
    let known = [1795351562000];
    let Some(hosts) = hosts!("random_graphs_of_unix_sockets_survive_moves") else { return };
    all_survive(&hosts, "unix_random", &known);
}

#[test]
fn random_sets_of_locks_survive_moves() {
    let Some(hosts) = hosts!("random_sets_of_locks_survive_moves") else { return };
    all_survive(&hosts, "lock_random", &[]);
}

/// Seeds that are known, and others every time; which one it was is in what a failure says.
fn all_survive(hosts: &Hosts, name: &str, known: &[u64]) {
    let given = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs() * 1000);
    let first = given("MIGRATE_SEED").unwrap_or_else(now);
    let others = first..first + given("MIGRATE_STRESS").unwrap_or(SEEDS);
    let why = |seed| survives(hosts, name, seed).err().map(|why| format!("seed {seed}: {why}"));
    let wrong: Vec<String> = known.iter().copied().chain(others).filter_map(why).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn survives(hosts: &Hosts, name: &str, seed: u64) -> Result<(), String> {
    let program = Path::new(env!("OUT_DIR")).join(name).display().to_string();
    let directory = tempfile::Builder::new().prefix(name).tempdir().map_err(|e| e.to_string())?;
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
