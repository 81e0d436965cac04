//! The program that a test looks at.

use std::path::{Path, PathBuf};
use std::process::Command;

use migrate_linux::libc;

/// Compiles the subject of this test into a directory. None, and a word, without root.
pub fn compiled(test: &str, directory: &Path) -> Option<PathBuf> {
    // SAFETY: no memory is involved.
    if unsafe { libc::geteuid() } != 0 {
        println!("SKIPPED {test}: it needs root");
        return None;
    }
    let source = format!("{}/tests/{test}/subject.c", env!("CARGO_MANIFEST_DIR"));
    let program = directory.join("subject");
    let done = Command::new("cc").args(["-O2", "-Wall", "-pthread", "-o"]).arg(&program).arg(source).status();
    assert!(done.expect("cc; scripts/setup installs it").success());
    Some(program)
}
