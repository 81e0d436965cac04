//! The other ends of what a process has open, where another process has them: they would be parted.

use std::collections::BTreeSet;
use std::fs;

use crate::error::{Doing, Result};
use crate::proc::link::{LinkTarget, parse_link};
use crate::proc::listing::for_each_fd_of_others;

/// A pipe that another process has open too would be cut in two. Its inode, and the reason in words.
pub fn of_pipes(pid: i32, pipes: &BTreeSet<u64>) -> Result<Vec<(u64, String)>> {
    let mut reasons = Vec::new();
    let listed = for_each_fd_of_others(&[pid, std::process::id() as i32], |other, entry, link| {
        if let LinkTarget::Pipe(inode) = parse_link(link)
            && pipes.contains(&inode)
        {
            let name = fs::read_to_string(format!("/proc/{other}/comm")).unwrap_or_default();
            let reason = format!(
                "a pipe of it (pipe:[{inode}]) is held by process {other} ({}), descriptor {}, which stays; start it with its input and output from and to files",
                name.trim_end(),
                entry.file_name().to_string_lossy()
            );
            reasons.push((inode, reason));
        }
    });
    listed.doing(|| "list the processes".into())?;
    Ok(reasons)
}
