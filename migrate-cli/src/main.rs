//! The command line.
#![forbid(unsafe_code)]

mod agent;
mod arguments;
mod check;
mod doubts;
mod duration;
mod interrupt;
mod profile_text;
mod progress;
mod push;
mod rate;
mod replacement;
mod report;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Push(wanted) => push::run(wanted),
        Command::Check(wanted) => check::run(&wanted),
        Command::Status => doubts::status(),
        Command::Resolve(wanted) => doubts::resolve(&wanted),
        Command::Manual { directory } => write_manual(&directory),
    }
}

fn write_manual(directory: &Path) -> ExitCode {
    match migrate_manual::write(Arguments::command(), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("migrate-cli: writing the manual into {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}
