//! The monitored metric: if a run still gets better, and its best checkpoints.

use super::TrainerConfig;
use crate::checkpoint::{Best, RunState};
use crate::event::{Record, RecordKind};
use crate::task::Goal;

/// Judges the values of the monitored metric, one an evaluation, and writes down in the state what it found.
///
/// A value is better if it is so by more than `min_delta` than the last one that was: that one is the
/// reference, as in Keras and Lightning, so that small improvements add up. The best checkpoints are ordered
/// by the values themselves.
///
/// A value that is not finite is no better than anything, and never among the best.
pub(super) struct Monitor<'s> {
    state: &'s mut RunState,
    goal: Goal,
    min_delta: f64,
    keep_best: usize,
}

/// The verdict on an evaluation.
#[derive(Debug, PartialEq)]
pub(super) struct Heard {
    /// It counts as better.
    pub(super) improved: bool,
    /// Its checkpoint is one of the best.
    pub(super) kept: bool,
    /// The warning, if there is one.
    pub(super) warning: Option<String>,
}

impl<'s> Monitor<'s> {
    pub(super) fn new(state: &'s mut RunState, goal: Goal, config: &TrainerConfig) -> Self {
        Monitor { state, goal, min_delta: config.min_delta, keep_best: config.keep_best }
    }

    /// Hears the value of an evaluation after the state's step.
    pub(super) fn hear(self, metric: &str, value: f64) -> Heard {
        let Monitor { state, goal, min_delta, keep_best } = self;
        // Checkpoints of older versions have no reference, and may have a best value that is NaN.
        state.best.retain(|best| best.value.is_finite());
        let reference = state.reference.take().or_else(|| state.best.first().cloned());
        // Values of another metric say nothing of this one's.
        let (reference, other) = match reference {
            Some(reference) if reference.metric != metric => (None, Some(reference.metric)),
            reference => (reference, None),
        };
        let warning = other.map(|other| {
            state.best.clear();
            format!(
                "the monitored metric is {metric}, and was {other}: what was best by that is best no longer"
            )
        });
        let better = reference.as_ref().is_none_or(|reference| match goal {
            Goal::Maximize => value - min_delta > reference.value,
            Goal::Minimize => value + min_delta < reference.value,
        });
        let improved = value.is_finite() && better;
        let now = Best { step: state.step, metric: metric.to_owned(), value };
        state.reference = if improved { Some(now.clone()) } else { reference };
        state.stale = if improved { 0 } else { state.stale + 1 };
        let place = state.best.iter().position(|other| goal.improves(other.value, value));
        let place = place.unwrap_or(state.best.len());
        let kept = value.is_finite() && place < keep_best;
        if kept {
            state.best.insert(place, now);
        }
        state.best.truncate(keep_best);
        Heard { improved, kept, warning }
    }
}

/// The warnings of a record: the metrics of an epoch or an evaluation that are infinite or NaN.
pub(super) fn not_finite(record: &Record) -> Vec<String> {
    if record.kind == RecordKind::Step {
        return Vec::new();
    }
    let Record { step, metrics, .. } = record;
    let split = if record.split == "valid" { "validation" } else { &record.split };
    let text = |(name, value)| {
        format!("after step {step}: {name} of the {split} data: expected a finite number, got {value}")
    };
    metrics.not_finite().map(text).collect()
}

#[cfg(test)]
mod tests {
    use firebox_data::{Loader, Scalar};

    use super::*;

    fn begin() -> RunState {
        let builder = Loader::builder(vec![0_i64]).workers(0);
        let loader = builder.build(Scalar::<i64>::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        });
        RunState::new(loader.unwrap().state(0), 0)
    }

    fn config(min_delta: f64, keep_best: usize) -> TrainerConfig {
        TrainerConfig { min_delta, keep_best, ..TrainerConfig::new() }
    }

    /// Hears values, a step each, with the state saved and loaded between: what counted as better, and the
    /// best steps.
    fn hear(goal: Goal, config: &TrainerConfig, values: &[f64]) -> (Vec<bool>, Vec<usize>, RunState) {
        let mut state = begin();
        let improved = values.iter().map(|&value| {
            state.step += 1;
            let heard = Monitor::new(&mut state, goal, config).hear("loss", value);
            state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
            heard.improved
        });
        let improved = improved.collect();
        let best = state.best.iter().map(|best| best.step).collect();
        (improved, best, state)
    }

    /// The evaluation that ends a run of some patience.
    fn stops_after(improved: &[bool], patience: usize) -> Option<usize> {
        let mut stale = 0;
        improved.iter().position(|&improved| {
            stale = if improved { 0 } else { stale + 1 };
            stale >= patience
        })
    }

    #[test]
    fn small_improvements_add_up_to_one_that_counts() {
        // Value, whether Keras (`value + min_delta < best`) and Lightning (`value - (-min_delta) <
        // best_score`) call it better, where both set their best to the value when they do, and then alone.
        let table = [
            (1.000, true),
            (0.994, false),
            (0.988, true),
            (0.982, false),
            (0.976, true),
            (0.970, false),
            (0.964, true),
        ];
        let values = table.map(|(value, _)| value);
        let (improved, best, state) = hear(Goal::Minimize, &config(0.01, 1), &values);
        assert_eq!(improved, table.map(|(_, better)| better));
        assert_eq!(stops_after(&improved, 3), None);
        assert_eq!((state.stale, best), (0, vec![7]));
        // The same the other way round, and by plain value where nothing is asked for.
        let (mirrored, ..) = hear(Goal::Maximize, &config(0.01, 1), &values.map(|value| -value));
        assert_eq!(mirrored, improved);
        let (plain, ..) = hear(Goal::Minimize, &config(0.0, 1), &values);
        assert_eq!(plain, [true; 7]);
        // Improvements that never add up: the best is the last all the same.
        let slow = [1.0, 0.998, 0.996, 0.994, 0.992];
        let (improved, best, state) = hear(Goal::Minimize, &config(0.01, 1), &slow);
        assert_eq!((stops_after(&improved, 3), state.stale, best), (Some(3), 4, vec![5]));
        // By exactly as much is not more.
        let (improved, ..) = hear(Goal::Minimize, &config(0.25, 1), &[1.0, 0.75, 0.5]);
        assert_eq!(improved, [true, false, true]);
    }

    #[test]
    fn what_is_not_finite_is_never_the_best() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for goal in [Goal::Maximize, Goal::Minimize] {
                let (improved, best, state) = hear(goal, &config(0.0, 2), &[bad, bad]);
                assert_eq!((improved, best, state.stale), (vec![false; 2], vec![], 2), "{bad} {goal:?}");
                let (improved, best, _) = hear(goal, &config(0.0, 2), &[bad, 1.0, bad, 1.0]);
                assert_eq!((improved, best), (vec![false, true, false, false], vec![2, 4]), "{bad} {goal:?}");
            }
        }
    }

    #[test]
    fn a_checkpoint_without_a_reference_goes_on_from_its_best_value() {
        let mut state = begin();
        let best = |value| Best { step: 1, metric: "loss".to_owned(), value };
        (state.best, state.stale) = (vec![best(1.0), best(f64::NAN)], 2);
        let mut old = serde_json::to_value(&state).unwrap();
        old.as_object_mut().unwrap().remove("reference");
        let mut state: RunState = serde_json::from_value(old).unwrap();
        state.step = 4;
        let heard = Monitor::new(&mut state, Goal::Minimize, &config(0.1, 3)).hear("loss", 0.95);
        assert_eq!(heard, Heard { improved: false, kept: true, warning: None });
        assert_eq!((state.stale, state.best.len()), (3, 2));
        assert_eq!(state.reference, Some(best(1.0)));
    }

    #[test]
    fn another_metric_is_not_compared_with_the_one_before() {
        let (_, _, mut state) = hear(Goal::Minimize, &config(0.0, 3), &[0.1, 0.2]);
        state.step += 1;
        let heard = Monitor::new(&mut state, Goal::Minimize, &config(0.0, 3)).hear("per", 40.0);
        let warning = "the monitored metric is per, and was loss: what was best by that is best no longer";
        assert_eq!(heard, Heard { improved: true, kept: true, warning: Some(warning.to_owned()) });
        assert_eq!((state.stale, state.best.len(), state.best[0].value), (0, 1, 40.0));
    }
}
