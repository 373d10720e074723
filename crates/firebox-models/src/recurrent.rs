//! The recurrent layers' common core: any cell, any number of layers, one direction or two.

use burn::config::Config;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::module::linear;
use burn::tensor::{Bool, Device, Int, Tensor};

use crate::cell::Cell;
use crate::error::{Error, check};
use crate::init::uniform;
use crate::mask::sequence_mask;
use crate::recurrent_module::Direction;

/// Settings of [`Recurrent`].
#[derive(Config, Debug)]
pub struct RecurrentConfig {
    /// What is computed at each step.
    pub cell: Cell,
    /// Features of the input; at least 1.
    pub features_in: usize,
    /// Features of the state; at least 1.
    pub hidden: usize,
    /// Layers on top of each other; at least 1.
    #[config(default = 1)]
    pub num_layers: usize,
    /// The share of features dropped between layers in training, not behind the last; from 0, below 1.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Whether each layer also reads backwards; its output then has both directions side by side.
    #[config(default = false)]
    pub bidirectional: bool,
}

/// `torch.nn.RNN`, `LSTM` or `GRU` with `batch_first=True`, by its [`Cell`].
///
/// The blocks [`RnnBlock`](crate::RnnBlock), [`LstmBlock`](crate::LstmBlock) and [`GruBlock`](crate::GruBlock) are made
/// of it; models that leave the cell to their config use it as it is.
///
/// State, for each layer k, and again with the suffix `_reverse` for its backward direction: `weight_ih_lk`
/// `[gates·hidden, input]`, `weight_hh_lk` `[gates·hidden, hidden]`, `bias_ih_lk` and `bias_hh_lk` `[gates·hidden]`, the
/// gates in PyTorch's order.
#[derive(Clone, Debug)]
pub struct Recurrent {
    /// From below; in each the forward direction, and the backward one if there is.
    pub(crate) layers: Vec<Vec<Direction>>,
    pub(crate) dropout: Dropout,
    pub(crate) cell: Cell,
    pub(crate) hidden: usize,
}

/// The state of a [`Recurrent`] layer between two steps: `[num_layers · directions, batch, hidden]` each, the layers from
/// below, in each the forward direction first.
#[derive(Clone, Debug)]
pub struct RecurrentState {
    /// h, which is also the output.
    pub hidden: Tensor<3>,
    /// c, which only [`Cell::Lstm`] has; zeros if it isn't given.
    pub cell: Option<Tensor<3>>,
}

impl RecurrentConfig {
    /// The layer with PyTorch's initialisation: everything uniform within ±1/√hidden.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Recurrent, Error> {
        let Self { cell, features_in, hidden, num_layers, dropout, bidirectional } = *self;
        check(features_in > 0, "RecurrentConfig.features_in", "at least 1", features_in)?;
        check(hidden > 0, "RecurrentConfig.hidden", "at least 1", hidden)?;
        check(num_layers > 0, "RecurrentConfig.num_layers", "at least 1", num_layers)?;
        check((0.0..1.0).contains(&dropout), "RecurrentConfig.dropout", "0 ≤ p < 1", dropout)?;
        let directions = if bidirectional { 2 } else { 1 };
        let (within, rows) = (uniform(hidden), cell.gates() * hidden);
        let direction = |input| Direction {
            weight_ih: within.init([rows, input], device),
            weight_hh: within.init([rows, hidden], device),
            bias_ih: within.init([rows], device),
            bias_hh: within.init([rows], device),
        };
        let layer = |layer| {
            let input = if layer == 0 { features_in } else { directions * hidden };
            (0..directions).map(|_| direction(input)).collect()
        };
        Ok(Recurrent {
            layers: (0..num_layers).map(layer).collect(),
            dropout: DropoutConfig::new(dropout).init(),
            cell,
            hidden,
        })
    }
}

impl Recurrent {
    pub(crate) fn features_in(&self) -> usize {
        self.layers[0][0].weight_ih.dims()[1]
    }

    pub(crate) fn directions(&self) -> usize {
        self.layers[0].len()
    }

    /// The whole sequence: input `[batch, time, features_in]` to the last layer's outputs
    /// `[batch, time, directions · hidden]` and the state after each sequence's last step.
    ///
    /// Without a `state` it begins with zeros. With `lengths` `[batch]` each sequence ends there, and its backward
    /// direction begins there, as with PyTorch's `pack_padded_sequence`; behind its end the output is zero. A sequence of
    /// length 0 leaves its state as it is, and one that is said to be longer than the batch ends with it.
    ///
    /// # Panics
    /// If shapes don't fit.
    pub fn forward(
        &self,
        input: Tensor<3>,
        lengths: Option<Tensor<1, Int>>,
        state: Option<RecurrentState>,
    ) -> (Tensor<3>, RecurrentState) {
        let [batch, time, features] = input.dims();
        let expected = self.features_in();
        assert!(features == expected, "Recurrent: expected {expected} features in, got {features}");
        let parts = self.layers.len() * self.directions();
        let shape = [parts, batch, self.hidden];
        let state = state.unwrap_or_else(|| {
            let hidden = Tensor::zeros(shape, (&input.device(), input.dtype()));
            RecurrentState { hidden, cell: None }
        });
        let cell = (self.cell == Cell::Lstm).then(|| state.cell.unwrap_or_else(|| state.hidden.zeros_like()));
        for part in [Some(&state.hidden), cell.as_ref()].into_iter().flatten() {
            let got = part.dims();
            assert!(got == shape, "Recurrent: expected a state of shape {shape:?}, got {got:?}");
        }
        let state = RecurrentState { hidden: state.hidden, cell };
        if let Some(lengths) = &lengths {
            let got = lengths.dims();
            assert!(got == [batch], "Recurrent: expected lengths of shape {:?}, got {got:?}", [batch]);
        }
        if time == 0 {
            let features = self.directions() * self.hidden;
            return (Tensor::zeros([batch, 0, features], (&input.device(), input.dtype())), state);
        }
        let mask = lengths.map(|lengths| sequence_mask(lengths, time).chunk(time, 1));
        // Steps are kept apart: a slice of one tensor would cost, in the backward pass, a gradient of the whole.
        let mut steps: Vec<Tensor<2>> = input.iter_dim(1).map(|step| step.squeeze_dim(1)).collect();
        let (mut hidden, mut cells) = (Vec::with_capacity(parts), Vec::with_capacity(parts));
        for (number, layer) in self.layers.iter().enumerate() {
            if number > 0 {
                steps = steps.into_iter().map(|step| self.dropout.forward(step)).collect();
            }
            let mut outputs: Vec<Vec<Tensor<2>>> = Vec::with_capacity(layer.len());
            for (backward, direction) in layer.iter().enumerate() {
                let part = hidden.len();
                let first = State {
                    hidden: take(&state.hidden, part),
                    cell: state.cell.as_ref().map(|cell| take(cell, part)),
                };
                let (output, last) = self.run(direction, &steps, mask.as_deref(), first, backward == 1);
                outputs.push(output);
                hidden.push(last.hidden);
                cells.extend(last.cell);
            }
            steps = (0..time)
                .map(|step| Tensor::cat(outputs.iter().map(|output| output[step].clone()).collect(), 1))
                .collect();
        }
        let cell = (!cells.is_empty()).then(|| Tensor::stack(cells, 0));
        (Tensor::stack(steps, 1), RecurrentState { hidden: Tensor::stack(hidden, 0), cell })
    }

    /// One direction of one layer, over all steps.
    fn run(
        &self,
        direction: &Direction,
        steps: &[Tensor<2>],
        mask: Option<&[Tensor<2, Bool>]>,
        mut state: State,
        backward: bool,
    ) -> (Vec<Tensor<2>>, State) {
        let (weight_ih, weight_hh) =
            (direction.weight_ih.val().transpose(), direction.weight_hh.val().transpose());
        let (bias_ih, bias_hh) = (direction.bias_ih.val(), direction.bias_hh.val());
        let mut outputs: Vec<Tensor<2>> = Vec::with_capacity(steps.len());
        for number in 0..steps.len() {
            let step = if backward { steps.len() - 1 - number } else { number };
            let input = linear(steps[step].clone(), weight_ih.clone(), Some(bias_ih.clone()));
            let hidden = linear(state.hidden.clone(), weight_hh.clone(), Some(bias_hh.clone()));
            let next = self.cell.step(input, hidden, state.clone());
            match mask {
                None => {
                    outputs.push(next.hidden.clone());
                    state = next;
                }
                Some(mask) => {
                    // What lies behind the end of a sequence changes nothing: read backwards, it still begins with its
                    // first state at its last step.
                    let valid = mask[step].clone().expand(next.hidden.shape());
                    outputs.push(next.hidden.clone().mask_fill(valid.clone().bool_not(), 0.0));
                    state = State {
                        hidden: state.hidden.mask_where(valid.clone(), next.hidden),
                        cell: match (state.cell, next.cell) {
                            (Some(cell), Some(next)) => Some(cell.mask_where(valid, next)),
                            _ => None,
                        },
                    };
                }
            }
        }
        if backward {
            outputs.reverse();
        }
        (outputs, state)
    }
}

/// The state of one direction of one layer, `[batch, hidden]` each.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) hidden: Tensor<2>,
    pub(crate) cell: Option<Tensor<2>>,
}

fn take(states: &Tensor<3>, part: usize) -> Tensor<2> {
    states.clone().narrow(0, part, 1).squeeze_dim(0)
}
