//! A classifier's predictions for some samples.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};

use super::Confusion;
use crate::error::{Error, ErrorKind};
use crate::readout::{floats, integers};

/// A classifier's predictions for some samples, beside the true classes.
///
/// [`Classification::predictor`](crate::tasks::Classification::predictor) fills it.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_models::layers::{Linear, LinearConfig};
/// use firebox_train::Learner;
/// use firebox_train::metrics::Predictions;
/// use firebox_train::optimizer::SgdConfig;
/// use firebox_train::tasks::Classification;
///
/// let device = Device::default();
/// let model = LinearConfig::new(2, 3).init(&device.clone().autodiff())?;
/// let task = Classification::<Linear, Tensor<2>>::new(Learner::new(model, SgdConfig::new().init()?));
/// let mut predictions = Predictions::default();
/// // As `Trainer::evaluate` does for each batch.
/// let mut judge = task.predictor(&mut predictions);
/// judge((Tensor::<2>::ones([4, 2], &device), Tensor::<1, Int>::zeros([4], &device)))?;
/// drop(judge);
/// assert_eq!((predictions.classes.len(), predictions.likeliest(0).len()), (4, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Predictions {
    /// The true class of each sample.
    pub classes: Vec<usize>,
    outputs: usize,
    probabilities: Vec<f32>,
    predicted: Vec<Option<usize>>,
}

impl Predictions {
    /// Adds the samples of a batch, whose classes have been found to be in range.
    pub(crate) fn extend(&mut self, logits: &Tensor<2>, classes: &Tensor<1, Int>) -> Result<(), Error> {
        let [samples, outputs] = logits.dims();
        if !self.predicted.is_empty() && outputs != self.outputs {
            let text = format!("predictions: expected {} classes, as before, got {outputs}", self.outputs);
            return Err(Error::new(ErrorKind::Task, text));
        }
        let classes = integers(classes.clone())?;
        let probabilities = floats(softmax(logits.clone(), 1))?;
        // Of the logits: probabilities can be equal where these are not, and are NaN where one is infinite.
        let logits = floats(logits.clone())?;
        let rows = (0..samples).map(|sample| &logits[sample * outputs..][..outputs]);
        self.predicted.extend(rows.map(highest));
        self.outputs = outputs;
        self.classes.extend(classes);
        self.probabilities.extend(probabilities);
        Ok(())
    }

    /// The probabilities of all classes for one sample.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn probabilities(&self, sample: usize) -> &[f32] {
        &self.probabilities[sample * self.outputs..][..self.outputs]
    }

    /// The class that a sample was taken for, which [`accuracy`](crate::metrics::accuracy) compares with the
    /// true one.
    ///
    /// `None` if the model gave NaN for it, or there is no such sample.
    pub fn predicted(&self, sample: usize) -> Option<usize> {
        self.predicted.get(sample).copied().flatten()
    }

    /// The likeliest classes of a sample with their probabilities, best first, NaN last.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn likeliest(&self, sample: usize) -> Vec<(usize, f32)> {
        let mut ranked: Vec<_> = self.probabilities(sample).iter().copied().enumerate().collect();
        let rank = |probability: f32| if probability.is_nan() { f32::NEG_INFINITY } else { probability };
        ranked.sort_by(|a, b| rank(b.1).total_cmp(&rank(a.1)));
        ranked
    }

    /// The counts of which class was taken for which.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] if there are other [`classes`](Self::classes) than the model's, or more or fewer
    /// of them than samples.
    pub fn confusion(&self) -> Result<Confusion, Error> {
        let (classes, samples) = (self.classes.len(), self.predicted.len());
        if classes != samples {
            let text = format!("predictions: expected a class for each of {samples} samples, got {classes}");
            return Err(Error::new(ErrorKind::Task, text));
        }
        let mut confusion = Confusion::new(self.outputs);
        for (&class, &predicted) in self.classes.iter().zip(&self.predicted) {
            confusion.count(class, predicted)?;
        }
        Ok(confusion)
    }
}

/// The place of the highest logit, of equal ones the first; `None` if one is NaN, or there is none.
pub(super) fn highest(logits: &[f32]) -> Option<usize> {
    if logits.iter().any(|logit| logit.is_nan()) {
        return None;
    }
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit == highest)
}
