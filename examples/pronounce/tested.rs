//! The test: how many phonemes and words are wrong, and where the network looked.

use firebox::data::BoxError;
use firebox::data::tensors::SequenceBatch;
use firebox::models::decoding::Beam;
use firebox::prelude::*;
use firebox::train::event::Record;
use firebox::train::metrics::spearman;
use firebox::train::tasks::{Decode, Translated, Translation};

use crate::vocabulary::References;

/// A search that follows so many pronunciations.
///
/// Each has at most 40 phonemes, its end included: more than the dictionary's longest.
pub(crate) fn beam(width: usize) -> Beam {
    Beam::new(40).with_width(width)
}

/// Decoding by a search, judged by all pronunciations of a word.
fn judged(beam: Beam, references: &References) -> Decode {
    let references = references.clone();
    let decode = Decode::new(beam).with_names("per", "wer");
    decode.with_references(move |letters| references.get(letters).cloned().unwrap_or_default())
}

/// Decoding by the likeliest phoneme at each step, for evaluations on the way.
pub(crate) fn greedy(references: &References) -> Decode {
    judged(beam(1), references)
}

/// The test words by the best checkpoint.
pub(crate) struct Tested {
    pub(crate) greedy: Record,
    pub(crate) by_beam: Record,
    /// The seconds of both.
    pub(crate) seconds: f64,
    /// The words as the beam search has found them.
    pub(crate) translated: Vec<Translated>,
}

/// Tests a network greedily, and by a beam search.
pub(crate) fn test(
    trainer: &mut Trainer,
    tests: &impl Batches<Batch = (SequenceBatch, SequenceBatch)>,
    task: &Translation,
    references: &References,
    width: usize,
) -> Result<Tested, BoxError> {
    // A beam of 1 is greedy: once is enough.
    let plain = match width {
        1 => None,
        _ => {
            let greedy = greedy(references);
            Some(trainer.evaluate(tests, "test, greedy", task.translator(&greedy, &mut Vec::new()))?)
        }
    };
    let decode = judged(beam(width), references);
    let mut translated = Vec::new();
    let by_beam = trainer.evaluate(tests, "test", task.translator(&decode, &mut translated))?;
    let seconds = by_beam.seconds + plain.as_ref().map_or(0.0, |plain| plain.seconds);
    let greedy = plain.unwrap_or_else(|| by_beam.clone());
    Ok(Tested { greedy, by_beam, seconds, translated })
}

impl Tested {
    /// The steadiness with which the attention moves on.
    ///
    /// It is the rank correlation of a phoneme's place with the mean place of the letters that were looked at
    /// for it, averaged over the words for which there is one.
    pub(crate) fn monotony(&self) -> Option<f64> {
        let of = |word: &Translated| {
            let phonemes = &word.found.attention[..word.found.tokens.len()];
            let centroid = |weights: &Vec<f32>| -> f64 {
                weights.iter().enumerate().map(|(place, &weight)| place as f64 * f64::from(weight)).sum()
            };
            let places: Vec<f64> = (0..phonemes.len()).map(|place| place as f64).collect();
            spearman(&places, &phonemes.iter().map(centroid).collect::<Vec<_>>())
        };
        let all: Vec<f64> = self.translated.iter().filter_map(of).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }
}
