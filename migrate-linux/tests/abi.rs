//! The structures and numbers that this crate hands to the kernel, compared with those of the C headers.
//!
//! A wrong offset in one of them shows nowhere else: the kernel takes the bytes as they come.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::mem::{offset_of, size_of};
use std::process::Command;

use linux_raw_sys::general as raw;
use linux_raw_sys::ioctl;
use migrate_linux::{kcmp, pagemap, userfaultfd};

/// What C has to say: an expression, whose value must be that of Rust.
struct Fact {
    /// Shown when it differs.
    expression: String,
    rust: u64,
    /// The macro without which the headers are too old for it.
    needs: &'static str,
}

/// The size of a structure and the offsets of its fields; a field is given twice where C spells it otherwise.
macro_rules! layout {
    ($facts:ident, $needs:literal, $c:literal, $rust:ty, $($field:ident $(as $theirs:literal)?),* $(,)?) => {
        $facts.push(Fact {
            expression: format!("sizeof({})", $c),
            rust: size_of::<$rust>() as u64,
            needs: $needs,
        });
        $({
            #[allow(unused_mut, unused_assignments)]
            let mut theirs = stringify!($field);
            $(theirs = $theirs;)?
            $facts.push(Fact {
                expression: format!("offsetof({}, {theirs})", $c),
                rust: offset_of!($rust, $field) as u64,
                needs: $needs,
            });
        })*
    };
}

fn facts() -> Vec<Fact> {
    let mut facts = Vec::new();
    layout!(
        facts,
        "PAGEMAP_SCAN",
        "struct pm_scan_arg",
        raw::pm_scan_arg,
        size,
        flags,
        start,
        end,
        walk_end,
        vec,
        vec_len,
        max_pages,
        category_inverted,
        category_mask,
        category_anyof_mask,
        return_mask,
    );
    layout!(facts, "PAGEMAP_SCAN", "struct page_region", raw::page_region, start, end, categories);

    layout!(facts, "UFFDIO_API", "struct uffdio_api", raw::uffdio_api, api, features, ioctls);
    layout!(facts, "UFFDIO_API", "struct uffdio_range", raw::uffdio_range, start, len);
    layout!(facts, "UFFDIO_API", "struct uffdio_register", raw::uffdio_register, range, mode, ioctls);
    layout!(facts, "UFFDIO_API", "struct uffdio_copy", raw::uffdio_copy, dst, src, len, mode, copy);
    layout!(facts, "UFFDIO_API", "struct uffdio_zeropage", raw::uffdio_zeropage, range, mode, zeropage);
    layout!(facts, "UFFDIO_WRITEPROTECT", "struct uffdio_writeprotect", raw::uffdio_writeprotect, range, mode);

    layout!(
        facts, "SCHED_FLAG_ALL", "struct sched_attr", SchedAttrWithoutClamps,
        size, sched_policy, sched_flags, sched_nice, sched_priority, sched_runtime, sched_deadline, sched_period,
        end as "sched_util_min",
    );
    layout!(
        facts,
        "CLONE_ARGS_SIZE_VER2",
        "struct clone_args",
        raw::clone_args,
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
        cgroup,
    );
    layout!(
        facts,
        "PR_SET_MM_MAP",
        "struct prctl_mm_map",
        linux_raw_sys::prctl::prctl_mm_map,
        start_code,
        end_code,
        start_data,
        end_data,
        start_brk,
        brk,
        start_stack,
        arg_start,
        arg_end,
        env_start,
        env_end,
        auxv,
        auxv_size,
        exe_fd,
    );
    layout!(
        facts,
        "PTRACE_GET_RSEQ_CONFIGURATION",
        "struct ptrace_rseq_configuration",
        linux_raw_sys::ptrace::ptrace_rseq_configuration,
        rseq_abi_pointer,
        rseq_abi_size,
        signature,
        flags,
        pad,
    );
    layout!(
        facts,
        "SCM_RIGHTS",
        "struct msghdr",
        libc::msghdr,
        msg_name,
        msg_namelen,
        msg_iov,
        msg_iovlen,
        msg_control,
        msg_controllen,
        msg_flags,
    );
    layout!(facts, "SCM_RIGHTS", "struct iovec", libc::iovec, iov_base, iov_len);
    layout!(facts, "SCM_RIGHTS", "struct cmsghdr", libc::cmsghdr, cmsg_len, cmsg_level, cmsg_type);
    layout!(facts, "RLIMIT_NOFILE", "struct rlimit64", libc::rlimit64, rlim_cur, rlim_max);

    let mut number = |needs: &'static str, expression: &str, rust: u64| {
        facts.push(Fact { expression: expression.to_owned(), rust, needs });
    };
    use pagemap::category;
    for (name, value) in [
        ("PAGEMAP_SCAN", pagemap::PAGEMAP_SCAN),
        ("PAGE_IS_WPALLOWED", category::WPALLOWED),
        ("PAGE_IS_WRITTEN", category::WRITTEN),
        ("PAGE_IS_FILE", category::FILE),
        ("PAGE_IS_PRESENT", category::PRESENT),
        ("PAGE_IS_SWAPPED", category::SWAPPED),
        ("PAGE_IS_PFNZERO", category::PFNZERO),
        ("PAGE_IS_HUGE", category::HUGE),
        ("PM_SCAN_WP_MATCHING", raw::PM_SCAN_WP_MATCHING.into()),
        ("PM_SCAN_CHECK_WPASYNC", raw::PM_SCAN_CHECK_WPASYNC.into()),
    ] {
        number("PAGEMAP_SCAN", name, value);
    }
    number("PAGE_IS_SOFT_DIRTY", "PAGE_IS_SOFT_DIRTY", category::SOFT_DIRTY);
    use userfaultfd::feature;
    number("UFFD_FEATURE_WP_ASYNC", "UFFD_FEATURE_WP_ASYNC", feature::WP_ASYNC);
    number("UFFD_FEATURE_WP_UNPOPULATED", "UFFD_FEATURE_WP_UNPOPULATED", feature::WP_UNPOPULATED);
    let shmem = feature::WP_HUGETLBFS_SHMEM;
    number("UFFD_FEATURE_WP_HUGETLBFS_SHMEM", "UFFD_FEATURE_WP_HUGETLBFS_SHMEM", shmem);
    for (name, value) in [
        ("UFFDIO_API", ioctl::UFFDIO_API),
        ("UFFDIO_REGISTER", ioctl::UFFDIO_REGISTER),
        ("UFFDIO_UNREGISTER", ioctl::UFFDIO_UNREGISTER),
        ("UFFDIO_COPY", ioctl::UFFDIO_COPY),
        ("UFFDIO_ZEROPAGE", ioctl::UFFDIO_ZEROPAGE),
        ("UFFDIO_WRITEPROTECT", ioctl::UFFDIO_WRITEPROTECT),
        ("UFFDIO_WRITEPROTECT_MODE_WP", 1),
    ] {
        number("UFFDIO_API", name, value.into());
    }
    for (name, value) in [
        ("KCMP_FILE", 0),
        ("KCMP_VM", kcmp::Shared::Vm as u64),
        ("KCMP_FILES", kcmp::Shared::Files as u64),
        ("KCMP_FS", kcmp::Shared::Fs as u64),
        ("KCMP_SIGHAND", kcmp::Shared::Sighand as u64),
        ("KCMP_IO", kcmp::Shared::Io as u64),
        ("KCMP_SYSVSEM", kcmp::Shared::SysvSem as u64),
        ("IOPRIO_WHO_PROCESS", 1),
    ] {
        number("RLIMIT_NOFILE", name, value);
    }
    for (at, name) in migrate_linux::sched::RESOURCES.iter().enumerate() {
        number("RLIMIT_NOFILE", name, at as u64);
    }
    facts
}

/// libc's structure, and where it ends: the kernel's goes on with what is not used, as its size tells it.
#[repr(C)]
struct SchedAttrWithoutClamps {
    size: u32,
    sched_policy: u32,
    sched_flags: u64,
    sched_nice: i32,
    sched_priority: u32,
    sched_runtime: u64,
    sched_deadline: u64,
    sched_period: u64,
    end: [u32; 2],
}

fn program(facts: &[Fact]) -> String {
    let mut text = String::from(
        "#define _GNU_SOURCE\n#include <stddef.h>\n#include <stdio.h>\n#include <sys/socket.h>\n\
         #include <sys/uio.h>\n#include <sys/resource.h>\n#include <linux/fs.h>\n\
         #include <linux/userfaultfd.h>\n#include <linux/sched.h>\n#include <linux/sched/types.h>\n\
         #include <linux/prctl.h>\n#include <linux/ptrace.h>\n#include <linux/kcmp.h>\n\
         #include <linux/ioprio.h>\nint main(void) {\n",
    );
    for (at, fact) in facts.iter().enumerate() {
        // Some of them are enumerators, which #ifdef does not see.
        let always = ["RLIMIT_NOFILE", "SCM_RIGHTS"].contains(&fact.needs);
        let condition = if always { "1" } else { "defined(NEEDS)" };
        let condition = condition.replace("NEEDS", fact.needs);
        writeln!(
            text,
            "#if {condition}\n  printf(\"{at} %llu\\n\", (unsigned long long)({}));\n#endif",
            fact.expression
        )
        .unwrap();
    }
    text + "  return 0;\n}\n"
}

#[test]
fn layouts_and_numbers_are_those_of_the_headers() {
    let facts = facts();
    let place = tempfile::tempdir().unwrap();
    let (source, binary) = (place.path().join("abi.c"), place.path().join("abi"));
    std::fs::write(&source, program(&facts)).unwrap();
    let compiled = Command::new("cc").arg("-o").args([&binary, &source]).output();
    let compiled = match compiled {
        Err(why) => {
            println!("SKIPPED layouts: no C compiler `cc`: {why}");
            return;
        }
        Ok(compiled) => compiled,
    };
    let complaints = String::from_utf8_lossy(&compiled.stderr);
    if !compiled.status.success() && complaints.contains("No such file or directory") {
        println!("SKIPPED layouts: the C headers are not installed: {complaints}");
        return;
    }
    assert!(compiled.status.success(), "{complaints}");
    let output = Command::new(&binary).output().unwrap();
    let theirs: BTreeMap<usize, u64> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let (at, value) = line.split_once(' ').unwrap();
            (at.parse().unwrap(), value.parse().unwrap())
        })
        .collect();
    let mut wrong = Vec::new();
    let mut skipped = BTreeMap::<_, usize>::new();
    for (at, fact) in facts.iter().enumerate() {
        match theirs.get(&at) {
            Some(value) if *value == fact.rust => {}
            Some(value) => wrong.push(format!("{} is {value:#x} in C, {:#x} in Rust", fact.expression, fact.rust)),
            None => *skipped.entry(fact.needs).or_default() += 1,
        }
    }
    for (needs, count) in skipped {
        println!("SKIPPED {count} layouts and numbers: the C headers are too old for {needs}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(theirs.len() > 60, "only {} were compared", theirs.len());
}

#[test]
fn the_scheduling_structure_is_that_of_the_first_version() {
    // SCHED_ATTR_SIZE_VER0 of include/uapi/linux/sched/types.h; the C headers have a longer one.
    assert_eq!(size_of::<libc::sched_attr>(), 48);
    macro_rules! same {
        ($($field:ident),*) => {
            $(assert_eq!(
                offset_of!(libc::sched_attr, $field),
                offset_of!(SchedAttrWithoutClamps, $field)
            );)*
        };
    }
    same!(size, sched_policy, sched_flags, sched_nice, sched_priority, sched_runtime, sched_deadline, sched_period);
}

#[test]
fn the_scan_ioctl_has_the_kernels_number() {
    // Of _IOWR('f', 16, struct pm_scan_arg) with its 12 words: where the headers are too old to tell.
    assert_eq!(pagemap::PAGEMAP_SCAN, 0xc060_6610);
}
