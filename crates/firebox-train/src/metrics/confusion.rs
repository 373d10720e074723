//! Which class was taken for which.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// How often each class was taken for which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<usize>,
}

/// What is asked of each class.
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

/// How the classes become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Average {
    /// The mean over the classes that were there or were predicted.
    Macro,
    /// Over all samples at once. Where each sample has one class, all three scores are the accuracy.
    Micro,
    /// One class alone: of two classes, the positive one.
    Class(usize),
}

/// A score of a classifier, from what precision, recall and F1 need of a [`Confusion`]: three counts a class.
///
/// The values are those of scikit-learn with `zero_division=0`: a score that would divide by zero is 0.
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
    /// An empty matrix.
    pub fn new(classes: usize) -> Self {
        Confusion { classes, counts: vec![0; classes * classes] }
    }

    /// Counts one sample.
    ///
    /// # Panics
    /// If a class is out of range.
    pub fn count(&mut self, class: usize, predicted: usize) {
        assert!(class < self.classes && predicted < self.classes, "a class out of range");
        self.counts[class * self.classes + predicted] += 1;
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many samples of `class` were taken for `predicted`.
    pub fn get(&self, class: usize, predicted: usize) -> usize {
        self.counts[class * self.classes + predicted]
    }

    /// A score of these counts, which can be merged with others'.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `average` names a class that there isn't.
    pub fn score(&self, score: Score, average: Average) -> Result<ClassScore, Error> {
        if let Average::Class(class) = average
            && class >= self.classes
        {
            return Err(Error::config("Average.Class", &format!("a class below {}", self.classes), class));
        }
        let all = 0..self.classes;
        let count = |class| Counts {
            hits: self.get(class, class),
            predicted: all.clone().map(|other| self.get(other, class)).sum(),
            samples: all.clone().map(|other| self.get(class, other)).sum(),
        };
        Ok(ClassScore { score, average, classes: all.clone().map(count).collect() })
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
                let there = self.classes.iter().filter(|class| class.samples + class.predicted > 0);
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
    fn plus(self, other: &Counts) -> Counts {
        Counts {
            hits: self.hits + other.hits,
            predicted: self.predicted + other.predicted,
            samples: self.samples + other.samples,
        }
    }

    fn score(&self, score: Score) -> f64 {
        let (part, whole) = match score {
            Score::Precision => (self.hits, self.predicted),
            Score::Recall => (self.hits, self.samples),
            Score::F1 => (2 * self.hits, self.predicted + self.samples),
        };
        if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
    }
}
