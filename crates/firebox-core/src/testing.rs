//! Helpers that tests of several crates have in common.

/// A chi-square test at a significance of about 1e-5, by the approximation of Wilson and Hilferty.
///
/// # Panics
/// If the counts, of which each is to be expected equally large, differ by more than chance has it.
pub fn assert_uniform(counts: &[f64], what: &str) {
    let expected = counts.iter().sum::<f64>() / counts.len() as f64;
    let chi2: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    let spread = 2.0 / (9.0 * (counts.len() as f64 - 1.0).max(1.0));
    let limit = (counts.len() as f64 - 1.0) * (1.0 - spread + 4.27 * spread.sqrt()).powi(3);
    assert!(chi2 <= limit, "{what}: chi² {chi2} above {limit}");
}
