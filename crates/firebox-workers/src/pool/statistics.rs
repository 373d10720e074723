//! Counts of a pool's work.

use crate::pool::incident::Incident;

/// How many incidents are kept.
#[cfg(all(feature = "processes", target_os = "linux"))]
const MOST_INCIDENTS: usize = 1000;

/// Counts of a pool's tasks so far, and of its workers that died.
///
/// ```
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// let pool = Pool::threads(2)?;
/// assert_eq!(pool.map(|x: u64| x + 1, 0..10)?.len(), 10);
/// let statistics = pool.statistics();
/// assert_eq!((statistics.workers, statistics.deaths, statistics.quarantined), (2, 0, 0));
/// # Ok::<(), firebox_workers::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// The workers that are there.
    pub workers: usize,
    /// The tasks that workers have answered. A chunk of small tasks counts as one.
    pub tasks: u64,
    /// The workers that ended before their time, those included that were ended for a time limit or for being
    /// stopped; of threads, those that were given up for a time limit.
    pub deaths: u64,
    /// The workers that were started in place of one that had ended.
    pub replacements: u64,
    /// The tasks that were answered with [`ErrorKind::Died`](crate::ErrorKind::Died).
    pub quarantined: u64,
    /// The last thousand deaths of processes, each with its task and cause, the oldest first.
    pub incidents: Vec<Incident>,
}

#[cfg(all(feature = "processes", target_os = "linux"))]
impl Statistics {
    pub(crate) fn note(&mut self, incident: &Incident) {
        self.deaths += 1;
        if self.incidents.len() >= MOST_INCIDENTS {
            self.incidents.remove(0);
        }
        self.incidents.push(incident.clone());
    }
}
