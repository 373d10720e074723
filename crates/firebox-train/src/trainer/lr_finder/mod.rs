//! Which learning rates a task learns at, found by trying them.

mod curve;

pub use curve::{LrCurve, LrPoint};

use crate::error::{Error, check};

/// The learning-rate range test (Smith 2017).
///
/// Some steps of training, each at a higher rate than the one before, show how the loss takes them ("Cyclical
/// Learning Rates for Training Neural Networks").
///
/// [`Trainer::find_lr`](crate::Trainer::find_lr) does it. The rates rise by the same factor from step to
/// step, as in fastai's and Lightning's `lr_find`, so that they are evenly spaced on a logarithmic scale.
///
/// ```
/// # use firebox_data::batches::Batches;
/// # use firebox_train::trainer::LrFinder;
/// # use firebox_train::{Error, Task, Trainer};
/// # fn example<T: Task>(
/// #     mut task: T, trainer: Trainer, train: impl Batches<Batch = T::Batch>,
/// # ) -> Result<(), Error> {
/// let finder = LrFinder::new().with_range(1e-6, 1.0)?;
/// let curve = trainer.find_lr(&finder, &mut task, &train)?;
/// println!("the loss falls most steeply at {:?}", curve.steepest());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LrFinder {
    min_lr: f64,
    max_lr: f64,
    steps: usize,
    smoothing: f64,
    divergence: f64,
    metric: String,
}

impl Default for LrFinder {
    fn default() -> Self {
        LrFinder {
            min_lr: 1e-7,
            max_lr: 10.0,
            steps: 100,
            smoothing: 0.9,
            divergence: 4.0,
            metric: "loss".to_owned(),
        }
    }
}

impl LrFinder {
    /// A search of 100 steps at rates from 1e-7 to 10.
    ///
    /// It ends early when the smoothed loss is four times its minimum.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first and the last rate.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless both are finite numbers above 0, the
    /// second one larger, and how many times larger it is a finite number, too.
    pub fn with_range(mut self, min_lr: f64, max_lr: f64) -> Result<Self, Error> {
        check(min_lr.is_finite() && min_lr > 0.0, "LrFinder.min_lr", "a number above 0", min_lr)?;
        let above = format!("a number above min_lr, which is {min_lr}");
        check(max_lr.is_finite() && max_lr > min_lr, "LrFinder.max_lr", &above, max_lr)?;
        let most = format!("at most {:e} times min_lr, which is {min_lr:e}", f64::MAX);
        check((max_lr / min_lr).is_finite(), "LrFinder.max_lr", &most, format!("{max_lr:e}"))?;
        (self.min_lr, self.max_lr) = (min_lr, max_lr);
        Ok(self)
    }

    /// Sets how many rates are tried, each in one step.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless there are at least 2.
    pub fn with_steps(mut self, steps: usize) -> Result<Self, Error> {
        check(steps >= 2, "LrFinder.steps", "at least 2 steps", steps)?;
        self.steps = steps;
        Ok(self)
    }

    /// Sets how much of the smoothed loss each step keeps.
    ///
    /// s ← smoothing · s + (1 − smoothing) · loss, divided by 1 − smoothingⁿ after n steps, without which it
    /// would begin too low. 0 for the loss itself.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is from 0, below 1.
    pub fn with_smoothing(mut self, smoothing: f64) -> Result<Self, Error> {
        let holds = (0.0..1.0).contains(&smoothing);
        check(holds, "LrFinder.smoothing", "a number from 0, below 1", smoothing)?;
        self.smoothing = smoothing;
        Ok(self)
    }

    /// Sets how many times its minimum the smoothed loss may be.
    ///
    /// Then the search ends. Of a loss below 0 it is how far above the minimum, in terms of the minimum's
    /// size.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless it is above 1. It may be infinite: then
    /// only a loss that is not finite ends the search early.
    pub fn with_divergence(mut self, divergence: f64) -> Result<Self, Error> {
        check(divergence > 1.0, "LrFinder.divergence", "a number above 1", divergence)?;
        self.divergence = divergence;
        Ok(self)
    }

    /// The metric of [`Task::train_step`](crate::Task::train_step) to look at, of which less is better.
    /// `loss`.
    pub fn with_metric(mut self, metric: &str) -> Self {
        metric.clone_into(&mut self.metric);
        self
    }

    /// The rate of a step, from 0.
    pub(crate) fn lr(&self, step: usize) -> f64 {
        let done = step as f64 / (self.steps - 1) as f64;
        self.min_lr * (self.max_lr / self.min_lr).powf(done)
    }

    pub(crate) fn metric(&self) -> &str {
        &self.metric
    }
}
