//! `check`: whether a process could move, and with `--profile` what that would take.

use std::io::{self, IsTerminal, Write};
use std::process::{self, ExitCode};

use indicatif::HumanBytes;
use migrate_core::cancel::Cancel;
use migrate_core::phase::display_duration;
use migrate_core::phases::check::{self, Check, Expected};
use migrate_core::plan::Options;
use migrate_core::profile::{self, Profile};
use serde_json::{Value, json};

use crate::arguments;
use crate::interrupt;
use crate::profile_text;
use crate::replacement::by_number;

/// Looks, and says what was found.
pub fn run(wanted: &arguments::Check) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    // A closed pipe changes nothing.
    let options = Options {
        fds: by_number(&wanted.fds),
        bandwidth: wanted.bandwidth,
        max_downtime: wanted.max_downtime,
        kernel_state: wanted.kernel_state.into(),
        ..Options::default()
    };
    let cancel = Cancel::default();
    if wanted.profile.is_some()
        && let Err(error) = watch_signals(cancel.clone())
    {
        let _ = writeln!(err, "migrate-cli: taking over Ctrl-C: {error}");
        return ExitCode::FAILURE;
    }
    let checked = check::check(wanted.pid, wanted.host.as_deref(), &options).and_then(|check| {
        let profile = wanted.profile.map(|time| {
            if io::stderr().is_terminal() {
                let _ = writeln!(err, "watching {} for {} s; Ctrl-C ends that", wanted.pid, time.as_secs_f64());
            }
            profile::profile(wanted.pid, wanted.host.as_deref(), &options, time, &cancel)
        });
        Ok((check, profile.transpose()?))
    });
    match checked {
        Err(why) => {
            let _ = writeln!(err, "migrate-cli: {} cannot move: {why}", wanted.pid);
            ExitCode::FAILURE
        }
        Ok((check, profile)) => {
            let _ = match wanted.json {
                true => writeln!(out, "{}", to_json(&check, profile.as_ref())),
                false => {
                    let profile = profile.as_ref().map_or(String::new(), profile_text::text);
                    write!(out, "{}{profile}", text(&check))
                }
            };
            let ended = profile.is_some_and(|profile| profile.process_ended);
            if check.refused.is_empty() && !ended { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// The first Ctrl-C ends the profile, another one this program.
fn watch_signals(cancel: Cancel) -> nix::Result<()> {
    interrupt::take_over(move || {
        if cancel.check().is_err() {
            process::exit(130);
        }
        cancel.cancel("it was interrupted");
    })
}

/// What scripts read. The names are promised: none goes, none changes its meaning.
fn to_json(check: &Check, profile: Option<&Profile>) -> Value {
    let mut object = json!({
        "pid": check.pid,
        "name": check.name,
        "host": check.host,
        "verdict": check.verdict(),
        "moves": check.moves,
        "losses": check.losses,
        "refused": check.refused,
        "expected": check.expected,
    });
    if let (Some(profile), Some(object)) = (profile, object.as_object_mut()) {
        object.insert("profile".into(), json!(profile));
    }
    object
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
    if let Some(Expected { bytes, rounds, downtime_us, computing, kernel_state }) = &check.expected {
        text += &format!(
            "\nexpected: {} of memory in {rounds} rounds or more; it stands still for about {}\n",
            HumanBytes(*bytes),
            display_duration(*downtime_us)
        );
        text += &format!("what the kernel knows of threads is read by: {kernel_state}\n");
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
            expected: Some(Expected {
                bytes: 1 << 20,
                rounds: 2,
                downtime_us: 4000,
                computing: 0.0,
                kernel_state: "kmod",
            }),
        }
    }

    #[test]
    fn a_verdict_comes_first() {
        assert_eq!(
            text(&found()),
            "4242 (python3) can move to beta\n\nmoves:\n  pipe  fd 3\n\n\
             expected: 1.00 MiB of memory in 2 rounds or more; it stands still for about 4.0 ms\n\
             what the kernel knows of threads is read by: kmod\n"
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
        assert_eq!(to_json(&check, None)["verdict"], "refused");
    }
}
