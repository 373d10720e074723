//! Workers that take tasks, threads or processes: ordered, bounded, and never silent about a task that
//! failed.
//!
//! A [`Pool`] owns named threads and runs tasks on them. [`WorkersExt`] gives it what Python programmers know
//! from `multiprocessing.Pool`:
//!
//! ```
//! use firebox_workers::{Pool, WorkersExt as _};
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
//! # Threads or processes
//!
//! [`Pool::threads`] runs any closure in this process. `Pool::processes` has the same methods, and runs
//! functions of the program in processes of their own: one that is killed, aborts or runs out of memory is
//! replaced, its task goes out again, and a task that ends every worker is an error that names it.
//!
#![cfg_attr(all(feature = "processes", target_os = "linux"), doc = "```")]
#![cfg_attr(not(all(feature = "processes", target_os = "linux")), doc = "```ignore")]
//! use firebox_workers::{Pool, WorkersExt as _};
//!
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! fn main() -> Result<(), firebox_workers::Error> {
//!     firebox_workers::init(); // First in `main`: a worker is this program, started again.
//!     let pool = Pool::processes(2)?;
//!     assert_eq!(pool.map(square, 0..5)?, [0, 1, 4, 9, 16]);
//!     Ok(())
//! }
//! ```
//!
//! Processes are the feature `processes` (on by default) and of Linux; elsewhere `Pool::processes` is an
//! error, and `default-features = false` leaves threads. With the feature `tracing` what workers log arrives
//! in the parent's subscriber, each record with its worker and process; so does what a `sync::Process` logs.
//!
//! # What it guarantees
//!
//! * **Every task is answered once.** Each task that was handed to a worker sends exactly one answer,
//!   also when it panics and also when it is dropped unrun: then the answer is an [`Error`] that names
//!   the task's index and, if there was one, the worker. A missing answer is impossible by
//!   construction, so the end of a stream always means the end of its tasks.
//! * **Order.** [`map`](WorkersExt::map), [`try_map`](WorkersExt::try_map) and [`imap`](WorkersExt::imap)
//!   give results in the order of the tasks, whichever worker finished first.
//! * **Bounds.** A stream has at most `in_flight` tasks handed out and not yet consumed. A consumer
//!   that stops pulling stops the workers.
//! * **No deadlock.** A worker never waits for a consumer: the channel of answers has a place for every
//!   task in flight. So the queue always drains, and the only wait, a consumer's for a worker, ends.
//!   A worker that uses its own pool runs those tasks itself. (Pools whose tasks wait for each other's are
//!   the caller's own knot.)
//! * **Time limits.** With [`Pool::with_timeout`] a task of a stream that hangs is answered as such, and its
//!   thread replaced, while anyone waits for a result of the pool.
//! * **No task is lost with its worker.** The parent has each task until it is answered, and believes a
//!   worker process nothing that it hasn't checked.
//! * **Zero workers** is a valid pool: tasks run in the caller, when their result is asked for.
//!
//! # A trait to implement, a trait to use
//!
//! ```text
//! map, try_map, imap, imap_unordered, submit      WorkersExt: for everyone, the same for all workers
//!                    │
//!                dispatch                         order, bounds, chunks, the caller's own turn
//!                    │ Job: task, work, the duty to answer
//!                  pack                           Runs<T, W>: what these workers can run
//!                    │ Parcel: a closure, bytes
//!           try_send · receive                    Workers: a queue there, answers back
//! ```
//!
//! [`Workers`] is what a kind of workers has to do, and knows of one task at a time: it takes parcels, and
//! sees to it that each is answered. A task is a value and what runs it is a [`Work`]. The two are separate,
//! so that tasks which describe themselves by data alone can be sent to another process;
//! [`Runs`](workers::Runs) says which work and which tasks a kind of workers can take: threads any closure,
//! others what can be written down. Everything else is written once, on top of the two, in [`WorkersExt`].
//!
//! That a kind of workers keeps the promises above is for one suite to say, `tests/it/conformance/`. Its
//! tasks are data and its gates are files, so that threads and workers without shared memory can be put under
//! it alike.

#![deny(unsafe_code)]

pub mod error;
#[cfg(feature = "processes")]
mod launch;
pub mod pool;
#[cfg(all(feature = "processes", target_os = "linux"))]
mod process;
#[cfg(feature = "processes")]
pub mod process_pool;
pub mod stream;
#[cfg(all(feature = "processes", target_os = "linux"))]
pub mod sync;
#[cfg(all(feature = "processes", not(target_os = "linux")))]
#[path = "sync/elsewhere.rs"]
pub mod sync;
pub mod task;
#[cfg(all(feature = "processes", target_os = "linux"))]
#[doc(hidden)]
pub mod testing;
pub mod workers;
mod workers_ext;

pub use error::{Error, ErrorKind};
pub use pool::{Pool, Statistics};
#[cfg(all(feature = "processes", target_os = "linux"))]
pub use process::init;
#[cfg(all(feature = "processes", not(target_os = "linux")))]
pub use process_pool::init;
#[cfg(feature = "processes")]
pub use process_pool::{Packed, ProcessPool, RemoteWork};
pub use stream::Handle;
pub use task::{Work, Worker};
pub use workers::Workers;
pub use workers_ext::WorkersExt;

/// Names for macros of this crate, and for nobody else.
#[doc(hidden)]
#[cfg(feature = "processes")]
pub mod __private {
    pub use std::string::String as Text;
    /// The settings of work.
    pub type Bytes = Vec<u8>;

    #[cfg(target_os = "linux")]
    pub use crate::process::role::note_test;
    #[cfg(target_os = "linux")]
    pub use crate::process::worker::serve_in_test;
    pub use crate::process_pool::{described, read_settings, write_settings};
}

#[cfg(all(doctest, feature = "processes", target_os = "linux"))]
#[doc = include_str!("../../../docs/multiprocessing.md")]
struct FromMultiprocessing;

#[cfg(all(doctest, feature = "processes", target_os = "linux"))]
#[doc = include_str!("../../../docs/threads-or-processes.md")]
struct ThreadsOrProcesses;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
