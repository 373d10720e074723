//! Drawing a token from its logits.

use burn::config::Config;
use burn::tensor::Tensor;
use firebox_core::SampleRng;

use crate::decoding::finite::{check_logits, floats};
use crate::error::{Error, check};

/// Settings of a text that is drawn token by token.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::decoding::Sampling;
/// use firebox_models::text::LanguageModelConfig;
///
/// let model = LanguageModelConfig::new(10, 4, 8).init(&Device::default())?;
/// let sampling = Sampling::new().with_temperature(0.7).with_top_p(0.9).with_seed(42);
/// let text = model.generate(&[1, 2], 5, &sampling)?;
/// assert_eq!(text, model.generate(&[1, 2], 5, &sampling)?);
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Config, Debug)]
pub struct Sampling {
    /// The divisor of the logits; at least 0.
    ///
    /// Below 1 the likely tokens become likelier; 0 always takes the likeliest.
    #[config(default = 1.0)]
    pub temperature: f64,
    /// The probability that the tokens to draw from have together; above 0, up to 1.
    ///
    /// They are the likeliest ones (Holtzman et al. 2020).
    #[config(default = 1.0)]
    pub top_p: f64,
    /// The seed that the draws follow from.
    #[config(default = 0)]
    pub seed: u64,
}

impl Sampling {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self { temperature, top_p, .. } = *self;
        let sound = temperature >= 0.0 && temperature.is_finite();
        check(sound, "Sampling.temperature", "a number of at least 0", temperature)?;
        check(top_p > 0.0 && top_p <= 1.0, "Sampling.top_p", "0 < p ≤ 1", top_p)
    }

    pub(crate) fn rng(&self) -> SampleRng {
        SampleRng::from_seed(self.seed)
    }
}

/// One token, from the logits of all.
///
/// # Errors
/// [`ErrorKind::Value`](crate::ErrorKind::Value) if a logit is NaN or +∞, as those of a model are that has
/// diverged, or all are −∞, which is the logit of a token that cannot come.
pub(crate) fn draw(logits: Tensor<1>, sampling: &Sampling, rng: &mut SampleRng) -> Result<usize, Error> {
    let logits = floats(logits);
    check_logits(&logits)?;
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // The likeliest first; of equals, the first.
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let best = order[0];
    if sampling.temperature == 0.0 {
        return Ok(best);
    }
    let weight = |&token: &usize| (f64::from(logits[token] - logits[best]) / sampling.temperature).exp();
    let weights: Vec<f64> = order.iter().map(weight).collect();
    let all: f64 = weights.iter().sum();
    let mut kept = 0.0;
    let nucleus = weights.iter().take_while(|&&weight| {
        let before = kept;
        kept += weight;
        before < sampling.top_p * all
    });
    let nucleus: Vec<f64> = nucleus.copied().collect();
    let mut left = rng.uniform_f64() * nucleus.iter().sum::<f64>();
    for (place, weight) in nucleus.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return Ok(order[place]);
        }
    }
    // Rounding has used up the sum. The best token has a weight of 1, so that there is a last one with a
    // weight.
    let last = nucleus.iter().rposition(|&weight| weight > 0.0).unwrap_or(0);
    Ok(order[last])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::error::ErrorKind;

    fn counts(sampling: &Sampling, draws: usize) -> [usize; 4] {
        // Probabilities 1/2, 1/4, 1/8, 1/8, not in this order.
        let logits = [0.125f32, 0.5, 0.125, 0.25].map(f32::ln);
        let mut rng = sampling.rng();
        let mut counts = [0; 4];
        for _ in 0..draws {
            let logits = Tensor::from_floats(logits, &Device::default());
            counts[draw(logits, sampling, &mut rng).unwrap()] += 1;
        }
        counts
    }

    fn assert_near(counts: [usize; 4], probabilities: [f64; 4]) {
        let draws = counts.iter().sum::<usize>() as f64;
        for (count, p) in std::iter::zip(counts, probabilities) {
            // Five standard deviations.
            let allowed = 5.0 * (draws * p * (1.0 - p)).sqrt();
            assert!((count as f64 - draws * p).abs() <= allowed, "{counts:?} of {probabilities:?}");
        }
    }

    #[test]
    fn logits_that_are_no_numbers_are_an_error() {
        for bad in [f32::NAN, f32::INFINITY] {
            for sampling in [Sampling::new(), Sampling::new().with_temperature(0.0)] {
                let logits = Tensor::from_floats([0.0, bad, 1.0], &Device::default());
                let error = draw(logits, &sampling, &mut sampling.rng()).unwrap_err();
                let text = format!("the logit of token 1: expected a finite number, got {bad}");
                assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Value, text));
            }
        }
    }

    #[test]
    fn a_token_whose_logit_is_minus_infinity_is_never_drawn() {
        for sampling in
            [Sampling::new(), Sampling::new().with_temperature(0.0), Sampling::new().with_temperature(1e9)]
        {
            let mut rng = sampling.rng();
            for _ in 0..50 {
                let logits = [f32::NEG_INFINITY, -3.0, f32::NEG_INFINITY, -3.5];
                let token =
                    draw(Tensor::from_floats(logits, &Device::default()), &sampling, &mut rng).unwrap();
                assert!([1, 3].contains(&token), "{token}");
            }
            let none = Tensor::from_floats([f32::NEG_INFINITY; 2], &Device::default());
            let error = draw(none, &sampling, &mut rng).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Value);
        }
    }

    #[test]
    fn tokens_come_as_often_as_temperature_and_nucleus_say() {
        assert_near(counts(&Sampling::new(), 4000), [0.125, 0.5, 0.125, 0.25]);
        assert_near(
            counts(&Sampling::new().with_temperature(0.5), 4000),
            [1.0, 16.0, 1.0, 4.0].map(|p| p / 22.0),
        );
        assert_near(counts(&Sampling::new().with_top_p(0.7), 4000), [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
        assert_eq!(counts(&Sampling::new().with_top_p(0.5), 100), [0, 100, 0, 0]);
        assert_eq!(counts(&Sampling::new().with_temperature(0.0), 10), [0, 10, 0, 0]);
        assert_eq!(counts(&Sampling::new().with_seed(3), 50), counts(&Sampling::new().with_seed(3), 50));
        assert_ne!(counts(&Sampling::new().with_seed(3), 50), counts(&Sampling::new().with_seed(4), 50));
    }
}
