//! How far two quantities rise together.

/// Spearman's rank correlation, from −1 to 1.
///
/// It is −1 where one falls wherever the other rises, and 1 where both rise together.
///
/// Equal values share the mean of their ranks; infinite ones are the first and the last. `None` for fewer
/// than two pairs, where all values of one are equal, or where one is NaN.
///
/// # Panics
/// If there are not as many of the one as of the other.
///
/// ```
/// use firebox_train::metrics::spearman;
///
/// assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0]), Some(1.0));
/// ```
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    assert_eq!(a.len(), b.len(), "spearman: pairs of values");
    if a.iter().chain(b).any(|value| value.is_nan()) {
        return None;
    }
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let sum = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum() };
    let spread = (sum(&a, &a) * sum(&b, &b)).sqrt();
    (spread > 0.0).then(|| (sum(&a, &b) / spread).clamp(-1.0, 1.0))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for equals in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = first as f64 + (equals.len() as f64 + 1.0) / 2.0;
        equals.iter().for_each(|&place| ranks[place] = rank);
        first += equals.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_and_not_distances() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0, 4.0], &[0.1, 0.2, 9.0, 1e9]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, -1.0]), Some(-1.0));
        // One pair swapped among four: 1 − 6·Σd²/(n·(n² − 1)).
        let swapped = spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]).unwrap();
        assert!((swapped - 0.8).abs() < 1e-12);
        // scipy.stats.spearmanr([1, 2, 2, 3], [1, 1, 2, 3])
        let tied = spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 1.0, 2.0, 3.0]).unwrap();
        assert!((tied - 0.833_333_333_333_333).abs() < 1e-12, "{tied}");
        // scipy.stats.spearmanr([1, 2, inf, inf], [1, 3, 2, 0])
        let infinite = spearman(&[1.0, 2.0, f64::INFINITY, f64::INFINITY], &[1.0, 3.0, 2.0, 0.0]).unwrap();
        assert!((infinite + 0.210_818_510_677_891_95).abs() < 1e-12, "{infinite}");
        assert_eq!(spearman(&[0.0, -0.0, 1.0], &[2.0, 2.0, 3.0]), Some(1.0));
    }

    #[test]
    fn what_does_not_vary_has_no_correlation() {
        assert_eq!(spearman(&[], &[]), None);
        assert_eq!(spearman(&[1.0], &[2.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[5.0, 5.0]), None);
        assert_eq!(spearman(&[1.0, f64::NAN], &[5.0, 6.0]), None);
    }
}
