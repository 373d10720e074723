//! How many threads compute, and how many load.

use std::thread::available_parallelism;

use firebox_kernels::start_compute_threads;

use crate::error::{Error, ErrorKind, check};

/// The numbers of threads that compute, and that prepare batches.
///
/// They are decided here, and nowhere else.
///
/// * **Compute**: those of rayon's global pool, which Burn's flex and `firebox-kernels` use. The number that
///   is given, or `RAYON_NUM_THREADS`, or as many as this process may use: its affinity and, on Linux, its
///   cgroup's quota count, not the machine's cores.
/// * **Workers**: the number that is given, or the loader's choice. That begins with half of the cores, at
///   most 8, and adds workers only while training waits for data: when the compute threads have nothing to
///   do. A worker that has filled the loader's window sleeps. So the two don't fight over cores, and no core
///   is kept free for workers that are rarely busy.
///
/// Neither number changes results.
///
/// ```
/// # use firebox_train::{Error, Threads};
/// # fn main() -> Result<(), Error> {
/// let threads = Threads::new(None, Some(1))?; // before anything is computed
/// threads.start()?;
/// assert!(threads.compute() >= 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    compute: usize,
    workers: Option<usize>,
}

impl Threads {
    const MOST: usize = 1024;

    /// Numbers of threads that compute, and of those of the loader.
    ///
    /// The loader's can be 0; `None` is for what suits the machine.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] unless `compute` is from 1 to 1,024. The loader checks `workers`.
    pub fn new(compute: Option<usize>, workers: Option<usize>) -> Result<Self, Error> {
        let compute = compute.unwrap_or_else(|| Self::fitting(std::env::var("RAYON_NUM_THREADS").ok()));
        let allowed = format!("from 1 to {}", Self::MOST);
        check((1..=Self::MOST).contains(&compute), "threads", &allowed, compute)?;
        Ok(Threads { compute, workers })
    }

    /// The numbers that suit the machine.
    pub fn detect() -> Self {
        Threads { compute: Self::fitting(std::env::var("RAYON_NUM_THREADS").ok()), workers: None }
    }

    /// A wish that makes no sense is passed over, as rayon does.
    fn fitting(wish: Option<String>) -> usize {
        let wish = wish.and_then(|wish| wish.parse().ok()).filter(|&wish| wish > 0);
        wish.unwrap_or_else(|| available_parallelism().map_or(1, usize::from)).min(Self::MOST)
    }

    /// Starts the threads that compute, for the whole process.
    ///
    /// They are called `compute-0`, `compute-1` and so on. To be called before anything is computed, which
    /// starts them too, in a number of its own.
    ///
    /// If there are several, the calling thread is the first of them: it computes its share itself instead of
    /// waking another thread and waiting for it. So it should be the one that trains, and live as long as
    /// anything is computed. glibc's allocator is asked to keep memory between steps, instead of giving it
    /// back and asking for it again.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if they are there already, in another number, the system gives none, or the
    /// caller is a thread of another pool.
    pub fn start(self) -> Result<(), Error> {
        start_compute_threads(self.compute).map_err(|error| {
            let text = format!("threads: expected {} that compute", self.compute);
            Error::new(ErrorKind::Config, text).caused_by(error)
        })
    }

    /// The number of threads that compute.
    pub fn compute(self) -> usize {
        self.compute
    }

    /// The number of threads that prepare batches; `None` if the loader chooses.
    pub fn workers(self) -> Option<usize> {
        self.workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_counts_if_it_makes_sense() {
        let cores = available_parallelism().unwrap().get();
        for (wish, threads) in [("3", 3), ("0", cores), ("many", cores), ("-1", cores), ("1000000", 1024)] {
            assert_eq!(Threads::fitting(Some(wish.to_owned())), threads, "{wish}");
        }
        assert_eq!(Threads::fitting(None), cores);
    }

    #[test]
    fn threads_are_started_once() {
        for bad in [0, 1025] {
            let error = Threads::new(Some(bad), None).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
            assert_eq!(error.to_string(), format!("threads: expected from 1 to 1024, got {bad}"));
        }
        // Three, if no other test of this process was first.
        let there = match Threads::new(Some(3), None).unwrap().start() {
            Ok(()) => 3,
            Err(_) => Threads::detect().compute(),
        };
        Threads::new(Some(there), Some(0)).unwrap().start().unwrap();
        let error = Threads::new(Some(there + 1), None).unwrap().start().unwrap_err();
        let text = format!("threads: expected {} that compute: {there} were started before", there + 1);
        assert_eq!(error.to_string(), text);
    }
}
