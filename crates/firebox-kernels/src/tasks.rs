//! How work is given to threads.

use rayon::prelude::*;

/// Floating-point operations below which it is not worth while to wake another thread: some twenty microseconds' worth.
pub(crate) const SMALL: usize = 1 << 21;

/// Runs tasks, whose number and sizes must not depend on the number of threads, of so many operations altogether.
pub(crate) fn share<T: Send>(
    tasks: impl Iterator<Item = T>,
    operations: usize,
    run: impl Fn(T) + Send + Sync,
) {
    if operations < SMALL || rayon::current_num_threads() == 1 {
        tasks.for_each(run);
    } else {
        let tasks: Vec<T> = tasks.collect();
        tasks.into_par_iter().with_max_len(1).for_each(run);
    }
}

/// The columns `first..` of a matrix whose rows have so many elements, by tiles of so many columns: where each begins, and
/// its part of each row.
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
