//! The area under a ROC curve.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind};

/// The area under the ROC curve of a classifier of two classes.
///
/// It is how likely a positive sample scores higher than a negative one, an equal score counting half.
///
/// It is exact, and so keeps every score: 4 bytes a sample in memory, 5.3 in a checkpoint. Where that is too
/// much, the scores of a subset are an estimate.
///
/// ```
/// use firebox_train::metrics::Auroc;
///
/// let auroc = Auroc::of(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true])?;
/// assert_eq!(auroc.value(), Some(0.75));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Auroc {
    #[serde(with = "floats")]
    positives: Vec<f32>,
    #[serde(with = "floats")]
    negatives: Vec<f32>,
}

impl Auroc {
    /// The scores of samples, higher for what is rather positive, and which samples are positive.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] unless there is one answer for each score.
    pub fn of(scores: &[f32], positive: &[bool]) -> Result<Self, Error> {
        if scores.len() != positive.len() {
            let text =
                format!("AUROC: expected {} answers, one a score, got {}", scores.len(), positive.len());
            return Err(Error::new(ErrorKind::Task, text));
        }
        let mut auroc = Auroc::default();
        for (&score, &positive) in scores.iter().zip(positive) {
            if positive { &mut auroc.positives } else { &mut auroc.negatives }.push(score);
        }
        Ok(auroc)
    }

    /// The area, if there are samples of both classes.
    ///
    /// It is NaN if a score is NaN.
    pub fn value(&self) -> Option<f64> {
        let (positives, negatives) = (self.positives.len(), self.negatives.len());
        if positives == 0 || negatives == 0 {
            return None;
        }
        let mut scores: Vec<_> = self.positives.iter().map(|&score| (score, true)).collect();
        scores.extend(self.negatives.iter().map(|&score| (score, false)));
        if scores.iter().any(|(score, _)| score.is_nan()) {
            return Some(f64::NAN);
        }
        scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        // Twice the pairs that are in order, counted in whole numbers. 0 and −0 are one score.
        let (mut pairs, mut below) = (0_u128, 0_u128);
        for tied in scores.chunk_by(|a, b| a.0 == b.0) {
            let positives = tied.iter().filter(|(_, positive)| *positive).count() as u128;
            let negatives = tied.len() as u128 - positives;
            pairs += positives * (2 * below + negatives);
            below += negatives;
        }
        Some(pairs as f64 / 2.0 / (positives as f64 * negatives as f64))
    }

    pub(super) fn is_counted(&self) -> bool {
        !self.positives.is_empty() || !self.negatives.is_empty()
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.positives.extend_from_slice(&other.positives);
        self.negatives.extend_from_slice(&other.negatives);
    }
}

/// Little-endian bytes in base64: half the length of decimal digits, and exact for what is not a number too.
mod floats {
    use super::*;

    pub(super) fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<_> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        BASE64_STANDARD.encode(bytes).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(D::Error::custom)?;
        let (values, rest) = bytes.as_chunks();
        match rest {
            [] => Ok(values.iter().map(|&value| f32::from_le_bytes(value)).collect()),
            _ => Err(D::Error::custom(format!("scores: expected 4 bytes each, got {} in all", bytes.len()))),
        }
    }
}
