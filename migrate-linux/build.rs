//! Compiles the probes in ebpf/ for the BPF machine.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// In ebpf/, with `.bpf.c` behind.
const PROBES: [&str; 8] = ["threads", "files", "activity", "downtime", "terminals", "notify", "semaphores", "cork"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(probes)");
    let probes = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../ebpf");
    for name in PROBES {
        println!("cargo::rerun-if-changed={}", probes.join(name).with_extension("bpf.c").display());
    }
    println!("cargo::rerun-if-changed={}", probes.join("kernel.h").display());
    println!("cargo::rerun-if-env-changed=CLANG");
    if env::var_os("CARGO_FEATURE_EBPF").is_none() {
        return;
    }
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    for name in PROBES {
        let (from, to) = (probes.join(name).with_extension("bpf.c"), out.join(name).with_extension("bpf.o"));
        let mut command = Command::new(&clang);
        // Debugging information: BTF, by which the loader finds the kernel's members.
        command
            .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror", "-c"])
            .arg(&from)
            .arg("-o")
            .arg(&to);
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                println!("cargo::error={clang} cannot compile {} ({status})", from.display());
                return;
            }
            Err(error) => {
                println!(
                    "cargo::warning={clang}: {error}; built without the eBPF probes: many threads take longer to move"
                );
                return;
            }
        }
    }
    println!("cargo::rustc-cfg=probes");
}
