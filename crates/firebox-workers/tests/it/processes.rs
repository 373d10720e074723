//! Processes under the suite that every kind of workers passes.

use std::time::Duration;

use firebox_workers::{Pool, ProcessPool, Statistics};

use crate::conformance::{PoolSubject, Subject};

struct Processes;

impl Subject for Processes {
    type Workers = ProcessPool;

    fn with_limit(workers: usize, limit: Option<Duration>) -> ProcessPool {
        let pool = Pool::processes(workers).unwrap();
        limit.into_iter().fold(pool, ProcessPool::with_timeout)
    }

    fn join(workers: ProcessPool) {
        workers.join();
    }
}

impl PoolSubject for Processes {
    fn terminate(workers: ProcessPool) {
        workers.terminate();
    }

    fn statistics(workers: &ProcessPool) -> Statistics {
        workers.statistics()
    }
}

mod no_worker {
    crate::conformance::conformance!(super::Processes, 0);
}

mod one_worker {
    crate::conformance::conformance!(super::Processes, 1);
    crate::conformance::behaviors_of_pools!(conformance_tests, super::Processes, 1);
}

mod two_workers {
    crate::conformance::conformance!(super::Processes, 2);
    crate::conformance::behaviors_of_pools!(conformance_tests, super::Processes, 2);
}
