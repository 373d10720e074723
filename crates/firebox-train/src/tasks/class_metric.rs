//! The metrics that a classification can measure besides its accuracy.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use crate::error::Error;
use crate::metrics::{Average, Quantity, Score, auroc, class_score, top_k};

type Measure = dyn Fn(&Tensor<2>, &Tensor<1, Int>) -> Result<Quantity, Error> + Send + Sync;

/// A metric of a classifier, by its name.
///
/// # One that is there
///
/// ```
/// use firebox_train::metrics::Average;
/// use firebox_train::tasks::ClassMetric;
///
/// assert_eq!(ClassMetric::auroc().name(), "auroc");
/// assert_eq!(ClassMetric::f1(Average::Macro).name(), "f1");
/// // As a file of settings or a command line has it.
/// assert_eq!("top_5".parse::<ClassMetric>()?.name(), "top_5");
/// # Ok::<(), firebox_train::Error>(())
/// ```
///
/// # One of one's own
///
/// ```
/// use firebox_train::metrics::Quantity;
/// use firebox_train::tasks::ClassMetric;
/// use firebox_train::to_scalar;
///
/// let certainty = ClassMetric::new("largest_logit", |logits, classes| {
///     let largest = to_scalar(&logits.clone().max())?;
///     Ok(Quantity::mean(largest, classes.dims()[0] as f64))
/// });
/// assert_eq!(certainty.name(), "largest_logit");
/// ```
#[derive(Clone)]
pub struct ClassMetric {
    name: String,
    measure: Arc<Measure>,
    in_training: bool,
}

impl ClassMetric {
    /// A metric of one's own, of logits `[batch, classes]` and the true classes.
    pub fn new(
        name: impl Into<String>,
        measure: impl Fn(&Tensor<2>, &Tensor<1, Int>) -> Result<Quantity, Error> + Send + Sync + 'static,
    ) -> Self {
        ClassMetric { name: name.into(), measure: Arc::new(measure), in_training: true }
    }

    /// The area under the ROC curve of a classifier of two classes: [`auroc`], called `auroc`.
    ///
    /// It keeps the score of every sample.
    pub fn auroc() -> Self {
        Self::new("auroc", auroc)
    }

    /// The [share](top_k) of classes among the `k` highest logits, called `top_5` for 5.
    pub fn top_k(k: usize) -> Self {
        Self::new(format!("top_{k}"), move |logits, classes| top_k(logits, classes, k))
    }

    /// The share of those taken for a class that are of it, called `precision`.
    pub fn precision(average: Average) -> Self {
        Self::new("precision", move |logits, classes| class_score(logits, classes, Score::Precision, average))
    }

    /// The share of a class that was taken for it, called `recall`.
    pub fn recall(average: Average) -> Self {
        Self::new("recall", move |logits, classes| class_score(logits, classes, Score::Recall, average))
    }

    /// The harmonic mean of precision and recall, called `f1`.
    pub fn f1(average: Average) -> Self {
        Self::new("f1", move |logits, classes| class_score(logits, classes, Score::F1, average))
    }

    /// The same metric under another name.
    pub fn named(self, name: impl Into<String>) -> Self {
        ClassMetric { name: name.into(), ..self }
    }

    /// The same metric, measured in evaluations and not in training.
    ///
    /// Some take long, or keep every score.
    pub fn in_evaluations_only(self) -> Self {
        ClassMetric { in_training: false, ..self }
    }

    /// The name that records have it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_of_training(&self) -> bool {
        self.in_training
    }

    pub(super) fn measure(&self, logits: &Tensor<2>, classes: &Tensor<1, Int>) -> Result<Quantity, Error> {
        (self.measure)(logits, classes)
    }
}

/// `auroc`, `precision`, `recall` and `f1`, which are means over the classes, and `top_` with a number.
impl FromStr for ClassMetric {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for any other name.
    fn from_str(name: &str) -> Result<Self, Error> {
        let k = name.strip_prefix("top_").and_then(|k| k.parse().ok()).filter(|&k: &usize| k > 0);
        match (name, k) {
            (_, Some(k)) => Ok(Self::top_k(k)),
            ("auroc", _) => Ok(Self::auroc()),
            ("precision", _) => Ok(Self::precision(Average::Macro)),
            ("recall", _) => Ok(Self::recall(Average::Macro)),
            ("f1", _) => Ok(Self::f1(Average::Macro)),
            _ => {
                let known = "one of auroc, f1, precision, recall and top_ with a number, such as top_5";
                Err(Error::out_of_range("metric", known, name))
            }
        }
    }
}

impl fmt::Debug for ClassMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, in_training, .. } = self;
        f.debug_struct("ClassMetric").field("name", name).field("in_training", in_training).finish()
    }
}
