//! The other ends of what a process has open, where another process has them: they would be parted.

use std::collections::BTreeMap;
use std::fs;

use crate::error::{Doing, Result};
use crate::proc::link::{LinkTarget, parse_link};
use crate::proc::listing::for_each_fd_of_others;
use crate::resources::file::{listed, or_instead};

/// A pipe that another process has open too would be cut in two. Its inode, and the reason in words. `pipes`: by inode, with the
/// numbers that the process has them at.
pub fn of_pipes(pid: i32, pipes: &BTreeMap<u64, Vec<i32>>) -> Result<Vec<(u64, String)>> {
    let mut holders: BTreeMap<(u64, i32), Vec<i32>> = BTreeMap::new();
    let looked = for_each_fd_of_others(&[pid, std::process::id() as i32], |other, entry, link| {
        if let LinkTarget::Pipe(inode) = parse_link(link)
            && pipes.contains_key(&inode)
            && let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok())
        {
            holders.entry((inode, other)).or_default().push(number);
        }
    });
    looked.doing(|| "list the processes".into())?;
    let reason = |((inode, other), theirs): ((u64, i32), Vec<i32>)| {
        let ours = pipes.get(&inode).map_or(&[][..], Vec::as_slice);
        let who = format!("process {other} ({})", name_of(other));
        let why = format!(
            "fd {}: a pipe (pipe:[{inode}]) that {who} has as fd {} and stays; {}",
            listed(ours),
            listed(&theirs),
            or_instead(ours)
        );
        (inode, why)
    };
    Ok(holders.into_iter().map(reason).collect())
}

/// The name of a process; empty: it is gone.
pub fn name_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().into()
}
