//! Systems that have no worker processes: the pool's names, and an error that says so.

use std::convert::Infallible;
use std::time::Duration;

use super::{Crosses, RemoteWork};
use crate::error::{Error, ErrorKind};
use crate::pool::statistics::Statistics;
use crate::stream::chunk::Chunked;
use crate::task::job::Job;
use crate::workers::{Runs, Workers};

/// Does nothing: on this system no program has worker processes.
pub fn init() {}

/// Makes nothing: on this system a test binary has no worker processes.
#[macro_export]
macro_rules! test_worker {
    () => {};
}

/// A task on its way to a worker process: there is none.
pub struct ProcessParcel(Infallible);

/// Worker processes, of which there are none on this system.
#[derive(Debug)]
pub struct ProcessPool(Infallible);

impl ProcessPool {
    /// Why there is no such pool.
    pub(super) fn unavailable(_workers: usize, _limit: Option<Duration>, _most_bytes: usize) -> Error {
        let system = std::env::consts::OS;
        let message =
            format!("worker processes: expected Linux, got {system}: Pool::threads has the same methods");
        Error::new(ErrorKind::NoProcess, message)
    }

    /// The same pool.
    pub fn with_timeout(self, _: Duration) -> Self {
        match self.0 {}
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        match self.0 {}
    }

    /// The processes that work at present.
    pub fn pids(&self) -> Vec<Option<u32>> {
        match self.0 {}
    }

    /// Counts of the tasks done so far.
    pub fn statistics(&self) -> Statistics {
        match self.0 {}
    }

    /// Looks whether work is the same once it is in another process.
    ///
    /// # Errors
    /// None: there is no pool to ask.
    pub fn check_work<T, W: RemoteWork<T>>(&self, _: &W) -> Result<(), Error> {
        match self.0 {}
    }

    /// Adds workers.
    ///
    /// # Errors
    /// None: there is no pool to ask.
    pub fn grow(&self, _: usize) -> Result<(), Error> {
        match self.0 {}
    }

    /// Takes no more tasks.
    pub fn close(&self) {
        match self.0 {}
    }

    /// Finishes everything that was handed out.
    pub fn join(self) {
        match self.0 {}
    }

    /// Ends the pool at once.
    pub fn terminate(self) {
        match self.0 {}
    }
}

impl Workers for ProcessPool {
    type Parcel = ProcessParcel;

    fn capacity(&self) -> usize {
        match self.0 {}
    }

    fn try_send(&self, _: ProcessParcel) -> Result<(), ProcessParcel> {
        match self.0 {}
    }

    fn send(&self, parcel: ProcessParcel) {
        match parcel.0 {}
    }

    fn grow(&self, _: usize) -> Result<(), Error> {
        match self.0 {}
    }

    fn close(&self) {
        match self.0 {}
    }

    fn is_closed(&self) -> bool {
        match self.0 {}
    }
}

impl<T, W> Runs<T, W> for ProcessPool
where
    T: Crosses,
    W: RemoteWork<T>,
    W::Output: Crosses,
{
    fn pack(&self, _: Job<T, W>) -> ProcessParcel {
        match self.0 {}
    }

    fn pack_chunk(&self, _: Job<Vec<T>, Chunked<W>>) -> ProcessParcel {
        match self.0 {}
    }
}
