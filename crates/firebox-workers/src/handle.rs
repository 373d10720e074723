//! The result of one task, to be asked for later.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use crate::Error;
use crate::answer::Answered;

/// A task that was handed out by [`Pool::submit`](crate::Pool::submit). Dropping it forgets the result; the task
/// runs all the same.
#[derive(Debug)]
#[must_use = "the result of the task, or its error, is in here"]
pub struct Handle<R> {
    /// One answer comes; then the channel is closed.
    answer: Receiver<Answered<R>>,
}

impl<R> Handle<R> {
    pub(crate) fn new(answer: Receiver<Answered<R>>) -> Self {
        Handle { answer }
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`ErrorKind::Panicked`](crate::ErrorKind::Panicked) if the task panicked,
    /// [`ErrorKind::Lost`](crate::ErrorKind::Lost) if the pool ended before it ran.
    pub fn wait(self) -> Result<R, Error> {
        self.answer.recv().map_or_else(|_| Answered::lost(0).result, |answered| answered.result)
    }

    /// Waits for the result, but not for ever: gives the handle back if there is none in time.
    ///
    /// # Errors
    /// In the result, as for [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<R, Error>, Self> {
        match self.answer.recv_timeout(timeout) {
            Ok(answered) => Ok(answered.result),
            Err(RecvTimeoutError::Timeout) => Err(self),
            Err(RecvTimeoutError::Disconnected) => Ok(Answered::lost(0).result),
        }
    }

    /// The result if it is there; else the handle.
    ///
    /// # Errors
    /// In the result, as for [`wait`](Self::wait).
    pub fn try_wait(self) -> Result<Result<R, Error>, Self> {
        match self.answer.try_recv() {
            Ok(answered) => Ok(answered.result),
            Err(TryRecvError::Empty) => Err(self),
            Err(TryRecvError::Disconnected) => Ok(Answered::lost(0).result),
        }
    }
}
