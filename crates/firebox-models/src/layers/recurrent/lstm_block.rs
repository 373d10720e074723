//! Long short-term memory.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, fitting};
use crate::layers::recurrent::cell::Cell;
use crate::layers::recurrent::layer::{Recurrent, RecurrentConfig, RecurrentState};

/// The state of an [`LstmBlock`] between two steps: `[num_layers · directions, batch, hidden]` each.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::LstmBlockConfig;
///
/// let device = Device::default();
/// let block = LstmBlockConfig::new(3, 8).init(&device)?;
/// let step = || Tensor::<3>::ones([2, 1, 3], &device);
/// // One step after the other, each from where the one before has ended.
/// let (_, state) = block.forward(step(), None, None);
/// let (outputs, state) = block.forward(step(), None, Some(state));
/// assert_eq!((outputs.dims(), state.cell.dims()), ([2, 1, 8], [1, 2, 8]));
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LstmState {
    /// h, which is also the output.
    pub hidden: Tensor<3>,
    /// c.
    pub cell: Tensor<3>,
}

/// Settings of [`LstmBlock`].
///
/// ```
/// use firebox_models::layers::LstmBlockConfig;
///
/// let config = LstmBlockConfig::new(32, 64).with_num_layers(2).with_dropout(0.1).with_bidirectional(true);
/// assert_eq!((config.input_size, config.hidden_size, config.num_layers), (32, 64, 2));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LstmBlockConfig {
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
    LstmBlockConfig {
        input_size: usize, hidden_size: usize
        ;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
        bidirectional: bool = false, with_bidirectional;
    }
}

/// Long short-term memory (Hochreiter, Schmidhuber 1997), `torch.nn.LSTM` with `batch_first=True`.
///
/// Its gates are i, f, g, o.
///
/// State: `rnn.weight_ih_l0`, `rnn.weight_hh_l0`, `rnn.bias_ih_l0`, `rnn.bias_hh_l0` and so on: see
/// [`Recurrent`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::LstmBlockConfig;
///
/// let device = Device::default();
/// let block = LstmBlockConfig::new(3, 8).with_num_layers(2).with_bidirectional(true).init(&device)?;
/// let (outputs, state) = block.forward(Tensor::zeros([4, 5, 3], &device), None, None);
/// assert_eq!((outputs.dims(), state.hidden.dims()), ([4, 5, 16], [4, 4, 8]));
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct LstmBlock {
    /// The layers.
    pub rnn: Recurrent,
}

impl LstmBlockConfig {
    /// The block with PyTorch's initialization: everything uniform within ±1/√hidden.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<LstmBlock, Error> {
        let rnn = RecurrentConfig {
            cell: Cell::Lstm,
            input_size: self.input_size,
            hidden_size: self.hidden_size,
            num_layers: self.num_layers,
            dropout: self.dropout,
            bidirectional: self.bidirectional,
        };
        Ok(LstmBlock {
            rnn: rnn.init(device).map_err(|error| error.in_config("RecurrentConfig", "LstmBlockConfig"))?,
        })
    }
}

impl LstmBlock {
    /// Input `[batch, time, input_size]` to outputs `[batch, time, directions · hidden]` and the last state.
    ///
    /// Without a `state` it begins with zeros. With `lengths` `[batch]` each sequence ends there, its
    /// backward direction begins there, and its outputs after it are zero, as with PyTorch's
    /// `pack_padded_sequence`.
    ///
    /// # Panics
    /// If shapes don't fit.
    pub fn forward(
        &self,
        input: Tensor<3>,
        lengths: Option<Tensor<1, Int>>,
        state: Option<LstmState>,
    ) -> (Tensor<3>, LstmState) {
        let state = state.map(|LstmState { hidden, cell }| RecurrentState { hidden, cell: Some(cell) });
        fitting(self.rnn.check_in("LstmBlock.rnn", &input, lengths.as_ref(), state.as_ref()));
        let (outputs, RecurrentState { hidden, cell }) = self.rnn.forward(input, lengths, state);
        // An LSTM's state always has a cell.
        let cell = cell.unwrap_or_else(|| hidden.zeros_like());
        (outputs, LstmState { hidden, cell })
    }

    /// Looks whether shapes fit: [`Recurrent::check_input`].
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) says what it wants and what came.
    pub fn check_input(
        &self,
        input: &Tensor<3>,
        lengths: Option<&Tensor<1, Int>>,
        state: Option<&LstmState>,
    ) -> Result<(), Error> {
        let state = state.map(|LstmState { hidden, cell }| RecurrentState {
            hidden: hidden.clone(),
            cell: Some(cell.clone()),
        });
        self.rnn.check_in("LstmBlock.rnn", input, lengths, state.as_ref())
    }
}
