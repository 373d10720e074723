//! Schedules one after the other.

use serde_json::Value;

use super::{Schedule, foreign};
use crate::error::{Error, check};

/// Schedules that take turns, as `torch.optim.lr_scheduler.SequentialLR`.
///
/// From milestone i on it is the turn of schedule i + 1, for which that step is step 0. A warm-up before
/// something else is the usual case.
///
/// Every part hears of every evaluation, also before its turn, and is a part of the state.
///
/// ```
/// use firebox_train::schedule::{Cosine, LinearWarmup, Schedule, SequentialSchedule};
///
/// let warmup = LinearWarmup::new(0.1, 10)?;
/// let schedule = SequentialSchedule::new(vec![Box::new(warmup), Box::new(Cosine::new(0.1, 90)?)], vec![10])?;
/// assert!(schedule.lr(0) < 0.1);
/// assert_eq!(schedule.lr(10), 0.1);
/// # Ok::<(), firebox_train::Error>(())
/// ```
pub struct SequentialSchedule {
    schedules: Vec<Box<dyn Schedule>>,
    milestones: Vec<usize>,
}

impl SequentialSchedule {
    /// The schedules, and the steps at which the next one begins.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) unless there is a schedule, and one rising
    /// milestone less than schedules.
    pub fn new(schedules: Vec<Box<dyn Schedule>>, milestones: Vec<usize>) -> Result<Self, Error> {
        let count = schedules.len();
        check(count > 0, "SequentialSchedule.schedules", "at least 1", count)?;
        let allowed = format!("one between each two of {count} schedules");
        check(milestones.len() + 1 == count, "SequentialSchedule.milestones", &allowed, milestones.len())?;
        let rising = milestones.is_sorted_by(|a, b| a < b);
        check(rising, "SequentialSchedule.milestones", "rising steps", format!("{milestones:?}"))?;
        Ok(SequentialSchedule { schedules, milestones })
    }
}

impl Schedule for SequentialSchedule {
    fn lr(&self, step: usize) -> f64 {
        let turn = self.milestones.partition_point(|&milestone| milestone <= step);
        let begun = if turn == 0 { 0 } else { self.milestones[turn - 1] };
        self.schedules[turn].lr(step - begun)
    }

    fn observe(&mut self, value: f64) {
        self.schedules.iter_mut().for_each(|schedule| schedule.observe(value));
    }

    fn state(&self) -> Value {
        let states: Vec<_> = self.schedules.iter().map(|schedule| schedule.state()).collect();
        match states.iter().all(Value::is_null) {
            true => Value::Null,
            false => Value::Array(states),
        }
    }

    fn load(&mut self, state: &Value) -> Result<(), Error> {
        let count = self.schedules.len();
        let states = match state {
            Value::Null => vec![Value::Null; count],
            Value::Array(states) if states.len() == count => states.clone(),
            _ => return Err(foreign(&format!("null or that of {count} schedules"), state)),
        };
        let before: Vec<_> = self.schedules.iter().map(|schedule| schedule.state()).collect();
        let mut parts = self.schedules.iter_mut().zip(&states);
        let loaded = parts.try_for_each(|(schedule, state)| schedule.load(state));
        if loaded.is_err() {
            // Those in front have taken theirs already: what fails changes nothing.
            let parts = self.schedules.iter_mut().zip(&before);
            parts.filter_map(|(schedule, state)| schedule.load(state).err()).for_each(drop);
        }
        loaded
    }
}
