//! Loading probes: the programs of ebpf/, which this was built with where clang is there, into the kernel.

#[cfg(probes)]
use std::os::fd::{AsFd, OwnedFd};

use crate::error::Error;
#[cfg(probes)]
use crate::error::Result;

/// Has the kernel take the program `name`, of the kind `iter/TARGET`, for a [`TaskIterator`](crate::task_iterator::TaskIterator).
#[cfg(probes)]
pub(crate) fn program(
    object: &mut aya::Ebpf,
    name: &str,
    target: &str,
    kernel: &aya::Btf,
) -> std::result::Result<OwnedFd, Box<dyn std::error::Error>> {
    let program = object.program_mut(name).ok_or("it is not in the object")?;
    let program: &mut aya::programs::Iter = program.try_into()?;
    program.load(target, kernel).map_err(refused)?;
    Ok(program.fd()?.as_fd().try_clone_to_owned()?)
}

/// The same for a program over descriptors that is all there is in an object; `what`: what it tells of, in words.
#[cfg(probes)]
pub(crate) fn of_files(object: &[u8], name: &str, what: &str) -> Result<OwnedFd> {
    let load = || {
        let kernel = aya::Btf::from_sys_fs()?;
        let mut object = aya::EbpfLoader::new().btf(Some(&kernel)).load(object)?;
        program(&mut object, name, "task_file", &kernel)
    };
    load().map_err(|why: Box<dyn std::error::Error>| cannot_be_loaded(what, why))
}

/// Has the kernel take the program `name` of ebpf/OBJECT.bpf.c, over descriptors; `what`: what it tells of, in words.
macro_rules! load_over_files {
    ($object:literal, $name:literal, $what:literal) => {{
        #[cfg(probes)]
        {
            static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/", $object, ".bpf.o"));
            $crate::probe::of_files(OBJECT, $name, $what)
        }
        #[cfg(not(probes))]
        Err::<std::os::fd::OwnedFd, _>($crate::probe::cannot_be_loaded($what, $crate::probe::BUILT_WITHOUT))
    }};
}
pub(crate) use load_over_files;

/// Why there is no probe.
#[cfg(not(probes))]
pub(crate) const BUILT_WITHOUT: &str = "this was built without it (clang was missing, or the feature ebpf was off)";

/// `what`: what the probe tells of, in words.
pub(crate) fn cannot_be_loaded(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Unsupported(format!("the probe for {what} cannot be loaded: {why}"))
}

/// Why the kernel has not accepted a program.
#[cfg(probes)]
pub(crate) fn refused(error: aya::programs::ProgramError) -> Box<dyn std::error::Error> {
    match error {
        aya::programs::ProgramError::LoadError { io_error, verifier_log } => {
            format!("{io_error}; the kernel says: {}", complaint(&verifier_log.to_string())).into()
        }
        other => other.into(),
    }
}

/// What the kernel's check of a program has found fault with: its log is a listing of the program, that, and some statistics.
#[cfg(any(probes, test))]
fn complaint(log: &str) -> &str {
    const STATISTICS: [&str; 3] = ["verification time", "stack depth", "processed"];
    let lines = log.lines().rev().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .find(|line| !STATISTICS.iter().any(|s| line.starts_with(s)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_refused_program_the_reason_is_told_alone() {
        let log = "0: R1=ctx(off=0,imm=0) R10=fp0\n255: (85) call bpf_probe_read_kernel#113\n\
            R2 unbounded memory access, use 'var &= const' or 'if (var < const)'\nverification time 7323 usec\nstack depth 448\n\
            processed 285 insns (limit 1000000) max_states_per_insn 0\n\n";
        assert_eq!(complaint(log), "R2 unbounded memory access, use 'var &= const' or 'if (var < const)'");
        assert_eq!(complaint(""), "");
    }
}
