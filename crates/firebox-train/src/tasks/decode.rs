//! How evaluations of a translation decode, and what they count as right.

use std::fmt;
use std::sync::Arc;

use firebox_models::decoding::{Beam, Hypothesis};

use crate::error::{Error, ErrorKind};
use crate::metrics::{ErrorRate, Mean, Metrics, Quantity, edit_distance};

type References = Arc<dyn Fn(&[usize]) -> Vec<Vec<usize>> + Send + Sync>;

/// The way evaluations decode, and the references that count as right.
///
/// Right is a sequence that equals the target, or another reference.
///
/// The rate of wrong tokens is the number of edits for each token of the references, over all samples, where
/// a sample's reference is the nearest one; that of wrong sequences the share of samples that equal none.
///
/// ```
/// use firebox_train::tasks::Decode;
///
/// // Phonemes of words, of which some have several pronunciations.
/// let decode = Decode::greedy(20).with_names("per", "wer").with_references(|word| match word {
///     [3, 1, 4] => vec![vec![7, 8], vec![7, 9]],
///     _ => Vec::new(),
/// });
/// # let _ = decode;
/// ```
#[derive(Clone)]
pub struct Decode {
    beam: Beam,
    names: [&'static str; 2],
    references: Option<References>,
}

/// One sample as a model has translated it.
///
/// ```
/// use firebox_train::tasks::Translated;
///
/// /// The share of samples that equal a reference.
/// fn right(translated: &[Translated]) -> f64 {
///     let right = translated.iter().filter(|sample| sample.edits == 0).count();
///     right as f64 / translated.len() as f64
/// }
/// # assert!(right(&[]).is_nan());
/// ```
#[derive(Clone, Debug)]
pub struct Translated {
    /// The source's tokens, without padding.
    pub source: Vec<usize>,
    /// The translation that was found, with the attention's weights over the source and its padding.
    pub found: Hypothesis,
    /// The nearest reference; of equally near ones the first, the target before all.
    pub reference: Vec<usize>,
    /// Tokens to insert, remove or replace between the two.
    pub edits: usize,
}

impl Decode {
    /// Decoding by the best sequence of a beam search. The rates' names are `token_error_rate` and
    /// `sequence_error_rate`.
    pub fn new(beam: Beam) -> Self {
        Decode { beam, names: ["token_error_rate", "sequence_error_rate"], references: None }
    }

    /// Decoding by the likeliest token at each step, at most so many tokens.
    pub fn greedy(max_length: usize) -> Self {
        Self::new(Beam::new(max_length).with_width(1))
    }

    /// Names the rates of wrong tokens and of wrong sequences.
    ///
    /// The field has its own: `per` and `wer` for phonemes of words.
    pub fn with_names(self, tokens: &'static str, sequences: &'static str) -> Self {
        Decode { names: [tokens, sequences], ..self }
    }

    /// Adds references for a source, given by its tokens.
    ///
    /// They are sequences without begin and end token.
    pub fn with_references(
        self,
        references: impl Fn(&[usize]) -> Vec<Vec<usize>> + Send + Sync + 'static,
    ) -> Self {
        Decode { references: Some(Arc::new(references)), ..self }
    }

    pub(crate) fn search(&self) -> &Beam {
        &self.beam
    }

    pub(crate) fn token_rate(&self) -> &'static str {
        self.names[0]
    }

    pub(crate) fn compare(&self, source: Vec<usize>, target: Vec<usize>, found: Hypothesis) -> Translated {
        let others = self.references.as_ref().map(|references| references(&source)).unwrap_or_default();
        let mut nearest = (edit_distance(&target, &found.tokens), target);
        for other in others {
            let edits = edit_distance(&other, &found.tokens);
            if edits < nearest.0 {
                nearest = (edits, other);
            }
        }
        Translated { source, found, reference: nearest.1, edits: nearest.0 }
    }

    /// Adds the rates of some samples. A name that is taken would put one number in the place of another.
    pub(crate) fn add(&self, metrics: Metrics, translated: &[Translated]) -> Result<Metrics, Error> {
        let [tokens, sequences] = self.names;
        let taken = metrics.names().any(|name| name == tokens || name == sequences);
        if taken || tokens == sequences {
            let text = "Decode.names: expected two names that no other metric has";
            let text = format!("{text}, got {tokens} and {sequences}");
            return Err(Error::new(ErrorKind::Config, text));
        }
        let mut rate = ErrorRate::default();
        translated.iter().for_each(|sample| rate.count(&sample.reference, &sample.found.tokens));
        let wrong = translated.iter().filter(|sample| sample.edits > 0).count();
        let wrong = Mean::of_sum(wrong as f64, translated.len() as f64);
        Ok(metrics.with(tokens, Quantity::ErrorRate(rate)).with(sequences, Quantity::Mean(wrong)))
    }
}

impl fmt::Debug for Decode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { beam, names, references } = self;
        f.debug_struct("Decode")
            .field("beam", beam)
            .field("names", names)
            .field("references", &references.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tokens: &[usize]) -> Hypothesis {
        let tokens = tokens.to_vec();
        Hypothesis { tokens, ended: true, log_probability: 0.0, score: 0.0, attention: Vec::new() }
    }

    #[test]
    fn a_sample_is_judged_by_its_nearest_reference() {
        /// A source, its target, what was found, the nearest reference, the edits.
        type Case<'a> = (usize, &'a [usize], &'a [usize], &'a [usize], usize);
        let decode = Decode::greedy(9).with_names("per", "wer").with_references(|source| match source {
            [1] => vec![vec![5, 6, 7, 8], vec![5, 6, 9, 8]],
            _ => Vec::new(),
        });
        let cases: [Case<'_>; 4] = [
            // Another reference is right; is nearer; is as near as the target, which then counts; is of
            // another source.
            (1, &[3], &[5, 6, 9, 8], &[5, 6, 9, 8], 0),
            (1, &[3], &[5, 6, 6, 8], &[5, 6, 7, 8], 1),
            (1, &[5, 6, 7], &[5, 6, 7, 9], &[5, 6, 7], 1),
            (2, &[3], &[5, 6, 7, 8], &[3], 4),
        ];
        let mut all = Vec::new();
        for (source, target, tokens, reference, edits) in cases {
            let translated = decode.compare(vec![source], target.to_vec(), found(tokens));
            assert_eq!((&translated.reference[..], translated.edits), (reference, edits));
            all.push(translated);
        }
        let metrics = decode.add(Metrics::of(4), &all).unwrap();
        // Edits by the tokens of the nearest references, and the words that equal none.
        assert_eq!(metrics.value("per"), Some(6.0 / 12.0));
        assert_eq!(metrics.value("wer"), Some(3.0 / 4.0));
        assert_eq!(decode.add(Metrics::of(0), &[]).unwrap().values().count(), 0);
    }

    #[test]
    fn a_rate_never_takes_the_place_of_another_metric() {
        let metrics = || Metrics::of(4).with_mean("loss", 1.0);
        for [tokens, sequences] in [["loss", "wer"], ["per", "loss"], ["per", "per"]] {
            let decode = Decode::greedy(9).with_names(tokens, sequences);
            let error = decode.add(metrics(), &[]).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Config);
            let text = "Decode.names: expected two names that no other metric has";
            assert_eq!(error.to_string(), format!("{text}, got {tokens} and {sequences}"));
        }
    }
}
