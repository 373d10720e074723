//! The threads that compute, which a process has once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use firebox_kernels::start_compute_threads;
use rayon::prelude::*;

#[test]
fn they_are_started_once_and_by_no_thread_of_another_pool() {
    assert_eq!(start_compute_threads(0).unwrap_err().to_string(), "at least one is needed");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let refused = pool.install(|| start_compute_threads(2).map_err(|error| error.to_string()));
    assert_eq!(refused.unwrap_err(), "a thread of another pool can't start them");
    start_compute_threads(2).unwrap();
    start_compute_threads(2).unwrap();
    assert_eq!(start_compute_threads(3).unwrap_err().to_string(), "2 were started before");
    // This thread is one of the two.
    assert_eq!((rayon::current_num_threads(), rayon::current_thread_index()), (2, Some(0)));
    // Work from any thread is done.
    let sum = || (0..1_000_000u64).into_par_iter().sum::<u64>();
    assert_eq!(sum(), 499_999_500_000);
    assert_eq!(std::thread::spawn(sum).join().unwrap(), 499_999_500_000);
    let allowed = pool.install(|| start_compute_threads(2).is_ok());
    assert!(allowed, "they are there already");
}
