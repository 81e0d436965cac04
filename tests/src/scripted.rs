//! Programs in Python that a test writes where it needs them.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use crate::hosts::{Host, Hosts, Started};
use crate::waiting::{wait_for, wait_for_file};

/// Debian's own, whatever else there is.
pub const PYTHON: &str = "/usr/bin/python3";
const PATIENCE: Duration = Duration::from_secs(20);

/// A program in alpha, in this directory; `before`: what it has, `after`: what it does when the file `go` comes. Then the file `done`
/// comes, with the text `ok`.
pub fn start<'h>(hosts: &'h Hosts, directory: TempDir, before: &str, after: &str) -> Started<'h> {
    let program = format!(
        "import os, sys, time\n{before}\nopen('ready', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.005)\n{after}\n\
         with open('doing', 'w') as doing: doing.write('ok')\nos.rename('doing', 'done')"
    );
    let started = hosts.start(Host::Alpha, directory, &[PYTHON, "-S", "-B", "-c", &program]);
    assert!(wait_for_file(&started.path("ready"), PATIENCE).is_some(), "{}", started.text("stderr"));
    started
}

/// It is refused, with all of these words.
pub fn refused(hosts: &Hosts, started: &Started<'_>, options: &[&str], words: &[&str]) {
    let why = hosts.push(started.pid, Host::Alpha, "beta", options).refused();
    let why = why.unwrap_or_else(|said| panic!("not refused: {said}"));
    for word in words {
        assert!(why.contains(word), "no {word:?} in: {why}");
    }
}

/// It does what it is to do, wherever it is.
pub fn finishes(started: &Started<'_>) {
    fs::write(started.path("go"), "").expect("a file");
    let done = wait_for(PATIENCE, || started.path("done").exists().then_some(()));
    assert!(done.is_some(), "{}", started.said());
}
