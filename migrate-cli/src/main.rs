//! The command line.
#![forbid(unsafe_code)]

mod agent;
mod arguments;
mod check;
mod doubts;
mod duration;
mod interrupt;
mod progress;
mod push;
mod rate;
mod replacement;
mod report;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Push(wanted) => push::run(wanted),
        Command::Check(wanted) => check::run(&wanted),
        Command::Status => doubts::status(),
        Command::Resolve(wanted) => doubts::resolve(&wanted),
    }
}
