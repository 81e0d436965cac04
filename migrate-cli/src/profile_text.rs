//! A profile, for people.

use std::time::{SystemTime, UNIX_EPOCH};

use indicatif::{HumanBytes, HumanCount};
use migrate_core::phase::display_duration;
use migrate_core::profile::activity::{CallUse, FileUse, PeerUse};
use migrate_core::profile::link::Link;
use migrate_core::profile::memory::{IntervalUse, MemoryUse};
use migrate_core::profile::moment::BestMoment;
use migrate_core::profile::{Moves, Profile};

/// Lines of each list; `--json` has all of them.
const LINES: usize = 10;

/// What was seen, and what follows from it.
pub fn text(profile: &Profile) -> String {
    let Profile { seconds, ended_early, source, memory, .. } = profile;
    let mut text = format!("\nwatched for {seconds:.1} s");
    if let Some(why) = ended_early {
        text += &format!(", and no longer: {why}");
    }
    if let Some(memory) = memory {
        text += &format!("; for that it stood still for {}", fine(memory.stood_us * 1000));
    }
    text += "\n";
    text += &section(&format!("system calls ({})", how(source)), &calls(&profile.calls, *seconds));
    text += &section("files opened", &files(&profile.files));
    text += &section("peers", &peers(&profile.peers));
    if let Some(memory) = memory {
        text += &section("memory", &changed(memory));
    }
    if let Some(moves) = &profile.moves {
        text += &section(&format!("a move would take, {}", way(&moves.link)), &predictions(moves));
        text += &format!("\nbest moment: {}\n", best(moves.best_moment.as_ref()));
    }
    text += &section("used in that time, and cannot move", &profile.cannot_move);
    text += &section("not seen", &profile.notes);
    text
}

fn section(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("\n{title}:\n{}", lines.iter().map(|line| format!("  {}\n", line.trim_end())).collect::<String>())
}

fn how(source: &str) -> &'static str {
    if source == "ebpf" { "all of them" } else { "those that its threads were seen in" }
}

/// Nanoseconds, also of short calls.
fn fine(ns: u64) -> String {
    match ns {
        0..=999 => format!("{ns} ns"),
        1_000..=999_999 => format!("{:.1} µs", ns as f64 / 1e3),
        _ => display_duration(ns / 1000),
    }
}

/// Columns, the first to the left, the others to the right; behind the last nothing.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let cell = |(column, (cell, width)): (usize, (&String, &usize))| match column {
        0 => format!("{cell:width$}"),
        _ => format!("{cell:>width$}"),
    };
    rows.iter().map(|row| row.iter().zip(&widths).enumerate().map(cell).collect::<Vec<_>>().join("  ")).collect()
}

/// The first lines, and how many there are besides.
fn first<T>(all: &[T], what: &str, line: impl Fn(&T) -> String) -> Vec<String> {
    let mut lines: Vec<String> = all.iter().take(LINES).map(line).collect();
    if all.len() > LINES {
        lines.push(format!("and {} more {what} (--json names all)", all.len() - LINES));
    }
    lines
}

fn calls(calls: &[CallUse], seconds: f64) -> Vec<String> {
    let head = ["", "calls", "each s", "failed", "time in it", "longest"].map(String::from).to_vec();
    let number = |count: Option<u64>| count.map_or("?".into(), |count| HumanCount(count).to_string());
    let row = |call: &CallUse| {
        vec![
            call.name.clone(),
            number(call.count),
            call.count.map_or("?".into(), |count| format!("{:.1}", count as f64 / seconds.max(0.001))),
            number(call.failed),
            fine(call.ns),
            call.longest_ns.map_or("?".into(), fine),
        ]
    };
    if calls.is_empty() {
        return vec!["none".into()];
    }
    // The most time and the most often are not the same.
    let mut shown: Vec<&CallUse> = calls.iter().take(LINES / 2).collect();
    let mut often: Vec<&CallUse> = calls.iter().skip(LINES / 2).collect();
    often.sort_by_key(|call| std::cmp::Reverse(call.count));
    shown.extend(often.into_iter().take(LINES / 2));
    let mut lines = table(&std::iter::once(head).chain(shown.iter().map(|call| row(call))).collect::<Vec<_>>());
    if calls.len() > shown.len() {
        lines.push(format!("and {} more kinds (--json names all)", calls.len() - shown.len()));
    }
    lines
}

fn files(files: &[FileUse]) -> Vec<String> {
    first(files, "files", |file| {
        let times = HumanCount(file.opened.max(file.failed)).to_string();
        let note = match (file.opened, file.failed, file.written) {
            (0, ..) => "  (could not be opened)".into(),
            (_, 0, true) => "  (to be written)".into(),
            (_, 0, false) => String::new(),
            (_, failed, _) => format!("  (besides {failed} × in vain)"),
        };
        format!("{times:>6} ×  {}{note}", printable(&file.path))
    })
}

/// A path may have anything in it, also what a terminal obeys.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn peers(peers: &[PeerUse]) -> Vec<String> {
    let width =
        peers.iter().take(LINES).map(|p| p.kind.chars().count() + p.peer.chars().count()).max().unwrap_or(0) + 1;
    first(peers, "peers", |peer| {
        let here = peer.local_port.map_or(String::new(), |port| format!(" at port {port} here"));
        let connections = match peer.connected + peer.accepted {
            0 => String::new(),
            1 => ", 1 connection".into(),
            many => format!(", {} connections", HumanCount(many)),
        };
        let who = printable(&format!("{} {}", peer.kind, peer.peer));
        let (sent, received) = (HumanBytes(peer.sent), HumanBytes(peer.received));
        format!("{who:width$}  {sent} sent, {received} received{connections}{here}")
    })
}

fn changed(memory: &MemoryUse) -> Vec<String> {
    let mut lines = vec![format!(
        "{}, of which it changed {} in that time",
        HumanBytes(memory.bytes),
        HumanBytes(memory.working_set_bytes)
    )];
    if memory.intervals.is_empty() {
        return lines;
    }
    let (mean, least, most) = (memory.pages_per_s, memory.quietest_pages_per_s, memory.busiest_pages_per_s);
    lines.push(format!(
        "{} pages a second, at the least {}, at the most {}",
        HumanCount(mean),
        HumanCount(least),
        HumanCount(most)
    ));
    if most > 0 {
        lines.push(sparkline(&memory.intervals, most));
    }
    lines
}

/// A column for each interval, its height the pages a second.
fn sparkline(intervals: &[IntervalUse], most: u64) -> String {
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = |interval: &IntervalUse| {
        let eighths = (interval.pages_per_s as f64 / most as f64 * 8.0).round() as usize;
        // Something is not nothing.
        let least = usize::from(interval.pages_per_s > 0);
        HEIGHTS.get(eighths.max(least)).copied().unwrap_or('█')
    };
    let each = intervals.first().map_or(0.0, |interval| interval.s);
    format!("|{}|  a column is {each:.1} s", intervals.iter().map(height).collect::<String>())
}

fn way(link: &Link) -> String {
    let rate = HumanBytes(link.bytes_per_s);
    let why = match (link.why, &link.interface) {
        ("interface", Some(name)) => format!("what {name} carries"),
        ("bandwidth", _) => "as told".into(),
        _ => "what two hosts do that no network holds back; else say --bandwidth".into(),
    };
    format!("at {rate} a second ({why})")
}

fn predictions(moves: &Moves) -> Vec<String> {
    let head = ["", "rounds", "memory", "total", "stands still"].map(String::from).to_vec();
    let row = |(name, prediction): (&str, &migrate_core::profile::predict::Prediction)| {
        let downtime = display_duration(prediction.downtime_us);
        let mut row = vec![
            name.to_string(),
            prediction.rounds.to_string(),
            HumanBytes(prediction.bytes).to_string(),
            display_duration(prediction.total_us),
            downtime,
        ];
        if !prediction.converges {
            row.push("it changes its memory faster than it can be sent".into());
        }
        row
    };
    let rows = match &moves.best_moment {
        Some(_) => vec![
            ("begun at the best moment", &moves.best),
            ("typically", &moves.typical),
            ("at the worst moment", &moves.worst),
        ],
        None => vec![("at any moment", &moves.typical)],
    };
    table(&std::iter::once(head).chain(rows.into_iter().map(row)).collect::<Vec<_>>())
}

fn best(moment: Option<&BestMoment>) -> String {
    let Some(BestMoment { at_s, until_s, period_s, next_unix_s }) = moment else {
        return "none; what it does is much the same all the time".into();
    };
    let mut text = format!("{at_s:.1} to {until_s:.1} s after the beginning");
    match period_s {
        Some(period) => text += &format!(", and again every {period:.1} s"),
        None => text += "; no pattern was seen",
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    if let Some(next) = next_unix_s.filter(|next| *next > now) {
        text += &format!(": next in {:.1} s", next - now);
    }
    text
}

#[cfg(test)]
mod tests {
    use migrate_core::profile::predict::Prediction;

    use super::*;

    fn profile() -> Profile {
        let call = |name: &str, count, ns| CallUse {
            name: name.into(),
            count: Some(count),
            failed: Some(1),
            ns,
            longest_ns: Some(1500),
            inside: 0,
        };
        let interval =
            |number: u64| IntervalUse { at_s: number as f64, s: 1.0, bytes: number << 12, pages_per_s: number };
        let prediction =
            Prediction { rounds: 2, bytes: 1 << 30, total_us: 812_000, downtime_us: 4_200, converges: true };
        Profile {
            seconds: 4.0,
            ended_early: Some("it was interrupted".into()),
            process_ended: false,
            source: "ebpf",
            calls: vec![call("epoll_wait", 2000, 3_900_000_000), call("read", 2001, 900)],
            files: vec![
                FileUse { path: "/etc/a\u{1b}[31m".into(), opened: 3, failed: 0, written: true },
                FileUse { path: "/b".into(), opened: 0, failed: 12, written: false },
            ],
            peers: vec![PeerUse {
                kind: "TCP socket".into(),
                peer: "10.0.0.2:5432".into(),
                local_port: None,
                connected: 3,
                accepted: 0,
                received: 1 << 20,
                sent: 10,
                calls: 9,
            }],
            cannot_move: vec!["an io_uring: io_uring_setup 2 ×".into()],
            memory: Some(MemoryUse {
                tracker: "pagemap-scan",
                stood_us: 70,
                bytes: 1 << 30,
                working_set_bytes: 64 << 20,
                pages_per_s: 2,
                quietest_pages_per_s: 0,
                busiest_pages_per_s: 3,
                intervals: (0..4).map(interval).collect(),
            }),
            moves: Some(Moves {
                link: Link { bytes_per_s: 117 << 20, interface: Some("eth0".into()), why: "interface" },
                typical: prediction,
                best: prediction,
                worst: Prediction { downtime_us: 180_000, converges: false, ..prediction },
                best_moment: Some(BestMoment { at_s: 0.5, until_s: 2.0, period_s: Some(2.5), next_unix_s: Some(1.0) }),
            }),
            notes: vec!["something".into()],
        }
    }

    #[test]
    fn it_reads_well() {
        let expected = "
watched for 4.0 s, and no longer: it was interrupted; for that it stood still for 70.0 µs

system calls (all of them):
              calls  each s  failed  time in it  longest
  epoll_wait  2,000   500.0       1      3.90 s   1.5 µs
  read        2,001   500.2       1      900 ns   1.5 µs

files opened:
       3 ×  /etc/a?[31m  (to be written)
      12 ×  /b  (could not be opened)

peers:
  TCP socket 10.0.0.2:5432  10 B sent, 1.00 MiB received, 3 connections

memory:
  1.00 GiB, of which it changed 64.00 MiB in that time
  2 pages a second, at the least 0, at the most 3
  | ▃▅█|  a column is 1.0 s

a move would take, at 117.00 MiB a second (what eth0 carries):
                            rounds    memory   total  stands still
  begun at the best moment       2  1.00 GiB  812 ms        4.2 ms
  typically                      2  1.00 GiB  812 ms        4.2 ms
  at the worst moment            2  1.00 GiB  812 ms        180 ms  it changes its memory faster than it can be sent

best moment: 0.5 to 2.0 s after the beginning, and again every 2.5 s

used in that time, and cannot move:
  an io_uring: io_uring_setup 2 ×

not seen:
  something
";
        assert_eq!(text(&profile()), expected);
    }

    #[test]
    fn long_lists_are_cut() {
        let file = |n: u64| FileUse { path: format!("/{n}"), opened: 1, failed: 0, written: false };
        let lines = files(&(0..25).map(file).collect::<Vec<_>>());
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (11, Some("and 15 more files (--json names all)")));
    }
}
