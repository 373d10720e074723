//! Packets with files between processes: what is sent whole is received whole, by one.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::error::{Error, ErrorKind};
use crate::sync::crossing::Carried;
use crate::sync::memory::{retry, system};

/// The most files of a packet: what Linux takes.
const MOST_FILES: usize = 253;

/// The two ends of a connection.
pub(in crate::sync) fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| system("making a pair of sockets", error))
}

/// Why a packet was not sent.
#[derive(Debug)]
pub(in crate::sync) enum Unsent {
    /// There is no room just now.
    Full,
    /// The other end is gone.
    Closed,
    /// Something else.
    Failed(Error),
}

/// Sends a packet of at least one byte, without waiting.
pub(in crate::sync) fn try_send(
    socket: BorrowedFd<'_>,
    parts: [&[u8]; 2],
    files: &[Carried],
) -> Result<(), Unsent> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(Unsent::Failed(system("sending files", Errno::INVAL)));
    }
    let parts = parts.map(IoSlice::new);
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match retry(|| rustix::net::sendmsg(socket, &parts, &mut control, flags)) {
        Ok(_) => Ok(()),
        // As many files on their way as a user may have are like a full socket: others have to take some
        // first.
        Err(Errno::AGAIN | Errno::TOOMANYREFS | Errno::NOBUFS) => Err(Unsent::Full),
        Err(Errno::PIPE | Errno::CONNRESET) => Err(Unsent::Closed),
        Err(error) => Err(Unsent::Failed(system("sending a message", error))),
    }
}

/// Why no packet was received.
#[derive(Debug)]
pub(in crate::sync) enum NotReceived {
    /// None is there.
    Empty,
    /// The other end is gone, and everything that it sent was received.
    Closed,
    /// Something else; what was received, if anything, is lost.
    Failed(Error),
}

/// Receives a packet without waiting: so many bytes of the buffer, and files.
pub(in crate::sync) fn try_receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), NotReceived> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received =
        match retry(|| rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)) {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Err(NotReceived::Empty),
            Err(Errno::CONNRESET) => return Err(NotReceived::Closed),
            Err(error) => return Err(NotReceived::Failed(system("receiving a message", error))),
        };
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        let message = format!("a message: expected at most {} bytes, and room for its files", buffer.len());
        return Err(NotReceived::Failed(Error::new(ErrorKind::Crossing, message)));
    }
    if received.bytes == 0 && files.is_empty() {
        Err(NotReceived::Closed)
    } else {
        Ok((received.bytes, files))
    }
}

/// The event to wait for at a socket.
#[derive(Clone, Copy)]
pub(in crate::sync) enum Until {
    /// A packet, or that the other end is gone.
    Readable,
    /// Room for a packet, or that the other end is gone.
    Writable,
}

/// Waits; `false` means that the deadline has passed. It may return for no reason.
pub(in crate::sync) fn wait(
    socket: BorrowedFd<'_>,
    until: Until,
    deadline: Option<Instant>,
) -> Result<bool, Error> {
    let left = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
        Some(left) if left.is_zero() => return Ok(false),
        left => left,
    };
    // Longer than the system can count is for ever.
    let left: Option<Timespec> = left.and_then(|left| left.try_into().ok());
    let flags = match until {
        Until::Readable => PollFlags::IN,
        Until::Writable => PollFlags::OUT,
    };
    match poll(&mut [PollFd::from_borrowed_fd(socket, flags)], left.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(true),
        Err(error) => Err(system("waiting at a socket", error)),
    }
}
