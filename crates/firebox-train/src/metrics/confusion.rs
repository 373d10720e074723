//! Which class was taken for which.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Counts of how often each class was taken for which.
///
/// A sample may have been taken for none, as where a diverged model gives NaN: it counts among the samples of
/// its class, so that accuracy and recall fall, and among the predicted ones of none.
///
/// ```
/// # use firebox_train::metrics::{Average, Confusion, Score};
/// let mut confusion = Confusion::new(2);
/// confusion.count(0, 0)?;
/// confusion.count(0, None)?;
/// let recall = confusion.score(Score::Recall, Average::Class(0))?;
/// assert_eq!(recall.value(), Some(0.5));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// By true and predicted class, without those that never met.
    counts: BTreeMap<(usize, Option<usize>), usize>,
}

/// A score of each class.
///
/// ```
/// use firebox_train::metrics::{Average, Confusion, Score};
///
/// let mut confusion = Confusion::new(2);
/// confusion.count(0, 0)?;
/// confusion.count(1, 0)?;
/// // Of the two that were taken for class 0 one is of it.
/// assert_eq!(confusion.score(Score::Precision, Average::Class(0))?.value(), Some(0.5));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Score {
    /// How many of those that were taken for the class are of it.
    Precision,
    /// How many of the class were taken for it.
    Recall,
    /// The harmonic mean of both.
    F1,
}

/// The way the scores of classes become one number.
///
/// ```
/// use firebox_train::metrics::{Average, Confusion, Score};
///
/// let mut confusion = Confusion::new(2);
/// (0..3).try_for_each(|_| confusion.count(0, 0))?;
/// confusion.count(1, 0)?;
/// let recall = |average| confusion.score(Score::Recall, average).map(|score| score.value().unwrap());
/// assert_eq!((recall(Average::Macro)?, recall(Average::Micro)?), (0.5, 0.75));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Average {
    /// The mean over the classes that were there or were predicted.
    Macro,
    /// Over all samples at once. Where each sample was taken for a class, all three scores are the accuracy.
    Micro,
    /// One class alone: of two classes, the positive one.
    Class(usize),
}

/// A score of a classifier, from three counts a class.
///
/// Precision, recall and F1 need no more of a [`Confusion`].
///
/// The values are those of scikit-learn with `zero_division=0`: a score that would divide by zero is 0.
///
/// ```
/// use firebox_train::metrics::{Average, Confusion, Score};
///
/// let mut confusion = Confusion::new(2);
/// confusion.count(1, 1)?;
/// assert_eq!(confusion.score(Score::F1, Average::Class(1))?.value(), Some(1.0));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassScore {
    score: Score,
    average: Average,
    classes: Vec<Counts>,
}

/// The counts of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    hits: usize,
    predicted: usize,
    samples: usize,
}

impl Confusion {
    /// An empty matrix. It takes memory for the pairs of classes that are counted alone.
    pub fn new(classes: usize) -> Self {
        Confusion { classes, counts: BTreeMap::new() }
    }

    /// Counts one sample.
    ///
    /// It is told by its class and the class that it was taken for: `None` if for none.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] if a class is out of range; then nothing was counted.
    pub fn count(&mut self, class: usize, predicted: impl Into<Option<usize>>) -> Result<(), Error> {
        let predicted = predicted.into();
        if let Some(wrong) = [Some(class), predicted].into_iter().flatten().find(|&it| it >= self.classes) {
            let text = format!("confusion: expected a class below {}, got {wrong}", self.classes);
            return Err(Error::new(ErrorKind::Task, text));
        }
        *self.counts.entry((class, predicted)).or_default() += 1;
        Ok(())
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The number of samples of `class` that were taken for `predicted`.
    pub fn get(&self, class: usize, predicted: usize) -> usize {
        self.counts.get(&(class, Some(predicted))).copied().unwrap_or(0)
    }

    /// The number of samples of `class` that were taken for no class.
    pub fn undecided(&self, class: usize) -> usize {
        self.counts.get(&(class, None)).copied().unwrap_or(0)
    }

    /// A score of these counts, which can be merged with others'.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if `average` names a class that there isn't, or there are more classes than
    /// memory.
    pub fn score(&self, score: Score, average: Average) -> Result<ClassScore, Error> {
        if let Average::Class(class) = average
            && class >= self.classes
        {
            return Err(Error::out_of_range(
                "Average.Class",
                format_args!("a class below {}", self.classes),
                class,
            ));
        }
        let mut classes = Vec::new();
        if classes.try_reserve_exact(self.classes).is_err() {
            return Err(Error::out_of_range(
                "Confusion.classes",
                "as many as there is memory for",
                self.classes,
            ));
        }
        classes.resize(self.classes, Counts::default());
        for (&(class, predicted), &count) in &self.counts {
            classes[class].samples += count;
            if let Some(predicted) = predicted {
                classes[predicted].predicted += count;
                classes[class].hits += if predicted == class { count } else { 0 };
            }
        }
        Ok(ClassScore { score, average, classes })
    }
}

impl ClassScore {
    /// The score; `None` of no samples.
    pub fn value(&self) -> Option<f64> {
        let all = self.classes.iter().fold(Counts::default(), Counts::plus);
        let value = match self.average {
            Average::Class(class) => self.classes.get(class)?.score(self.score),
            Average::Micro => all.score(self.score),
            Average::Macro => {
                let there = self.classes.iter().filter(|class| class.samples > 0 || class.predicted > 0);
                let (sum, count) =
                    there.fold((0.0, 0), |(sum, count), class| (sum + class.score(self.score), count + 1));
                sum / f64::from(count)
            }
        };
        (all.samples > 0).then_some(value)
    }

    pub(super) fn is_counted(&self) -> bool {
        self.classes.iter().any(|class| class.samples > 0)
    }

    pub(super) fn kind(&self) -> String {
        format!("{:?} {:?} of {} classes", self.average, self.score, self.classes.len())
    }

    /// Fails if it is another score, or of another number of classes.
    pub(super) fn check(&self, other: &Self) -> Result<(), Error> {
        let of = |score: &Self| (score.score, score.average, score.classes.len());
        match of(self) == of(other) {
            true => Ok(()),
            false => {
                Err(Error::new(ErrorKind::Task, format!("expected {}, got {}", self.kind(), other.kind())))
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.classes.iter_mut().zip(&other.classes).for_each(|(to, from)| *to = to.plus(from));
    }
}

impl Counts {
    /// No counting comes near the largest number; what a file holds may.
    fn plus(self, other: &Counts) -> Counts {
        Counts {
            hits: self.hits.saturating_add(other.hits),
            predicted: self.predicted.saturating_add(other.predicted),
            samples: self.samples.saturating_add(other.samples),
        }
    }

    fn score(&self, score: Score) -> f64 {
        let [hits, predicted, samples] = [self.hits, self.predicted, self.samples].map(|count| count as f64);
        let (part, whole) = match score {
            Score::Precision => (hits, predicted),
            Score::Recall => (hits, samples),
            Score::F1 => (2.0 * hits, predicted + samples),
        };
        if whole == 0.0 { 0.0 } else { part / whole }
    }
}
