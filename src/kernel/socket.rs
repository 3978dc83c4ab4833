//! A pair of connected sockets that keep message boundaries (`SOCK_SEQPACKET`) and can carry one
//! descriptor beside a message.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::AtFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, listen, recvmsg, sendmsg, socket_with, socketpair,
};

use super::{Context, Result};

/// The longest message.
pub const LONGEST: usize = 64 << 10;

/// One end of the pair.
#[derive(Debug)]
pub struct End(OwnedFd);

/// A message that arrived.
#[derive(Debug)]
pub struct Message {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// A descriptor that came with it, ours now.
    pub fd: Option<OwnedFd>,
}

/// Makes a connected pair.
pub fn pair() -> Result<(End, End)> {
    let (a, b) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .on("make", "socket pair")?;
    Ok((End(a), End(b)))
}

/// Where others may connect to, by a name in a directory.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Binds to a name that is not there yet, or was left by somebody who is dead.
    pub fn bind(directory: BorrowedFd<'_>, name: &str) -> Result<Self> {
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => {}
            removed => removed.on("remove", name)?,
        }
        let socket = new_socket()?;
        bind(&socket, &address(directory, name)?).on("bind to", name)?;
        listen(&socket, 8).on("listen at", name)?;
        Ok(Self(socket))
    }

    /// The one that this process was executed with.
    pub fn inherited(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// The next who has connected; `None` if nobody has.
    pub fn accept(&self) -> Result<Option<End>> {
        match accept_with(&self.0, SocketFlags::CLOEXEC) {
            Ok(end) => Ok(Some(End(end))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED) => Ok(None),
            Err(errno) => Err(errno).on("accept", "connection"),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Connects to who listens there.
pub fn connect_to(directory: BorrowedFd<'_>, name: &str) -> Result<End> {
    let socket = new_socket()?;
    connect(&socket, &address(directory, name)?).on("connect to", name)?;
    Ok(End(socket))
}

fn new_socket() -> Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socket_with(family, kind, SocketFlags::CLOEXEC, None).on("make", "socket")
}

/// Through the directory's descriptor: an address has 108 bytes, and paths have more.
fn address(directory: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    SocketAddrUnix::new(path).on("address", name)
}

impl End {
    /// Sends one message, with at most one descriptor. A peer that is gone is EPIPE, no signal.
    pub fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
        self.send_with(bytes, fd, SendFlags::empty())
    }

    /// The same without waiting for room, and without a descriptor; `false` if there is none.
    pub fn try_send(&self, bytes: &[u8]) -> Result<bool> {
        match self.send_with(bytes, None, SendFlags::DONTWAIT) {
            Err(error) if error.is(nix::errno::Errno::EAGAIN) => Ok(false),
            sent => sent.map(|()| true),
        }
    }

    fn send_with(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>, flags: SendFlags) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.map(|fd| [fd]);
        if let Some(fds) = &fds {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        sendmsg(
            &self.0,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL | flags,
        )
        .on("send to", "other side")?;
        Ok(())
    }

    /// An end that this process was executed with.
    pub fn inherited(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Waits for one message; `None` when the other end is closed and nothing is left to read.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let into = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, into, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // A peer that ended with a message of ours unread is told of once, and before what
                // it has said itself: that is still there.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                answer => break answer.on("receive from", "other side")?,
            }
        };
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        bytes.truncate(received.bytes);
        Ok(if received.bytes == 0 {
            None
        } else {
            Some(Message { bytes, fd })
        })
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_heard_from_a_peer_that_did_not_listen() {
        let (parent, child) = pair().unwrap();
        parent.send(b"proceed", None).unwrap();
        child.send(b"failed", None).unwrap();
        drop(child);
        assert_eq!(parent.receive().unwrap().unwrap().bytes, b"failed");
        assert!(parent.receive().unwrap().is_none());
    }
}
