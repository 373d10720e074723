//! Threads under the suite that every kind of workers passes.

use std::time::Duration;

use firebox_workers::{Pool, Statistics};

use crate::conformance::{PoolSubject, Subject};

struct Threads;

impl Subject for Threads {
    type Workers = Pool;

    fn with_limit(workers: usize, limit: Option<Duration>) -> Pool {
        let pool = Pool::threads(workers).unwrap();
        limit.into_iter().fold(pool, Pool::with_timeout)
    }

    fn join(workers: Pool) {
        workers.join();
    }
}

impl PoolSubject for Threads {
    fn terminate(workers: Pool) {
        workers.terminate();
    }

    fn statistics(workers: &Pool) -> Statistics {
        workers.statistics()
    }
}

mod no_worker {
    crate::conformance::conformance!(super::Threads, 0);
}

mod one_worker {
    crate::conformance::conformance!(super::Threads, 1);
    crate::conformance::behaviors_of_pools!(conformance_tests, super::Threads, 1);
    crate::conformance::behaviors_in_one_process!(conformance_tests, super::Threads, 1);
}

mod two_workers {
    crate::conformance::conformance!(super::Threads, 2);
    crate::conformance::behaviors_of_pools!(conformance_tests, super::Threads, 2);
    crate::conformance::behaviors_in_one_process!(conformance_tests, super::Threads, 2);
}

mod four_workers {
    crate::conformance::conformance!(super::Threads, 4);
    crate::conformance::behaviors_of_pools!(conformance_tests, super::Threads, 4);
    crate::conformance::behaviors_in_one_process!(conformance_tests, super::Threads, 4);
}
