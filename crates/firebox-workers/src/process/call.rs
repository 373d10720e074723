//! A task within a worker process: what it reads, and how it answers.

use std::any::Any;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;
use serde_core::de::DeserializeOwned;

use super::control_page::{Begun, ControlPage, WORDS};
use super::frame::{Channel, FrameBuffer, Header, INLINE, Kind, NoFrame};
use super::wire::{self, Reader, WireError, Writer, Written};
use crate::sync::crossing::{self, MOST_FILES};
use crate::sync::memory::{Access, Memory};

/// The outcome of a task, as the first byte of an answer says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// The result follows.
    Done = 0,
    /// A panic: its message and, if asked for, its backtrace.
    Panicked = 1,
    /// The task, or its work, could not be read: a message.
    Unread = 2,
    /// The result could not be written: a message.
    Unwritten = 3,
}

impl Outcome {
    pub(crate) fn of(number: u8) -> Option<Self> {
        [Outcome::Done, Outcome::Panicked, Outcome::Unread, Outcome::Unwritten]
            .into_iter()
            .find(|&outcome| outcome as u8 == number)
    }
}

/// How many pieces of work a worker keeps: their owner says which ones go.
pub(crate) const MOST_WORKS: usize = 8;

/// Work that a worker keeps.
pub(super) enum Kept {
    /// Its settings, as long as it could not be made of them.
    Settings(Vec<u8>, Vec<OwnedFd>),
    Made(Rc<dyn Any>),
}

/// A worker process's things for all of its tasks.
pub(super) struct Desk {
    pub(super) id: usize,
    pub(super) channel: Channel,
    pub(super) control: Memory,
    pub(super) outbox: Option<Memory>,
    /// The work that tasks can be for, by its number: what was made here, or is still to be made.
    pub(super) works: Vec<(u64, Kept)>,
    /// For an answer, and for what the parent says to one.
    pub(super) answer: Vec<u8>,
    pub(super) said: FrameBuffer,
}

/// A task, in the worker that runs it.
pub(crate) struct Call<'c, 'b> {
    pub(super) desk: &'c mut Desk,
    pub(super) task: u64,
    pub(super) reader: Reader<'b>,
    pub(super) work: u64,
    pub(super) settings: Option<(Vec<u8>, Vec<OwnedFd>)>,
    pub(super) is_answered: bool,
}

impl Call<'_, '_> {
    /// Reads the next value of the task.
    ///
    /// # Errors
    /// If what follows is no such value.
    pub(crate) fn read<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        wire::read(&mut self.reader)
    }

    /// The worker's number among those of its pool.
    pub(crate) fn worker(&self) -> usize {
        self.desk.id
    }

    /// The page over which the parent looks on.
    pub(crate) fn control(&self) -> ControlPage<'_> {
        ControlPage::new(self.desk.control.words64(0, WORDS))
    }

    /// Marks the task, or a part of it, as begun.
    pub(crate) fn begin(&self, part: Option<usize>) {
        self.control().begin(Begun { part, alone: false });
    }

    /// The work that the task is for: made of its settings, or kept from a task before.
    ///
    /// # Errors
    /// What `make` says, or that there is no such work.
    pub(crate) fn work<W: 'static>(
        &mut self,
        make: impl FnOnce(&[u8]) -> Result<W, WireError>,
    ) -> Result<Rc<W>, WireError> {
        let none = || WireError::new(format!("work {}: expected it to be here, got none", self.work));
        let works = &mut self.desk.works;
        if let Some((settings, files)) = self.settings.take() {
            // Work without settings is made of nothing, each time.
            if self.work == 0 {
                return Ok(Rc::new(crossing::supply(files, || make(&settings))?));
            }
            // Kept first: should the work not be made now, by an error or by a panic, the next task for it
            // tries again, and settings that were sent don't come again.
            works.retain(|(number, _)| *number != self.work);
            works.push((self.work, Kept::Settings(settings, files)));
        }
        let (_, kept) = works.iter_mut().find(|(number, _)| *number == self.work).ok_or_else(none)?;
        match kept {
            Kept::Made(work) => Rc::clone(work).downcast().map_err(|_| none()),
            Kept::Settings(settings, files) => {
                let copies: Result<Vec<_>, _> = files.iter().map(OwnedFd::try_clone).collect();
                let copies = copies.map_err(|error| WireError::new(error.to_string()))?;
                let made = Rc::new(crossing::supply(copies, || make(settings))?);
                *kept = Kept::Made(Rc::clone(&made) as Rc<dyn Any>);
                Ok(made)
            }
        }
    }

    /// Answers with an outcome and what belongs to it. Once: what comes later is not said.
    ///
    /// # Errors
    /// If what belongs to it can't be written. Then nothing was said.
    pub(crate) fn answer(
        &mut self,
        outcome: Outcome,
        write: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        if self.is_answered {
            return Ok(());
        }
        self.try_answer(outcome, write)?;
        self.is_answered = true;
        Ok(())
    }

    /// Answers with a message.
    pub(crate) fn answer_message(&mut self, outcome: Outcome, message: &str) {
        let told = self.answer(outcome, &mut |writer| wire::write(message, writer));
        debug_assert!(told.is_ok(), "a message can be written");
    }

    fn try_answer(
        &mut self,
        outcome: Outcome,
        write: &mut dyn FnMut(&mut Writer<'_>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        // What the task was about to say on the standard output goes before its answer.
        let _ = std::io::stdout().flush();
        loop {
            let desk = &mut *self.desk;
            desk.answer.clear();
            let mut writer = Writer::new(&mut desk.answer, INLINE, desk.outbox.as_ref());
            writer.put(&[outcome as u8]);
            let (written, files) = crossing::collect(|| write(&mut writer));
            written?;
            if files.len() > MOST_FILES {
                let got = files.len();
                return Err(WireError::new(format!(
                    "expected at most {MOST_FILES} shared objects in one result, got {got}"
                )));
            }
            let fds: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
            let header = |kind, boxed: usize| Header { kind, task: self.task, boxed: boxed as u64 };
            match writer.finish() {
                Written::Inline => {
                    send(&desk.channel, header(Kind::Reply, 0), &desk.answer, &fds);
                    return Ok(());
                }
                Written::Shared(bytes) => {
                    send(&desk.channel, header(Kind::Reply, bytes), &[], &fds);
                    return Ok(());
                }
                Written::Needs(bytes) => send(&desk.channel, header(Kind::Need, bytes), &[], &[]),
            }
            if !desk.take_outbox() {
                return Ok(());
            }
        }
    }
}

impl Desk {
    /// Waits for the memory that was asked for. `false` if nobody wants the result.
    fn take_outbox(&mut self) -> bool {
        // The old one is of no use any more, and the parent gives no more than it has.
        self.outbox = None;
        let frame = match self.channel.receive(&mut self.said) {
            Ok(frame) => frame,
            Err(NoFrame::Closed) => super::worker::end(),
            Err(other) => super::worker::fail(&format!("the parent: {other:?}")),
        };
        if frame.header.kind != Kind::Outbox {
            super::worker::fail(&format!("the parent: expected an outbox, got {:?}", frame.header.kind));
        }
        let Some(file) = frame.fds.into_iter().next() else { return false };
        match Memory::receive(file, frame.header.boxed as usize, Access::Shared) {
            Ok(memory) => self.outbox = Some(memory),
            Err(error) => super::worker::fail(&format!("the outbox: {error}")),
        }
        true
    }
}

/// Sends a frame to the parent. Without a parent there is nothing left to do.
pub(super) fn send(channel: &Channel, header: Header, body: &[u8], fds: &[BorrowedFd<'_>]) {
    match channel.send(header, body, fds) {
        Ok(()) => {}
        Err(Errno::PIPE | Errno::CONNRESET) => super::worker::end(),
        Err(error) => super::worker::fail(&format!("the socket: {error}")),
    }
}
