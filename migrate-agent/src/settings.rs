//! What the daemon goes by: the command line, else the configuration file, else what is built in.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use migrate_core::plan::{DEFAULT_PORT, DEFAULT_SOCKET};
use serde::Deserialize;

use crate::arguments::{Arguments, LogLevel};

/// What the daemon goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where other agents connect.
    pub listen: SocketAddr,
    /// Where this host's clients connect.
    pub socket: PathBuf,
    /// `listen` may be reached by others than this host.
    pub insecure: bool,
    /// How much is logged.
    pub log: LogLevel,
}

/// The configuration file: the options of the command line by their names, each of which may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    listen: Option<SocketAddr>,
    socket: Option<PathBuf>,
    insecure: Option<bool>,
    log: Option<LogLevel>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)),
            socket: DEFAULT_SOCKET.into(),
            insecure: false,
            log: LogLevel::Info,
        }
    }
}

impl Settings {
    /// What `arguments`, and the file that they name, say.
    ///
    /// # Errors
    /// When the file cannot be read, or says something that is unknown or makes no sense: what, and on which line.
    pub fn gather(arguments: &Arguments) -> anyhow::Result<Self> {
        let file = arguments.config.as_deref().map_or_else(|| Ok(ConfigFile::default()), read)?;
        let builtin = Settings::default();
        Ok(Settings {
            listen: arguments.listen.or(file.listen).unwrap_or(builtin.listen),
            socket: arguments.socket.clone().or(file.socket).unwrap_or(builtin.socket),
            insecure: arguments.insecure || file.insecure.unwrap_or(builtin.insecure),
            log: arguments.log.or(file.log).unwrap_or(builtin.log),
        })
    }

    /// Refuses a network address unless the operator has said that it is meant.
    pub fn refuse_exposure(&self) -> anyhow::Result<()> {
        let ip = self.listen.ip().to_canonical();
        if self.insecure || ip.is_loopback() {
            return Ok(());
        }
        anyhow::bail!(
            "listening on {}: whoever can reach this port can start processes as root on this host, because agents do not \
             prove to each other yet who they are (mutual TLS). Listen on 127.0.0.1, or add --insecure (insecure = true in \
             the configuration file) when everybody on that network may have root here",
            self.listen
        )
    }
}

fn read(path: &Path) -> anyhow::Result<ConfigFile> {
    let text =
        fs::read_to_string(path).with_context(|| format!("reading the configuration file {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("the configuration file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split_whitespace()).expect("valid")
    }

    fn gather(line: &str, file: &str) -> anyhow::Result<Settings> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.toml");
        fs::write(&path, file).expect("written");
        Settings::gather(&parse(&format!("{line} --config {}", path.display())))
    }

    #[test]
    fn nothing_said_is_what_is_built_in() {
        assert_eq!(Settings::gather(&parse("agent")).expect("no file"), Settings::default());
        assert_eq!(gather("agent", "# nothing\n").expect("an empty file"), Settings::default());
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let file = "listen = '10.0.0.1:1'\nsocket = '/s'\ninsecure = true\nlog = 'debug'\n";
        let from_file = gather("agent", file).expect("valid");
        assert_eq!(from_file.listen.to_string(), "10.0.0.1:1");
        assert_eq!((from_file.socket, from_file.log), (PathBuf::from("/s"), LogLevel::Debug));
        assert!(from_file.insecure);
        let both = gather("agent --listen 10.0.0.2:2 --socket /t --log off", file).expect("valid");
        assert_eq!(both.listen.to_string(), "10.0.0.2:2");
        assert_eq!((both.socket, both.log), (PathBuf::from("/t"), LogLevel::Off));
    }

    #[test]
    fn what_a_file_must_not_say_is_named() {
        for (file, named) in [
            ("lisen = '10.0.0.1:1'", "lisen"),
            ("listen = 7070", "listen"),
            ("insecure = 'yes'", "insecure"),
            ("log = 'loud'", "loud"),
            ("[tls]\nca = 'x'", "tls"),
            ("listen = ", "listen ="),
        ] {
            let error = format!("{:#}", gather("agent", file).expect_err(file));
            assert!(
                error.contains("agent.toml") && error.contains(named) && error.contains("line 1"),
                "{file}: {error}"
            );
        }
        let missing = Settings::gather(&parse("agent --config /nonexistent/agent.toml")).expect_err("no file");
        assert!(format!("{missing:#}").contains("/nonexistent/agent.toml"), "{missing:#}");
    }

    /// The lines of the file that is installed, where what is built in is commented out.
    #[test]
    fn the_file_that_is_installed_tells_every_option_and_its_default() {
        let installed = include_str!("../../packaging/agent.toml");
        assert_eq!(gather("agent", installed).expect("valid"), Settings::default());
        let is_setting = |line: &&str| line.starts_with('#') && line.contains(" = ") && !line.starts_with("# ");
        let settings: String = installed.lines().filter(is_setting).map(|line| format!("{}\n", &line[1..])).collect();
        assert_eq!(gather("agent", &settings).expect("valid"), Settings::default());
        for option in Arguments::command().get_arguments().filter_map(|a| a.get_long()) {
            if !["config", "help", "version"].contains(&option) {
                assert!(settings.contains(&format!("{option} = ")), "{option} is not in\n{settings}");
            }
        }
    }

    #[test]
    fn only_loopback_needs_no_word() {
        let settings = |line: &str| Settings::gather(&parse(line)).expect("no file");
        for listen in ["127.0.0.1:7070", "127.8.0.1:1", "[::1]:7070", "[::ffff:127.0.0.1]:7070"] {
            assert!(settings(&format!("agent --listen {listen}")).refuse_exposure().is_ok(), "{listen}");
        }
        for listen in ["0.0.0.0:7070", "10.0.0.1:7070", "[::]:7070"] {
            let refused = settings(&format!("agent --listen {listen}")).refuse_exposure();
            let error = refused.expect_err(listen).to_string();
            assert!(error.contains("root") && error.contains("--insecure"), "{error}");
            assert!(settings(&format!("agent --listen {listen} --insecure")).refuse_exposure().is_ok(), "{listen}");
        }
    }
}
