//! What holds for the repository as a whole.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Lines that no file may exceed; half of it is usual.
const LONGEST: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of ours; nothing that was built, nothing of git's.
fn files() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let hidden = name.as_encoded_bytes().starts_with(b".") || name == "target";
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !hidden => walk(&path, found),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    assert!(found.len() > 20, "only {} files found", found.len());
    found
}

fn has_extension(path: &Path, wanted: &[&str]) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|e| wanted.contains(&e))
}

fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let sources = files().into_iter().filter(|path| has_extension(path, &["rs", "c", "h", "sh"]));
    sources.map(|path| {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, text)
    })
}

fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_crate() {
    // `unsafe {`, `unsafe fn`, `unsafe impl`, `unsafe extern`: the word before code, not in prose.
    let code = |line: &str| {
        let line = line.split("//").next().unwrap_or_default();
        ["{", "fn ", "impl ", "extern "].iter().any(|next| line.contains(&format!("unsafe {next}")))
    };
    let elsewhere = sources()
        .filter(|(path, _)| {
            has_extension(path, &["rs"]) && !path.components().any(|c| c.as_os_str() == "migrate-linux")
        })
        .filter(|(path, _)| !path.ends_with("tests/tests/repository.rs"));
    let found = elsewhere.filter(|(_, text)| text.lines().any(code)).map(|(path, _)| path.display().to_string());
    none("unsafe code outside migrate-linux", found.collect());
}

#[test]
fn no_file_is_long() {
    let long = sources().map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > LONGEST);
    none("longer than it may be", long.map(|(path, lines)| format!("{}: {lines} lines", path.display())).collect());
}

#[test]
fn scripts_can_be_run() {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("scripts")).expect("scripts").flatten() {
        let path = entry.path();
        let runs = entry.metadata().is_ok_and(|m| m.permissions().mode() & 0o111 == 0o111);
        // What others source has an extension and is not run.
        let is_library = path.extension().is_some();
        let begins = fs::read(&path).is_ok_and(|text| text.starts_with(b"#!"));
        if runs == is_library || begins == is_library {
            found.push(path.display().to_string());
        }
    }
    none("scripts without a run bit or a first line that says what runs them", found);
}

#[test]
fn every_subject_is_run() {
    let list = include_str!(concat!(env!("OUT_DIR"), "/subjects.rs"));
    let mut found = Vec::new();
    let mut subjects = 0;
    for path in files().into_iter().filter(|path| has_extension(path, &["c"])) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.parent().is_some_and(|parent| parent.ends_with("tests/subjects")) {
            subjects += 1;
            if !list.contains(&format!("subject!({name});")) {
                found.push(name);
            }
        }
    }
    assert!(subjects > 0, "no subjects");
    none("subjects that no test runs", found);
}

#[test]
fn every_subject_says_what_it_is_about() {
    let is_subject = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with("tests/subjects"));
    let silent = sources().filter(|(path, text)| is_subject(path) && !text.starts_with("/*"));
    none("subjects without a comment at their beginning", silent.map(|(path, _)| path.display().to_string()).collect());
}
