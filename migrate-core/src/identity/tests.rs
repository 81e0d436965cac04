use super::*;
use proptest::prelude::*;
use std::io::Seek;
use std::time::{Duration, SystemTime};

fn regular(size: u64, mtime_ns: i128) -> FileIdentity {
    FileIdentity { size, mtime_ns, ..FileIdentity::bare(Path::new("/f"), Kind::Regular) }
}

fn of_kind(kind: Kind) -> FileIdentity {
    FileIdentity::bare(Path::new("/f"), kind)
}

fn with_build_id(mtime_ns: i128, id: &[u8]) -> FileIdentity {
    FileIdentity { build_id: Some(id.to_vec()), ..regular(7, mtime_ns) }
}

fn with_digest(mtime_ns: i128, byte: u8) -> FileIdentity {
    FileIdentity { digest: Some([byte; 32]), ..regular(7, mtime_ns) }
}

#[test]
fn same_files() {
    let same = [
        (regular(7, 1), regular(7, 1)),
        // Time and size decide; the content of one side does not matter then.
        (regular(7, 1), with_digest(1, 9)),
        (with_build_id(1, b"ab"), with_build_id(2, b"ab")),
        (with_digest(1, 9), with_digest(2, 9)),
        (of_kind(Kind::Directory), of_kind(Kind::Directory)),
        (of_kind(Kind::CharDevice { rdev: 0x103 }), of_kind(Kind::CharDevice { rdev: 0x103 })),
    ];
    for (here, there) in same {
        assert_eq!(compare(&here, &there), Ok(()), "{here:?} {there:?}");
    }
}

#[test]
fn differences_in_words() {
    let null = Kind::CharDevice { rdev: 0x103 };
    let zero = Kind::CharDevice { rdev: 0x105 };
    let different = [
        (regular(1024, 1), regular(2048, 1), "differs (1024 bytes here, 2048 there)"),
        (
            with_build_id(1, &[0x3f, 0x2a, 1, 2, 3]),
            with_build_id(2, &[0x9c, 1]),
            "differs (build-id 3f2a0102… here, 9c01 there)",
        ),
        (with_build_id(1, &[0x3f]), with_digest(2, 9), "differs (build-id 3f here, none there)"),
        (
            with_digest(1, 8),
            with_digest(2, 9),
            "differs (same size, content differs: blake3 08080808… here, 09090909… there)",
        ),
        (regular(7, 1), regular(7, 2), "was modified at another time there, and its content was not compared"),
        (regular(7, 1), of_kind(Kind::Missing), "is missing there"),
        (regular(7, 1), of_kind(Kind::Directory), "is a directory there"),
        (of_kind(null), of_kind(zero), "is another device there (1:3 here, 1:5 there)"),
        (of_kind(null), regular(7, 1), "is a regular file there"),
        (of_kind(Kind::Missing), regular(7, 1), "is missing here"),
    ];
    for (here, there, words) in different {
        assert_eq!(compare(&here, &there).unwrap_err().to_string(), words);
    }
}

#[test]
fn content_is_asked_for_only_where_times_differ() {
    assert!(needs_content(&regular(7, 1), &regular(7, 2)));
    assert!(!needs_content(&regular(7, 1), &regular(7, 1)));
    assert!(!needs_content(&regular(7, 1), &regular(8, 2)));
    assert!(!needs_content(&regular(7, 1), &of_kind(Kind::Missing)));
    assert!(!needs_content(&of_kind(Kind::Directory), &of_kind(Kind::Directory)));
}

#[test]
fn kinds_on_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let kind = |path: &Path| read_identity(path, Depth::Content, &mut DigestCache::new()).unwrap().kind;
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(kind(folder.path()), Kind::Directory);
    assert_eq!(kind(&file), Kind::Regular);
    assert_eq!(kind(&pipe), Kind::NamedPipe);
    assert_eq!(kind(&folder.path().join("none")), Kind::Missing);
    assert_eq!(kind(&file.join("none")), Kind::Missing);
    assert_eq!(kind(Path::new("/dev/null")), Kind::CharDevice { rdev: 0x103 });
}

#[test]
fn copies_are_the_same_until_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let mut cache = DigestCache::new();
    for program in [Path::new("/bin/sleep"), Path::new("/etc/passwd")] {
        std::fs::copy(program, &here).unwrap();
        std::fs::copy(program, &there).unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        let file = OpenOptions::new().write(true).open(&there).unwrap();
        file.set_modified(later).unwrap();

        let stat = |path, cache: &mut _| read_identity(path, Depth::Stat, cache).unwrap();
        assert!(needs_content(&stat(&here, &mut cache), &stat(&there, &mut cache)));
        let content = |path, cache: &mut _| read_identity(path, Depth::Content, cache).unwrap();
        let mine = content(&here, &mut cache);
        assert_eq!(compare(&mine, &content(&there, &mut cache)), Ok(()));
        assert_eq!(mine.build_id.is_some(), program.starts_with("/bin"));
        assert_eq!(mine.digest.is_some(), program.starts_with("/etc"));
    }
    assert_eq!(cache.len(), 4);
    // One changed byte, and the old modification time: the cache must not be deceived.
    let before = std::fs::metadata(&there).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&there).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&there, bytes).unwrap();
    let file = OpenOptions::new().write(true).open(&there).unwrap();
    file.set_modified(before).unwrap();
    let mine = read_identity(&here, Depth::Content, &mut cache).unwrap();
    let theirs = read_identity(&there, Depth::Content, &mut cache).unwrap();
    assert!(matches!(compare(&mine, &theirs), Err(Difference::Digest { .. })));
}

#[test]
fn an_open_file_is_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, b"0123456789").unwrap();
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(io::SeekFrom::Start(4)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let identity = read_file_identity(&file, &path, Depth::Content, &mut DigestCache::new()).unwrap();
    assert_eq!(identity.digest, Some(*blake3::hash(b"0123456789").as_bytes()));
    assert_eq!(file.stream_position().unwrap(), 4);
}

#[test]
fn sizes_that_an_elf_file_claims_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let mut bytes = std::fs::read("/bin/sleep").unwrap();
    // e_phnum: as many program headers as there can be.
    bytes[56..58].copy_from_slice(&0xfffeu16.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    let identity = read_identity(&path, Depth::Content, &mut DigestCache::new()).unwrap();
    assert!(identity.build_id.is_none() && identity.digest.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_change_in_an_elf_header(changes in proptest::collection::vec((0usize..1024, any::<u8>()), 1..8)) {
        let mut bytes = std::fs::read("/bin/sleep").unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let identity = read_identity(file.path(), Depth::Content, &mut DigestCache::new()).unwrap();
        prop_assert!(identity.build_id.is_some() != identity.digest.is_some());
    }

    #[test]
    fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
        let config = bincode::config::legacy().with_limit::<4096>();
        let _ = bincode::decode_from_slice::<FileIdentity, _>(&bytes, config);
    }
}

#[test]
fn travels_unchanged() {
    let config = bincode::config::legacy().with_limit::<4096>();
    let identity = with_build_id(-5, b"abc");
    let bytes = bincode::encode_to_vec(&identity, config).unwrap();
    let (back, used) = bincode::decode_from_slice::<FileIdentity, _>(&bytes, config).unwrap();
    assert_eq!((back, used), (identity, bytes.len()));
}
