//! Sockets from the agent to the process that serves their migration, over a unix socket pair (SCM_RIGHTS, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Gives `stream` to whoever reads the other end of `to`. Never waits.
///
/// # Errors
/// `WouldBlock` when the other side has not taken the earlier ones; `BrokenPipe` when it is gone.
pub fn give(to: &UnixStream, stream: &TcpStream) -> io::Result<()> {
    let descriptors = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    // One byte goes with it: a message of nothing carries no descriptors.
    sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the next socket, close-on-exec; None when the agent will give no more.
///
/// # Errors
/// Whatever recvmsg(2) says, or `InvalidData` when a message carries no socket.
pub fn take(from: &UnixStream) -> io::Result<Option<TcpStream>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = loop {
        match recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let descriptor: Option<OwnedFd> = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "the agent's message carries no socket");
    descriptor.map(|d| Some(TcpStream::from(d))).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_arrives_and_works() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (stream, _) = listener.accept().expect("accepted");
        let (here, there) = UnixStream::pair().expect("a socket pair");
        give(&here, &stream).expect("given");
        drop((stream, here));

        let mut taken = take(&there).expect("taken").expect("one");
        let flags = rustix::io::fcntl_getfd(&taken).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        taken.write_all(b"hello").expect("written");
        drop(taken);
        let mut text = String::new();
        peer.read_to_string(&mut text).expect("read");
        assert_eq!(text, "hello");
        assert!(take(&there).expect("the end").is_none());
    }

    #[test]
    fn a_receiver_that_takes_nothing_does_not_block_the_giver() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (here, _there) = UnixStream::pair().expect("a socket pair");
        let error = (0..100_000).find_map(|_| give(&here, &stream).err()).expect("it is full at some time");
        // The kernel may count descriptors in flight before it counts bytes (ETOOMANYREFS).
        assert!(error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(109), "{error}");
    }
}
