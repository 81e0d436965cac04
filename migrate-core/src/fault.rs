//! Numbered fault points: places at which a test makes a migration fail, to see that nothing is lost.
//!
//! Only with the cargo feature `faults`; without it [`point`] is nothing. Then the environment variable [`VARIABLE`] of a process
//! says what happens where: `7:error`, `7:kill`, `7:cut`, `7:kill-both`, `7:pause`.
//!
//! | action | |
//! |---|---|
//! | `error` | the step fails |
//! | `kill` | this process gets SIGKILL |
//! | `kill-both` | its parent, the daemon, too |
//! | `pause` | this process stops, by SIGSTOP: until it gets SIGCONT things may change |
//! | `cut` | the control connection is shut down, and the step goes on |
//! | `corrupt` | with point 25 alone: a byte of the new process's memory is changed when all is in place |

use std::net::TcpStream;

use crate::error::Result;

/// Names the point and the action.
pub const VARIABLE: &str = "MIGRATE_FAULT";

/// The first point of the destination.
pub const FIRST_THERE: u32 = 21;

/// Every point: its number and what has just been done there. Up to 19 on the source, from [`FIRST_THERE`] on at the destination.
pub const POINTS: &[(u32, &str)] = &[
    (1, "preflight is done"),
    (2, "the destination has made an empty process"),
    (3, "the page streams are open"),
    (4, "the process is frozen"),
    (5, "the executor is in it"),
    (6, "it is captured"),
    (7, "Prepare is sent"),
    (8, "the answer to Prepare has come"),
    (9, "the process is pinned, Commit is about to be sent"),
    (10, "Commit is sent"),
    (11, "the answer to Commit has come"),
    (12, "the rounds of pre-copy are done"),
    (21, "the offer is checked"),
    (22, "the process is made"),
    (23, "its mappings are made"),
    (24, "it has its descriptors"),
    (25, "it has its threads"),
    (26, "it is prepared, and nobody has been told"),
    (27, "Commit has come"),
    (28, "it would outlive this process, and stands"),
    (29, "it is committed"),
    (30, "its first thread runs"),
    (31, "it runs, and nobody has been told"),
    (32, "the source has been told that it runs"),
];

/// Fails, dies, cuts `control` or does nothing.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn point(_number: u32, _control: &TcpStream) -> Result<()> {
    Ok(())
}

/// Fails, dies, cuts `control` or does nothing.
#[cfg(feature = "faults")]
pub fn point(number: u32, control: &TcpStream) -> Result<()> {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::{getpid, getppid};

    let Ok(wanted) = std::env::var(VARIABLE) else { return Ok(()) };
    let Some((at, action)) = wanted.split_once(':') else { return Ok(()) };
    if at.parse() != Ok(number) {
        return Ok(());
    }
    let place = POINTS.iter().find(|(n, _)| *n == number).map_or("?", |(_, place)| place);
    eprintln!("fault point {number} ({place}): {action}");
    if action == "kill-both" {
        let _ = kill(getppid(), Signal::SIGKILL);
    }
    match action {
        "error" => Err(crate::error::Error::Fault(number)),
        "kill" | "kill-both" => {
            let _ = kill(getpid(), Signal::SIGKILL);
            Ok(())
        }
        "pause" => {
            let _ = kill(getpid(), Signal::SIGSTOP);
            Ok(())
        }
        "cut" => {
            let _ = control.shutdown(std::net::Shutdown::Both);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether the new process's memory is to be damaged.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn corrupts() -> bool {
    false
}

/// Whether the new process's memory is to be damaged.
#[cfg(feature = "faults")]
pub fn corrupts() -> bool {
    std::env::var(VARIABLE).is_ok_and(|wanted| wanted == "25:corrupt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_in_the_code_once() {
        let sources = [
            include_str!("phases/pre_copy.rs"),
            include_str!("phases/freeze.rs"),
            include_str!("phases/capture.rs"),
            include_str!("phases/transfer.rs"),
            include_str!("phases/commit.rs"),
            include_str!("destination/mod.rs"),
            include_str!("destination/mapping.rs"),
            include_str!("destination/prepare.rs"),
        ];
        let text = sources.concat();
        for (number, place) in POINTS {
            let calls = text.matches(&format!("fault({number})")).count();
            let points = text.matches(&format!("fault::point({number}, ")).count();
            assert_eq!(calls + points, 1, "{number}: {place}");
        }
        assert!(POINTS.windows(2).all(|w| w[0].0 < w[1].0));
    }
}
