//! What cannot move, each by its name and with its reason: most of what it is, the kernel tells nobody.

use nix::libc;

use super::socket::name_of;
use super::{FileView, or_instead};
use crate::proc::link::LinkTarget;
use crate::resources::Verdict;

/// Anonymous inodes: how their names begin, what they are, and why they cannot move.
const ANONYMOUS: &[(&str, &str, &str)] = &[
    ("bpf-map", "a BPF map", "programs in this kernel use what is in it"),
    ("bpf-prog", "a BPF program", "it is loaded into this kernel, in a form of its own"),
    ("bpf", "a BPF link or token", "it belongs to programs in this kernel"),
    ("btf", "BPF type information", "it is that of this kernel"),
    ("dmabuf", "a buffer of devices", "they are this host's"),
    ("fanotify", "a fanotify", "the kernel does not tell all that it marks, and those who wait for its answers stay"),
    ("fscontext", "a file system being configured (fsopen)", "the kernel does not tell its options"),
    ("io_uring", "an io_uring", "the kernel alone knows its requests"),
    ("kvm", "a virtual machine (KVM)", "it is inside this kernel and its processor"),
    ("landlock-ruleset", "a Landlock ruleset", "the kernel does not tell its rules"),
    ("perf_event", "a performance counter (perf_event_open)", "it counts on this host's processors"),
    ("seccomp notify", "the supervisor's end of a seccomp filter", "those whom it watches stay"),
    ("sync_file", "a fence of a graphics device", "the device is this host's"),
    ("userfaultfd", "a userfaultfd", "the page faults that it handles would be handled by nobody meanwhile"),
];

/// Families of sockets (linux/socket.h), and why they cannot move.
const FAMILIES: &[(i32, &str)] = &[
    (libc::AF_ALG, "the kernel does not tell its key and state"),
    (libc::AF_BLUETOOTH, "its other end is near this host"),
    (libc::AF_CAN, "the bus is this host's"),
    (libc::AF_KEY, "it belongs to this kernel's IPsec tables"),
    (libc::AF_RDS, "the kernel does not tell what is on its way"),
    (libc::AF_TIPC, "its address is this host's"),
    (libc::AF_VSOCK, "its address is this machine's"),
    (libc::AF_XDP, "it shares memory with a network device of this host"),
];

/// The file that memfd_secret(2) makes (mm/secretmem.c), as its link shows it.
const SECRET_MEMORY: &[u8] = b"/secretmem";

/// Memory that memfd_secret(2) has made.
pub fn is_secret_memory(view: &FileView) -> bool {
    let LinkTarget::Path { path, deleted: true } = &view.link else { return false };
    // A deleted file of that name in the root folder is on a disk.
    path.as_encoded_bytes() == SECRET_MEMORY && nix::sys::stat::major(view.stat.st_dev) == 0
}

/// Why something of no kind cannot move.
pub fn verdict(view: &FileView) -> Verdict {
    let number = view.number;
    let (what, why) = what_and_why(view);
    let why = why.map_or_else(String::new, |why| format!(": {why}"));
    Verdict::Unsupported(format!("fd {number}: {what} cannot move{why}; {}", or_instead(&[number])))
}

fn what_and_why(view: &FileView) -> (String, Option<&'static str>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (what, why) = match &view.link {
        _ if is_secret_memory(view) => ("secret memory (memfd_secret)", "not even the kernel can read it"),
        LinkTarget::AnonInode(name) => match ANONYMOUS.iter().find(|row| name.starts_with(row.0.as_bytes())) {
            Some(&(_, what, why)) => (what, why),
            None => return (format!("{} — this kind of descriptor", text(name)), None),
        },
        LinkTarget::Socket(_) => {
            let Some(sort) = view.socket else { return ("a socket".into(), None) };
            let why = FAMILIES.iter().find(|row| row.0 == sort.domain).map(|row| row.1);
            return (format!("{} — this kind of socket", name_of(sort)), why);
        }
        LinkTarget::Path { path, .. } => return (format!("{} — this kind of file", path.display()), None),
        LinkTarget::Memfd { name } => return (format!("memfd {} — this kind", text(name)), None),
        LinkTarget::Namespace { .. } => return ("a namespace".into(), None),
        LinkTarget::Pipe(_) => return ("a pipe of an unknown kind".into(), None),
        LinkTarget::Other(name) => return (format!("{} — this kind of descriptor", text(name)), None),
    };
    (what.into(), Some(why))
}
