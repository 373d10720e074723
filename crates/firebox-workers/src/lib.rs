//! Pools of worker threads: ordered, bounded, and never silent about a task that failed.
//!
//! A [`Pool`] owns a fixed number of named threads and runs tasks on them. It gives what Python
//! programmers know from `multiprocessing.Pool`:
//!
//! ```
//! use firebox_workers::Pool;
//!
//! let pool = Pool::threads(4)?;
//! let squares = pool.map(|x: u64| x * x, 0..5)?;
//! assert_eq!(squares, [0, 1, 4, 9, 16]);
//!
//! // A lazy, ordered stream with at most eight tasks in flight.
//! for length in pool.imap(|word: &str| word.len(), ["fire", "box"], 8) {
//!     println!("{}", length?);
//! }
//! # Ok::<(), firebox_workers::Error>(())
//! ```
//!
//! # What it guarantees
//!
//! * **Every task is answered once.** Each task that was handed to a worker sends exactly one answer,
//!   also when it panics and also when it is dropped unrun: then the answer is an [`Error`] that names
//!   the task's index and, if there was one, the worker. A missing answer is impossible by
//!   construction, so the end of a stream always means the end of its tasks.
//! * **Order.** [`Pool::map`], [`Pool::try_map`] and [`Pool::imap`] give results in the order of the
//!   tasks, whichever worker finished first.
//! * **Bounds.** A stream has at most `in_flight` tasks handed out and not yet consumed. A consumer
//!   that stops pulling stops the workers.
//! * **No deadlock.** A worker never waits for a consumer: the channel of answers has a place for every
//!   task in flight. So the queue always drains, and the only wait, a consumer's for a worker, ends.
//!   A worker that uses its own pool runs those tasks itself. (Pools whose tasks wait for each other's are
//!   the caller's own knot.)
//! * **Time limits.** With [`Pool::with_timeout`] a task of a stream that hangs is answered as such, and its
//!   thread replaced, while anyone waits for a result of the pool.
//! * **Zero workers** is a valid pool: tasks run in the caller, when their result is asked for.
//!
//! A task is a value and what runs it is a [`Work`]: the two are separate, so that tasks which
//! describe themselves by data alone can be sent to another process.

#![forbid(unsafe_code)]

mod answer;
mod chunk;
mod dispatch;
mod error;
mod handle;
mod imap;
mod pool;
mod watch;
mod work;

pub use dispatch::Dispatch;
pub use error::{Error, ErrorKind};
pub use handle::Handle;
pub use imap::{Imap, ImapUnordered};
pub use pool::Pool;
pub use work::{Work, Worker};
