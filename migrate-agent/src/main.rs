//! The daemon: takes processes from other hosts' agents, and sends this host's away when a client asks.
#![forbid(unsafe_code)]

mod arguments;
mod capabilities;
mod daemon;
mod doubts;
mod leaving;
mod local;
mod log;
mod peers;
mod receive;
mod receivers;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::start(&arguments.log);
    let result = match arguments.command {
        Some(Command::Receive { id }) => receive::run(id),
        None => daemon::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
