//! Recipes on systems that have no worker processes: threads make their batches.

use std::fmt::Debug;

use firebox_workers::ProcessPool;
use firebox_workers::process_pool::Crosses;

use crate::collate::Collate;
use crate::dataset::Shards;
use crate::error::{Error, ErrorKind};
use crate::loader::source::Streamed;
use crate::loader::{Loader, LoaderBuilder};

/// How a loader is made: settings that are data, and a function of them.
///
/// On Linux worker processes can make its batches, too; on this system there are none.
pub trait Recipe: Crosses + Debug + Sync {
    /// The layout of its batches.
    type Layout: Collate<Batch: Crosses>;

    /// Makes the loader, with threads for workers.
    ///
    /// # Errors
    /// Whatever stands in the way.
    fn loader(&self) -> Result<Loader<Self::Layout>, Error>;

    /// The loader with worker processes, which this system doesn't have.
    ///
    /// # Errors
    /// [`ErrorKind::Workers`]; nobody can have the pool to see it.
    fn workers(self, _: ProcessPool) -> Result<Loader<Self::Layout>, Error>
    where
        Self: Sized,
    {
        let text = format!("worker processes: expected Linux, got {}", std::env::consts::OS);
        Err(Error::new(ErrorKind::Workers, text))
    }
}

impl<S: Shards<Record: Crosses>, T> LoaderBuilder<Streamed<S>, T> {
    /// Lets worker processes have records that they can't read themselves: here there are none.
    pub fn send_records(self) -> Self {
        self
    }
}
