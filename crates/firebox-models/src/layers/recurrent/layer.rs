//! The recurrent layers' common core: any cell, any number of layers, one direction or two.

use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Int, Tensor};
use firebox_kernels::recurrent::{CellState, Sequence, recurrent};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, check, check_product, fitting, input_error};
use crate::init::uniform;
use crate::layers::recurrent::cell::Cell;
use crate::layers::recurrent::direction::Direction;
use crate::shape::check_shape;

/// Settings of [`Recurrent`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecurrentConfig {
    /// The cell, which is computed at each step.
    pub cell: Cell,
    /// Features of the input; at least 1.
    #[serde(alias = "features_in")]
    pub input_size: usize,
    /// Features of the state; at least 1.
    #[serde(alias = "hidden")]
    pub hidden_size: usize,
    /// Layers on top of each other; at least 1.
    pub num_layers: usize,
    /// The share of features dropped between layers in training; from 0, below 1.
    pub dropout: f64,
    /// True if each layer also reads backwards.
    ///
    /// Its output then has both directions side by side.
    pub bidirectional: bool,
}

config! {
    RecurrentConfig {
        cell: Cell, input_size: usize, hidden_size: usize
        ;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
        bidirectional: bool = false, with_bidirectional;
    }
}

/// `torch.nn.RNN`, `LSTM` or `GRU` with `batch_first=True`, by its [`Cell`].
///
/// The blocks [`RnnBlock`](crate::layers::RnnBlock), [`LstmBlock`](crate::layers::LstmBlock) and
/// [`GruBlock`](crate::layers::GruBlock) are made of it; models that leave the cell to their config use it as
/// it is.
///
/// State, for each layer k, and again with the suffix `_reverse` for its backward direction: `weight_ih_lk`
/// `[gates·hidden, input]`, `weight_hh_lk` `[gates·hidden, hidden]`, `bias_ih_lk` and `bias_hh_lk`
/// `[gates·hidden]`, the gates in PyTorch's order.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::{Cell, RecurrentConfig};
///
/// let device = Device::default();
/// let layer = RecurrentConfig::new(Cell::Gru, 3, 8).init(&device)?;
/// let (first, state) = layer.forward(Tensor::zeros([4, 5, 3], &device), None, None);
/// // The next steps of the same sequences.
/// let (next, _) = layer.forward(Tensor::zeros([4, 2, 3], &device), None, Some(state));
/// assert_eq!((first.dims(), next.dims()), ([4, 5, 8], [4, 2, 8]));
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Recurrent {
    /// From below; in each the forward direction, and the backward one if there is.
    pub(crate) layers: Vec<Vec<Direction>>,
    pub(crate) dropout: Dropout,
    pub(crate) cell: Cell,
    pub(crate) hidden_size: usize,
}

/// The state of a [`Recurrent`] layer between two steps.
///
/// `[num_layers · directions, batch, hidden]` each, the layers from below, in each the forward direction
/// first.
#[derive(Clone, Debug)]
pub struct RecurrentState {
    /// h, which is also the output.
    pub hidden: Tensor<3>,
    /// c, which only [`Cell::Lstm`] has; zeros if it isn't given.
    pub cell: Option<Tensor<3>>,
}

impl RecurrentConfig {
    /// The layer with PyTorch's initialization: everything uniform within ±1/√hidden.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Recurrent, Error> {
        let Self { cell, input_size, hidden_size: hidden, num_layers, dropout, bidirectional } = *self;
        check(input_size > 0, "RecurrentConfig.input_size", "at least 1", input_size)?;
        check(hidden > 0, "RecurrentConfig.hidden_size", "at least 1", hidden)?;
        check(num_layers > 0, "RecurrentConfig.num_layers", "at least 1", num_layers)?;
        check((0.0..1.0).contains(&dropout), "RecurrentConfig.dropout", "0 ≤ p < 1", dropout)?;
        check_sizes("RecurrentConfig", ("input_size", input_size), hidden, num_layers)?;
        let directions = if bidirectional { 2 } else { 1 };
        let (within, rows) = (uniform(hidden), firebox_kernels::recurrent::Cell::from(cell).gates() * hidden);
        let direction = |input| Direction {
            weight_ih: within.init([rows, input], device),
            weight_hh: within.init([rows, hidden], device),
            bias_ih: within.init([rows], device),
            bias_hh: within.init([rows], device),
        };
        let layer = |layer| {
            let input = if layer == 0 { input_size } else { directions * hidden };
            (0..directions).map(|_| direction(input)).collect()
        };
        Ok(Recurrent {
            layers: (0..num_layers).map(layer).collect(),
            dropout: DropoutConfig::new(dropout).init(),
            cell,
            hidden_size: hidden,
        })
    }
}

/// Checks that layers of these sizes fit into memory, whatever their cell and directions.
///
/// The config calls the features of the input as it likes.
pub(crate) fn check_sizes(
    config: &str,
    input_size: (&str, usize),
    hidden_size: usize,
    num_layers: usize,
) -> Result<(), Error> {
    let hidden = ("hidden_size", hidden_size);
    check_product(config, 4 * 2, &[input_size, hidden])?;
    check_product(config, 4 * 2 * 2, &[hidden, hidden, ("num_layers", num_layers)])
}

impl Recurrent {
    pub(crate) fn input_size(&self) -> usize {
        self.layers[0][0].weight_ih.dims()[1]
    }

    pub(crate) fn directions(&self) -> usize {
        self.layers[0].len()
    }

    /// The shape of a state of `batch` sequences: `[num_layers · directions, batch, hidden]`.
    pub fn state_dims(&self, batch: usize) -> [usize; 3] {
        [self.layers.len() * self.directions(), batch, self.hidden_size]
    }

    /// The whole sequence to the last layer's outputs, and the state after each last step.
    ///
    /// Input is `[batch, time, input_size]`, outputs are `[batch, time, directions · hidden]`.
    ///
    /// Without a `state` it begins with zeros. With `lengths` `[batch]` each sequence ends there, and its
    /// backward direction begins there, as with PyTorch's `pack_padded_sequence`; after its end the output is
    /// zero. A sequence of length 0 leaves its state as it is, and one that is said to be longer than the
    /// batch ends with it.
    ///
    /// # Panics
    /// If shapes don't fit.
    pub fn forward(
        &self,
        input: Tensor<3>,
        lengths: Option<Tensor<1, Int>>,
        state: Option<RecurrentState>,
    ) -> (Tensor<3>, RecurrentState) {
        fitting(self.check_input(&input, lengths.as_ref(), state.as_ref()));
        let [batch, time, _] = input.dims();
        let shape = self.state_dims(batch);
        let [parts, ..] = shape;
        let state = state.unwrap_or_else(|| {
            let hidden = Tensor::zeros(shape, (&input.device(), input.dtype()));
            RecurrentState { hidden, cell: None }
        });
        let cell = (self.cell == Cell::Lstm).then(|| state.cell.unwrap_or_else(|| state.hidden.zeros_like()));
        let state = RecurrentState { hidden: state.hidden, cell };
        if time == 0 {
            let features = self.directions() * self.hidden_size;
            return (Tensor::zeros([batch, 0, features], (&input.device(), input.dtype())), state);
        }
        let mut sequence = Sequence::Whole(input);
        let (mut hidden, mut cells) = (Vec::with_capacity(parts), Vec::with_capacity(parts));
        for (number, layer) in self.layers.iter().enumerate() {
            if number > 0 {
                sequence = self.drop(sequence);
            }
            let mut outputs: Option<Sequence> = None;
            for (backward, direction) in layer.iter().enumerate() {
                let part = hidden.len();
                let first = CellState {
                    hidden: take(&state.hidden, part),
                    cell: state.cell.as_ref().map(|cell| take(cell, part)),
                };
                let (input, lengths, weights) = (sequence.clone(), lengths.clone(), direction.values());
                let (output, last) =
                    recurrent(self.cell.into(), input, weights, first, lengths, backward == 1);
                outputs = Some(match outputs {
                    None => output,
                    Some(forward) => forward.beside(output),
                });
                hidden.push(last.hidden);
                cells.extend(last.cell);
            }
            sequence = outputs.unwrap_or(sequence);
        }
        if batch == 0 {
            // For Burn a size of 0 in a reshape, as stacking is one, is that which the tensor has there.
            return (sequence.whole(), state);
        }
        let cell = (!cells.is_empty()).then(|| Tensor::stack(cells, 0));
        (sequence.whole(), RecurrentState { hidden: Tensor::stack(hidden, 0), cell })
    }

    /// Looks whether an input, lengths and a state have shapes that fit, without computing anything.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) says what it wants and what came.
    pub fn check_input(
        &self,
        input: &Tensor<3>,
        lengths: Option<&Tensor<1, Int>>,
        state: Option<&RecurrentState>,
    ) -> Result<(), Error> {
        const LAYER: &str = "Recurrent";
        let ([batch, time, features], expected) = (input.dims(), self.input_size());
        if features != expected {
            let got = format!("{:?}", [batch, time, features]);
            return Err(input_error(LAYER, format!("[batch, time, {expected}]"), got));
        }
        if let Some(lengths) = lengths {
            check_shape(LAYER, "lengths", &lengths.dims(), &[batch])?;
        }
        self.check_state(LAYER, batch, state)
    }

    /// The same for a block's layer, which is called `place` there.
    pub(crate) fn check_in(
        &self,
        place: &str,
        input: &Tensor<3>,
        lengths: Option<&Tensor<1, Int>>,
        state: Option<&RecurrentState>,
    ) -> Result<(), Error> {
        self.check_input(input, lengths, state).map_err(|error| error.in_layer(place))
    }

    /// The same for the state of `batch` sequences.
    pub(crate) fn check_state(
        &self,
        layer: &str,
        batch: usize,
        state: Option<&RecurrentState>,
    ) -> Result<(), Error> {
        let Some(RecurrentState { hidden, cell }) = state else { return Ok(()) };
        let shape = self.state_dims(batch);
        check_shape(layer, "a state", &hidden.dims(), &shape)?;
        match cell {
            // Other cells don't look at it.
            Some(cell) if self.cell == Cell::Lstm => check_shape(layer, "a cell", &cell.dims(), &shape),
            _ => Ok(()),
        }
    }

    /// Drops features of what goes from one layer to the next.
    fn drop(&self, sequence: Sequence) -> Sequence {
        let (device, dtype) = sequence.options();
        if self.dropout.prob == 0.0 || !device.is_autodiff() {
            return sequence;
        }
        // What is drawn does not depend on whether the steps are apart.
        let ones = Tensor::<3>::ones(sequence.dims(), (&device, dtype));
        sequence.scale(self.dropout.forward(ones))
    }
}

fn take(states: &Tensor<3>, part: usize) -> Tensor<2> {
    states.clone().narrow(0, part, 1).squeeze_dim(0)
}
