//! Metrics of a classifier's logits that need more than its hits.

use burn::tensor::{Int, Tensor};

use super::predictions::highest;
use super::{Auroc, Average, Confusion, Quantity, Score};
use crate::error::{Error, ErrorKind};
use crate::readout::{floats, signed};

/// The area under the ROC curve of two classes, by logits `[batch, 2]`.
///
/// Class 1 is the positive one; a sample's score is how much its logit exceeds that of class 0, which orders
/// samples as their probabilities do.
///
/// # Errors
/// [`ErrorKind::Task`] unless there are two logits and one class a sample, 0 or 1; [`ErrorKind::Backend`] if
/// the device gives no result.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_train::metrics::auroc;
///
/// let device = Device::default();
/// let logits = Tensor::<2>::from_data([[2.0, -1.0], [0.5, 0.0], [0.0, 0.25], [-1.0, 3.0]], &device);
/// let classes = Tensor::<1, Int>::from_data([0, 1, 0, 1], &device);
/// // Of the four pairs of a positive and a negative sample three are in order.
/// assert_eq!(auroc(&logits, &classes)?.value(), Some(0.75));
/// # Ok::<(), firebox_train::Error>(())
/// ```
pub fn auroc(logits: &Tensor<2>, classes: &Tensor<1, Int>) -> Result<Quantity, Error> {
    let [_, outputs] = logits.dims();
    if outputs != 2 {
        let text = format!("auroc: expected logits of 2 classes, got {outputs}");
        return Err(Error::new(ErrorKind::Task, text));
    }
    let (logits, classes) = read("auroc", logits, classes)?;
    let scores: Vec<_> = logits.chunks(2).map(|row| row[1] - row[0]).collect();
    let positive: Vec<_> = classes.into_iter().map(|class| class == 1).collect();
    Ok(Quantity::Auroc(Auroc::of(&scores, &positive)?))
}

/// Precision, recall or F1 by the highest logits, of `[batch, classes]`.
///
/// A sample with a NaN among its logits is taken for no class.
///
/// # Errors
/// [`ErrorKind::Task`] unless there is one class a sample, each of them below the number of logits;
/// [`ErrorKind::OutOfRange`] if `average` names a class that there isn't; [`ErrorKind::Backend`] if the
/// device gives no result.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_train::metrics::{Average, Score, class_score};
///
/// let device = Device::default();
/// let logits = Tensor::<2>::from_data([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]], &device);
/// let classes = Tensor::<1, Int>::from_data([0, 1, 1], &device);
/// let recall = class_score(&logits, &classes, Score::Recall, Average::Class(1))?;
/// assert_eq!(recall.value(), Some(0.5));
/// # Ok::<(), firebox_train::Error>(())
/// ```
pub fn class_score(
    logits: &Tensor<2>,
    classes: &Tensor<1, Int>,
    score: Score,
    average: Average,
) -> Result<Quantity, Error> {
    let [_, outputs] = logits.dims();
    let (logits, classes) = read("class_score", logits, classes)?;
    let mut confusion = Confusion::new(outputs);
    for (sample, class) in classes.into_iter().enumerate() {
        confusion.count(class, highest(&logits[sample * outputs..][..outputs]))?;
    }
    Ok(Quantity::ClassScore(confusion.score(score, average)?))
}

/// The logits, and the classes that belong to them.
fn read(what: &str, logits: &Tensor<2>, classes: &Tensor<1, Int>) -> Result<(Vec<f32>, Vec<usize>), Error> {
    let ([samples, outputs], [got]) = (logits.dims(), classes.dims());
    if samples != got {
        let text = format!("{what}: expected classes of shape [{samples}], got [{got}]");
        return Err(Error::new(ErrorKind::Task, text));
    }
    let in_range = |(row, class): (usize, i64)| {
        usize::try_from(class).ok().filter(|&class| class < outputs).ok_or_else(|| {
            let text =
                format!("{what}: row {row}: expected a class from 0 to {}, got {class}", outputs.max(1) - 1);
            Error::new(ErrorKind::Task, text)
        })
    };
    let classes = signed(classes.clone())?.into_iter().enumerate().map(in_range).collect::<Result<_, _>>()?;
    Ok((floats(logits.clone())?, classes))
}
