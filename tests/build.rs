//! Compiles the subject programs and the workloads, one program per C file, into `OUT_DIR`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Linked without libraries: programs without an interpreter move too.
const STATIC: &[&str] = &["static_program"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for folder in ["subjects", "workloads"] {
        println!("cargo::rerun-if-changed={folder}");
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        for entry in entries {
            let path = entry.expect("a directory entry").path();
            println!("cargo::rerun-if-changed={}", path.display());
            if path.extension().is_some_and(|extension| extension == "c") {
                compile(&path, &out);
            }
        }
    }
}

fn compile(source: &Path, out: &Path) {
    let name = source.file_stem().expect("a file has a name");
    let mut compiler = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compiler.args(["-O1", "-g", "-pthread", "-Wall", "-Wextra", "-Werror", "-o"]);
    compiler.arg(out.join(name)).arg(source);
    if STATIC.iter().any(|one| name == *one) {
        compiler.arg("-static");
    }
    match compiler.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("compiling {}: {status}", source.display()),
        Err(error) => panic!("starting the C compiler: {error}; install it (Debian package gcc)"),
    }
}
