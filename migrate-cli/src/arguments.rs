//! What the command line can be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use migrate_core::plan::{
    ClockChoice, Compression, DEFAULT_SOCKET, KernelStateChoice, Options, PidPolicy, Plan, TrackerChoice,
    WhenNotConverging,
};
use migrate_core::profile::DURATIONS;
use migrate_core::protocol::preamble::MigrationId;

use crate::duration::parse_duration;
use crate::rate::parse_rate;
use crate::replacement::{Replacement, by_number, parse_fd};

/// Moves running processes to other hosts.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "\
Example:
  sudo migrate-cli check 4242 hostb   whether process 4242 could move there
  sudo migrate-cli check 4242 hostb --profile 10s     and what that would take, and when to do it
  sudo migrate-cli push 4242 hostb    it goes on at hostb, where a migrate-agent runs"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Move a running process to another host
    ///
    /// It goes on there with all that it holds; it is not restarted. If that fails, it runs on here as if nothing had
    /// happened, and the reason is shown.
    Push(Push),

    /// Say whether a process could move, and what of it
    ///
    /// Looks at all that it has, and asks the host, if one is given. Nothing is touched. With --profile it also says what the process
    /// does, how fast it changes its memory, and from that what a move would take and when to begin it.
    Check(Check),

    /// Show the moves away from this host whose outcome is not known
    ///
    /// Their processes stand still here until it is. An agent on this host asks on and settles them by itself.
    Status,

    /// Settle by hand where a process in doubt runs
    ///
    /// Look first: is the process there on the other host? Whoever says --here while it runs there makes it run twice; whoever
    /// says --there while it does not loses it.
    Resolve(Resolve),

    /// Write the manual pages and shell completions into a directory: for packaging
    #[command(hide = true)]
    Manual {
        /// The directory.
        directory: PathBuf,
    },
}

/// What `check` is told.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 it can move, 1 it cannot, or could not be looked at, 2 wrong usage.")]
pub struct Check {
    /// The process
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: i32,

    /// The host that it might move to; its agent listens on port 7070 unless another is given
    #[arg(value_name = "HOST[:PORT]", value_parser = host)]
    pub host: Option<String>,

    /// What it is to have at a descriptor's number there, in the place of what it has here
    #[arg(long = "fd", value_name = "N[,N...]=close|null|file:PATH", value_parser = parse_fd)]
    pub fds: Vec<Replacement>,

    /// Watch it for a time, from 1s to 3600s; Ctrl-C ends that early
    ///
    /// Tells the system calls that it uses, the files that it opens, whom it talks to, and how fast it changes its memory; from that what a
    /// move would take, when to begin it, and what it used in that time that cannot move. For its memory to be followed it stands still for
    /// a fraction of a millisecond at the beginning (with soft-dirty bits, before Linux 6.7, whenever it is looked at), and it writes to its
    /// memory a little slower.
    #[arg(long, value_name = "TIME", value_parser = parse_profile)]
    pub profile: Option<Duration>,

    /// With --profile: the bandwidth of the move that is predicted
    #[arg(long, value_name = "RATE", value_parser = parse_rate, requires = "profile")]
    pub bandwidth: Option<u64>,

    /// With --profile: the downtime that the move aims at
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "50ms", requires = "profile")]
    pub max_downtime: Duration,

    /// How the kernel would be asked in the move for what it knows of threads and descriptors
    #[arg(long, value_name = "WAY", value_enum, default_value_t = KernelState::Auto)]
    pub kernel_state: KernelState,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What `resolve` is told.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("place").required(true))]
pub struct Resolve {
    /// The migration, as `status` shows it
    #[arg(value_name = "ID")]
    pub id: MigrationId,

    /// It does not run there, and never will: it goes on here
    #[arg(long, group = "place")]
    pub here: bool,

    /// It runs there: what stands here is killed
    #[arg(long, group = "place")]
    pub there: bool,
}

/// What `push` can be told.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 it moved, 1 it stays here (standard error says why), 2 wrong usage, 3 in doubt.

Examples:
  sudo migrate-cli push 4242 hostb                       that is all
  sudo migrate-cli push 4242 10.0.0.2:7071 -v            another port, and a table of where the time went
  sudo migrate-cli push 4242 hostb --max-downtime 10ms   copy for longer, stand still for less")]
pub struct Push {
    /// The process to move
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: i32,

    /// The host to move it to; its agent listens on port 7070 unless another is given
    #[arg(value_name = "HOST[:PORT]", value_parser = host)]
    pub host: String,

    /// Its process ID there: its own or none, its own in a new PID namespace, or whichever of the two works
    #[arg(long = "pid", id = "pid_policy", value_name = "WHERE", value_enum, default_value_t = Pid::Auto)]
    pub pid_policy: Pid,

    /// How long it may stand still; its memory is copied beforehand, in rounds, until that is expected to be enough
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "50ms")]
    pub max_downtime: Duration,

    /// Rounds of copying before it is stopped, at most; 0 copies everything while it stands still
    #[arg(long, value_name = "N", default_value_t = Options::default().max_rounds)]
    pub max_rounds: u32,

    /// Connections that carry memory
    #[arg(long, value_name = "N", default_value_t = Options::default().streams,
          value_parser = clap::value_parser!(u8).range(1..=16))]
    pub streams: u8,

    /// Whether memory is compressed on its way; what does not get smaller is sent as it is
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Compress::Auto)]
    pub compress: Compress,

    /// Bytes a second that copying its memory may take while it runs, all connections together: 100M is MiB, 800Mbit are bits
    ///
    /// What is left when it is stopped is sent as fast as it goes: the less bandwidth, the more that can be.
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub bandwidth: Option<u64>,

    /// How changed memory is found
    #[arg(long, value_enum, default_value_t = Tracker::Auto)]
    pub tracker: Tracker,

    /// How the kernel is asked for what it knows of threads, of many open files, of terminals, and of directories
    #[arg(long, value_name = "WAY", value_enum, default_value_t = KernelState::Auto)]
    pub kernel_state: KernelState,

    /// What CLOCK_MONOTONIC and CLOCK_BOOTTIME are to it there, where the hosts' differ
    #[arg(long, value_name = "WHOSE", value_enum, default_value_t = Clock::Continue)]
    pub clock: Clock,

    /// What it is to have at a descriptor's number there, in the place of what it has here: nothing, /dev/null, or a file
    ///
    /// For a terminal, a pipe or a connection whose other end stays behind. What it writes goes to the end of the file, which is
    /// made on the other host if it is not there. May be given more than once: --fd 0=null --fd 1,2=file:/var/log/work.log
    #[arg(long = "fd", value_name = "N[,N...]=close|null|file:PATH", value_parser = parse_fd)]
    pub fds: Vec<Replacement>,

    /// What to do when it changes its memory faster than it can be sent
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = NotConverging::Stop)]
    pub when_not_converging: NotConverging,

    /// Compare a digest of all its memory on both hosts before it runs there; it stays here should they differ
    ///
    /// It stands still meanwhile: about a tenth of a second longer for each GiB.
    #[arg(long)]
    pub verify: bool,

    /// Move it to a host whose CPU lacks features of this one's, too
    ///
    /// For a program that does not use them: one that does is ended by SIGILL there, or goes on with other values in its registers. The C
    /// library chooses its string functions by such features at the program's start.
    #[arg(long)]
    pub ignore_cpu: bool,

    /// Have the schedulers of both hosts measure the downtime, too
    ///
    /// BPF programs note when the last of its threads left its processor here, and when the first one got on one there: a check of the
    /// downtime that the agents report. Between two machines their clocks are compared, and the figure is told with by how much it may be
    /// wrong. Where a host does not permit that, there is a warning and no figure. Loading the programs makes the move a tenth of a second
    /// longer, but not its downtime.
    #[arg(long)]
    pub measure: bool,

    /// Print one JSON object as the last line of standard output
    #[arg(long)]
    pub json: bool,

    /// No progress on standard error
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print where the time went and what was sent
    #[arg(short, long)]
    pub verbose: bool,

    /// This host's agent
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,

    /// Do the work here, also when this host has an agent
    #[arg(long)]
    pub no_agent: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Pid {
    /// The number that it has, or it stays here
    Keep,
    /// A new PID namespace, in which every number is free
    Namespace,
    /// The number that it has if free, else a new namespace
    Auto,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Compress {
    /// Never
    Off,
    /// Quickly, to about half
    Lz4,
    /// More, and slower (level 1)
    Zstd,
    /// With whatever is fastest on this link; on one faster than 200 MB/s a connection, not at all
    Auto,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Tracker {
    /// The best that the kernel has
    Auto,
    /// userfaultfd and PAGEMAP_SCAN (Linux 6.7 and later)
    PagemapScan,
    /// Soft-dirty bits (CONFIG_MEM_SOFT_DIRTY): it stands still for a moment in every round
    SoftDirty,
    /// Not at all: everything is copied while it stands still
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KernelState {
    /// By the kernel module if it is loaded; else with many threads by eBPF if that can be had; else by ptrace
    Auto,
    /// A BPF iterator, which tells of all at once (Linux 6.1 and later, with BTF)
    Ebpf,
    /// The optional kernel module of this project (docs/kmod.md)
    Kmod,
    /// One by one: ptrace, /proc, and calls made inside them
    Ptrace,
}

impl From<KernelState> for KernelStateChoice {
    fn from(way: KernelState) -> KernelStateChoice {
        match way {
            KernelState::Auto => KernelStateChoice::Auto,
            KernelState::Ebpf => KernelStateChoice::Ebpf,
            KernelState::Kmod => KernelStateChoice::Kmod,
            KernelState::Ptrace => KernelStateChoice::Ptrace,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Clock {
    /// They go on, in a time namespace of its own
    Continue,
    /// They are the host's, and jump
    Host,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum NotConverging {
    /// Stop it anyway, for longer than --max-downtime
    Stop,
    /// Slow it down, step by step, until it does not; stop it anyway if not even that is enough
    Throttle,
    /// Leave it here
    Fail,
}

impl Push {
    /// The request that this is.
    pub fn plan(&self) -> Plan {
        let options = Options {
            pid: match self.pid_policy {
                Pid::Keep => PidPolicy::Keep,
                Pid::Namespace => PidPolicy::Namespace,
                Pid::Auto => PidPolicy::Auto,
            },
            max_downtime: self.max_downtime,
            max_rounds: self.max_rounds,
            streams: self.streams,
            tracker: match self.tracker {
                Tracker::Auto => TrackerChoice::Auto,
                Tracker::PagemapScan => TrackerChoice::PagemapScan,
                Tracker::SoftDirty => TrackerChoice::SoftDirty,
                Tracker::None => TrackerChoice::None,
            },
            kernel_state: self.kernel_state.into(),
            clock: match self.clock {
                Clock::Continue => ClockChoice::Continue,
                Clock::Host => ClockChoice::Host,
            },
            when_not_converging: match self.when_not_converging {
                NotConverging::Stop => WhenNotConverging::Stop,
                NotConverging::Throttle => WhenNotConverging::Throttle,
                NotConverging::Fail => WhenNotConverging::Fail,
            },
            bandwidth: self.bandwidth,
            compress: match self.compress {
                Compress::Off => Compression::Off,
                Compress::Lz4 => Compression::Lz4,
                Compress::Zstd => Compression::Zstd,
                Compress::Auto => Compression::Auto,
            },
            verify: self.verify,
            ignore_cpu: self.ignore_cpu,
            measure: self.measure,
            fds: by_number(&self.fds),
        };
        Plan { pid: self.pid, host: self.host.clone(), options }
    }
}

fn parse_profile(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        time if DURATIONS.contains(&time) => Ok(time),
        _ => Err(format!("`{text}`: a process can be watched for 1s to {}s", DURATIONS.end().as_secs())),
    }
}

fn host(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with(':') || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a host name or address, with :PORT when its agent does not listen on 7070".into());
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use migrate_core::plan::Instead;

    use super::*;

    fn parse(line: &str) -> Result<Push, clap::Error> {
        match Arguments::try_parse_from(line.split_whitespace())?.command {
            Command::Push(push) => Ok(push),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn two_words_are_enough() {
        let plan = parse("migrate-cli push 4242 hostb").expect("valid").plan();
        assert_eq!(plan, Plan { pid: 4242, host: "hostb".into(), options: Options::default() });
    }

    #[test]
    fn every_flag_arrives() {
        let line = "migrate-cli push 1 [::1]:9 --pid namespace --max-downtime 1.5s --max-rounds 0 --streams 4 \
                    --fd 0=null --fd 1,2=file:/log \
                    --tracker pagemap-scan --kernel-state ebpf --clock host --when-not-converging fail --verify --ignore-cpu --measure --compress zstd --bandwidth 100M --json -v --socket /s --no-agent";
        let push = parse(line).expect("valid");
        assert!(push.json && push.verbose && push.no_agent && !push.quiet);
        assert_eq!(push.socket, PathBuf::from("/s"));
        let options = push.plan().options;
        assert_eq!(options.pid, PidPolicy::Namespace);
        assert_eq!(options.max_downtime, Duration::from_millis(1500));
        assert_eq!((options.max_rounds, options.streams), (0, 4));
        assert_eq!(options.tracker, TrackerChoice::PagemapScan);
        assert_eq!((options.kernel_state, options.clock), (KernelStateChoice::Ebpf, ClockChoice::Host));
        assert_eq!(options.when_not_converging, WhenNotConverging::Fail);
        assert!(options.verify && options.ignore_cpu && options.measure);
        let log = || Instead::File(b"/log".to_vec());
        assert_eq!(options.fds, BTreeMap::from([(0, Instead::Null), (1, log()), (2, log())]));
        assert_eq!((options.compress, options.bandwidth), (Compression::Zstd, Some(100 << 20)));
    }

    #[test]
    fn a_doubt_is_settled_one_way() {
        for (word, here) in [("--here", true), ("--there", false)] {
            let line = ["migrate-cli", "resolve", "00112233445566778899aabbccddeeff", word];
            match Arguments::try_parse_from(line).expect("valid").command {
                Command::Resolve(resolve) => assert_eq!((resolve.here, resolve.there), (here, !here)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_check_needs_no_host() {
        for (line, host) in [("migrate-cli check 7", None), ("migrate-cli check 7 beta:1 --json", Some("beta:1"))] {
            match Arguments::try_parse_from(line.split_whitespace()).expect("valid").command {
                Command::Check(check) => {
                    assert_eq!((check.pid, check.host.as_deref(), check.json), (7, host, host.is_some()));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_wrong_usage() {
        for line in [
            "push 4242",
            "push 0 hostb",
            "push -5 hostb",
            "push x hostb",
            "push 1 :7070",
            "push 1 h --max-downtime 50",
            "push 1 h --streams 0",
            "push 1 h --compress gzip",
            "push 1 h --bandwidth 100",
            "push 1 h --quiet --verbose",
            "push 1 h --fd 0",
            "check 1 h --fd 0=pipe",
            "push 1 h --when-not-converging brake",
            "resolve 00112233445566778899aabbccddeeff",
            "resolve 00112233445566778899aabbccddeeff --here --there",
            "resolve 1234 --here",
            "check",
            "check 0",
            "check 1 :7070",
        ] {
            let error = parse(&format!("migrate-cli {line}")).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn the_help_shows_how_and_promises_nothing_else() {
        let error = parse("migrate-cli push --help").expect_err("help");
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
        let help = error.to_string();
        for shown in [
            "sudo migrate-cli push 4242 hostb",
            "--max-downtime",
            "50ms",
            "Exit status",
            "HOST[:PORT]",
            "not restarted",
        ] {
            assert!(help.contains(shown), "{shown} is not in\n{help}");
        }
        assert!(Arguments::command().render_long_help().to_string().contains("sudo migrate-cli push 4242 hostb"));
    }

    #[test]
    fn a_profile_has_a_time() {
        let parse = |line: &str| -> Result<super::Check, clap::Error> {
            match Arguments::try_parse_from(line.split_whitespace())?.command {
                Command::Check(check) => Ok(check),
                other => panic!("{other:?}"),
            }
        };
        let check = parse("migrate-cli check 7 hostb --profile 10s --bandwidth 1M").expect("valid");
        assert_eq!((check.profile, check.bandwidth), (Some(Duration::from_secs(10)), Some(1 << 20)));
        assert_eq!(check.max_downtime, Options::default().max_downtime);
        for wrong in ["--profile 100ms", "--profile 3601s", "--profile 10", "--bandwidth 1M"] {
            assert!(parse(&format!("migrate-cli check 7 {wrong}")).is_err(), "{wrong}");
        }
    }
}
