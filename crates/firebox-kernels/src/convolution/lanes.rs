//! Filters that are computed side by side.
//!
//! They are taken out of their slices first: that the places of the results are none of the operands is beyond what the
//! compiler would check.

use std::ops::Range;

/// As many as a vector of the widest kind has.
pub(super) const LANES: usize = 16;

/// Where the whole vectors of some filters begin.
#[inline(always)]
pub(super) fn vectors(filters: Range<usize>) -> impl Iterator<Item = usize> {
    (filters.start..filters.end - filters.len() % LANES).step_by(LANES)
}

/// The filters behind them.
#[inline(always)]
pub(super) fn singles(filters: Range<usize>) -> Range<usize> {
    filters.end - filters.len() % LANES..filters.end
}

/// Work for so many filters at a time, `$lanes`, from filter `$filter`.
macro_rules! by_lanes {
    ($filters:expr, $filter:ident, $lanes:ident, $work:expr) => {
        for $filter in $crate::convolution::lanes::vectors($filters) {
            const $lanes: usize = $crate::convolution::lanes::LANES;
            $work;
        }
        for $filter in $crate::convolution::lanes::singles($filters) {
            const $lanes: usize = 1;
            $work;
        }
    };
}
pub(super) use by_lanes;

#[inline(always)]
pub(super) fn lanes<T: Copy + Default, const L: usize>(values: &[T], at: usize) -> [T; L] {
    let mut lanes = [T::default(); L];
    lanes.copy_from_slice(&values[at..at + L]);
    lanes
}

#[inline(always)]
pub(super) fn store<T: Copy, const L: usize>(lanes: [T; L], values: &mut [T], at: usize) {
    values[at..at + L].copy_from_slice(&lanes);
}
