//! The last states of a recurrence, beside its outputs.
//!
//! A node of Burn's graph has one output. Were outputs and last states parts of one, the gradients of both
//! would be put together first, in memory of the size of all outputs, also where nobody asks for the last
//! states. So these have a node of their own, after that of the outputs. Its backward pass, which therefore
//! comes before that of the recurrence, leaves its gradient where the recurrence finds it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::machine::memory::zeros;
use crate::operation::fused::{Array, Computed, Fused, Pass};

/// The message between a recurrence and its last states: first the states, then their gradient.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends(Arc<Mutex<Option<Vec<f32>>>>);

impl Ends {
    pub(crate) fn put(&self, values: Vec<f32>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(values);
    }

    pub(crate) fn take(&self) -> Option<Vec<f32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The operation on the outputs, which gives the last states `[states · batch, hidden]`: h, and for an LSTM c
/// after it.
#[derive(Clone, Debug)]
pub(crate) struct LastStates {
    pub(crate) ends: Ends,
    pub(crate) shape: [usize; 2],
}

impl Fused<1> for LastStates {
    type SavedForBackward = ();

    const KEEPS_OUTPUT: bool = false;

    fn forward(&self, _: [&[f32]; 1], _: bool) -> Computed<()> {
        let states = self.ends.take().unwrap_or_else(|| unreachable!("the recurrence was there before"));
        Computed { output: Array::new(states, self.shape), beside: Vec::new(), saved: () }
    }

    fn backward(&self, pass: Pass<'_, (), 1>) -> [Option<Vec<f32>>; 1] {
        self.ends.put(pass.gradient.to_vec());
        // The recurrence has a backward pass only if its outputs have a gradient.
        [Some(zeros(pass.inputs[0].len()))]
    }
}
