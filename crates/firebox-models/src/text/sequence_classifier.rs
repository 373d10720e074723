//! Classes for sequences.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, check, check_product, fitting};
use crate::forward::Forward;
use crate::layers::embedding::{Embedding, EmbeddingConfig, check_fields};
use crate::layers::linear::{Linear, LinearConfig};
use crate::layers::recurrent::cell::Cell;
use crate::layers::recurrent::layer::{Recurrent, RecurrentConfig, check_sizes};
use crate::shape::check_lengths;

/// Settings of [`SequenceClassifier`].
///
/// ```
/// use firebox_models::layers::Cell;
/// use firebox_models::text::SequenceClassifierConfig;
///
/// let config = SequenceClassifierConfig::new(2, 1000, 64, 128).with_cell(Cell::Gru).with_padding_idx(1);
/// assert_eq!((config.classes, config.vocab_size, config.padding_idx), (2, 1000, 1));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SequenceClassifierConfig {
    /// The number of classes; at least 1.
    pub classes: usize,
    /// The number of tokens; at least 1.
    #[serde(alias = "tokens")]
    pub vocab_size: usize,
    /// Features of a token's vector; at least 1.
    #[serde(alias = "embedding")]
    pub embedding_dim: usize,
    /// Features of each direction's state; at least 1.
    #[serde(alias = "hidden")]
    pub hidden_size: usize,
    /// The recurrent layers' cell.
    pub cell: Cell,
    /// Recurrent layers on top of each other; at least 1.
    pub num_layers: usize,
    /// The share of features dropped in training; from 0, below 1.
    ///
    /// They are dropped after the embedding, between layers and before the last map.
    pub dropout: f64,
    /// True if the text is also read backwards.
    pub bidirectional: bool,
    /// The token that fills short sequences up.
    #[serde(alias = "padding")]
    pub padding_idx: usize,
}

config! {
    SequenceClassifierConfig {
        classes: usize, vocab_size: usize, embedding_dim: usize, hidden_size: usize
        ;
        cell: Cell = Cell::Lstm, with_cell;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
        bidirectional: bool = true, with_bidirectional;
        padding_idx: usize = 0, with_padding_idx;
    }
}

/// Embedding → recurrent layers → a map of the last state to the classes.
///
/// The state is the last layer's, both directions side by side.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::text::SequenceClassifierConfig;
///
/// let device = Device::default();
/// let model = SequenceClassifierConfig::new(2, 9, 4, 6).init(&device)?;
/// let tokens = Tensor::<2, Int>::from_data([[3, 4, 5], [6, 0, 0]], &device);
/// let lengths = Tensor::<1, Int>::from_data([3, 1], &device);
/// assert_eq!(model.forward((tokens, lengths)).dims(), [2, 2]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// State: `embedding.weight`, `rnn.…` as in [`Recurrent`], `fc.weight` `[classes, directions·hidden]`,
/// `fc.bias`.
#[derive(Module, Debug)]
pub struct SequenceClassifier {
    /// The tokens' vectors.
    pub embedding: Embedding,
    /// The recurrent layers.
    pub rnn: Recurrent,
    /// State to logits.
    pub fc: Linear,
    dropout: Dropout,
}

impl SequenceClassifierConfig {
    /// The model with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<SequenceClassifier, Error> {
        let Self { vocab_size: tokens, embedding_dim: embedding, hidden_size: hidden, .. } = *self;
        let Self { classes, cell, num_layers, dropout, bidirectional, padding_idx: padding, .. } = *self;
        const NAME: &str = "SequenceClassifierConfig";
        check(classes > 0, "SequenceClassifierConfig.classes", "at least 1", classes)?;
        check_fields(NAME, tokens, embedding, padding)?;
        check_product(NAME, 2, &[("classes", classes), ("hidden_size", hidden)])?;
        check_sizes(NAME, ("embedding_dim", embedding), hidden, num_layers)?;
        let rnn = RecurrentConfig {
            cell,
            input_size: embedding,
            hidden_size: hidden,
            num_layers,
            dropout,
            bidirectional,
        };
        let rnn = rnn.init(device).map_err(|error| error.in_config("RecurrentConfig", NAME))?;
        Ok(SequenceClassifier {
            embedding: EmbeddingConfig::new(tokens, embedding)
                .with_padding_idx(Some(padding))
                .init(device)?,
            fc: LinearConfig::new(rnn.directions() * hidden, classes).init(device)?,
            rnn,
            dropout: DropoutConfig::new(dropout).init(),
        })
    }
}

impl<S: Clone + Into<(Tensor<2, Int>, Tensor<1, Int>)>> Forward<S> for SequenceClassifier {
    type Output = Tensor<2>;

    /// Tokens and the lengths of the sequences, or what stands for them, to logits.
    ///
    /// `[batch, time]` and `[batch]` to `[batch, classes]`.
    fn forward(&self, sequences: S) -> Tensor<2> {
        fitting(self.check_input(&sequences));
        let (tokens, lengths) = sequences.into();
        let vectors = self.dropout.forward(self.embedding.forward(tokens));
        let (_, state) = self.rnn.forward(vectors, Some(lengths), None);
        let ([parts, ..], directions) = (state.hidden.dims(), self.rnn.directions());
        let last = state.hidden.narrow(0, parts - directions, directions).swap_dims(0, 1).flatten(1, 2);
        self.fc.forward(self.dropout.forward(last))
    }

    fn check_input(&self, sequences: &S) -> Result<(), Error> {
        let (tokens, lengths) = sequences.clone().into();
        check_lengths("SequenceClassifier", &tokens, &lengths)
    }

    fn check_tokens(&self, sequences: &S) -> Result<(), Error> {
        let (tokens, _) = sequences.clone().into();
        let known = self.embedding.check_tokens(&tokens);
        known.map_err(|error| error.in_layer("SequenceClassifier.embedding"))
    }
}
