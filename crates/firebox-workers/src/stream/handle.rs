//! The result of one task, to be asked for later.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::task::answer::{Answered, Answers, Mailbox, NoAnswer};

/// A task that was handed out by [`submit`](crate::WorkersExt::submit).
///
/// Dropping it forgets the result; the task runs all the same, unless it was [cancelled](Self::cancel).
///
/// # Wait for a result, but not for ever
///
/// ```
/// use std::time::Duration;
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// let pool = Pool::threads(1)?;
/// let handle = pool.submit(|| 6 * 7);
/// match handle.wait_timeout(Duration::from_secs(60)) {
///     Ok(result) => assert_eq!(result?, 42),
///     Err(_still_running) => panic!("a minute for a product"),
/// }
/// # Ok::<(), firebox_workers::Error>(())
/// ```
///
/// # Withdraw a task that nobody needs any more
/// ```
/// use std::sync::mpsc::channel;
/// use firebox_workers::{ErrorKind, Pool, WorkersExt as _};
///
/// let pool = Pool::threads(1)?;
/// let (go_on, gate) = channel::<()>();
/// let first = pool.submit(move || gate.recv().is_ok());
/// let second = pool.submit(|| 6 * 7);
/// assert!(second.cancel());
/// assert_eq!(second.wait().unwrap_err().kind(), &ErrorKind::Cancelled);
/// go_on.send(()).unwrap();
/// assert!(first.wait()?);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
#[must_use = "the result of the task, or its error, is in here"]
pub struct Handle<R> {
    /// One answer comes: the task's, or that it was cancelled.
    answer: Answers<R>,
    mailbox: Arc<Mailbox<R>>,
}

impl<R> Handle<R> {
    pub(crate) fn new(answer: Answers<R>, mailbox: Arc<Mailbox<R>>) -> Self {
        Handle { answer, mailbox }
    }

    /// Cancels the task, unless it was answered before; tells whether it is cancelled.
    ///
    /// The task is answered at once, with [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled). One that has
    /// not begun never does; what it has captured is dropped when its turn comes. One that runs is left
    /// alone, in a thread as in a process, for it may hold what others need: its result is dropped, and a
    /// task that asks by [`Worker::progress`](crate::Worker::progress) hears that nobody waits for it.
    pub fn cancel(&self) -> bool {
        self.mailbox.cancel_task()
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`ErrorKind::Panicked`](crate::ErrorKind::Panicked) if the task panicked,
    /// [`ErrorKind::Lost`](crate::ErrorKind::Lost) if the pool ended before it ran,
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) if it was cancelled.
    pub fn wait(self) -> Result<R, Error> {
        self.answer.wait(None).unwrap_or_else(|| Answered::lost(0)).result
    }

    /// Waits for the result, but not for ever: gives the handle back if there is none in time.
    ///
    /// # Errors
    /// In the result, as for [`wait`](Self::wait).
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<R, Error>, Self> {
        let answer = self.answer.wait_for(timeout);
        self.result(answer)
    }

    /// The result if it is there; else the handle.
    ///
    /// # Errors
    /// In the result, as for [`wait`](Self::wait).
    pub fn try_wait(self) -> Result<Result<R, Error>, Self> {
        let answer = self.answer.try_take();
        self.result(answer)
    }

    fn result(self, answer: Result<Answered<R>, NoAnswer>) -> Result<Result<R, Error>, Self> {
        match answer {
            Ok(answered) => Ok(answered.result),
            Err(NoAnswer::NotYet) => Err(self),
            Err(NoAnswer::Never) => Ok(Answered::lost(0).result),
        }
    }
}

impl<R> fmt::Debug for Handle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
