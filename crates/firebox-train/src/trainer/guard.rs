//! Checks that keep a run from failing in silence.

use std::collections::BTreeMap;

use firebox_data::batches::{Batches, Overlap, SampleSet};
use firebox_data::dataset::Lineage;
use serde_json::Value;

use crate::checkpoint::RunState;
use crate::error::{Error, ErrorKind};
use crate::event::Record;
use crate::metrics::Metrics;
use crate::task::Task;
use crate::trainer::TrainerConfig;

/// The data that are trained on.
pub(super) struct TrainingData {
    lineage: Lineage,
    /// `None` if nobody else had anything of that lineage when it was looked at: what has it later is the
    /// training data themselves, or was cut from them. To look at many samples takes a while, which most runs
    /// can do without.
    samples: Option<SampleSet>,
}

impl TrainingData {
    /// `None` if it is not known where the data come from.
    pub(super) fn of(train: &impl Batches) -> Option<Self> {
        let lineage = train.lineage()?;
        let samples = if lineage.has_relatives() { Some(SampleSet::of(train, 0)?) } else { None };
        Some(TrainingData { lineage: lineage.clone(), samples })
    }

    fn overlap(&self, data: &impl Batches) -> Option<Overlap> {
        if !self.lineage.is_shared_with(data.lineage()?) {
            return None;
        }
        let samples = SampleSet::of(data, 0)?;
        self.samples.as_ref().unwrap_or(&samples).overlap(&samples)
    }
}

/// Fails if data have no batch, and says why.
pub(super) fn not_empty(name: &str, data: &impl Batches) -> Result<(), Error> {
    if data.batches(0) > 0 {
        return Ok(());
    }
    let why = data.why_empty(0).map_or_else(String::new, |why| format!(": {why}"));
    Err(Error::new(ErrorKind::Config, format!("the {name} have no batch{why}")))
}

/// The warning if an epoch ends with a batch of one sample, and the task has BatchNorms.
pub(super) fn lone_sample(task: &impl Task, train: &impl Batches, config: &TrainerConfig) -> Option<String> {
    let norms = task.batch_norms();
    let last = config.batches_of(train.batches(0)).checked_sub(1)?;
    if norms.is_empty() || train.indices(0, last)?.len() != 1 {
        return None;
    }
    Some(format!(
        "the last training batch of an epoch has one sample, by which BatchNorm ({}) can't normalize where its \
         input has one value a channel: drop_last(true) leaves it out",
        norms.join(", ")
    ))
}

/// How many batches the BatchNorms of a task have counted, by the names of their counters.
pub(super) struct Counted(BTreeMap<String, Vec<u8>>);

impl Counted {
    /// Looks into the state that the task saves, whatever task it is.
    pub(super) fn of(task: &impl Task) -> Result<Self, Error> {
        const COUNTER: &str = "num_batches_tracked";
        let state = task.state()?;
        let all = state.iter().flat_map(|(part, tensors)| tensors.iter().map(move |of| (part, of)));
        let counters = all.filter(|(_, (name, _))| name.ends_with(COUNTER));
        let named =
            counters.map(|(part, (name, count))| (format!("{part}.{name}"), count.as_bytes().to_vec()));
        Ok(Counted(named.collect()))
    }

    /// The warning if some have counted nothing since.
    pub(super) fn stayed(&self, now: &Counted) -> Option<String> {
        let stayed = self.0.iter().filter(|(name, count)| now.0.get(*name) == Some(count));
        let names: Vec<_> = stayed.map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        Some(format!(
            "the first step has not moved {}: unless these BatchNorms are to stay as they are, the training data \
             are not on an autodiff device, where they and dropout train",
            names.join(", ")
        ))
    }
}

/// Fails if data have items that are trained on, as far as both are known to come from one data set.
pub(super) fn apart(train: Option<&TrainingData>, data: &impl Batches, name: &str) -> Result<(), Error> {
    let overlap = train.and_then(|train| train.overlap(data));
    let Some(Overlap { items, first, .. }) = overlap else { return Ok(()) };
    let rest = if items > first.len() { ", …" } else { "" };
    let shown: Vec<_> = first.iter().map(usize::to_string).collect();
    let text = format!(
        "the training and the {name} data come from one data set: expected no item in both, got {items}, with the \
         indices {}{rest}",
        shown.join(", ")
    );
    Err(Error::new(ErrorKind::Config, text))
}

/// Refuses the numbers of a batch with a loss that is infinite or NaN: `loss`, or `loss_…` of a task that has
/// several. Tasks that learn by a [`Learner`](crate::Learner) find it before their parameters move; for any
/// other, and in evaluations, this is where the run stops.
pub(super) fn finite(metrics: Metrics) -> Result<Metrics, Error> {
    let is_loss = |name: &str| name == "loss" || name.starts_with("loss_");
    let wrong = metrics.values().find(|(name, value)| is_loss(name) && !value.is_finite());
    match wrong {
        Some((name, loss)) => {
            Err(Error::new(ErrorKind::NotFinite, format!("{name}: expected a finite number, got {loss}")))
        }
        None => Ok(metrics),
    }
}

/// Refuses metrics that a record would have twice.
pub(super) fn names(metrics: &Metrics) -> Result<(), Error> {
    match metrics.values().find(|(name, _)| Record::FIELDS.contains(name)) {
        Some((name, _)) => {
            let text = format!(
                "metric {name}: expected another name than those that records have: {}",
                Record::FIELDS.join(", ")
            );
            Err(Error::new(ErrorKind::Task, text))
        }
        None => Ok(()),
    }
}

/// Fails if a metric is there for which nothing was counted.
pub(super) fn counted(metrics: &Metrics, data: &str) -> Result<(), Error> {
    let uncounted: Vec<_> = metrics.uncounted().collect();
    match uncounted.is_empty() {
        true => Ok(()),
        false => {
            let (names, samples) = (uncounted.join(", "), metrics.samples());
            let text =
                format!("metrics of the {data} data: nothing was counted for {names} in {samples} samples");
            Err(Error::new(ErrorKind::Task, text))
        }
    }
}

/// Follows the norms of the steps' gradients: what to warn of, if one is more than `most` times their
/// average.
pub(super) fn norm(state: &mut RunState, norm: Option<f64>, most: f64) -> Option<String> {
    const STEPS: usize = 20;
    let norm = norm?;
    let (average, steps) = (state.norm_average, state.norm_steps);
    let explodes = most > 0.0 && steps >= STEPS && norm > most * average;
    let warning = explodes.then(|| {
        let step = state.step;
        format!("step {step}: the norm of the gradients is {norm:.3e}, that of the last steps {average:.3e}")
    });
    // An average with NaN would be NaN for ever.
    if norm.is_finite() {
        let weight = 1.0 / (steps + 1).min(STEPS) as f64;
        (state.norm_average, state.norm_steps) = (average + weight * (norm - average), steps + 1);
    }
    warning
}

/// The settings in which a run differs from what it was before, in words.
pub(super) fn differences(before: &Value, now: &Value) -> Vec<String> {
    let (Some(before), Some(now)) = (before.as_object(), now.as_object()) else { return Vec::new() };
    let changed = now.iter().filter_map(|(name, now)| {
        let before = before.get(name)?;
        (before != now).then(|| format!("{name} {before}, now {now}"))
    });
    changed.collect()
}
