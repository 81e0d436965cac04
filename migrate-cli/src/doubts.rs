//! `status` and `resolve`: moves whose outcome is not known. They work without an agent, from the state files alone.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use migrate_core::state::{Doubt, Place, Settled, StateDirectory};
use nix::unistd::Uid;

use crate::arguments::Resolve;

/// Lists what is in doubt, with the commands that settle it.
pub fn status() -> ExitCode {
    if !Uid::effective().is_root() {
        return fail("the state files are root's: run it with sudo");
    }
    match StateDirectory::of_this_host().doubts() {
        Ok(doubts) => {
            let _ = io::stdout().write_all(listed(&doubts).as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("reading the state files: {error}")),
    }
}

/// Settles one.
pub fn resolve(wanted: &Resolve) -> ExitCode {
    if !Uid::effective().is_root() {
        return fail("the state files are root's: run it with sudo");
    }
    let place = if wanted.here { Place::Here } else { Place::There };
    match settle(wanted, place) {
        Ok(Some(settled)) => {
            let _ = writeln!(io::stdout(), "{}", sentence(&settled, place));
            if let Some(warning) = settled.warning {
                let _ = writeln!(io::stderr(), "warning: {warning}");
            }
            ExitCode::SUCCESS
        }
        Ok(None) => fail(&format!(
            "migration {} is not in doubt on this host: it is settled already, or still at work (migrate-cli status)",
            wanted.id
        )),
        Err(error) => fail(&format!("settling migration {}: {error}", wanted.id)),
    }
}

/// An agent that is just looking at the file holds it for a moment.
fn settle(wanted: &Resolve, place: Place) -> io::Result<Option<Settled>> {
    let states = StateDirectory::of_this_host();
    for _ in 0..20 {
        let settled = states.resolve(wanted.id, place)?;
        if settled.is_some() {
            return Ok(settled);
        }
        sleep(Duration::from_millis(20));
    }
    Ok(None)
}

fn listed(doubts: &[Doubt]) -> String {
    if doubts.is_empty() {
        return "nothing is in doubt on this host\n".into();
    }
    let mut text = String::new();
    for Doubt { id, process, address, host, .. } in doubts {
        let _ = write!(
            text,
            "{} stands still here; {host} ({address}) was told to run it, and did not say whether it does\n  \
             it runs there:          migrate-cli resolve {id} --there\n  \
             it does not run there:  migrate-cli resolve {id} --here\n",
            process.pid
        );
    }
    text
}

fn sentence(Settled { doubt, was_there, .. }: &Settled, place: Place) -> String {
    let pid = doubt.process.pid;
    match (place, was_there) {
        (_, false) => format!("{pid} has ended here already"),
        (Place::Here, true) => format!("{pid} goes on here"),
        (Place::There, true) => format!("{pid} runs on {} and has been ended here", doubt.host),
    }
}

fn fail(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "migrate-cli: {why}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use migrate_core::protocol::preamble::MigrationId;
    use migrate_core::state::Named;

    use super::*;

    #[test]
    fn the_commands_are_shown_whole() {
        let doubt = Doubt {
            id: MigrationId([0xab; 16]),
            process: Named { pid: 4242, start: 1 },
            address: "10.0.0.2:7070".parse().expect("an address"),
            host: "hostb".into(),
            stopped: false,
            locks: Vec::new(),
        };
        let text = listed(std::slice::from_ref(&doubt));
        let id = "ab".repeat(16);
        assert!(text.contains(&format!("migrate-cli resolve {id} --here\n")), "{text}");
        assert!(text.contains(&format!("migrate-cli resolve {id} --there\n")), "{text}");
        assert!(text.starts_with("4242 stands still here; hostb (10.0.0.2:7070)"), "{text}");
        let settled = Settled { doubt, was_there: true, warning: None };
        assert_eq!(sentence(&settled, Place::Here), "4242 goes on here");
        assert_eq!(listed(&[]), "nothing is in doubt on this host\n");
    }
}
