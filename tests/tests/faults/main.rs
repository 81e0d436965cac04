//! Nothing is ever lost: at every numbered fault point, on either side, a migration fails, is killed or loses its connection, and
//! afterwards the process runs on exactly one of two hosts, not traced, with its state right, and nothing half made is left.

mod hosts;
mod meanwhile;
mod sysv_ipc;

use std::collections::BTreeSet;

use hosts::{Host, Subject, Work};
use migrate_core::fault::{FIRST_THERE, POINTS};
use migrate_tests::moves::Pushed;

/// Where the process may be afterwards.
fn allowed(point: u32, action: &str) -> &'static [Host] {
    match (point, action) {
        // The connection is lost while the destination is being told: whoever comes first decides.
        (10, _) | (27 | 28, "cut") => &[Host::Alpha, Host::Beta],
        (11, _) => &[Host::Beta],
        (29.., _) => &[Host::Beta],
        _ => &[Host::Alpha],
    }
}

/// What the process is before and afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Usual,
    /// By job control.
    Stopped,
    /// Its first thread has ended.
    WithoutFirst,
}

/// Runs one case; Err says what was wrong.
fn case(work: &Work, point: u32, action: &str, is: Is) -> Result<Host, String> {
    let there = point >= FIRST_THERE;
    let fault = format!("{point}:{action}");
    let subject = Subject::start(work, &format!("{}-{is:?}", fault.replace(':', "-")))?;
    match is {
        Is::Usual => {}
        Is::Stopped => subject.stop()?,
        Is::WithoutFirst => subject.tell("first")?,
    }
    if there {
        Host::Beta.restart_agent(Some(&fault))?;
    }
    let log_before = Host::Beta.log().len();
    let said = match there {
        true => subject.push_in_background(None)?,
        false => subject.push_in_background(Some(&fault))?,
    };
    if action == "kill-both" {
        // The source asks meanwhile, and must wait for the agent's return.
        hosts::soon(10, || !Host::Beta.agent_lives()).map_err(|()| "the agent was not killed")?;
        Host::Beta.restart_agent(None)?;
    }
    let said = said.wait()?;
    let reached = match there {
        true => Host::Beta.log()[log_before..].to_string(),
        false => said.clone(),
    };
    if !reached.contains(&format!("fault point {point} (")) {
        return Err(format!("the point was not reached: {said}"));
    }
    attributed(&said)?;
    if is == Is::Stopped {
        // By then whoever settles what the dead have left has looked.
        let seconds = if action == "error" { 1 } else { 7 };
        subject.stands_once(seconds).map_err(|why| format!("{why}; push said: {said}"))?;
    }
    let host = subject.runs_once().map_err(|why| format!("{why}; push said: {said}"))?;
    if !allowed(point, action).contains(&host) {
        return Err(format!("it runs on {host:?}; push said: {said}"));
    }
    subject.check()?;
    hosts::nothing_left()?;
    Ok(host)
}

/// However it went, the report's steps of standing still are all of the downtime. A push that was killed reports nothing.
fn attributed(said: &str) -> Result<(), String> {
    match Pushed::new(0, said.into(), String::new()).report {
        Some(report) if report.standing_us() != report.downtime_us.unwrap_or(0) => Err(format!("{report:?}")),
        _ => Ok(()),
    }
}

fn run(points: impl Iterator<Item = (u32, &'static str)>, actions: &[&str], is: Is) {
    let Some(work) = Work::new() else { return };
    let mut failed = BTreeSet::new();
    for (point, place) in points {
        for action in actions {
            match case(&work, point, action, is) {
                Ok(host) => println!("{point} ({place}), {action}: it runs on {host:?}"),
                Err(why) => {
                    println!("{point} ({place}), {action}: FAILED: {why}");
                    failed.insert(format!("{point}:{action}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// The destination's agent dies at `point` and does not come back in time. Then the operator settles it by hand.
fn doubt(point: u32, word: &str, expected: Host, is: Is) -> Result<(), String> {
    let Some(work) = Work::new() else { return Ok(()) };
    let subject = Subject::start(&work, word)?;
    if is == Is::WithoutFirst {
        subject.tell("first")?;
    }
    Host::Beta.restart_agent(Some(&format!("{point}:kill-both")))?;
    let said = subject.push_in_background(None)?.wait()?;
    let id = said.split("resolve ").nth(1).and_then(|rest| rest.split(' ').next()).ok_or(said.as_str())?;
    if !said.contains("\"outcome\":\"in-doubt\"") {
        return Err(said);
    }
    if !subject.stands_untraced_on(Host::Alpha) {
        return Err(format!("it does not stand on alpha: {said}"));
    }
    let listed = Host::Alpha.cli(&["status"])?;
    let command = format!("migrate-cli resolve {id} {word}\n");
    if !listed.contains(&command) {
        return Err(listed);
    }
    Host::Alpha.cli(&["resolve", id, word])?;
    Host::Beta.restart_agent(None)?;
    let host = subject.runs_once()?;
    if host != expected || Host::Alpha.cli(&["status"])? != "nothing is in doubt on this host\n" {
        return Err(format!("it runs on {host:?}"));
    }
    subject.check()?;
    hosts::nothing_left()
}

#[test]
fn a_doubt_is_settled_by_hand_here() {
    for is in [Is::Usual, Is::WithoutFirst] {
        doubt(27, "--here", Host::Alpha, is).unwrap_or_else(|why| panic!("{is:?}: {why}"));
    }
}

#[test]
fn a_doubt_is_settled_by_hand_there() {
    for is in [Is::Usual, Is::WithoutFirst] {
        doubt(29, "--there", Host::Beta, is).unwrap_or_else(|why| panic!("{is:?}: {why}"));
    }
}

/// A page that goes wrong on its way is found, when it is looked for.
#[test]
fn damaged_memory_is_found_by_verify() {
    let Some(work) = Work::new() else { return };
    let subject = Subject::start(&work, "damaged").expect("it starts");
    Host::Beta.restart_agent(Some("25:corrupt")).expect("the agent starts");
    let said = subject.push_with(None, &["--verify"]).and_then(|push| push.wait()).expect("a report");
    let host = subject.runs_once().unwrap_or_else(|why| panic!("{why}; push said: {said}"));
    Host::Beta.restart_agent(None).expect("the agent starts");
    assert_eq!(host, Host::Alpha, "{said}");
    subject.check().expect("its work is whole");
    hosts::nothing_left().expect("nothing is left");
    for words in ["refused", "is not the same here as in the original", "mapping ", "/ticker", "\"verified\":false"] {
        assert!(said.contains(words), "no {words:?} in: {said}");
    }
}

#[test]
fn a_fault_at_the_source() {
    run(POINTS.iter().copied().filter(|(n, _)| *n < FIRST_THERE), &["error", "kill", "cut"], Is::Usual);
}

#[test]
fn a_fault_at_the_destination() {
    run(POINTS.iter().copied().filter(|(n, _)| *n >= FIRST_THERE), &["error", "kill", "cut", "kill-both"], Is::Usual);
    leave_without_faults();
}

fn chosen(wanted: &'static [u32]) -> impl Iterator<Item = (u32, &'static str)> {
    POINTS.iter().copied().filter(move |(n, _)| wanted.contains(n))
}

#[test]
fn a_fault_in_the_move_of_one_whose_first_thread_has_ended() {
    run(chosen(&[3, 5, 8, 9]), &["error", "kill"], Is::WithoutFirst);
    run(chosen(&[10, 11]), &["kill"], Is::WithoutFirst);
    run(chosen(&[24, 26, 27]), &["error", "kill"], Is::WithoutFirst);
    run(chosen(&[28, 29, 30, 31]), &["kill-both"], Is::WithoutFirst);
    leave_without_faults();
}

#[test]
fn a_stopped_process_stays_stopped() {
    run(chosen(&[3, 6, 9, 28]), &["error"], Is::Stopped);
    run(chosen(&[9, 10]), &["kill"], Is::Stopped);
    run(chosen(&[28, 29]), &["kill-both"], Is::Stopped);
    leave_without_faults();
}

fn leave_without_faults() {
    if std::env::var_os("MIGRATE_HOSTS").is_some() {
        Host::Beta.restart_agent(None).expect("the agent goes on without faults");
    }
}
