//! One direction of one recurrent layer over whole sequences.

use burn::tensor::module::linear;
use burn::tensor::{Int, Tensor};

#[cfg(feature = "flex")]
use crate::operation::fused::fused;
use crate::operation::shape::expect_shape;
#[cfg(feature = "flex")]
use crate::operation::switch::eligible;
#[cfg(feature = "flex")]
use crate::recurrent::kernel::{Ends, LastStates, Recurrence};

mod cell;
#[cfg(feature = "flex")]
pub(crate) mod kernel;
mod sequence;

pub use cell::{Cell, CellState};
pub use sequence::Sequence;

/// The weights of one direction of one recurrent layer, the gates in PyTorch's order.
///
/// The page of [`recurrent`](recurrent()) has an example.
#[derive(Clone, Debug)]
pub struct RecurrentWeights {
    /// `[gates·hidden, input]`
    pub weight_ih: Tensor<2>,
    /// `[gates·hidden, hidden]`
    pub weight_hh: Tensor<2>,
    /// `[gates·hidden]`
    pub bias_ih: Tensor<1>,
    /// `[gates·hidden]`
    pub bias_hh: Tensor<1>,
}

impl RecurrentWeights {
    /// Panics unless the shapes of weights and of a first state fit a cell and its input.
    #[track_caller]
    pub(crate) fn expect(
        &self,
        operation: &str,
        cell: Cell,
        batch: usize,
        features: usize,
        first: &CellState,
    ) {
        let [_, hidden] = self.weight_hh.dims();
        let rows = cell.gates() * hidden;
        expect_shape(operation, "weight_hh", self.weight_hh.dims(), [rows, hidden]);
        expect_shape(operation, "weight_ih", self.weight_ih.dims(), [rows, features]);
        expect_shape(operation, "bias_ih", self.bias_ih.dims(), [rows]);
        expect_shape(operation, "bias_hh", self.bias_hh.dims(), [rows]);
        expect_shape(operation, "a first state", first.hidden.dims(), [batch, hidden]);
        if let (Cell::Lstm, Some(cell)) = (cell, &first.cell) {
            expect_shape(operation, "a first cell", cell.dims(), [batch, hidden]);
        }
    }
}

/// One direction of one recurrent layer that begins with the state `first`.
///
/// It gives the outputs `[batch, time, hidden]` and the state after each sequence's last step. A single step
/// of a single row is left to plain operations.
///
/// With `lengths` `[batch]` each sequence ends there; in `reverse` it begins there and ends with its first
/// step. After its end the output is zero. A sequence of length 0 leaves its state as it is, and one that is
/// said to be longer than the batch ends with it.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::recurrent::{Cell, CellState, RecurrentWeights, Sequence, recurrent};
///
/// let device = Device::default();
/// let weights = RecurrentWeights {
///     weight_ih: Tensor::ones([Cell::Gru.gates() * 4, 3], &device),
///     weight_hh: Tensor::ones([Cell::Gru.gates() * 4, 4], &device),
///     bias_ih: Tensor::zeros([12], &device),
///     bias_hh: Tensor::zeros([12], &device),
/// };
/// let first = CellState { hidden: Tensor::zeros([2, 4], &device), cell: None };
/// let input = Sequence::Whole(Tensor::ones([2, 7, 3], &device));
/// let (outputs, last) = recurrent(Cell::Gru, input, weights, first, None, false);
/// assert_eq!((outputs.dims(), last.hidden.dims()), ([2, 7, 4], [2, 4]));
/// ```
///
/// # Panics
/// If shapes don't fit, or there is no step.
pub fn recurrent(
    cell: Cell,
    input: Sequence,
    weights: RecurrentWeights,
    first: CellState,
    lengths: Option<Tensor<1, Int>>,
    reverse: bool,
) -> (Sequence, CellState) {
    let [batch, time, features] = input.dims();
    assert!(time > 0, "recurrent: expected at least one step, got none");
    if let Sequence::Steps(steps) = &input {
        steps.iter().for_each(|step| expect_shape("recurrent", "a step", step.dims(), [batch, features]));
    }
    weights.expect("recurrent", cell, batch, features, &first);
    lengths.as_ref().inspect(|lengths| expect_shape("recurrent", "lengths", lengths.dims(), [batch]));
    // Burn expands nothing to a size of 0.
    let lengths = lengths.filter(|_| batch > 0);
    let first = CellState {
        cell: (cell == Cell::Lstm).then(|| first.cell.unwrap_or_else(|| first.hidden.zeros_like())),
        hidden: first.hidden,
    };
    #[cfg(feature = "flex")]
    if let Some(operation) = kernel(cell, &input, &weights, &first, lengths.as_ref(), reverse) {
        return whole(operation, input, weights, first);
    }
    step_by_step(cell, input.steps(), weights, first, lengths, reverse)
}

/// The operation, if there is one for these inputs.
#[cfg(feature = "flex")]
fn kernel(
    cell: Cell,
    input: &Sequence,
    weights: &RecurrentWeights,
    first: &CellState,
    lengths: Option<&Tensor<1, Int>>,
    reverse: bool,
) -> Option<Recurrence> {
    let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh } = weights;
    let ([batch, time, features], [_, hidden]) = (input.dims(), weight_hh.dims());
    if batch * time == 1 {
        // A vector times a matrix: there is nothing to use again, and plain operations are as fast as memory.
        return None;
    }
    // The shapes fit.
    let fits = || [batch, time, features, hidden].iter().all(|&size| size > 0);
    let mut tensors = vec![
        input.options(),
        (weight_ih.device(), weight_ih.dtype()),
        (weight_hh.device(), weight_hh.dtype()),
        (bias_ih.device(), bias_ih.dtype()),
        (bias_hh.device(), bias_hh.dtype()),
        (first.hidden.device(), first.hidden.dtype()),
    ];
    tensors.extend(first.cell.as_ref().map(|cell| (cell.device(), cell.dtype())));
    eligible(&tensors, fits).then(|| {
        let lengths = lengths.map(|lengths| {
            let lengths = lengths.clone().into_data();
            lengths.iter::<i64>().map(|length| length.clamp(0, time as i64) as usize).collect()
        });
        Recurrence { cell, batch, time, features, hidden, lengths, reverse, ends: Ends::default() }
    })
}

#[cfg(feature = "flex")]
fn whole(
    operation: Recurrence,
    input: Sequence,
    weights: RecurrentWeights,
    first: CellState,
) -> (Sequence, CellState) {
    let Recurrence { batch, time, hidden, reverse, .. } = operation;
    let ends_with_output = operation.ends_with_output();
    let states: Vec<_> = [Some(first.hidden), first.cell].into_iter().flatten().collect();
    let count = states.len();
    let inputs = [
        input.whole().into_dispatch(),
        weights.weight_ih.into_dispatch(),
        weights.weight_hh.into_dispatch(),
        weights.bias_ih.into_dispatch(),
        weights.bias_hh.into_dispatch(),
        Tensor::cat(states, 0).into_dispatch(),
    ];
    let ends = operation.ends.clone();
    let [outputs] = fused(operation, inputs);
    let outputs = Tensor::<3>::from_dispatch(outputs);
    if ends_with_output {
        let last = outputs.clone().narrow(1, if reverse { 0 } else { time - 1 }, 1).squeeze_dim(1);
        return (Sequence::Whole(outputs), CellState { hidden: last, cell: None });
    }
    let last = LastStates { ends, shape: [count * batch, hidden] };
    let [last] = fused(last, [outputs.clone().into_dispatch()]);
    let last = Tensor::<2>::from_dispatch(last);
    let state = |number: usize| last.clone().narrow(0, number * batch, batch);
    (Sequence::Whole(outputs), CellState { hidden: state(0), cell: (count > 1).then(|| state(1)) })
}

/// The same by plain operations.
fn step_by_step(
    cell: Cell,
    steps: Vec<Tensor<2>>,
    weights: RecurrentWeights,
    mut state: CellState,
    lengths: Option<Tensor<1, Int>>,
    reverse: bool,
) -> (Sequence, CellState) {
    let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh } = weights;
    let (weight_ih, weight_hh) = (weight_ih.transpose(), weight_hh.transpose());
    let mut outputs: Vec<Tensor<2>> = Vec::with_capacity(steps.len());
    for number in 0..steps.len() {
        let step = if reverse { steps.len() - 1 - number } else { number };
        let valid =
            lengths.as_ref().map(|lengths| lengths.clone().greater_elem(step as i64).unsqueeze_dim::<2>(1));
        let input = match &valid {
            // Where no sequence is, there may be anything: of NaN the gradients would be NaN.
            Some(valid) => {
                let after = valid.clone().bool_not().expand(steps[step].shape());
                steps[step].clone().mask_fill(after, 0.0)
            }
            None => steps[step].clone(),
        };
        let input = linear(input, weight_ih.clone(), Some(bias_ih.clone()));
        let hidden = linear(state.hidden.clone(), weight_hh.clone(), Some(bias_hh.clone()));
        let next = cell.step(input, hidden, state.clone());
        let Some(valid) = valid else {
            outputs.push(next.hidden.clone());
            state = next;
            continue;
        };
        // What lies after the end of a sequence changes nothing: read backwards, it still begins with its
        // first state at its last step.
        let valid = valid.expand(next.hidden.shape());
        outputs.push(next.hidden.clone().mask_fill(valid.clone().bool_not(), 0.0));
        state = CellState {
            hidden: state.hidden.mask_where(valid.clone(), next.hidden),
            cell: match (state.cell, next.cell) {
                (Some(cell), Some(next)) => Some(cell.mask_where(valid, next)),
                _ => None,
            },
        };
    }
    if reverse {
        outputs.reverse();
    }
    (Sequence::Steps(outputs), state)
}
