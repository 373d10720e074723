//! Gated recurrent units.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, fitting};
use crate::layers::recurrent::cell::Cell;
use crate::layers::recurrent::layer::{Recurrent, RecurrentConfig, RecurrentState};

/// Settings of [`GruBlock`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GruBlockConfig {
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
    GruBlockConfig {
        input_size: usize, hidden_size: usize
        ;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
        bidirectional: bool = false, with_bidirectional;
    }
}

/// Gated recurrent units (Cho et al. 2014), `torch.nn.GRU` with `batch_first=True`.
///
/// The gates are r, z, n; the reset gate acts on U·h, as cuDNN has it.
///
/// State: `rnn.weight_ih_l0`, `rnn.weight_hh_l0`, `rnn.bias_ih_l0`, `rnn.bias_hh_l0` and so on: see
/// [`Recurrent`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::GruBlockConfig;
///
/// let device = Device::default();
/// let block = GruBlockConfig::new(3, 8).with_num_layers(2).with_bidirectional(true).init(&device)?;
/// let (outputs, state) = block.forward(Tensor::zeros([4, 5, 3], &device), None, None);
/// assert_eq!((outputs.dims(), state.dims()), ([4, 5, 16], [4, 4, 8]));
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Module, Debug)]
pub struct GruBlock {
    /// The layers.
    pub rnn: Recurrent,
}

impl GruBlockConfig {
    /// The block with PyTorch's initialization: everything uniform within ±1/√hidden.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<GruBlock, Error> {
        let rnn = RecurrentConfig {
            cell: Cell::Gru,
            input_size: self.input_size,
            hidden_size: self.hidden_size,
            num_layers: self.num_layers,
            dropout: self.dropout,
            bidirectional: self.bidirectional,
        };
        Ok(GruBlock {
            rnn: rnn.init(device).map_err(|error| error.in_config("RecurrentConfig", "GruBlockConfig"))?,
        })
    }
}

impl GruBlock {
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
        fitting(self.rnn.check_in("GruBlock.rnn", &input, lengths.as_ref(), state.as_ref()));
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
        self.rnn.check_in("GruBlock.rnn", input, lengths, state.as_ref())
    }
}
