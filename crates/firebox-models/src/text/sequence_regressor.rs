//! Numbers for sequences of numbers.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, check_product, fitting};
use crate::forward::Forward;
use crate::layers::linear::{Linear, LinearConfig};
use crate::layers::recurrent::cell::Cell;
use crate::layers::recurrent::layer::{Recurrent, RecurrentConfig, check_sizes};

/// Settings of [`SequenceRegressor`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SequenceRegressorConfig {
    /// Features of the input at each step; at least 1.
    #[serde(alias = "features_in")]
    pub input_size: usize,
    /// Features of the state; at least 1.
    #[serde(alias = "hidden")]
    pub hidden_size: usize,
    /// The numbers that are made of a sequence; at least 1.
    pub outputs: usize,
    /// The recurrent layers' cell.
    pub cell: Cell,
    /// Recurrent layers on top of each other; at least 1.
    pub num_layers: usize,
    /// The share of features dropped in training; from 0, below 1.
    ///
    /// They are dropped between layers and before the last map.
    pub dropout: f64,
}

config! {
    SequenceRegressorConfig {
        input_size: usize, hidden_size: usize, outputs: usize
        ;
        cell: Cell = Cell::Tanh, with_cell;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
    }
}

/// Recurrent layers → a map of the last state to some numbers.
///
/// It forecasts a series from its past:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::text::SequenceRegressorConfig;
///
/// let device = Device::default();
/// // 24 hours of 3 measurements, and one number that is to come.
/// let model = SequenceRegressorConfig::new(3, 16, 1).init(&device)?;
/// assert_eq!(model.forward(Tensor::zeros([5, 24, 3], &device)).dims(), [5, 1]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// With [`Cell::Tanh`] and [`Cell::Relu`] its layers are those of [`RnnBlock`](crate::layers::RnnBlock), with
/// the others those of [`LstmBlock`](crate::layers::LstmBlock) and [`GruBlock`](crate::layers::GruBlock).
///
/// State: `rnn.…` as in [`Recurrent`], `fc.weight` `[outputs, hidden]`, `fc.bias`.
#[derive(Module, Debug)]
pub struct SequenceRegressor {
    /// The recurrent layers.
    pub rnn: Recurrent,
    /// State to numbers.
    pub fc: Linear,
    dropout: Dropout,
}

impl SequenceRegressorConfig {
    /// The model with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<SequenceRegressor, Error> {
        const NAME: &str = "SequenceRegressorConfig";
        let Self { input_size, hidden_size: hidden, outputs, cell, num_layers, dropout } = *self;
        check_product(NAME, 1, &[("outputs", outputs), ("hidden_size", hidden)])?;
        check_sizes(NAME, ("input_size", input_size), hidden, num_layers)?;
        let rnn =
            RecurrentConfig::new(cell, input_size, hidden).with_num_layers(num_layers).with_dropout(dropout);
        Ok(SequenceRegressor {
            rnn: rnn.init(device).map_err(|error| error.in_config("RecurrentConfig", NAME))?,
            fc: LinearConfig::new(hidden, outputs)
                .init(device)
                .map_err(|error| error.in_config("LinearConfig.out_features", &format!("{NAME}.outputs")))?,
            dropout: DropoutConfig::new(dropout).init(),
        })
    }
}

impl Forward<Tensor<3>> for SequenceRegressor {
    type Output = Tensor<2>;

    /// Sequences `[batch, time, input_size]` of one length to numbers `[batch, outputs]`.
    fn forward(&self, sequences: Tensor<3>) -> Tensor<2> {
        fitting(self.check_input(&sequences));
        let (_, state) = self.rnn.forward(sequences, None, None);
        let [layers, ..] = state.hidden.dims();
        let last = state.hidden.narrow(0, layers - 1, 1).squeeze_dim(0);
        self.fc.forward(self.dropout.forward(last))
    }

    fn check_input(&self, sequences: &Tensor<3>) -> Result<(), Error> {
        let fits = self.rnn.check_input(sequences, None, None);
        fits.map_err(|error| error.in_layer("SequenceRegressor.rnn"))
    }
}
