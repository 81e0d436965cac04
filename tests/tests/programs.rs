//! Real programs from Debian, moved in the middle of their work. What they write is compared with what they write unmoved.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, Started};
use migrate_tests::waiting::wait_for;
use tempfile::TempDir;

/// A program and work for it that takes many seconds.
struct Program {
    /// Where Debian has it, or what makes it.
    path: &'static str,
    arguments: &'static [&'static str],
    /// MiB of text to read, in the file `input`.
    input: usize,
    /// Other files that it finds, and what is in them.
    files: &'static [(&'static str, &'static str)],
    /// What it writes.
    outputs: &'static [&'static str],
}

const PYTHON: Program = Program {
    path: "/usr/bin/python3",
    arguments: &[
        "-c",
        "a, b = 0, 1\n\
         for i in range(1_100_000): a, b = b, a + b\n\
         print(a.bit_length(), a % (2**521 - 1), hex(a)[:200])",
    ],
    input: 0,
    files: &[],
    outputs: &["stdout"],
};

const XZ: Program = Program {
    path: "/usr/bin/xz",
    arguments: &["-T2", "-1", "--keep", "input"],
    input: 64,
    files: &[],
    outputs: &["input.xz"],
};

const SQLITE: Program = Program {
    path: "/usr/bin/sqlite3",
    arguments: &[
        "database",
        "begin; create table t (x integer, y text);\n\
         with recursive c(x) as (select 1 union all select x + 1 from c where x < 9000000)\n\
         insert into t select x, x * 7919 % 1000003 from c;\n\
         commit; select count(*), sum(x), max(y) from t; pragma integrity_check;",
    ],
    input: 0,
    files: &[],
    outputs: &["stdout", "database"],
};

const GREP: Program = Program {
    path: "/usr/bin/grep",
    // References back to what was found make it slow.
    arguments: &["-n", "\\(.\\)\\(.\\)\\1\\2\\1", "input"],
    input: 64,
    files: &[],
    outputs: &["stdout"],
};

const PERL: Program = Program {
    path: "/usr/bin/perl",
    arguments: &[
        "-e",
        "no warnings 'recursion';\n\
         sub ack { my ($m, $n) = @_; $m ? ack($m - 1, $n ? ack($m, $n - 1) : 1) : $n + 1 }\n\
         print ack(3, 9), \"\\n\" for 1 .. 5;",
    ],
    input: 0,
    files: &[],
    outputs: &["stdout"],
};

const BASH: Program = Program {
    path: "/usr/bin/bash",
    arguments: &[
        "-c",
        "s=1; for ((i = 0; i < 3000000; i++)); do\n\
         ((s = (s * 31 + i) % 1000003)); ((i % 100000)) || printf '%d %d\\n' \"$i\" \"$s\"; done; echo \"$s\"",
    ],
    input: 0,
    files: &[],
    outputs: &["stdout"],
};

/// Threads that wait for work and for each other, and timers.
const PYTHON_THREADS: Program = Program {
    path: "/usr/bin/python3",
    arguments: &["work.py"],
    input: 0,
    files: &[("work.py", include_str!("../programs/work.py"))],
    outputs: &["stdout"],
};

/// Timers, worker threads, the garbage collector.
const NODE: Program = Program {
    path: "/usr/bin/node",
    arguments: &["work.js"],
    input: 0,
    files: &[("work.js", include_str!("../programs/work.js"))],
    outputs: &["stdout"],
};

/// Thread pools, timers, code that is compiled as it runs, the garbage collector. Without the file of
/// counters in /tmp, which another host's JVM takes for a dead one's and removes.
const JAVA: Program = Program {
    path: "/usr/bin/javac",
    arguments: &["sh", "-c", "javac -d . Work.java && exec java -Xmx200m -XX:-UsePerfData -cp . Work"],
    input: 0,
    files: &[("Work.java", include_str!("../programs/Work.java"))],
    outputs: &["stdout"],
};

/// A scheduler of its own, which interrupts its threads by signals.
const GO: Program = Program {
    path: "/usr/bin/go",
    arguments: &["sh", "-c", concat!("GOCACHE=", env!("OUT_DIR"), "/go-cache go build -o work work.go && exec ./work")],
    input: 0,
    files: &[("work.go", include_str!("../programs/work.go"))],
    outputs: &["stdout"],
};

/// A write-ahead log, with its index in memory that is mapped from a file, and locks on both.
const SQLITE_WAL: Program = Program {
    path: "/usr/bin/sqlite3",
    arguments: &[
        "database",
        "pragma journal_mode = wal; pragma wal_autocheckpoint = 200; create table t (x integer primary key, y text);\n\
         with recursive c(x) as (select 1 union all select x + 1 from c where x < 6000000)\n\
         insert into t select x, x * 7919 % 1000003 from c;\n\
         update t set y = y + 1 where x % 3 = 0; update t set y = y * 2 where x % 5 = 0;\n\
         select count(*), sum(x), max(y), sum(y) from t; pragma integrity_check;",
    ],
    input: 0,
    files: &[],
    outputs: &["stdout"],
};

/// Files opened one after the other, and an archive that grows.
const TAR: Program = Program {
    path: "/usr/bin/tar",
    arguments: &[
        "--create",
        "--file=archive",
        "--mtime=@0",
        "--checkpoint=500",
        "--checkpoint-action=sleep=1",
        "input",
    ],
    input: 64,
    files: &[],
    outputs: &["archive"],
};

/// An event loop over timers, pipes and pairs of sockets.
const ASYNCIO: Program = Program {
    path: "/usr/bin/python3",
    arguments: &["asyncio_work.py"],
    input: 0,
    files: &[("asyncio_work.py", include_str!("../programs/asyncio_work.py"))],
    outputs: &["stdout"],
};

/// Its main thread has ended.
const PYTHON_WITHOUT_MAIN: Program = Program {
    path: "/usr/bin/python3",
    arguments: &["without_main.py"],
    input: 0,
    files: &[("without_main.py", include_str!("../programs/without_main.py"))],
    outputs: &["stdout"],
};

/// Vector instructions in many threads.
const FFMPEG: Program = Program {
    path: "/usr/bin/ffmpeg",
    arguments: &[
        "-nostdin",
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x360:rate=25:duration=80",
        "-c:v",
        "libx264",
        "-threads",
        "4",
        "-bitexact",
        "-f",
        "h264",
        "film",
    ],
    input: 0,
    files: &[],
    outputs: &["film"],
};

impl Program {
    /// Tells it from the others.
    fn name(&self) -> (&'static str, &'static str) {
        (self.path, self.arguments.last().unwrap_or(&""))
    }
}

macro_rules! program {
    ($name:ident, $program:expr) => {
        mod $name {
            #[test]
            fn once() {
                super::run(concat!(stringify!($name), " once"), &$program, 1);
            }

            #[test]
            fn ten_times_there_and_back() {
                super::run(concat!(stringify!($name), " ten times there and back"), &$program, 20);
            }
        }
    };
}

program!(python, super::PYTHON);
program!(xz, super::XZ);
program!(sqlite, super::SQLITE);
program!(grep, super::GREP);
program!(perl, super::PERL);
program!(bash, super::BASH);
program!(python_threads, super::PYTHON_THREADS);
program!(node, super::NODE);
program!(java, super::JAVA);
program!(go, super::GO);
program!(ffmpeg, super::FFMPEG);
program!(sqlite_wal, super::SQLITE_WAL);
program!(tar, super::TAR);
program!(asyncio, super::ASYNCIO);
program!(python_without_main, super::PYTHON_WITHOUT_MAIN);

/// Much longer than any of them takes.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often it is tried again with a program that ends by itself before it was moved often enough: how long its work and a move take
/// depends on the machine and on what else that does.
const TRIES: usize = 3;

fn run(test: &str, program: &Program, moves: usize) {
    let Some(hosts) = hosts!(test, &[program.path]) else { return };
    let expected = unmoved(&hosts, program);
    for attempt in 1..=TRIES {
        // All of its work lies ahead of one that is moved at once.
        let mut downtimes = move_to_its_end(test, program, moves, &hosts, &expected, attempt == 1);
        if downtimes.len() * 2 > moves {
            downtimes.sort_unstable();
            let (middle, most) = (downtimes[downtimes.len() / 2], downtimes[downtimes.len() - 1]);
            println!("{test}: moved {} times, stood still for {middle} us (median), {most} us (most)", downtimes.len());
            return;
        }
        println!("{test}: has ended by itself after {} of {moves} moves", downtimes.len());
    }
    panic!("{test}: ends by itself before it was moved often enough, {TRIES} times");
}

/// Its downtimes, microseconds. That it ends early is no fault, if it has done all of its work by then.
fn move_to_its_end(
    test: &str,
    program: &Program,
    moves: usize,
    hosts: &Hosts,
    expected: &Outputs,
    rests: bool,
) -> Vec<u64> {
    let mut moved = start(hosts, program);
    // Those that are made on the spot begin with a line.
    if !program.files.is_empty() {
        let begun = wait_for(PATIENCE, || (!moved.text("stdout").is_empty()).then_some(()));
        assert!(begun.is_some(), "{test}: does not begin: {}", moved.said());
    }
    if rests {
        sleep(Duration::from_millis(1000));
    }
    let mut downtimes = Vec::new();
    for round in 1..=moves {
        match moved.move_over() {
            Ok(report) => downtimes.push(report.downtime_us.unwrap_or(0)),
            Err(_) if !moved.runs() => break,
            Err(why) => panic!("{test}: move {round} of {moves}: {why}{}", moved.text("stderr")),
        }
        if !moved.runs_only(moved.host) {
            assert!(!moved.runs(), "{test}: does not run after move {round}: {}", moved.said());
            break;
        }
    }
    moved.wait_end(PATIENCE).unwrap_or_else(|e| panic!("{test}: {e}"));

    let got = outputs(program, &moved);
    let moves = downtimes.len();
    assert_eq!(moved.text("stderr"), "", "{test}: its standard error after {moves} moves");
    for ((name, expected), (_, got)) in expected.iter().zip(&got) {
        let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
        let (wanted, length) = (expected.len(), got.len());
        assert!(
            expected == got,
            "{test}: {name} differs at byte {same} after {moves} moves (unmoved {wanted} bytes, moved {length})"
        );
    }
    downtimes
}

type Outputs = Vec<(&'static str, Vec<u8>)>;

/// What it writes when nobody moves it; asked for only once.
fn unmoved(hosts: &Hosts, program: &Program) -> Outputs {
    static KNOWN: Mutex<BTreeMap<(&'static str, &'static str), Outputs>> = Mutex::new(BTreeMap::new());
    let name = program.name();
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(outputs) = known.get(&name) {
        return outputs.clone();
    }
    let began = Instant::now();
    let started = start(hosts, program);
    started.wait_end(PATIENCE).unwrap_or_else(|e| panic!("{}: {e}", program.path));
    assert_eq!(started.text("stderr"), "", "{}", program.path);
    let outputs = outputs(program, &started);
    assert!(outputs.iter().all(|(_, bytes)| !bytes.is_empty()), "{} writes nothing", program.path);
    println!("{}: takes {:.1} s unmoved", program.path, began.elapsed().as_secs_f64());
    known.insert(name, outputs.clone());
    outputs
}

fn start<'h>(hosts: &'h Hosts, program: &Program) -> Started<'h> {
    let directory = TempDir::new().expect("a directory");
    if program.input > 0 {
        write_text(&directory.path().join("input"), program.input << 20).expect("the input");
    }
    for (name, text) in program.files {
        fs::write(directory.path().join(name), text).expect("a file");
    }
    // A compiler only makes what is started.
    let compiled = [JAVA.path, GO.path].contains(&program.path);
    let mut command = if compiled { Vec::new() } else { vec![program.path] };
    command.extend(program.arguments);
    hosts.start(Host::Alpha, directory, &command)
}

fn outputs(program: &Program, started: &Started<'_>) -> Outputs {
    let read = |name: &&'static str| (*name, fs::read(started.path(name)).unwrap_or_default());
    program.outputs.iter().map(read).collect()
}

/// Lines of letters and digits, always the same ones: they compress by a quarter, no more.
fn write_text(path: &Path, length: usize) -> io::Result<()> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut file = BufWriter::new(File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..length / 80 {
        let mut line = [b'\n'; 80];
        for letter in &mut line[..79] {
            // xorshift64 (Marsaglia, 2003)
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *letter = LETTERS[(state >> 58) as usize];
        }
        file.write_all(&line)?;
    }
    file.flush()
}
