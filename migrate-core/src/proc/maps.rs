//! `/proc/PID/maps`: what is mapped where (proc_pid_maps(5), fs/proc/task_mmu.c `show_map_vma`).

use super::link::without_deleted;
use super::text::{lines, shown, split_once, take_number};
use super::{Malformed, read_parsed};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

/// One mapping: a line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First byte's address.
    pub start: u64,
    /// Address after the last byte; above `start`.
    pub end: u64,
    /// Readable.
    pub read: bool,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub exec: bool,
    /// MAP_SHARED (`s`), not MAP_PRIVATE (`p`).
    pub shared: bool,
    /// Where in the file the mapping begins, in bytes; 0 without a file.
    pub offset: u64,
    /// The file's device, major and minor. On btrfs and overlayfs this is not what `stat` says.
    pub dev: (u32, u32),
    /// The file's inode; 0 without a file.
    pub inode: u64,
    /// What the line is named after.
    pub name: Name,
    /// The name ends in ` (deleted)`: the file has no name any more, or it is named so. [`read_deleted`]
    /// finds out which.
    pub deleted: bool,
    /// The name held `\012`, which was read as a newline. The kernel escapes newlines but not backslashes,
    /// so it may be these four characters as well; `/proc/PID/map_files` has the name unescaped.
    pub escaped: bool,
}

/// The last column of a line of `/proc/PID/maps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Nothing: private memory without a name.
    Anonymous,
    /// A path with everything that the kernel prints of it: trailing spaces, and a ` (deleted)` at the end
    /// (see [`Mapping::path`]). Shared anonymous memory is `/dev/zero (deleted)`, a memfd `/memfd:NAME (deleted)`.
    File(OsString),
    /// `[heap]`, around the break.
    Heap,
    /// `[stack]` of the first thread.
    Stack,
    /// `[vdso]`
    Vdso,
    /// `[vvar]`
    Vvar,
    /// `[vvar_vclock]`, apart from `[vvar]` since Linux 6.13.
    VvarVclock,
    /// `[vsyscall]`, in the kernel's half of the addresses.
    Vsyscall,
    /// `[anon:NAME]`: private memory named with PR_SET_VMA_ANON_NAME.
    AnonNamed(Vec<u8>),
    /// `[anon_shmem:NAME]`: shared memory named with PR_SET_VMA_ANON_NAME.
    SharedAnonNamed(Vec<u8>),
    /// Anything else, such as `[uprobes]` and `anon_inode:[io_uring]`.
    Other(Vec<u8>),
}

impl Mapping {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Never: a mapping has at least one page.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The mapped file's path, without the ` (deleted)` when [`Mapping::deleted`] is set.
    pub fn path(&self) -> Option<&OsStr> {
        match &self.name {
            Name::File(path) if self.deleted => {
                Some(OsStr::from_bytes(without_deleted(path.as_bytes()).unwrap_or(path.as_bytes())))
            }
            Name::File(path) => Some(path),
            _ => None,
        }
    }
}

/// Parses the text of `/proc/PID/maps`; the mappings come in ascending order as the kernel gives them.
///
/// # Errors
/// A line that is not a mapping, by its number.
pub fn parse_maps(text: &[u8]) -> Result<Vec<Mapping>, Malformed> {
    lines(text)
        .enumerate()
        .map(|(index, line)| {
            parse_line(line)
                .ok_or_else(|| Malformed::new(format!("line {} is not a mapping: {}", index + 1, shown(line))))
        })
        .collect()
}

/// `START-END` in hexadecimal, and the rest; `None` when it is not that or is empty or reversed.
pub(super) fn take_range(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (start, rest) = take_number(line, 16)?;
    let (end, rest) = take_number(rest.strip_prefix(b"-")?, 16)?;
    let rest = rest.strip_prefix(b" ")?;
    (start < end).then_some((start, end, rest))
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let (start, end, rest) = take_range(line)?;
    let (permissions, rest) = split_once(rest, b' ')?;
    let [read, write, exec, shared] = *permissions else {
        return None;
    };
    let (offset, rest) = take_number(rest, 16)?;
    let (major, rest) = take_number(rest.strip_prefix(b" ")?, 16)?;
    let (minor, rest) = take_number(rest.strip_prefix(b":")?, 16)?;
    let (inode, rest) = take_number(rest.strip_prefix(b" ")?, 10)?;
    // Spaces pad up to the name, which begins with none of its own: it is a path or in brackets.
    let name = match rest.iter().position(|&byte| byte != b' ') {
        Some(0) => return None,
        Some(at) => rest.get(at..)?,
        None => &[],
    };
    let (name, escaped) = parse_name(name);
    Some(Mapping {
        start,
        end,
        read: flag(read, b'r')?,
        write: flag(write, b'w')?,
        exec: flag(exec, b'x')?,
        shared: match shared {
            b's' => true,
            b'p' => false,
            _ => return None,
        },
        offset,
        dev: (major.try_into().ok()?, minor.try_into().ok()?),
        inode,
        deleted: matches!(&name, Name::File(path) if without_deleted(path.as_bytes()).is_some()),
        name,
        escaped,
    })
}

fn flag(byte: u8, set: u8) -> Option<bool> {
    match byte {
        b'-' => Some(false),
        _ => (byte == set).then_some(true),
    }
}

fn parse_name(name: &[u8]) -> (Name, bool) {
    if name.first() == Some(&b'/') {
        let (path, escaped) = newlines_restored(name);
        return (Name::File(OsString::from_vec(path)), escaped);
    }
    let name = match name {
        b"" => Name::Anonymous,
        b"[heap]" => Name::Heap,
        b"[stack]" => Name::Stack,
        b"[vdso]" => Name::Vdso,
        b"[vvar]" => Name::Vvar,
        b"[vvar_vclock]" => Name::VvarVclock,
        b"[vsyscall]" => Name::Vsyscall,
        _ => {
            let inside = |prefix: &[u8]| name.strip_prefix(prefix)?.strip_suffix(b"]");
            if let Some(inner) = inside(b"[anon:") {
                Name::AnonNamed(inner.to_vec())
            } else if let Some(inner) = inside(b"[anon_shmem:") {
                Name::SharedAnonNamed(inner.to_vec())
            } else {
                Name::Other(name.to_vec())
            }
        }
    };
    (name, false)
}

/// Undoes `seq_path(m, path, "\n")`: a newline is printed as `\012`, everything else as it is.
fn newlines_restored(name: &[u8]) -> (Vec<u8>, bool) {
    const NEWLINE: &[u8] = b"\\012";
    if !name.contains(&b'\\') {
        return (name.to_vec(), false);
    }
    let mut out = Vec::with_capacity(name.len());
    let mut escaped = false;
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        if let Some(after) = rest.strip_prefix(NEWLINE) {
            out.push(b'\n');
            escaped = true;
            rest = after;
        } else {
            out.push(*byte);
            rest = tail;
        }
    }
    (out, escaped)
}

/// Reads `/proc/PID/maps`.
///
/// The text is whole only while the process stands still: the kernel lets it change between two reads.
///
/// # Errors
/// Those of reading (see [`super::is_gone`]), or InvalidData with a [`super::FileError`].
pub fn read_maps(pid: i32) -> io::Result<Vec<Mapping>> {
    read_parsed(format!("/proc/{pid}/maps"), parse_maps)
}

/// Whether the mapped file has really lost its name, when [`Mapping::deleted`] says that it may have.
///
/// Compares the mapped file with the one that the whole name leads to in the process's own root. Needs
/// CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)).
///
/// # Errors
/// When the mapped file cannot be examined.
pub fn read_deleted(pid: i32, mapping: &Mapping) -> io::Result<bool> {
    let Name::File(name) = &mapping.name else {
        return Ok(false);
    };
    if !mapping.deleted {
        return Ok(false);
    }
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    let mapped = std::fs::metadata(&link).map_err(|cause| super::failed(link, cause))?;
    Ok(!super::link::leads_to(pid, name, (mapped.dev(), mapped.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &[u8] = b"55fc98c2f000-55fc98c31000 r--p 00000000 fe:00 247030                     /usr/bin/cat
55fcb0a0e000-55fcb0a2f000 rw-p 00000000 00:00 0                          [heap]
7f3014a00000-7f3014a01000 rw-s 00003000 00:01 2049                       /dev/zero (deleted)
7f3014a01000-7f3014a02000 r-xs 00000000 fe:123 99                        /tmp/a b\\012c\\x  (deleted) \n\
7f3014b00000-7f3014b01000 ---p 00000000 00:00 0 
7f3014b01000-7f3014b02000 rw-p 00000000 00:00 0                          [anon:my heap]
7f3014b02000-7f3014b03000 rw-s 00000000 00:01 7                          [anon_shmem:buf]
7ffd7a3f0000-7ffd7a411000 rw-p 00000000 00:00 0                          [stack]
7ffd7a4e3000-7ffd7a4e5000 r--p 00000000 00:00 0                          [vvar]
7ffd7a4e5000-7ffd7a4e7000 r--p 00000000 00:00 0                          [vvar_vclock]
7ffd7a4e7000-7ffd7a4e9000 r-xp 00000000 00:00 0                          [vdso]
7ffd7a4ea000-7ffd7a4eb000 r-xp 00000000 00:00 0                          [uprobes]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn every_kind_of_line() {
        let maps = parse_maps(SAMPLE).unwrap();
        let names: Vec<_> = maps.iter().map(|mapping| mapping.name.clone()).collect();
        assert_eq!(
            names,
            [
                Name::File("/usr/bin/cat".into()),
                Name::Heap,
                Name::File("/dev/zero (deleted)".into()),
                Name::File("/tmp/a b\nc\\x  (deleted) ".into()),
                Name::Anonymous,
                Name::AnonNamed(b"my heap".to_vec()),
                Name::SharedAnonNamed(b"buf".to_vec()),
                Name::Stack,
                Name::Vvar,
                Name::VvarVclock,
                Name::Vdso,
                Name::Other(b"[uprobes]".to_vec()),
                Name::Vsyscall,
            ]
        );
        let [first, _, zero, odd, guard, ..] = maps.as_slice() else {
            panic!("{maps:?}");
        };
        assert_eq!((first.start, first.end), (0x55fc98c2f000, 0x55fc98c31000));
        assert_eq!((first.dev, first.inode), ((0xfe, 0), 247030));
        assert!(first.read && !first.write && !first.exec && !first.shared);
        assert_eq!(zero.offset, 0x3000);
        assert!(zero.shared && zero.deleted && !zero.escaped);
        assert_eq!(zero.path(), Some(OsStr::new("/dev/zero")));
        assert_eq!(odd.dev, (0xfe, 0x123));
        assert!(odd.exec && odd.escaped && !odd.deleted);
        assert!(!guard.read && guard.path().is_none());
    }

    #[test]
    fn bad_lines_are_named() {
        for line in [
            "7f00-6f00 r--p 0 0:0 0 ",
            "7f00-8f00 r--q 0 0:0 0 ",
            "7f00-8f00 r--p 0 0:0 0x",
            "7f00-8f00 r-xpp 0 0:0 0 ",
            "7f00-8f00 r--p 0 100000000:0 0 ",
        ] {
            let error = parse_maps(line.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 1 is not a mapping: "), "{error}");
        }
    }

    #[test]
    fn reads_this_process() {
        let maps = read_maps(std::process::id() as i32).unwrap();
        assert!(maps.iter().any(|mapping| mapping.name == Name::Stack));
        let exe = std::env::current_exe().unwrap();
        assert!(maps.iter().any(|m| m.path() == Some(exe.as_os_str())));
    }

    /// A real program under a name that needs care, mapped by the kernel.
    #[test]
    fn odd_names_and_deleted_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in [&b"a\nb\xff (deleted)"[..], b"trailing  "] {
            let program = folder.path().join(OsStr::from_bytes(name));
            std::fs::copy("/bin/sleep", &program).unwrap();
            let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
            let pid = child.id() as i32;
            let find = || {
                let maps = read_maps(pid).unwrap();
                maps.into_iter()
                    .find(|m| matches!(&m.name, Name::File(path) if path.as_bytes().starts_with(program.as_os_str().as_bytes())))
            };
            // spawn returns as soon as the old memory is gone, before the new one is mapped.
            let before = (0..5000).find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                find()
            });
            let kept = before.as_ref().map(|mapping| read_deleted(pid, mapping));
            std::fs::remove_file(&program).unwrap();
            let after = find();
            let gone = after.as_ref().map(|mapping| read_deleted(pid, mapping));
            child.kill().unwrap();
            child.wait().unwrap();

            let (before, after) = (before.unwrap(), after.unwrap());
            assert_eq!(before.name, Name::File(program.clone().into_os_string()));
            assert_eq!(before.deleted, name.ends_with(b" (deleted)"));
            assert_eq!(before.escaped, name.contains(&b'\n'));
            assert!(after.deleted);
            assert_eq!(after.path(), Some(program.as_os_str()));
            // map_files needs a capability that the tests may run without.
            for (found, expected) in [(kept, false), (gone, true)] {
                match found.unwrap() {
                    Ok(deleted) => assert_eq!(deleted, expected),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes(text: Vec<u8>) {
            let _ = parse_maps(&text);
        }

        #[test]
        fn any_byte_changed(at in 0..SAMPLE.len(), byte: u8) {
            let mut text = SAMPLE.to_vec();
            text[at] = byte;
            let _ = parse_maps(&text);
        }

        #[test]
        fn any_path(path in proptest::collection::vec(1u8.., 0..64)) {
            let path = [&b"/"[..], &path].concat();
            let printed: Vec<u8> = path.iter().flat_map(|&byte| match byte {
                b'\n' => b"\\012".to_vec(),
                _ => vec![byte],
            }).collect();
            let text = [&b"1000-2000 r--p 00000000 00:00 5      "[..], &printed, b"\n"].concat();
            let maps = parse_maps(&text).unwrap();
            prop_assert_eq!(&maps[0].name, &Name::File(OsString::from_vec(path)));
        }
    }
}
