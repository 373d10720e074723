//! The threads that kernels, and Burn's flex, compute on: rayon's global pool.

use std::error::Error;

use crate::allocator::keep_memory;

/// Starts so many threads, called `compute-0`, `compute-1` and so on, which end with the process. Nothing happens if the same
/// number was started before.
///
/// If there are several, the calling thread is the first of them: where it gives out work, it does its share without waking
/// another one and waiting for it, which costs a step of many small operations a tenth of its time. One thread alone is not
/// the caller: who computes on another thread than this one would wait for it for ever.
///
/// glibc's allocator is asked to keep memory between steps, too.
///
/// # Errors
/// If another number was started before, also by computing something, or if the system gives no threads.
pub fn start_compute_threads(threads: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    keep_memory();
    let mut pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("compute-{index}"));
    if threads > 1 {
        pool = pool.use_current_thread();
    }
    match (pool.build_global(), rayon::current_num_threads()) {
        (Err(error), _) if error.source().is_some() => Err(error.into()),
        (Err(_), there) if there != threads => Err(format!("{there} were started before").into()),
        _ => Ok(()),
    }
}
