//! What comes up in a process between two steps of its move: the push pauses there.

use nix::libc;

use super::hosts::{self, Host, Subject, Work};

/// Has a process change while its push pauses at `point`. Returns it, and what the push said in the end.
fn changed_at(work: &Work, point: u32, what: &str) -> Result<(Subject, String), String> {
    Host::Beta.restart_agent(None)?;
    let subject = Subject::start(work, what)?;
    let push = subject.push_and_pause(point)?;
    subject.tell(what)?;
    subject.go_on()?;
    Ok((subject, push.wait()?))
}

/// Has the process change while its push pauses at `point`; it is refused for a reason with these words, without having been frozen,
/// and the process runs on.
fn refused_at(point: u32, what: &str, words: &[&str]) -> Result<(), String> {
    let Some(work) = Work::new() else { return Ok(()) };
    let (subject, said) = changed_at(&work, point, what)?;
    if !words.iter().all(|word| said.contains(word)) || !said.contains("\"outcome\":\"stayed\"") {
        return Err(said);
    }
    if !said.contains("\"downtime_us\":null") {
        return Err(format!("it was frozen for that: {said}"));
    }
    match subject.runs_once()? {
        Host::Alpha => {}
        host => return Err(format!("it runs on {host:?}")),
    }
    subject.check()?;
    hosts::nothing_left()
}

#[test]
fn a_process_that_confines_itself_meanwhile_is_not_made_to_break_its_rules() {
    let Some(work) = Work::new() else { return };
    let (subject, said) = changed_at(&work, 3, "seccomp").expect("a report");
    assert_eq!(subject.runs_once(), Ok(Host::Beta), "{said}");
    assert!(said.contains("runs under seccomp"), "{said}");
    subject.check().expect("its work is whole");
}

#[test]
fn a_pipe_that_others_hold_is_found_before_the_freeze() {
    refused_at(3, "pipe", &["a pipe", "(cat)", "stays", "--fd"]).expect("refused");
}

#[test]
fn memory_that_others_share_is_found_before_the_freeze() {
    refused_at(3, "memory", &["it shares memory with process", "cannot be parted"]).expect("refused");
}

#[test]
fn a_first_thread_that_ends_meanwhile_is_found_before_the_freeze() {
    for point in [3, 12] {
        refused_at(point, "first", &["its first thread", "has ended while others go on", "push it again"])
            .unwrap_or_else(|why| panic!("at {point}: {why}"));
    }
}

#[test]
fn one_whose_first_thread_has_ended_meanwhile_moves_when_it_is_pushed_again() {
    let Some(work) = Work::new() else { return };
    let (subject, said) = changed_at(&work, 3, "first").expect("a report");
    assert_eq!(subject.runs_once(), Ok(Host::Alpha), "{said}");
    let said = subject.push_in_background(None).and_then(|push| push.wait()).expect("a report");
    assert_eq!(subject.runs_once(), Ok(Host::Beta), "{said}");
    subject.check().expect("its work is whole");
}

#[test]
fn the_end_of_a_socket_that_is_closed_last_is_its_end() {
    let Some(work) = Work::new() else { return };
    let (subject, said) = changed_at(&work, 12, "hang_up").expect("a report");
    assert_eq!(subject.runs_once(), Ok(Host::Beta), "{said}");
    subject.check().expect("its work is whole");
}

#[test]
fn memory_that_is_sealed_meanwhile_stays_sealed() {
    let Some(work) = Work::new() else { return };
    let (subject, said) = changed_at(&work, 3, "seal").expect("a report");
    assert_eq!(subject.runs_once(), Ok(Host::Beta), "{said}");
    let sealed = subject.mapping_flags().into_iter().filter(|flags| flags.contains(" sl")).count();
    assert_eq!(sealed, 1, "{said}");
    subject.check().expect("its work is whole");
}

#[test]
fn a_file_that_is_mapped_meanwhile_is_compared() {
    let Some(work) = Work::new() else { return };
    let [content, other] = ["mapping.content", "mapping.other"].map(|name| work.path(name));
    std::fs::write(&content, "text").expect("a file");
    std::fs::write(&other, "other text").expect("a file");
    Host::Beta.run(&["mount".as_ref(), "--bind".as_ref(), other.as_os_str(), content.as_os_str()]).expect("mounted");
    let done = changed_at(&work, 3, "mapping");
    Host::Beta.run(&["umount".as_ref(), content.as_os_str()]).expect("unmounted");
    let (subject, said) = done.expect("a report");
    let words = ["mapping.content", "mapped meanwhile", "10 bytes here and 4 there", "try again"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    assert_eq!(subject.runs_once(), Ok(Host::Alpha), "{said}");
    subject.check().expect("its work is whole");
}

#[test]
fn advice_that_is_given_meanwhile_moves_too() {
    let Some(work) = Work::new() else { return };
    let (subject, said) = changed_at(&work, 3, "advice").expect("a report");
    assert_eq!(subject.runs_once(), Ok(Host::Beta), "{said}");
    // The VmFlag of MADV_DONTFORK.
    let advised: Vec<String> = subject.mapping_flags().into_iter().filter(|flags| flags.contains(" dc")).collect();
    assert!(matches!(advised.as_slice(), [flags] if flags.contains("wr")), "{advised:?}");
    subject.check().expect("its work is whole");
}

/// The lines of the signals that it is sent while its push pauses at `point`, and of those that it notes.
fn signalled_at(point: u32) -> Result<(Vec<String>, Vec<String>), String> {
    let Some(work) = Work::new() else { return Ok((Vec::new(), Vec::new())) };
    Host::Beta.restart_agent(None)?;
    let subject = Subject::start(&work, "signals")?;
    let push = subject.push_and_pause(point)?;
    let (plain, queued) = (libc::SIGUSR2, libc::SIGRTMIN() + 3);
    for value in ["7", "9", "7", "1000000"] {
        subject.send(&["-q", value, "-s", "RTMIN+3"])?;
    }
    subject.send(&["-s", "USR2"])?;
    subject.go_on()?;
    let said = push.wait()?;
    if subject.runs_once()? != Host::Beta {
        return Err(said);
    }
    subject.check()?;
    let mut expected = vec![format!("{plain} 0 ")];
    expected.extend([7, 9, 7, 1_000_000].map(|value| format!("{queued} 1 {value}")));
    let read = || std::fs::read_to_string(work.path("signals.signals")).unwrap_or_default();
    let _ = hosts::soon(5, || read().lines().count() >= expected.len());
    // A kill(2) has no value.
    let text = read();
    let noted = text.lines().map(|line| match line.starts_with(&expected[0]) {
        true => expected[0].clone(),
        false => line.into(),
    });
    let mut noted: Vec<String> = noted.collect();
    noted.sort_by_key(|line| !line.starts_with(&expected[0]));
    Ok((expected, noted))
}

#[test]
fn a_signal_that_is_sent_meanwhile_arrives_once() {
    // While it runs, before it is captured, after that, and when it runs over there already.
    for point in [3, 4, 6, 8, 9, 11] {
        let (expected, noted) = signalled_at(point).unwrap_or_else(|e| panic!("at {point}: {e}"));
        assert_eq!(noted, expected, "at {point}");
    }
}
