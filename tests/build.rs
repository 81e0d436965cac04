//! Compiles the subjects, each `subjects/*.c` to a program of its own, and writes a test for each.
//!
//! What one needs beside the usual is said in a comment line of its own at the top: `/* build: -static */`.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| missing("CARGO_MANIFEST_DIR"))?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| missing("OUT_DIR"))?);
    let subjects = here.join("subjects");
    println!("cargo::rerun-if-changed=subjects");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CC");

    let mut sources = Vec::new();
    let mut changed = fs::metadata(here.join("build.rs"))?.modified()?;
    for entry in fs::read_dir(&subjects).into_iter().flatten() {
        let path = entry?.path();
        match path.extension().and_then(OsStr::to_str) {
            Some("c") => sources.push(path),
            Some("h") => changed = changed.max(fs::metadata(&path)?.modified()?),
            _ => {}
        }
    }
    sources.sort();

    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut tests = String::new();
    for source in &sources {
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        compile(&compiler, source, &out.join(&*name), changed)?;
        let _ = writeln!(tests, "subject!({name});");
    }
    fs::write(out.join("subjects.rs"), tests)
}

fn missing(name: &str) -> io::Error {
    io::Error::other(format!("{name} is not set: cargo runs this"))
}

/// Whatever goes wrong is said again by the subject's test: `PROGRAM.error` holds it.
fn compile(compiler: &str, source: &Path, program: &Path, changed: SystemTime) -> io::Result<()> {
    let changed = changed.max(fs::metadata(source)?.modified()?);
    if fs::metadata(program).and_then(|m| m.modified()).is_ok_and(|made| made > changed) {
        return Ok(());
    }
    let error = program.with_extension("error");
    let _ = fs::remove_file(program);
    let _ = fs::remove_file(&error);
    let text = fs::read_to_string(source)?;
    let wanted = text.lines().take(10).find_map(|line| line.strip_prefix("/* build:")?.strip_suffix("*/"));
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let mut command = Command::new(compiler);
    command.args(["-O1", "-pthread", "-Wall", "-o"]).arg(program).args(wanted.unwrap_or_default().split_whitespace());
    if name.starts_with("static_") {
        command.arg("-static");
    }
    let why = match command.arg(source).output() {
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            for line in said.lines().filter(|line| line.contains("warning:") || line.contains("error:")) {
                println!("cargo::warning={line}");
            }
            match done.status.success() {
                true => return Ok(()),
                false => format!("does not compile:\n{said}"),
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            println!(
                "cargo::warning=no C compiler ({compiler}): the subject {name} is skipped; scripts/setup installs one"
            );
            format!("SKIPPED: no C compiler ({compiler}); scripts/setup installs one")
        }
        Err(e) => format!("cannot run {compiler}: {e}"),
    };
    fs::write(error, why)
}
