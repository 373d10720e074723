//! The threads that kernels, and Burn's flex, compute on: rayon's global pool.

use std::error::Error;
use std::sync::OnceLock;

use crate::machine::allocator::keep_memory;

/// How many were started here.
static STARTED: OnceLock<usize> = OnceLock::new();

/// Starts so many threads that compute, which end with the process.
///
/// They are called `compute-0`, `compute-1` and so on. Nothing happens if the same number was started before.
///
/// If there are several, the calling thread is the first of them: where it gives out work, it does its share
/// without waking another one and waiting for it, which costs a step of many small operations a tenth of its
/// time. One thread alone is not the caller: who computes on another thread than this one would wait for it
/// for ever.
///
/// The caller should therefore be a thread that trains, and lives as long as the process computes: one that
/// ends takes its place in the pool with it. With the threads, glibc's allocator is asked to keep memory
/// between steps.
///
/// # Errors
/// If another number was started before, also by computing something; if the system gives no threads; if
/// there are to be none; or on a thread of another pool.
pub fn start_compute_threads(threads: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    if threads == 0 {
        return Err("at least one is needed".into());
    }
    if let Some(&there) = STARTED.get() {
        return if there == threads { Ok(()) } else { Err(format!("{there} were started before").into()) };
    }
    if rayon::current_thread_index().is_some() {
        // rayon would take this for the one attempt to start its global pool, and refuse all later ones.
        return Err("a thread of another pool can't start them".into());
    }
    let mut pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("compute-{index}"));
    if threads > 1 {
        pool = pool.use_current_thread();
    }
    match (pool.build_global(), rayon::current_num_threads()) {
        (Ok(()), _) => {
            let _ = STARTED.set(threads);
            keep_memory();
            Ok(())
        }
        (Err(error), _) if error.source().is_some() => Err(error.into()),
        (Err(_), there) if there != threads => Err(format!("{there} were started before").into()),
        (Err(_), _) => Ok(()),
    }
}
