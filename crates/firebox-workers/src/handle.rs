//! The result of one task, to be asked for later.

use std::time::Duration;

use crate::Error;
use crate::answer::{Answered, Answers, NoAnswer};

/// A task that was handed out by [`submit`](crate::WorkersExt::submit).
///
/// Dropping it forgets the result; the task runs all the same.
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
#[derive(Debug)]
#[must_use = "the result of the task, or its error, is in here"]
pub struct Handle<R> {
    /// One answer comes; then nobody is left who could answer.
    answer: Answers<R>,
}

impl<R> Handle<R> {
    pub(crate) fn new(answer: Answers<R>) -> Self {
        Handle { answer }
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`ErrorKind::Panicked`](crate::ErrorKind::Panicked) if the task panicked,
    /// [`ErrorKind::Lost`](crate::ErrorKind::Lost) if the pool ended before it ran.
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
