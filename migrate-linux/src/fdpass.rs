//! Descriptors passed over a unix socket: `SCM_RIGHTS` of unix(7), locally and as bytes for a recvmsg(2)
//! that another process runs.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// The most descriptors that one message carries: `SCM_MAX_FD` of include/net/scm.h.
pub const MAX_FDS: usize = 253;

/// Sends `payload` with `fds` as one message; `fds.chunks(MAX_FDS)` makes the messages for more.
///
/// # Errors
/// `InvalidInput` for more than [`MAX_FDS`] or no payload (a stream socket would drop the descriptors),
/// `WriteZero` when the socket took only a part of the payload, `EPIPE` when the peer has gone,
/// `ETOOMANYREFS` when too many descriptors are in flight already.
pub fn send_fds(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>], payload: &[u8]) -> io::Result<()> {
    check_count(fds.len())?;
    if payload.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "descriptors travel only with at least one byte of payload",
        ));
    }
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("the control buffer is too small for its descriptors"));
    }
    let sent = loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(payload)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => continue,
            result => break result?,
        }
    };
    if sent != payload.len() {
        return Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("the socket took {sent} of {} bytes beside {} descriptors", payload.len(), fds.len()),
        ));
    }
    Ok(())
}

/// Receives one message of at most `max_fds` descriptors, close-on-exec, and `max_payload` bytes.
///
/// # Errors
/// `InvalidInput` for `max_fds` over [`MAX_FDS`], `UnexpectedEof` when the peer has closed, `InvalidData`
/// when the message held more than was allowed: what did arrive of it is closed again.
pub fn recv_fds(socket: BorrowedFd<'_>, max_fds: usize, max_payload: usize) -> io::Result<(Vec<OwnedFd>, Vec<u8>)> {
    check_count(max_fds)?;
    let mut payload = vec![0; max_payload];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(max_fds))];
    // It owns what was received: all that is not taken out is closed, whatever happens here.
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut payload)], &mut control, RecvFlags::CMSG_CLOEXEC)
        {
            Err(rustix::io::Errno::INTR) => continue,
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    // The control buffer is padded: one descriptor more than asked for may fit.
    if message.flags.contains(ReturnFlags::CTRUNC) || fds.len() > max_fds {
        return Err(truncated("descriptors", max_fds));
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(truncated("bytes", max_payload));
    }
    if message.bytes == 0 && max_payload > 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the peer closed the socket instead of sending descriptors",
        ));
    }
    payload.truncate(message.bytes);
    Ok((fds, payload))
}

fn check_count(count: usize) -> io::Result<()> {
    if count > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{count} descriptors for one message, which carries at most {MAX_FDS}"),
        ));
    }
    Ok(())
}

fn truncated(what: &str, max: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a message held more than the {max} {what} expected"))
}

// The layout of the bytes: struct msghdr, struct iovec, one byte of payload, control buffer.
const CONTROL_AT: usize = size_of::<libc::msghdr>() + size_of::<libc::iovec>() + 8;
const IOVEC_AT: usize = size_of::<libc::msghdr>();
const PAYLOAD_AT: usize = IOVEC_AT + size_of::<libc::iovec>();
const CMSG_HEADER: usize = size_of::<libc::cmsghdr>();

/// Where in the bytes of [`remote_recvmsg`] there are addresses: those of the iovec, the control buffer and the payload.
pub const REMOTE_POINTERS: [usize; 3] =
    [std::mem::offset_of!(libc::msghdr, msg_iov), std::mem::offset_of!(libc::msghdr, msg_control), IOVEC_AT];

/// The memory for a recvmsg(2) that another process runs: write the bytes at address `base` there (a
/// multiple of 8), run `recvmsg(socket, base, MSG_CMSG_CLOEXEC or 0)`, read as many bytes back and give
/// them to [`received_fds`].
///
/// It has room for `count` descriptors, at most [`MAX_FDS`], and one byte of payload.
pub fn remote_recvmsg(base: u64, count: usize) -> Vec<u8> {
    let control_length = CMSG_HEADER + (count.min(MAX_FDS) * size_of::<i32>()).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(CONTROL_AT + control_length);
    let mut word = |value: u64| bytes.extend_from_slice(&value.to_ne_bytes());
    word(0); // msg_name
    word(0); // msg_namelen, padding
    word(base.wrapping_add(IOVEC_AT as u64)); // msg_iov
    word(1); // msg_iovlen
    word(base.wrapping_add(CONTROL_AT as u64)); // msg_control
    word(control_length as u64); // msg_controllen
    word(0); // msg_flags, padding
    word(base.wrapping_add(PAYLOAD_AT as u64)); // iov_base
    word(1); // iov_len
    bytes.resize(CONTROL_AT + control_length, 0);
    bytes
}

/// The descriptor numbers in the bytes that a recvmsg(2) with [`remote_recvmsg`] has left.
///
/// # Errors
/// `InvalidData` when the message was truncated or is not one of descriptors. Those that did arrive are
/// open in the process all the same.
pub fn received_fds(bytes: &[u8]) -> io::Result<Vec<i32>> {
    let invalid = |why: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the message of descriptors that the process received: {why}"),
        )
    };
    let u64_at = |at: usize| -> io::Result<u64> {
        let word = at.checked_add(8).and_then(|end| bytes.get(at..end));
        let word = word.ok_or_else(|| invalid("cut short"))?;
        Ok(u64::from_ne_bytes(word.try_into().unwrap_or_default()))
    };
    let i32_of = |word: &[u8]| i32::from_ne_bytes(word.try_into().unwrap_or_default());

    let used = u64_at(std::mem::offset_of!(libc::msghdr, msg_controllen))?;
    let flags = u64_at(std::mem::offset_of!(libc::msghdr, msg_flags))? as u32 as i32;
    if flags & libc::MSG_CTRUNC != 0 {
        return Err(invalid("it held more descriptors than there was room for"));
    }
    let used = usize::try_from(used).map_err(|_| invalid("its length is absurd"))?;
    let control = bytes
        .get(CONTROL_AT..)
        .and_then(|control| control.get(..used))
        .ok_or_else(|| invalid("its control part is longer than its buffer"))?;
    if control.is_empty() {
        return Ok(Vec::new());
    }
    let length = usize::try_from(u64_at(CONTROL_AT)?).unwrap_or(usize::MAX);
    let kind = u64_at(CONTROL_AT + 8)?.to_ne_bytes();
    let (level, kind) = (i32_of(&kind[..4]), i32_of(&kind[4..]));
    if (level, kind) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return Err(invalid("it carries something else"));
    }
    let numbers = control
        .get(CMSG_HEADER..length)
        .filter(|numbers| numbers.len() % size_of::<i32>() == 0)
        .ok_or_else(|| invalid("its control part has a wrong length"))?;
    Ok(numbers.chunks_exact(size_of::<i32>()).map(i32_of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsFd, AsRawFd, FromRawFd};
    use std::os::unix::net::UnixStream;

    /// `count` pipes' worth of descriptors of /dev/null.
    fn files(count: usize) -> Vec<File> {
        (0..count).map(|_| File::open("/dev/null").unwrap()).collect()
    }

    fn borrow(files: &[File]) -> Vec<BorrowedFd<'_>> {
        files.iter().map(|file| file.as_fd()).collect()
    }

    #[test]
    fn a_full_batch_arrives_with_its_payload() {
        let (here, there) = UnixStream::pair().unwrap();
        let files = files(MAX_FDS);
        send_fds(here.as_fd(), &borrow(&files), b"batch").unwrap();
        let (received, payload) = recv_fds(there.as_fd(), MAX_FDS, 64).unwrap();
        assert_eq!(payload, b"batch");
        assert_eq!(received.len(), MAX_FDS);
        let own = std::process::id() as i32;
        for (sent, received) in files.iter().zip(&received) {
            let flags = rustix::io::fcntl_getfd(received).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            if let Ok(same) = crate::kcmp::same_file(own, sent.as_raw_fd(), own, received.as_raw_fd()) {
                assert!(same);
            }
        }
    }

    #[test]
    fn what_is_refused() {
        let (here, there) = UnixStream::pair().unwrap();
        let files = files(MAX_FDS + 1);
        assert!(send_fds(here.as_fd(), &borrow(&files), b"x").is_err());
        assert!(send_fds(here.as_fd(), &borrow(&files[..1]), b"").is_err());
        assert!(recv_fds(there.as_fd(), MAX_FDS + 1, 1).is_err());
        drop(here);
        let closed = recv_fds(there.as_fd(), 1, 1).unwrap_err();
        assert_eq!(closed.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_truncated_message_leaks_nothing() {
        // Pipes, so that a leak shows: the reader of a closed pipe sees the end.
        for (sent, room) in [(20, 5), (2, 1), (1, 0)] {
            let (here, there) = UnixStream::pair().unwrap();
            let (mut reader, writer) = std::io::pipe().unwrap();
            let fds = vec![writer.as_fd(); sent];
            send_fds(here.as_fd(), &fds, b"x").unwrap();
            let error = recv_fds(there.as_fd(), room, 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{sent} {room}");
            drop(writer);
            assert_eq!(std::io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
        }
    }

    /// Runs the recvmsg that the bytes describe, here.
    fn run(socket: &UnixStream, count: usize) -> (isize, Vec<u8>) {
        // Room for both, of words, so that the message header is aligned.
        let mut memory = vec![0_u64; 256];
        let base = memory.as_mut_ptr();
        let bytes = remote_recvmsg(base as u64, count);
        assert!(bytes.len() <= 256 * 8);
        // SAFETY: `memory` is longer than `bytes`, and the header in it points only into it.
        let (result, bytes) = unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), base.cast::<u8>(), bytes.len());
            let result = libc::recvmsg(socket.as_raw_fd(), base.cast(), libc::MSG_CMSG_CLOEXEC);
            let after = std::slice::from_raw_parts(base.cast::<u8>(), bytes.len());
            (result, after.to_vec())
        };
        (result, bytes)
    }

    #[test]
    fn the_remote_message_receives() {
        for count in [1, 2, 3, 100, MAX_FDS] {
            let (here, there) = UnixStream::pair().unwrap();
            let files = files(count);
            send_fds(here.as_fd(), &borrow(&files), b"x").unwrap();
            let (result, bytes) = run(&there, count);
            assert_eq!(result, 1);
            let numbers = received_fds(&bytes).unwrap();
            assert_eq!(numbers.len(), count);
            for (file, number) in files.iter().zip(numbers) {
                // SAFETY: recvmsg has just made this descriptor and nothing else owns it.
                let received = File::from(unsafe { OwnedFd::from_raw_fd(number) });
                let own = std::process::id() as i32;
                if let Ok(same) = crate::kcmp::same_file(own, file.as_raw_fd(), own, received.as_raw_fd()) {
                    assert!(same);
                }
            }
        }
    }

    #[test]
    fn a_remote_message_without_descriptors_or_with_too_many() {
        let (mut here, there) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut here, b"x").unwrap();
        let (result, bytes) = run(&there, 4);
        assert_eq!(result, 1);
        assert!(received_fds(&bytes).unwrap().is_empty());

        let files = files(1);
        send_fds(here.as_fd(), &borrow(&files), b"x").unwrap();
        let (_, bytes) = run(&there, 0);
        assert!(received_fds(&bytes).is_err());
    }

    #[test]
    fn no_bytes_make_the_parser_panic() {
        let good = remote_recvmsg(0x1000, 3);
        for end in 0..good.len() {
            let _ = received_fds(&good[..end]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = received_fds(&bytes);
            }
        }
        let _ = received_fds(&[0xff; 400]);
    }
}
