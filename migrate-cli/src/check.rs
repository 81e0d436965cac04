//! `check`: whether a process could move.

use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::HumanBytes;
use migrate_core::phase::display_duration;
use migrate_core::phases::check::{self, Check, Expected};
use migrate_core::plan::Options;
use serde_json::{Value, json};

use crate::arguments;
use crate::replacement::by_number;

/// Looks, and says what was found.
pub fn run(wanted: &arguments::Check) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    // A closed pipe changes nothing.
    let options = Options { fds: by_number(&wanted.fds), ..Options::default() };
    match check::check(wanted.pid, wanted.host.as_deref(), &options) {
        Err(why) => {
            let _ = writeln!(err, "migrate-cli: {} cannot move: {why}", wanted.pid);
            ExitCode::FAILURE
        }
        Ok(check) => {
            let _ = match wanted.json {
                true => writeln!(out, "{}", to_json(&check)),
                false => write!(out, "{}", text(&check)),
            };
            if check.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// What scripts read. The names are promised: none goes, none changes its meaning.
fn to_json(check: &Check) -> Value {
    json!({
        "pid": check.pid,
        "name": check.name,
        "host": check.host,
        "verdict": check.verdict(),
        "moves": check.moves,
        "losses": check.losses,
        "refused": check.refused,
        "expected": check.expected,
    })
}

fn text(check: &Check) -> String {
    let place = check.host.as_ref().map_or(String::new(), |host| format!(" to {host}"));
    let verdict = match check.verdict() {
        "moves" => "can move",
        "moves-with-loss" => "can move, and loses something",
        _ => "cannot move",
    };
    let mut text = format!("{} ({}) {verdict}{place}\n\nmoves:\n", check.pid, check.name);
    let width = check.moves.iter().map(|r| r.kind.len()).max().unwrap_or(0);
    for resource in &check.moves {
        text += &format!("  {:width$}  {}\n", resource.kind, resource.what);
    }
    for (title, lines) in [("is lost:", &check.losses), ("cannot move:", &check.refused)] {
        if !lines.is_empty() {
            text += &format!("\n{title}\n{}", lines.iter().map(|line| format!("  {line}\n")).collect::<String>());
        }
    }
    if let Some(Expected { bytes, rounds, downtime_us, computing }) = &check.expected {
        text += &format!(
            "\nexpected: {} of memory in {rounds} rounds or more; it stands still for about {}\n",
            HumanBytes(*bytes),
            display_duration(*downtime_us)
        );
        if *computing > 0.0 {
            text += &format!(
                "It keeps {computing} processors busy: what it changes while it is copied goes again, and adds to that.\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use migrate_core::phases::check::Resource;

    use super::*;

    fn found() -> Check {
        Check {
            pid: 4242,
            name: "python3".into(),
            host: Some("beta".into()),
            moves: vec![Resource { kind: "pipe", what: "fd 3".into() }],
            losses: Vec::new(),
            refused: Vec::new(),
            expected: Some(Expected { bytes: 1 << 20, rounds: 2, downtime_us: 4000, computing: 0.0 }),
        }
    }

    #[test]
    fn a_verdict_comes_first() {
        assert_eq!(
            text(&found()),
            "4242 (python3) can move to beta\n\nmoves:\n  pipe  fd 3\n\n\
             expected: 1.00 MiB of memory in 2 rounds or more; it stands still for about 4.0 ms\n"
        );
        let busy = Check { expected: Some(Expected { computing: 1.5, ..found().expected.expect("one") }), ..found() };
        assert!(text(&busy).ends_with(
            "It keeps 1.5 processors busy: what it changes while it is copied goes again, and adds to that.\n"
        ));
    }

    #[test]
    fn every_reason_is_told() {
        let refused = vec!["fd 7: a socket".to_string(), "it has 1 child process".to_string()];
        let check = Check { losses: vec!["a terminal".into()], refused, expected: None, host: None, ..found() };
        assert_eq!(
            text(&check),
            "4242 (python3) cannot move\n\nmoves:\n  pipe  fd 3\n\nis lost:\n  a terminal\n\ncannot move:\n  fd 7: a socket\n  it has 1 child process\n"
        );
        assert_eq!(to_json(&check)["verdict"], "refused");
    }
}
