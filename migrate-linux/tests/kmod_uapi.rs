//! The kernel module's structures and numbers (kmod/uapi/migrate.h), compared with those that it is asked with.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use migrate_linux::kernel_module::uapi::*;

/// What C has to say, and what it must be.
fn facts() -> Vec<(String, u64)> {
    let mut facts = Vec::new();
    macro_rules! structure {
        ($($name:literal $Rust:ty),* $(,)?) => {$(
            facts.push((format!("sizeof(struct {})", $name), size_of::<$Rust>() as u64));
            for (field, offset, size) in <$Rust>::FIELDS {
                facts.push((format!("offsetof(struct {}, {field})", $name), *offset as u64));
                facts.push((format!("sizeof(((struct {} *)0)->{field})", $name), *size as u64));
            }
            // Then C has no other fields either.
            let sizes: usize = <$Rust>::FIELDS.iter().map(|(.., size)| size).sum();
            assert_eq!(sizes, size_of::<$Rust>(), "{} has gaps", $name);
        )*};
    }
    structure!(
        "migrate_hello" Hello,
        "migrate_cpu_time" CpuTime,
        "migrate_process_time" ProcessTime,
        "migrate_thread" Thread,
        "migrate_read_threads" ReadThreads,
        "migrate_timer" Timer,
        "migrate_read_timers" ReadTimers,
        "migrate_set_wait" SetWait,
        "migrate_set_next_timer" SetNextTimer,
        "migrate_watch" Watch,
        "migrate_set_missed" SetMissed,
        "migrate_used" Used,
        "migrate_set_cpu_time" SetCpuTime,
    );
    let numbers = [
        ("MIGRATE_VERSION", VERSION.into()),
        ("MIGRATE_CAN_SET_WAIT", CAN_SET_WAIT.into()),
        ("MIGRATE_CAN_SET_NEXT_TIMER", CAN_SET_NEXT_TIMER.into()),
        ("MIGRATE_CAN_WATCH", CAN_WATCH.into()),
        ("MIGRATE_CAN_SET_CPU_TIME", CAN_SET_CPU_TIME.into()),
        ("MIGRATE_MOST_CPU_TIME", MOST_CPU_TIME),
        ("MIGRATE_WAIT_SLEEP", WAIT_SLEEP.into()),
        ("MIGRATE_WAIT_POLL", WAIT_POLL.into()),
        ("MIGRATE_WAIT_FUTEX", WAIT_FUTEX.into()),
        ("MIGRATE_GROUPS", GROUPS as u64),
        ("MIGRATE_TRAPS", TRAPS.into()),
        ("MIGRATE_PORTS", PORTS.into()),
        ("MIGRATE_DISPATCHES", DISPATCHES.into()),
        ("MIGRATE_IS_ON_CPU", IS_ON_CPU.into()),
        ("MIGRATE_TIMER_IS_SET", TIMER_IS_SET.into()),
        ("MIGRATE_TIMER_NOT_READ", TIMER_NOT_READ.into()),
        ("MIGRATE_HELLO", HELLO),
        ("MIGRATE_READ_THREADS", READ_THREADS),
        ("MIGRATE_READ_TIMERS", READ_TIMERS),
        ("MIGRATE_SET_WAIT", SET_WAIT),
        ("MIGRATE_SET_NEXT_TIMER", SET_NEXT_TIMER),
        ("MIGRATE_WATCH", WATCH),
        ("MIGRATE_SET_CPU_TIME", SET_CPU_TIME),
        ("MIGRATE_SET_MISSED", SET_MISSED),
    ];
    facts.extend(numbers.map(|(name, value)| (name.to_owned(), value)));
    facts
}

#[test]
fn both_sides_of_the_kernel_module_agree() {
    let facts = facts();
    let mut text = String::from("#include <stddef.h>\n#include <stdio.h>\n#include \"migrate.h\"\nint main(void) {\n");
    for (at, (expression, _)) in facts.iter().enumerate() {
        writeln!(text, "  printf(\"{at} %llu\\n\", (unsigned long long)({expression}));").unwrap();
    }
    text += "  return 0;\n}\n";
    let place = tempfile::tempdir().unwrap();
    let (source, binary) = (place.path().join("uapi.c"), place.path().join("uapi"));
    std::fs::write(&source, text).unwrap();
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kmod/uapi");
    let compiled =
        Command::new("cc").args(["-Wall", "-Werror", "-I"]).arg(header).arg("-o").args([&binary, &source]).output();
    let compiled = match compiled {
        Err(why) => return println!("SKIPPED both_sides_of_the_kernel_module_agree: no C compiler `cc`: {why}"),
        Ok(compiled) => compiled,
    };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let output = String::from_utf8(Command::new(&binary).output().unwrap().stdout).unwrap();
    let theirs: BTreeMap<usize, u64> = output
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(at, value)| (at.parse().unwrap(), value.parse().unwrap()))
        .collect();
    assert_eq!(theirs.len(), facts.len());
    for (at, (expression, ours)) in facts.iter().enumerate() {
        assert_eq!(theirs.get(&at), Some(ours), "{expression}");
    }
}
