//! The threads that kernels, and Burn's flex, compute on: rayon's global pool.

use std::error::Error;

/// Starts so many threads, called `compute-0`, `compute-1` and so on, which end with the process. Nothing happens if the same
/// number was started before.
///
/// # Errors
/// If another number was started before, also by computing something, or if the system gives no threads.
pub fn start_compute_threads(threads: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("compute-{index}"))
        .build_global();
    match (pool, rayon::current_num_threads()) {
        (Err(error), _) if error.source().is_some() => Err(error.into()),
        (Err(_), there) if there != threads => Err(format!("{there} were started before").into()),
        _ => Ok(()),
    }
}
