//! Options of `push`, on programs that check themselves after the move.

use std::fs;
use std::path::Path;
use std::time::Duration;

use migrate_tests::hosts;
use migrate_tests::hosts::{Host, Hosts, skipped};
use migrate_tests::moves::Report;
use migrate_tests::waiting::{wait_for, wait_for_file};

/// How long a subject may take to set itself up or to check itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Moves a subject with these options and has it check itself. None: it is skipped, which has been said.
fn moves(hosts: &Hosts, name: &str, options: &[&str]) -> Option<Report> {
    let what = format!("{name} {}", options.join(" "));
    let program = Path::new(env!("OUT_DIR")).join(name).display().to_string();
    let directory = tempfile::Builder::new().prefix(name).tempdir().expect("a directory");
    let path = directory.path().display().to_string();
    let mut subject = hosts.start(Host::Alpha, directory, &[&program, &path]);
    let begun = || ["ready", "result"].iter().any(|file| subject.path(file).exists()).then_some(());
    assert!(wait_for(PATIENCE, begun).is_some(), "{what} does not get ready: {}", subject.text("stderr"));
    if let Some(reason) = subject.text("result").strip_prefix("skipped: ") {
        skipped(&what, reason.trim());
        return None;
    }
    subject.pid = subject.text("ready").trim().parse().expect("a PID");
    let mut words = vec!["--pid", "keep"];
    words.extend(options);
    let pushed = hosts.push(subject.pid, Host::Alpha, "beta", &words);
    subject.host = Host::Beta;
    let report = pushed.moved().unwrap_or_else(|said| panic!("{what}: {said}"));
    assert!(subject.runs_only(Host::Beta), "{what}: {}", subject.said());
    fs::write(subject.path("check"), "").expect("a file");
    let result = wait_for_file(&subject.path("result"), PATIENCE);
    let result = result.unwrap_or_else(|| panic!("{what} does not check itself: {}", subject.text("stderr")));
    if let Some(reason) = result.strip_prefix("skipped: ") {
        skipped(&what, reason.trim());
        return None;
    }
    assert_eq!(result.trim(), "ok", "{what}");
    Some(report)
}

/// Whether this kernel describes itself, as the probes need it; else the test is skipped.
fn takes_probes(test: &str) -> bool {
    let described = Path::new("/sys/kernel/btf/vmlinux").exists();
    if !described {
        skipped(test, "this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)");
    }
    described
}

#[test]
fn what_belongs_to_threads_is_read_by_ebpf() {
    let Some(hosts) = hosts!("what_belongs_to_threads_is_read_by_ebpf") else { return };
    if !takes_probes("what_belongs_to_threads_is_read_by_ebpf") {
        return;
    }
    let kinds = [
        "credentials_per_thread",
        "robust_list",
        "rseq",
        "scheduling",
        "sig_altstack",
        "sig_pending",
        "thread_exit",
        "threads",
        "threads_restless",
    ];
    for (kind, way) in kinds.iter().flat_map(|kind| [(kind, "ebpf"), (kind, "ptrace")]) {
        if let Some(report) = moves(&hosts, kind, &["--kernel-state", way]) {
            assert_eq!(report.kernel_state, way, "{kind}");
        }
    }
}

#[test]
fn what_is_open_is_told_by_ebpf() {
    let Some(hosts) = hosts!("what_is_open_is_told_by_ebpf") else { return };
    if !takes_probes("what_is_open_is_told_by_ebpf") {
        return;
    }
    let kinds = [
        "directories",
        "epoll_numbers",
        "eventfd",
        "file_many",
        "file_numbers",
        "file_offset",
        "file_renamed",
        "file_restless",
        "file_restless_state",
        "file_shared_offset",
        "file_unlinked",
        "lock_flock",
        "lock_ofd",
        "owner",
        "unix_descriptors",
    ];
    for kind in kinds {
        moves(&hosts, kind, &["--kernel-state", "ebpf"]);
    }
}

#[test]
fn verify_compares_every_kind_of_memory() {
    let Some(hosts) = hosts!("verify_compares_every_kind_of_memory") else { return };
    let kinds = [
        "mem_anonymous",
        "mem_dirtying",
        "mem_guard",
        "mem_heap",
        "mem_lock",
        "mem_many_mappings",
        "mem_private_file",
        "mem_protections",
        "mem_remapping",
        "mem_shared_anonymous",
        "mem_shared_file",
        "mem_stack",
        "rseq",
        "threads",
    ];
    for name in kinds {
        for rounds in ["8", "0"] {
            if let Some(report) = moves(&hosts, name, &["--verify", "--max-rounds", rounds]) {
                assert!(report.verified, "{name}");
                assert!(report.phases.contains_key("there: compare memory"), "{:?}", report.phases);
            }
        }
    }
    assert!(!moves(&hosts, "mem_heap", &[]).expect("it can be moved").verified);
}

#[test]
fn compress_makes_fewer_bytes_of_the_same_memory() {
    let Some(hosts) = hosts!("compress_makes_fewer_bytes_of_the_same_memory") else { return };
    // What `auto` does is a matter of time.
    for (how, compresses) in [("off", Some(false)), ("auto", None), ("lz4", Some(true)), ("zstd", Some(true))] {
        for name in ["mem_heap", "mem_dirtying", "mem_shared_anonymous"] {
            let options = ["--compress", how, "--verify"];
            let Some(report) = moves(&hosts, name, &options) else { continue };
            assert!(report.verified);
            let (from, to) = (report.compressed_from, report.compressed_to);
            assert!(compresses.is_none_or(|it| it == (to < from)), "{name} {how}: {from} bytes to {to}");
            assert!(report.bytes_sent + from - to >= report.pages_sent * 4096, "{name} {how}");
        }
    }
}

#[test]
fn bandwidth_holds_the_copying_back() {
    let Some(hosts) = hosts!("bandwidth_holds_the_copying_back") else { return };
    let options = ["--bandwidth", "4M", "--compress", "off", "--streams", "3"];
    for name in ["mem_anonymous", "mem_many_mappings"] {
        let Some(report) = moves(&hosts, name, &options) else { continue };
        let (last, copied) = report.rounds.split_last().expect("rounds");
        let (bytes, us) = copied.iter().fold((0, 0), |(bytes, us), round| (bytes + round.bytes, us + round.us));
        // A piece of each connection is under way at any time, and sleeps of less than a millisecond are left out.
        let most = us as f64 / 1e6 * (4 << 20) as f64 + (copied.len() * 4 * (64 << 10)) as f64;
        assert!(bytes as f64 <= most, "{name}: {bytes} bytes in {us} us, and at last {last:?}");
        assert!(bytes > 0, "{name}");
    }
}
