//! How work is given to threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rayon::{Yield, current_num_threads, current_thread_index};

/// Floating-point operations below which it is not worth while to wake another thread: some twenty
/// microseconds' worth.
pub(crate) const SMALL: usize = 1 << 21;

/// Runs tasks, whose number and sizes must not depend on the number of threads, of so many operations
/// altogether.
pub(crate) fn share<T: Send>(
    tasks: impl Iterator<Item = T>,
    operations: usize,
    run: impl Fn(T) + Send + Sync,
) {
    if operations < SMALL || current_num_threads() == 1 {
        tasks.for_each(run);
    } else {
        spread(tasks.collect(), run);
    }
}

/// Runs tasks that are large in any case, one a thread at a time.
pub(crate) fn spread<T: Send>(tasks: Vec<T>, run: impl Fn(T) + Send + Sync) {
    let several = tasks.len() > 1;
    tasks.into_par_iter().with_max_len(1).for_each(run);
    if several {
        linger();
    }
}

/// How long threads look for more work before they sleep: longer than what lies between two operations of a
/// step.
const PATIENCE: Duration = Duration::from_micros(100);

/// Threads that look.
static LOOKING: AtomicUsize = AtomicUsize::new(0);

/// Has one more of the other threads look for work a while. rayon's own go to sleep within some microseconds,
/// and to wake one takes as long as many an operation. They leave the core to whoever else wants it.
fn linger() {
    if LOOKING.load(Ordering::Relaxed) + 1 >= current_num_threads() {
        return;
    }
    LOOKING.fetch_add(1, Ordering::Relaxed);
    let caller = current_thread_index();
    rayon::spawn(move || {
        // A deadline that nobody moves: this may be a thread that waits for others, and came here meanwhile.
        // The first one, and the one that asked, may be that which trains.
        let trains = [Some(0), caller].contains(&current_thread_index());
        let end = Instant::now() + PATIENCE;
        while !trains && Instant::now() < end {
            if rayon::yield_now() != Some(Yield::Executed) {
                thread::yield_now();
            }
        }
        LOOKING.fetch_sub(1, Ordering::Relaxed);
    });
}

/// The columns `first..` of a matrix whose rows have so many elements, by tiles of so many columns: where
/// each begins, and its part of each row.
pub(crate) fn tiles(
    matrix: &mut [f32],
    columns: usize,
    width: usize,
) -> impl Iterator<Item = (usize, Vec<&mut [f32]>)> {
    let mut tiles: Vec<Vec<&mut [f32]>> = Vec::new();
    tiles.resize_with(columns.div_ceil(width), Vec::new);
    for row in matrix.chunks_exact_mut(columns) {
        for (tile, part) in tiles.iter_mut().zip(row.chunks_mut(width)) {
            tile.push(part);
        }
    }
    tiles.into_iter().enumerate().map(move |(tile, rows)| (tile * width, rows))
}
