//! Where a link of `/proc/PID` leads: `fd/N`, `cwd`, `root`, `exe` (proc_pid_fd(5)).

use super::failed;
use super::text::number;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a link of `/proc/PID` says of the thing behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkTarget {
    /// A path, as the reader's root sees it where the file is reachable from there.
    Path {
        /// The path, without ` (deleted)` when `deleted` is set.
        path: OsString,
        /// It no longer has this name. [`parse_link`] takes a file named `x (deleted)` for a deleted `x`;
        /// the `read_*` functions ask the kernel.
        deleted: bool,
    },
    /// `pipe:[INODE]`: a pipe without a name (a named one is a path).
    Pipe(u64),
    /// `socket:[INODE]`
    Socket(u64),
    /// `anon_inode:[NAME]` or `anon_inode:NAME`: `eventfd`, `eventpoll`, `timerfd`, `signalfd`, `inotify`,
    /// `io_uring`, `userfaultfd`, `pidfd` and others, without the brackets.
    AnonInode(Vec<u8>),
    /// `/memfd:NAME (deleted)`. A deleted file `memfd:NAME` in the root folder reads the same; its file
    /// system tells them apart.
    Memfd {
        /// The name given to memfd_create(2).
        name: Vec<u8>,
    },
    /// `net:[INODE]` and its like.
    Namespace {
        /// Which of the kinds in namespaces(7).
        kind: NamespaceKind,
        /// Its inode in nsfs, which identifies the namespace.
        inode: u64,
    },
    /// Anything else.
    Other(Vec<u8>),
}

/// The kinds of namespaces(7), by the names that nsfs gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum NamespaceKind {
    Cgroup,
    Ipc,
    Mnt,
    Net,
    Pid,
    Time,
    User,
    Uts,
}

impl NamespaceKind {
    fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"cgroup" => Self::Cgroup,
            b"ipc" => Self::Ipc,
            b"mnt" => Self::Mnt,
            b"net" => Self::Net,
            b"pid" => Self::Pid,
            b"time" => Self::Time,
            b"user" => Self::User,
            b"uts" => Self::Uts,
            _ => return None,
        })
    }
}

/// The path before the ` (deleted)` that the kernel appends to an unlinked file's (fs/d_path.c), or `None`.
pub fn without_deleted(path: &[u8]) -> Option<&[u8]> {
    path.strip_suffix(b" (deleted)")
}

/// Parses what readlink(2) gives for a link of `/proc/PID`. Never fails: what is not known is `Other`.
pub fn parse_link(text: &[u8]) -> LinkTarget {
    if text.first() == Some(&b'/') {
        if let Some(path) = without_deleted(text) {
            return match path.strip_prefix(b"/memfd:") {
                Some(name) => LinkTarget::Memfd { name: name.to_vec() },
                None => path_target(path, true),
            };
        }
        return path_target(text, false);
    }
    if let Some(name) = text.strip_prefix(b"anon_inode:") {
        let bare = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]"));
        return LinkTarget::AnonInode(bare.unwrap_or(name).to_vec());
    }
    parse_numbered(text).unwrap_or_else(|| LinkTarget::Other(text.to_vec()))
}

fn path_target(path: &[u8], deleted: bool) -> LinkTarget {
    LinkTarget::Path { path: OsString::from_vec(path.to_vec()), deleted }
}

/// `KIND:[INODE]`
fn parse_numbered(text: &[u8]) -> Option<LinkTarget> {
    let (kind, rest) = super::text::split_once(text, b':')?;
    let inode = number(rest.strip_prefix(b"[")?.strip_suffix(b"]")?, 10)?;
    Some(match kind {
        b"pipe" => LinkTarget::Pipe(inode),
        b"socket" => LinkTarget::Socket(inode),
        _ => LinkTarget::Namespace { kind: NamespaceKind::from_name(kind)?, inode },
    })
}

/// Reads `/proc/PID/fd/FD`.
///
/// # Errors
/// Those of readlink(2); see [`super::is_gone`].
pub fn read_fd_link(pid: i32, fd: i32) -> io::Result<LinkTarget> {
    read_link(pid, &format!("/proc/{pid}/fd/{fd}"))
}

/// Reads `/proc/PID/cwd`, the working directory.
///
/// # Errors
/// As for [`read_fd_link`].
pub fn read_cwd(pid: i32) -> io::Result<LinkTarget> {
    read_link(pid, &format!("/proc/{pid}/cwd"))
}

/// Reads `/proc/PID/root`, the root directory.
///
/// # Errors
/// As for [`read_fd_link`].
pub fn read_root(pid: i32) -> io::Result<LinkTarget> {
    read_link(pid, &format!("/proc/{pid}/root"))
}

/// Reads `/proc/PID/exe`, the program. Kernel threads and zombies have none: ENOENT.
///
/// # Errors
/// As for [`read_fd_link`].
pub fn read_exe(pid: i32) -> io::Result<LinkTarget> {
    read_link(pid, &format!("/proc/{pid}/exe"))
}

fn read_link(pid: i32, link: &str) -> io::Result<LinkTarget> {
    let text = std::fs::read_link(link).map_err(|cause| failed(link, cause))?;
    let target = parse_link(text.as_os_str().as_bytes());
    if let LinkTarget::Path { deleted: true, .. } = target {
        let behind = std::fs::metadata(link).map_err(|cause| failed(link, cause))?;
        if leads_to(pid, text.as_os_str(), (behind.dev(), behind.ino())) {
            return Ok(path_target(text.as_os_str().as_bytes(), false));
        }
    }
    Ok(target)
}

/// Whether `path`, taken in the process's root, is the file with this device and inode.
pub(super) fn leads_to(pid: i32, path: &OsStr, (dev, ino): (u64, u64)) -> bool {
    let mut there = OsString::from(format!("/proc/{pid}/root"));
    there.push(path);
    std::fs::symlink_metadata(Path::new(&there)).is_ok_and(|found| found.dev() == dev && found.ino() == ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    #[test]
    fn every_kind() {
        let path = |path: &str, deleted| LinkTarget::Path { path: path.into(), deleted };
        let cases: &[(&[u8], LinkTarget)] = &[
            (b"/tmp/a b ", path("/tmp/a b ", false)),
            (b"/tmp/x (deleted)", path("/tmp/x", true)),
            (b"/tmp/x (deleted) (deleted)", path("/tmp/x (deleted)", true)),
            (b"/tmp/pipe:[1]", path("/tmp/pipe:[1]", false)),
            (b"pipe:[1039]", LinkTarget::Pipe(1039)),
            (b"socket:[7]", LinkTarget::Socket(7)),
            (b"anon_inode:[eventfd]", LinkTarget::AnonInode(b"eventfd".to_vec())),
            (b"anon_inode:inotify", LinkTarget::AnonInode(b"inotify".to_vec())),
            (b"/memfd:a b (deleted)", LinkTarget::Memfd { name: b"a b".to_vec() }),
            (b"net:[4026531840]", LinkTarget::Namespace { kind: NamespaceKind::Net, inode: 4_026_531_840 }),
            (b"pipe:[x]", LinkTarget::Other(b"pipe:[x]".to_vec())),
            (b"mars:[1]", LinkTarget::Other(b"mars:[1]".to_vec())),
            (b"", LinkTarget::Other(vec![])),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_link(text), *expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn deleted_files_and_files_named_so() {
        let folder = tempfile::tempdir().unwrap();
        let pid = std::process::id() as i32;
        // Not UTF-8, with a newline, and truly named as if deleted.
        for name in [&b"x (deleted)"[..], b"\xff\n (deleted)", b"plain \\012 "] {
            let path = folder.path().join(OsStr::from_bytes(name));
            let file = File::create(&path).unwrap();
            let target = |deleted| LinkTarget::Path { path: path.clone().into_os_string(), deleted };
            let fd = file.as_raw_fd();
            assert_eq!(read_fd_link(pid, fd).unwrap(), target(false));
            std::fs::remove_file(&path).unwrap();
            assert_eq!(read_fd_link(pid, fd).unwrap(), target(true));
        }
    }

    #[test]
    fn reads_this_process() {
        let pid = std::process::id() as i32;
        let (reader, _writer) = std::io::pipe().unwrap();
        let inode = std::fs::metadata(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap().ino();
        let fd = reader.as_raw_fd();
        assert_eq!(read_fd_link(pid, fd).unwrap(), LinkTarget::Pipe(inode));
        let cwd = std::env::current_dir().unwrap();
        assert_eq!(read_cwd(pid).unwrap(), path_target(cwd.as_os_str().as_bytes(), false));
        assert_eq!(read_root(pid).unwrap(), path_target(b"/", false));
        assert!(matches!(read_exe(pid).unwrap(), LinkTarget::Path { .. }));
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            parse_link(&text);
        }

        #[test]
        fn any_number(number in "[0-9]{0,30}") {
            parse_link(format!("pipe:[{number}]").as_bytes());
        }
    }
}
