//! Memory that changes at random, in every way that there is, while it is moved there and back: `subjects/mem_random.c` and
//! `subjects/mem_shared_random.c`, with several seeds. `MIGRATE_STRESS=N` makes it N seeds.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started, skipped};
use migrate_tests::waiting::wait_for_file;

const SEEDS: u64 = 3;
const MOVES: usize = 10;
/// A child that lives for a moment makes a move be refused. So often in a row it would not be chance.
const ATTEMPTS: usize = 20;
const BECAUSE_OF_A_CHILD: [&str; 2] = ["child process", "it shares memory with process"];
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn random_changes_of_memory_survive_moves() {
    survives_moves("mem_random", "random_changes_of_memory_survive_moves");
}

#[test]
fn random_changes_of_shared_memory_survive_moves() {
    survives_moves("mem_shared_random", "random_changes_of_shared_memory_survive_moves");
}

fn survives_moves(subject: &str, test: &str) {
    let program = Path::new(env!("OUT_DIR")).join(subject);
    if let Ok(why) = fs::read_to_string(program.with_extension("error")) {
        match why.strip_prefix("SKIPPED: ") {
            Some(reason) => return skipped(test, reason),
            None => panic!("{subject}.c {why}"),
        }
    }
    let Some(hosts) = hosts!(test) else { return };
    let wanted = std::env::var("MIGRATE_STRESS").ok().and_then(|n| n.parse().ok());
    // Others every time; which one it was is in what a failure says.
    let first = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs() * 1000);
    let mut wrong = Vec::new();
    for seed in first..first + wanted.unwrap_or(SEEDS) {
        wrong.extend(survives(&hosts, &program, seed).err().map(|why| format!("seed {seed}: {why}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn survives(hosts: &Hosts, program: &Path, seed: u64) -> Result<(), String> {
    let directory = tempfile::Builder::new().prefix("mem").tempdir().map_err(|e| e.to_string())?;
    let path = directory.path().display().to_string();
    let command = [&program.display().to_string(), &path, &seed.to_string()];
    let mut subject = hosts.start(Host::Alpha, directory, &command.map(String::as_str));
    wait_for_file(&subject.path("ready"), PATIENCE).ok_or("it does not get ready")?;
    for round in 1..=MOVES {
        // Comparing takes time in which the process does not run, and nothing else may go wrong: so every second time.
        let options: &[&str] = if round % 2 == 0 { &["--verify"] } else { &[] };
        move_over(&mut subject, options).map_err(|why| format!("move {round}: {why}\n{}", subject.text("result")))?;
        let said = subject.text("result");
        if !said.is_empty() {
            return Err(format!("after move {round}: {said}"));
        }
    }
    fs::write(subject.path("check"), "").map_err(|e| e.to_string())?;
    let result = wait_for_file(&subject.path("result"), PATIENCE).ok_or("it does not check itself")?;
    if result.trim() == "ok" { Ok(()) } else { Err(result) }
}

fn move_over(subject: &mut Started<'_>, options: &[&str]) -> Result<(), String> {
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        match subject.move_over_with(options) {
            Ok(_) => return Ok(()),
            Err(said) if BECAUSE_OF_A_CHILD.iter().any(|words| said.contains(words)) => why = said,
            Err(said) => return Err(said),
        }
    }
    Err(why)
}
