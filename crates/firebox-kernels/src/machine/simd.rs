//! The vector instructions that are used: the best that the CPU has, found out at run time.

use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(target_arch = "aarch64")]
use pulp::aarch64::Neon;
#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};
use pulp::{Scalar, Simd, WithSimd};

/// Vector instructions that kernels are compiled for.
///
/// ```
/// use firebox_kernels::machine::{Instructions, instructions};
///
/// assert!(instructions() >= Instructions::Baseline);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Instructions {
    /// The instructions that every CPU of the target has.
    Baseline,
    /// Four numbers at a time, on ARM.
    Neon,
    /// Eight numbers at a time, with fused multiplication and addition.
    Avx2,
    /// Sixteen numbers at a time.
    Avx512,
}

const UNKNOWN: u8 = u8::MAX;
static USED: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The vector instructions that kernels use on this CPU.
pub fn instructions() -> Instructions {
    match USED.load(Ordering::Relaxed) {
        0 => Instructions::Baseline,
        1 => Instructions::Neon,
        2 => Instructions::Avx2,
        3 => Instructions::Avx512,
        _ => {
            let best = best(Instructions::Avx512);
            // A limit that somebody has set meanwhile stands.
            let _ = USED.compare_exchange(UNKNOWN, best as u8, Ordering::Relaxed, Ordering::Relaxed);
            best
        }
    }
}

/// Has kernels use no more than these from now on, and says which they use.
///
/// It is for comparisons and tests, and for all threads. What the CPU doesn't have is never used. Products
/// that gemm computes, and Burn's own operations, make a choice of their own.
pub fn limit_instructions(most: Instructions) -> Instructions {
    let best = best(most);
    USED.store(best as u8, Ordering::Relaxed);
    best
}

fn best(most: Instructions) -> Instructions {
    available().into_iter().filter(|&each| each <= most).max().unwrap_or(Instructions::Baseline)
}

/// The instructions of this CPU.
fn available() -> Vec<Instructions> {
    let mut available = vec![Instructions::Baseline];
    #[cfg(target_arch = "x86_64")]
    {
        available.extend(V3::try_new().map(|_| Instructions::Avx2));
        available.extend(V4::try_new().map(|_| Instructions::Avx512));
    }
    #[cfg(target_arch = "aarch64")]
    available.extend(Neon::try_new().map(|_| Instructions::Neon));
    available
}

/// Runs a closure compiled for these instructions: the compiler makes vectors of its loops. It must be marked
/// as `#[inline(always)]`, and so must be what it calls: what isn't inlined is compiled for the baseline.
#[inline]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    dispatch(Vectorised(work))
}

/// pulp takes closures as they are, but of one that isn't known to be called once it calls a shim that isn't
/// inlined.
struct Vectorised<F>(F);

impl<R, F: FnOnce() -> R> WithSimd for Vectorised<F> {
    type Output = R;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> R {
        (self.0)()
    }
}

/// Runs an operation compiled for these instructions.
///
/// pulp's own `Arch` would do, but knows AVX2 only with a feature that gemm, its other user here, leaves out.
#[inline]
pub(crate) fn dispatch<O: WithSimd>(operation: O) -> O::Output {
    match instructions() {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => {
            if let Some(simd) = V4::try_new() {
                return Simd::vectorize(simd, operation);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => {
            if let Some(simd) = V3::try_new() {
                return Simd::vectorize(simd, operation);
            }
        }
        #[cfg(target_arch = "aarch64")]
        Instructions::Neon => {
            if let Some(simd) = Neon::try_new() {
                return Simd::vectorize(simd, operation);
            }
        }
        _ => {}
    }
    Simd::vectorize(Scalar, operation)
}

/// Vector `v` of a slice; what is after the slice's end is zero.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, values: &[f32], v: usize) -> S::f32s {
    let (vectors, rest) = S::as_simd_f32s(values);
    vectors.get(v).copied().unwrap_or_else(|| simd.partial_load_f32s(rest))
}

/// Writes that vector, as far as the slice goes.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, values: &mut [f32], v: usize, vector: S::f32s) {
    let (vectors, rest) = S::as_mut_simd_f32s(values);
    match vectors.get_mut(v) {
        Some(to) => *to = vector,
        None => simd.partial_store_f32s(rest, vector),
    }
}
