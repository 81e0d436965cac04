//! System V semaphores and message queues are on the host where their process is, and on no other, however its move went.

use super::hosts::{self, Host, Subject, Work};

/// The hosts have so many of them, semaphore sets and queues together.
fn expect_objects(host: Host, count: usize) -> Result<(), String> {
    // The first line of each has the columns' names.
    let test = format!("[ $(cat /proc/sysvipc/sem /proc/sysvipc/msg | wc -l) = {} ]", count + 2);
    hosts::soon(5, || host.run(&["sh".as_ref(), "-c".as_ref(), test.as_ref()]).is_ok())
        .map_err(|()| format!("{host:?} has not {count} of them"))
}

fn remove_all() -> Result<(), String> {
    [Host::Alpha, Host::Beta].into_iter().try_for_each(|host| {
        host.run(&["ipcrm".as_ref(), "--all=sem".as_ref()])?;
        host.run(&["ipcrm".as_ref(), "--all=msg".as_ref()])?;
        expect_objects(host, 0)
    })
}

fn case(work: &Work, point: u32, action: &str, expected: Host) -> Result<(), String> {
    remove_all()?;
    Host::Beta.restart_agent(None)?;
    let fault = format!("{point}:{action}");
    let subject = Subject::start(work, &format!("sysv-{point}-{action}"))?;
    subject.tell("sysv")?;
    let there = point >= migrate_core::fault::FIRST_THERE;
    if there {
        Host::Beta.restart_agent(Some(&fault))?;
    }
    let said = subject.push_in_background(Some(fault.as_str()).filter(|_| !there))?.wait()?;
    let host = subject.runs_once().map_err(|why| format!("{why}; push said: {said}"))?;
    if host != expected {
        return Err(format!("it runs on {host:?}; push said: {said}"));
    }
    subject.check()?;
    for each in [Host::Alpha, Host::Beta] {
        expect_objects(each, if each == host { 2 } else { 0 }).map_err(|why| format!("{why}; push said: {said}"))?;
    }
    Ok(())
}

#[test]
fn semaphores_and_queues_are_where_their_process_is() {
    let Some(work) = Work::new() else { return };
    let stays =
        [(3, "error"), (6, "error"), (8, "error"), (8, "cut"), (9, "error"), (24, "error"), (25, "cut"), (26, "error")];
    let moves = [(11, "error"), (29, "error"), (31, "cut")];
    let stays = stays.into_iter().chain([(27, "error"), (28, "error")]).map(|case| (case, Host::Alpha));
    for ((point, action), host) in stays.chain(moves.map(|case| (case, Host::Beta))) {
        case(&work, point, action, host).unwrap_or_else(|why| panic!("{point}:{action}: {why}"));
        println!("{point}:{action}: they are on {host:?}");
    }
    remove_all().expect("nothing is left");
    Host::Beta.restart_agent(None).expect("the agent goes on without faults");
}

/// The probe that reads what is to be undone is loaded when the first set is seen.
#[test]
fn semaphores_that_come_up_meanwhile_move_if_there_is_time_to_look_at_them() {
    let Some(work) = Work::new() else { return };
    for (point, expected) in [(3, Host::Beta), (12, Host::Alpha)] {
        remove_all().expect("nothing is left");
        Host::Beta.restart_agent(None).expect("the agent starts");
        let subject = Subject::start(&work, &format!("sysv-at-{point}")).expect("it starts");
        let push = subject.push_and_pause(point).expect("it pauses");
        subject.tell("sysv").expect("it is told");
        subject.go_on().expect("the push goes on");
        let said = push.wait().expect("a report");
        assert_eq!(subject.runs_once(), Ok(expected), "{said}");
        let waits = said.contains("may have to be undone at its end (SEM_UNDO)") && said.contains("try again");
        assert_eq!(waits, expected == Host::Alpha, "{said}");
        subject.check().expect("its work is whole");
        for host in [Host::Alpha, Host::Beta] {
            expect_objects(host, if host == expected { 2 } else { 0 }).unwrap_or_else(|why| panic!("{why}; {said}"));
        }
    }
    remove_all().expect("nothing is left");
}
