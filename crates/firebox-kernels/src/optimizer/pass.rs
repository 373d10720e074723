//! One pass over slices of the same length: in vector instructions, and on several threads where that pays.

use rayon::prelude::*;

use crate::machine::simd::vectorised;
use crate::machine::tasks::spread;

/// Elements that a thread takes at a time. So many or fewer stay on the calling thread: waking another one
/// takes longer.
pub(crate) const CHUNK: usize = 1 << 14;

/// A change of the elements at one place of `N` slices, with the element there of one that is only read.
pub(crate) trait Pass<const N: usize>: Copy + Sync {
    /// To be inlined, so that it is compiled for the instructions of its caller. All slices have the same
    /// length.
    fn run(self, written: [&mut [f32]; N], read: &[f32]);
}

/// Runs a pass over whole slices. What is computed for an element depends on no other, and so on no thread.
pub(crate) fn run<const N: usize>(pass: impl Pass<N>, written: [&mut [f32]; N], read: &[f32]) {
    if read.len() <= CHUNK {
        return vectorised(
            #[inline(always)]
            || pass.run(written, read),
        );
    }
    let mut chunks = written.map(|slice| slice.chunks_mut(CHUNK));
    let tasks: Vec<_> = read
        .chunks(CHUNK)
        .map(|read| (chunks.each_mut().map(|chunks| chunks.next().unwrap_or_default()), read))
        .collect();
    spread(tasks, |(written, read)| {
        vectorised(
            #[inline(always)]
            || pass.run(written, read),
        )
    });
}

/// The sum of squares in 64 bits: of chunks, whose sums are added in their order.
pub(crate) fn square_sum(values: &[f32]) -> f64 {
    let of_chunk = |chunk: &[f32]| {
        vectorised(
            #[inline(always)]
            || square_sum_of_chunk(chunk),
        )
    };
    if values.len() <= CHUNK {
        return of_chunk(values);
    }
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(of_chunk).collect();
    sums.into_iter().sum()
}

/// By lanes, whose number is part of the result, and not the CPU's.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "a loop of this form becomes vectors")]
fn square_sum_of_chunk(values: &[f32]) -> f64 {
    const LANES: usize = 32;
    let mut lanes = [0.0; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        for lane in 0..LANES {
            let value = f64::from(values[lane]);
            lanes[lane] += value * value;
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(value) * f64::from(value);
    }
    lanes.into_iter().sum()
}
