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
mod scope;
mod settings;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command, LogLevel};
use settings::Settings;

/// Wrong usage: starting it again makes no difference. So ends clap, too.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Some(Command::Receive { id }) => {
            log::start(arguments.log.unwrap_or(LogLevel::Info));
            receive::run(*id)
        }
        Some(Command::Manual { directory }) => write_manual(directory),
        None => {
            let settings = Settings::gather(&arguments);
            log::start(settings.as_ref().map_or(LogLevel::Info, |settings| settings.log));
            match settings.and_then(|settings| settings.refuse_exposure().map(|()| settings)) {
                Ok(settings) => daemon::run(settings),
                Err(error) => {
                    tracing::error!("{error:#}");
                    return ExitCode::from(WRONG_USAGE);
                }
            }
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write_manual(directory: &Path) -> anyhow::Result<()> {
    log::start(LogLevel::Info);
    migrate_manual::write(Arguments::command(), directory)
        .with_context(|| format!("writing the manual into {}", directory.display()))
}
