//! Messages between a parent and a worker process, over a socket that keeps their bounds.
//!
//! A frame is one packet: a header of 32 bytes, at most [`INLINE`] bytes of body, and descriptors. A packet
//! comes whole or not at all, so that nobody can hold up a reader in the middle of one. What a header says is
//! checked before anything else is believed.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The version of everything that a parent and a worker tell each other.
pub(crate) const VERSION: u16 = 1;

/// "firebox" and its kind: what no other program writes by chance.
const MAGIC: u32 = u32::from_le_bytes(*b"FBXP");

const HEADER: usize = 32;

/// The most bytes of a body in a frame. Larger ones go through shared memory.
pub(crate) const INLINE: usize = 32 << 10;

/// The most descriptors in a frame: what Linux takes.
pub(crate) const MOST_FDS: usize = 253;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// To a worker: who it is, and its limits.
    Hello = 1,
    /// To a worker: something to run.
    Task = 2,
    /// To a worker: memory for the result that didn't fit, or none if nobody wants it.
    Outbox = 3,
    /// From a worker: it is there.
    Ready = 4,
    /// From a worker: the result of its task.
    Reply = 5,
    /// From a worker: its result takes so many bytes.
    Need = 6,
    /// From a worker: a record of its log.
    Log = 7,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        use Kind::*;
        [Hello, Task, Outbox, Ready, Reply, Need, Log].into_iter().find(|&kind| kind as u8 == number)
    }
}

/// The head that stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// The number of the task that it is about.
    pub(crate) task: u64,
    /// The bytes of a body that is in shared memory; 0 if it is in the frame.
    pub(crate) boxed: u64,
}

impl Header {
    fn bytes(self, body: usize, fds: usize) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[6] = self.kind as u8;
        bytes[7] = fds as u8;
        bytes[8..16].copy_from_slice(&self.task.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.boxed.to_le_bytes());
        bytes[24..32].copy_from_slice(&(body as u64).to_le_bytes());
        bytes
    }

    /// A whole packet without descriptors.
    #[cfg(feature = "tracing")]
    pub(super) fn packet(self, body: &[u8]) -> Vec<u8> {
        [&self.bytes(body.len(), 0), body].concat()
    }

    /// The header of a packet with this body and these descriptors, or what is wrong with it.
    fn check(bytes: &[u8], fds: usize) -> Result<Self, String> {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
            return Err(format!("a packet: expected at least {HEADER} bytes, got {}", bytes.len()));
        };
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&header[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let first = word(0);
        let (magic, version) = (first as u32, (first >> 32) as u16);
        if (magic, version) != (MAGIC, VERSION) {
            let expected = format!("{MAGIC:#x} version {VERSION}");
            return Err(format!("a packet: expected {expected}, got {magic:#x} version {version}"));
        }
        let kind =
            Kind::of(header[6]).ok_or_else(|| format!("a packet: expected a kind, got {}", header[6]))?;
        if usize::from(header[7]) != fds {
            return Err(format!("a packet: expected {} descriptors, got {fds}", header[7]));
        }
        if word(24) != body.len() as u64 {
            return Err(format!("a packet: expected a body of {} bytes, got {}", word(24), body.len()));
        }
        Ok(Header { kind, task: word(8), boxed: word(16) })
    }
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame<'b> {
    pub(crate) header: Header,
    pub(crate) body: &'b [u8],
    pub(crate) fds: Vec<OwnedFd>,
}

/// Why no frame came.
#[derive(Debug)]
pub(crate) enum NoFrame {
    /// None is there, and the socket doesn't wait.
    NotYet,
    /// The other side is gone.
    Closed,
    /// Bytes came that are no frame.
    Garbage(String),
}

/// Memory for one frame.
pub(crate) struct FrameBuffer(Box<[u8]>);

impl FrameBuffer {
    pub(crate) fn new() -> Self {
        FrameBuffer(vec![0; HEADER + INLINE].into_boxed_slice())
    }

    /// The body of the frame that came last, of so many bytes.
    pub(crate) fn body(&self, bytes: usize) -> &[u8] {
        &self.0[HEADER..HEADER + bytes]
    }
}

/// One end of the socket between a parent and a worker.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// A parent's end, which never waits, and a worker's, which does.
    ///
    /// # Errors
    /// If the system has no more descriptors to give.
    pub(crate) fn pair() -> Result<(Channel, OwnedFd), Errno> {
        let (here, there) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&here, true)?;
        Ok((Channel(here), there))
    }

    pub(crate) fn new(socket: OwnedFd) -> Self {
        Channel(socket)
    }

    /// Sends a frame. The body is at most [`INLINE`] bytes and has at most [`MOST_FDS`] descriptors.
    ///
    /// # Errors
    /// [`Errno::AGAIN`] if the socket is full and doesn't wait; [`Errno::PIPE`] if the other side is gone.
    pub(crate) fn send(&self, header: Header, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        debug_assert!(body.len() <= INLINE && fds.len() <= MOST_FDS);
        let bytes = header.bytes(body.len(), fds.len());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::INVAL);
        }
        let packet = [IoSlice::new(&bytes), IoSlice::new(body)];
        loop {
            match sendmsg(&self.0, &packet, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop),
            }
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`NoFrame`]: descriptors that came with garbage are closed.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut FrameBuffer) -> Result<Frame<'b>, NoFrame> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut packet = [IoSliceMut::new(&mut buffer.0)];
        let received = loop {
            match recvmsg(&self.0, &mut packet, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(NoFrame::NotYet),
                Err(Errno::CONNRESET | Errno::PIPE) => return Err(NoFrame::Closed),
                Err(error) => return Err(NoFrame::Garbage(format!("its socket: {error}"))),
                Ok(received) => break received,
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            let most = HEADER + INLINE;
            return Err(NoFrame::Garbage(format!("a packet: expected at most {most} bytes, got more")));
        }
        let bytes = buffer.0.get(..received.bytes).unwrap_or_default();
        if bytes.is_empty() && fds.is_empty() {
            return Err(NoFrame::Closed);
        }
        let header = Header::check(bytes, fds.len()).map_err(NoFrame::Garbage)?;
        Ok(Frame { header, body: &bytes[HEADER..], fds })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (here, there) = Channel::pair().unwrap();
        (here, Channel(there))
    }

    const TASK: Header = Header { kind: Kind::Task, task: 7, boxed: 1 << 40 };

    #[test]
    fn a_frame_comes_with_its_body_and_descriptors() {
        let (here, there) = pair();
        let null = std::fs::File::open("/dev/null").unwrap();
        let body = vec![3; INLINE];
        here.send(TASK, &body, &[null.as_fd(), null.as_fd()]).unwrap();
        here.send(Header { kind: Kind::Hello, task: 0, boxed: 0 }, &[], &[]).unwrap();
        let mut buffer = FrameBuffer::new();
        let frame = there.receive(&mut buffer).unwrap();
        assert_eq!((frame.header, frame.body, frame.fds.len()), (TASK, &body[..], 2));
        let frame = there.receive(&mut buffer).unwrap();
        assert_eq!((frame.header.kind, frame.body.len(), frame.fds.len()), (Kind::Hello, 0, 0));
        assert!(matches!(here.receive(&mut buffer), Err(NoFrame::NotYet)));
        drop(there);
        assert!(matches!(here.receive(&mut buffer), Err(NoFrame::Closed)));
        assert_eq!(here.send(TASK, &[], &[]).unwrap_err(), Errno::PIPE);
    }

    #[test]
    fn as_many_descriptors_as_the_system_takes_come() {
        let (here, there) = pair();
        let null = std::fs::File::open("/dev/null").unwrap();
        here.send(TASK, &[], &[null.as_fd(); MOST_FDS]).unwrap();
        assert_eq!(there.receive(&mut FrameBuffer::new()).unwrap().fds.len(), MOST_FDS);
    }

    #[test]
    fn every_field_of_a_header_is_checked() {
        let good = TASK.bytes(3, 0);
        let packet = |change: fn(&mut [u8])| {
            let mut packet = [&good[..], &[1, 2, 3]].concat();
            change(&mut packet);
            packet
        };
        assert_eq!(Header::check(&packet(|_| ()), 0), Ok(TASK));
        type Change = fn(&mut [u8]);
        let wrong: [(Change, &str); 6] = [
            (|packet| packet[0] ^= 1, "expected 0x50584246 version 1"),
            (|packet| packet[4] = 9, "got 0x50584246 version 9"),
            (|packet| packet[6] = 0, "expected a kind, got 0"),
            (|packet| packet[6] = 99, "expected a kind, got 99"),
            (|packet| packet[7] = 4, "expected 4 descriptors, got 0"),
            (|packet| packet[31] = 0xFF, "a body of"),
        ];
        for (change, text) in wrong {
            let error = Header::check(&packet(change), 0).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        for cut in 0..HEADER {
            assert!(Header::check(&good[..cut], 0).is_err());
        }
    }

    #[test]
    fn a_packet_that_is_too_long_is_garbage_and_the_next_one_is_not() {
        let (here, there) = pair();
        rustix::net::send(&there, &vec![0; HEADER + INLINE + 1], SendFlags::empty()).unwrap();
        Channel(there.0).send(TASK, &[5], &[]).unwrap();
        let mut buffer = FrameBuffer::new();
        assert!(matches!(here.receive(&mut buffer), Err(NoFrame::Garbage(text)) if text.contains("at most")));
        assert_eq!(here.receive(&mut buffer).unwrap().body, [5]);
    }
}
