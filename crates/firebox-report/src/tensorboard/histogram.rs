//! How values are distributed.

/// Counts of values in buckets of one width from the smallest to the largest finite value. Those that are not
/// finite are not in it.
#[derive(Debug, PartialEq)]
pub(super) struct Histogram {
    pub(super) min: f64,
    pub(super) max: f64,
    /// How many values there are; a double, as TensorBoard has it.
    pub(super) count: f64,
    pub(super) sum: f64,
    pub(super) sum_of_squares: f64,
    /// The upper end of each bucket. The first one begins at `min`.
    pub(super) limits: Vec<f64>,
    /// The values in each bucket.
    pub(super) counts: Vec<f64>,
}

/// As many as TensorBoard draws.
const BUCKETS: usize = 30;

impl Histogram {
    /// `None` if no value is finite.
    pub(super) fn of(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let finite = || values.clone().filter(|value| value.is_finite());
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut count, mut sum, mut sum_of_squares) = (0_usize, 0.0, 0.0);
        for value in finite() {
            (min, max) = (min.min(value), max.max(value));
            count += 1;
            sum += value;
            sum_of_squares += value * value;
        }
        if count == 0 {
            return None;
        }
        let buckets = if min < max { BUCKETS } else { 1 };
        // Where the range itself is infinite, its parts are not.
        let part = if (max - min).is_finite() { 1.0 } else { 1.0 / BUCKETS as f64 };
        let range = max * part - min * part;
        let scale = buckets as f64 / range;
        let mut counts = vec![0_usize; buckets];
        for value in finite() {
            // Where all are equal the scale is infinite, and the place NaN, which is 0 as an index.
            counts[(((value * part - min * part) * scale) as usize).min(buckets - 1)] += 1;
        }
        let width = range / buckets as f64;
        let mut limits: Vec<_> =
            (1..=buckets).map(|bucket| (min * part + width * bucket as f64) / part).collect();
        limits[buckets - 1] = max;
        let counts = counts.into_iter().map(|count| count as f64).collect();
        Some(Histogram { min, max, count: count as f64, sum, sum_of_squares, limits, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_value_is_in_one_bucket() {
        let values = (0..=300).map(|value| f64::from(value) / 100.0).chain([f64::NAN, f64::INFINITY]);
        let histogram = Histogram::of(values).unwrap();
        assert_eq!((histogram.min, histogram.max, histogram.count), (0.0, 3.0, 301.0));
        assert_eq!((histogram.limits.len(), histogram.limits[29]), (30, 3.0));
        assert!(histogram.limits.is_sorted());
        assert_eq!(histogram.counts.iter().sum::<f64>(), 301.0);
        // Ten a bucket; 3.00 is in the last one. Roundings may move a value to its neighbour.
        assert!(histogram.counts.iter().all(|count| (9.0..=11.0).contains(count)), "{histogram:?}");
        assert!((histogram.sum - 451.5).abs() < 1e-9);
        assert!((histogram.sum_of_squares - 904.505).abs() < 1e-9, "{histogram:?}");
    }

    #[test]
    fn equal_values_are_one_bucket_and_none_are_no_histogram() {
        let histogram = Histogram::of([2.5; 7].into_iter()).unwrap();
        assert_eq!((histogram.limits, histogram.counts), (vec![2.5], vec![7.0]));
        assert_eq!(Histogram::of([f64::NAN, f64::NEG_INFINITY].into_iter()), None);
        // The range itself overflows.
        let wide = Histogram::of([f64::MIN, f64::MAX].into_iter()).unwrap();
        assert_eq!((wide.counts[0], wide.counts[29], wide.counts.iter().sum::<f64>()), (1.0, 1.0, 2.0));
        assert!(wide.limits.is_sorted() && wide.limits.iter().all(|limit| limit.is_finite()), "{wide:?}");
        let halves = Histogram::of([f64::MIN, -1.0, 1.0, f64::MAX].into_iter()).unwrap();
        assert_eq!((halves.counts[0], halves.counts[29]), (1.0, 1.0), "{halves:?}");
        assert_eq!(Histogram::of([].into_iter()), None);
        for one in [0.0, -0.0, 5e-324, f64::MAX] {
            let histogram = Histogram::of([one].into_iter()).unwrap();
            assert_eq!((histogram.limits, histogram.counts), (vec![one], vec![1.0]));
        }
        let close = Histogram::of([0.0, 5e-324, 0.0].into_iter()).unwrap();
        assert_eq!((close.counts[0], close.counts[29]), (2.0, 1.0), "{close:?}");
    }
}
