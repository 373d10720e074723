//! The head of a task's message.

use super::wire::{self, Reader, WireError, Writer};

/// Where a task's code is, and what comes with the task.
///
/// The files of a message are, in this order: a new inbox, a new outbox, those of the settings, those of the
/// task. After this head come the settings and then the task; in the message itself if there is room, else in
/// the inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TaskHead {
    /// The distance of the function that runs the task.
    pub(crate) entry: i64,
    /// The number of the work; 0 for work without settings.
    pub(crate) work: u64,
    /// A number of work that is needed no more; 0 for none.
    pub(crate) forget: u64,
    /// True if the work's settings come along, of how many bytes and with how many files.
    pub(crate) settings: Option<(u64, u32)>,
    /// The bytes of a new inbox that comes along; 0 if the old one is given up.
    pub(crate) inbox: Option<u64>,
    /// The bytes of a new outbox that comes along; 0 if the old one is given up.
    pub(crate) outbox: Option<u64>,
}

type Fields = (i64, u64, u64, Option<(u64, u32)>, Option<u64>, Option<u64>);

impl TaskHead {
    /// Writes the head at the beginning of a message.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) -> Result<(), WireError> {
        let TaskHead { entry, work, forget, settings, inbox, outbox } = *self;
        let fields: Fields = (entry, work, forget, settings, inbox, outbox);
        wire::write(&fields, &mut Writer::vec(bytes))
    }

    /// Reads the head from the beginning of a message.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (entry, work, forget, settings, inbox, outbox): Fields = wire::read(reader)?;
        Ok(TaskHead { entry, work, forget, settings, inbox, outbox })
    }
}
