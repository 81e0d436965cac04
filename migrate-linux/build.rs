//! Compiles the probes in ebpf/ for the BPF machine.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(probes)");
    let from = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../ebpf/threads.bpf.c");
    println!("cargo::rerun-if-changed={}", from.display());
    println!("cargo::rerun-if-env-changed=CLANG");
    if env::var_os("CARGO_FEATURE_EBPF").is_none() {
        return;
    }
    let to = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("threads.bpf.o");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let mut command = Command::new(&clang);
    // Debugging information: BTF, by which the loader finds the kernel's members.
    command.args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror", "-c"]).arg(&from).arg("-o").arg(&to);
    match command.status() {
        Ok(status) if status.success() => println!("cargo::rustc-cfg=probes"),
        Ok(status) => {
            println!("cargo::error={clang} cannot compile {} ({status})", from.display());
        }
        Err(error) => {
            println!("cargo::warning={clang}: {error}; built without the eBPF probes: many threads take longer to move")
        }
    }
}
