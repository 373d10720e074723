//! Elman's recurrent layers.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use crate::config::config;
use crate::error::{Error, OfPart, fitting};
use crate::layers::recurrent::cell::Cell;
use crate::layers::recurrent::layer::{Recurrent, RecurrentConfig, RecurrentState};
use serde::{Deserialize, Serialize};

/// The function that an [`RnnBlock`] applies to its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nonlinearity {
    /// The hyperbolic tangent.
    Tanh,
    /// max(0, x).
    Relu,
}

/// Settings of [`RnnBlock`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RnnBlockConfig {
    /// Features of the input; at least 1.
    #[serde(alias = "features_in")]
    pub input_size: usize,
    /// Features of the state; at least 1.
    #[serde(alias = "hidden")]
    pub hidden_size: usize,
    /// The function that is applied to the sum of both maps.
    pub nonlinearity: Nonlinearity,
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
    RnnBlockConfig {
        input_size: usize, hidden_size: usize
        ;
        nonlinearity: Nonlinearity = Nonlinearity::Tanh, with_nonlinearity;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
        bidirectional: bool = false, with_bidirectional;
    }
}

/// Elman's recurrent layers (1990), `torch.nn.RNN` with `batch_first=True`.
///
/// h' = tanh(W·x + b + U·h + c), or ReLU in its place.
///
/// State: `rnn.weight_ih_l0`, `rnn.weight_hh_l0`, `rnn.bias_ih_l0`, `rnn.bias_hh_l0` and so on: see
/// [`Recurrent`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::RnnBlockConfig;
///
/// let device = Device::default();
/// let block = RnnBlockConfig::new(3, 8).with_num_layers(2).with_bidirectional(true).init(&device)?;
/// let (outputs, state) = block.forward(Tensor::zeros([4, 5, 3], &device), None, None);
/// assert_eq!((outputs.dims(), state.dims()), ([4, 5, 16], [4, 4, 8]));
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct RnnBlock {
    /// The layers.
    pub rnn: Recurrent,
}

impl RnnBlockConfig {
    /// The block with PyTorch's initialization: everything uniform within ±1/√hidden.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<RnnBlock, Error> {
        let rnn = RecurrentConfig {
            cell: match self.nonlinearity {
                Nonlinearity::Tanh => Cell::Tanh,
                Nonlinearity::Relu => Cell::Relu,
            },
            input_size: self.input_size,
            hidden_size: self.hidden_size,
            num_layers: self.num_layers,
            dropout: self.dropout,
            bidirectional: self.bidirectional,
        };
        Ok(RnnBlock {
            rnn: rnn.init(device).map_err(|error| error.in_config("RecurrentConfig", "RnnBlockConfig"))?,
        })
    }
}

impl RnnBlock {
    /// Input `[batch, time, input_size]` to outputs and the last state.
    ///
    /// Outputs are `[batch, time, directions · hidden]`, the state is `[num_layers · directions, batch,
    /// hidden]`.
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
        state: Option<Tensor<3>>,
    ) -> (Tensor<3>, Tensor<3>) {
        let state = state.map(|hidden| RecurrentState { hidden, cell: None });
        fitting(self.rnn.check_in("RnnBlock.rnn", &input, lengths.as_ref(), state.as_ref()));
        let (outputs, state) = self.rnn.forward(input, lengths, state);
        (outputs, state.hidden)
    }

    /// Looks whether shapes fit: [`Recurrent::check_input`].
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) says what it wants and what came.
    pub fn check_input(
        &self,
        input: &Tensor<3>,
        lengths: Option<&Tensor<1, Int>>,
        state: Option<&Tensor<3>>,
    ) -> Result<(), Error> {
        let state = state.map(|hidden| RecurrentState { hidden: hidden.clone(), cell: None });
        self.rnn.check_in("RnnBlock.rnn", input, lengths, state.as_ref())
    }
}
