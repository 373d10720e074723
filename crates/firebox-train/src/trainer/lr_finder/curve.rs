//! The curve that a search for a learning rate has seen.

use std::path::Path;

use serde::Serialize;

use super::LrFinder;
use crate::error::{Error, io_error};
use crate::run::json::FORMAT_VERSION;
use firebox_core::files;

/// One step of a search.
///
/// ```
/// use firebox_train::trainer::{LrCurve, LrFinder};
///
/// let mut curve = LrCurve::new(&LrFinder::new().with_range(1e-4, 1.0)?);
/// curve.add(2.5);
/// let first = curve.points()[0];
/// assert_eq!((first.step, first.lr, first.loss), (1, 1e-4, 2.5));
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LrPoint {
    /// The step, from 1.
    pub step: usize,
    /// Its learning rate.
    pub lr: f64,
    /// The loss of its batch before the parameters moved at this rate.
    pub loss: f64,
    /// The mean of the losses so far, the older ones counting less and less.
    pub smoothed: f64,
}

/// The loss by learning rate, as [`Trainer::find_lr`](crate::Trainer::find_lr) saw it.
///
/// ```
/// use firebox_train::trainer::{LrCurve, LrFinder};
///
/// let mut curve = LrCurve::new(&LrFinder::new().with_steps(40)?);
/// (0..30).for_each(|step| curve.add(3.0 - f64::from(step) / 12.0));
/// assert_eq!(curve.points().len(), 30);
/// assert!(curve.steepest().is_some() && !curve.diverged());
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LrCurve {
    finder: LrFinder,
    points: Vec<LrPoint>,
    /// The moving average, before it is corrected for its beginning at 0.
    average: f64,
    lowest: f64,
    diverged: bool,
}

impl LrCurve {
    /// A curve without steps, of a search by these settings.
    pub fn new(finder: &LrFinder) -> Self {
        LrCurve {
            finder: finder.clone(),
            points: Vec::new(),
            average: 0.0,
            lowest: f64::INFINITY,
            diverged: false,
        }
    }

    /// The steps, those at low rates first. They are at least one, and have finite losses.
    pub fn points(&self) -> &[LrPoint] {
        &self.points
    }

    /// True if the loss had grown too much, or was not finite.
    pub fn diverged(&self) -> bool {
        self.diverged
    }

    /// The rate at which the loss falls most steeply, if it falls.
    ///
    /// It is the steepest over the logarithm of the rate.
    ///
    /// As Lightning's `suggestion`, it looks at the smoothed loss, and passes over the first tenth of the
    /// steps and the last one. It differs in three things. Lightning takes the slope over the rate itself,
    /// which is the steeper the smaller the rate is. The curve after the lowest loss is passed over, too:
    /// near divergence the loss jumps, and falls from there are as steep as any. And a moving average is
    /// late: what it shows at a step is smoothing / (1 − smoothing) steps old on average, a sudden fall less
    /// so; the rate that is suggested is that of half as many steps before.
    pub fn steepest(&self) -> Option<f64> {
        let (begin, last) = (self.finder.steps / 10, self.points.len().checked_sub(1)?);
        let lowest = (0..=last).min_by(|&one, &other| self.smoothed(one).total_cmp(&self.smoothed(other)))?;
        let slope = |&step: &usize| self.smoothed(step + 1) - self.smoothed(step - 1);
        let inner = begin + 1..lowest.min(last.saturating_sub(1));
        let steepest = inner.min_by(|one, other| slope(one).total_cmp(&slope(other)))?;
        let late = (self.finder.smoothing / (1.0 - self.finder.smoothing) / 2.0).round() as usize;
        (slope(&steepest) < 0.0).then(|| self.points[steepest.saturating_sub(late)].lr)
    }

    /// A tenth of the rate at which the smoothed loss is lowest.
    ///
    /// It is a rule of thumb of fastai's.
    pub fn tenth_of_lowest(&self) -> Option<f64> {
        let lowest = self.points.iter().min_by(|one, other| one.smoothed.total_cmp(&other.smoothed));
        lowest.map(|point| point.lr / 10.0)
    }

    /// Writes the points as JSON, an object a line: `step`, `lr`, `loss`, `smoothed` and `format_version`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            format_version: u32,
            #[serde(flatten)]
            point: &'a LrPoint,
        }
        let failed = |error: std::io::Error| io_error(path, "cannot be written", error);
        let mut text = String::new();
        for point in &self.points {
            let line = Line { format_version: FORMAT_VERSION, point };
            text += &serde_json::to_string(&line).map_err(|error| failed(error.into()))?;
            text.push('\n');
        }
        files::replace(path, text.as_bytes()).map_err(failed)
    }

    fn smoothed(&self, index: usize) -> f64 {
        self.points[index].smoothed
    }

    /// The metric that was looked at.
    pub fn metric(&self) -> &str {
        self.finder.metric()
    }

    /// How many steps there were.
    pub(crate) fn steps(&self) -> usize {
        self.points.len()
    }

    /// True if there is nothing more to try.
    pub(crate) fn is_complete(&self) -> bool {
        self.diverged || self.steps() >= self.finder.steps
    }

    /// Counts a step in. A loss that is not finite is no point, and ends the search.
    pub fn add(&mut self, loss: f64) {
        let smoothing = self.finder.smoothing;
        let (step, lr) = (self.steps() + 1, self.finder.lr(self.steps()));
        self.average = smoothing * self.average + (1.0 - smoothing) * loss;
        let smoothed = self.average / (1.0 - smoothing.powf(step as f64));
        if !smoothed.is_finite() {
            self.diverge();
            return;
        }
        self.points.push(LrPoint { step, lr, loss, smoothed });
        self.lowest = self.lowest.min(smoothed);
        self.diverged = smoothed - self.lowest > (self.finder.divergence - 1.0) * self.lowest.abs();
    }

    /// Ends the search.
    pub(crate) fn diverge(&mut self) {
        self.diverged = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(finder: LrFinder, losses: impl IntoIterator<Item = f64>) -> LrCurve {
        let mut curve = LrCurve::new(&finder);
        for loss in losses {
            if curve.is_complete() {
                break;
            }
            curve.add(loss);
        }
        curve
    }

    fn finder(steps: usize, smoothing: f64) -> LrFinder {
        let finder = LrFinder::new().with_range(1e-6, 1.0).unwrap();
        finder.with_steps(steps).unwrap().with_smoothing(smoothing).unwrap()
    }

    #[test]
    fn rates_rise_by_one_factor_from_the_first_to_the_last() {
        let curve = curve(finder(7, 0.0), [1.0; 9]);
        let rates: Vec<_> = curve.points().iter().map(|point| point.lr).collect();
        let expected = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
        assert_eq!(rates.len(), expected.len());
        for (rate, expected) in rates.into_iter().zip(expected) {
            assert!((rate / expected - 1.0).abs() < 1e-12, "{rate} {expected}");
        }
        assert!(!curve.diverged());
    }

    #[test]
    fn the_average_is_that_of_the_losses_so_far() {
        // By hand: (0.5·0.5·4 + 0.5·1) / (1 − 0.25), and so on.
        let curve = curve(finder(3, 0.5), [4.0, 1.0, 2.0]);
        let smoothed: Vec<_> = curve.points().iter().map(|point| point.smoothed).collect();
        for (smoothed, expected) in smoothed.into_iter().zip([4.0, 2.0, 1.75 / 0.875]) {
            assert!((smoothed - expected).abs() < 1e-12, "{smoothed} {expected}");
        }
    }

    #[test]
    fn the_steepest_fall_is_found_between_the_beginning_and_the_end() {
        // Steeper falls are in the first tenth, and at the end.
        let mut losses = vec![9.0, 7.0, 5.0];
        losses.extend([5.0; 10]);
        losses.extend([4.5, 3.5, 3.0, 2.9, 2.9, 2.9, 0.9]);
        let found = curve(finder(20, 0.0), losses);
        assert_eq!(found.steepest(), Some(found.points()[13].lr));
        assert_eq!(found.tenth_of_lowest(), Some(found.points()[19].lr / 10.0));
        assert_eq!(curve(finder(20, 0.0), (0..20).map(f64::from)).steepest(), None);
        assert_eq!(curve(finder(20, 0.0), [5.0]).steepest(), None);
        assert_eq!(curve(finder(20, 0.0), []).steepest(), None);
        assert_eq!(curve(finder(20, 0.0), [5.0, 4.0, 3.0]).steepest(), None);
    }

    #[test]
    fn a_fall_after_the_lowest_loss_is_none_of_learning() {
        let mut losses = vec![5.0; 8];
        losses.extend([4.6, 3.5, 3.0, 2.9, 2.8, 7.0, 9.0, 3.0, 3.0, 3.0, 3.0, 3.0]);
        let found = curve(finder(20, 0.0), losses);
        assert_eq!((found.steps(), found.steepest()), (20, Some(found.points()[9].lr)));
    }

    #[test]
    fn the_average_is_late_and_the_suggestion_is_not() {
        // The loss itself falls most steeply from the 30th to the 31st step.
        let losses = (0..60).map(|step| 2.0 - f64::from(step - 30).atan());
        let raw = curve(finder(60, 0.0), losses.clone());
        assert_eq!(raw.steepest(), Some(raw.points()[30].lr));
        let smooth = curve(finder(60, 0.75), losses);
        let found = smooth.steepest().unwrap();
        assert!((raw.points()[28].lr..=raw.points()[32].lr).contains(&found), "{found}");
    }

    #[test]
    fn a_loss_that_grows_or_is_none_ends_the_search() {
        let found = curve(finder(9, 0.0), [2.0, 1.0, 3.9, 4.1, 1.0]);
        assert_eq!((found.steps(), found.diverged()), (4, true));
        // Below zero it may rise by as much.
        let found = curve(finder(9, 0.0), [-2.0, -1.0, 3.9, 4.1, 1.0]);
        assert_eq!((found.steps(), found.diverged()), (4, true));
        for none in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let found = curve(finder(9, 0.9), [2.0, none, 1.0]);
            assert_eq!((found.steps(), found.diverged()), (1, true));
        }
        let patient = finder(9, 0.0).with_divergence(f64::INFINITY).unwrap();
        assert_eq!(curve(patient.clone(), [1.0, 1e30, 1.0]).steps(), 3);
        // 0 times infinity is not a number, and not more than anything.
        assert_eq!(curve(patient, [0.0, 1e30, 1.0]).steps(), 3);
    }

    #[test]
    fn a_loss_that_stands_still_suggests_no_fall() {
        for loss in [0.0, 2.0, -2.0, 1e300] {
            let still = curve(finder(20, 0.9), [loss; 20]);
            assert_eq!(still.steps(), 20, "{loss}");
            let first = still.smoothed(0);
            assert!(still.points().iter().all(|point| (point.smoothed - first).abs() <= first.abs() * 1e-14));
            assert!(still.steepest().is_none_or(|lr| still.points().iter().any(|point| point.lr == lr)));
        }
        assert_eq!(curve(finder(20, 0.0), [2.0; 20]).steepest(), None);
        // The most steps, and a mean that hardly moves: rates and averages are numbers all the same.
        let long = curve(finder(usize::MAX, 1.0 - f64::EPSILON), [2.0, 1.0, 0.5, 0.25]);
        assert!(long.points().iter().all(|point| point.lr == 1e-6 && point.smoothed.is_finite()), "{long:?}");
        assert_eq!(long.steepest(), None);
    }

    #[test]
    fn impossible_settings_are_refused() {
        let finder = LrFinder::new;
        for (error, text) in [
            (finder().with_range(0.0, 1.0), "LrFinder.min_lr: expected a number above 0, got 0"),
            (
                finder().with_range(0.1, 0.1),
                "LrFinder.max_lr: expected a number above min_lr, which is 0.1, got 0.1",
            ),
            (
                finder().with_range(0.1, f64::INFINITY),
                "LrFinder.max_lr: expected a number above min_lr, which is 0.1, got inf",
            ),
            (
                finder().with_range(1e-300, 1e300),
                "LrFinder.max_lr: expected at most 1.7976931348623157e308 times min_lr, which is 1e-300, got 1e300",
            ),
            (finder().with_steps(1), "LrFinder.steps: expected at least 2 steps, got 1"),
            (finder().with_smoothing(1.0), "LrFinder.smoothing: expected a number from 0, below 1, got 1"),
            (finder().with_divergence(1.0), "LrFinder.divergence: expected a number above 1, got 1"),
            (finder().with_divergence(f64::NAN), "LrFinder.divergence: expected a number above 1, got NaN"),
        ] {
            assert_eq!(error.unwrap_err().to_string(), text);
        }
    }
}
