//! The writing half of a sequence-to-sequence model.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Bool, Device, Int, Tensor};
use firebox_kernels::attentive_lstm::{Attended, attentive_lstm};
use firebox_kernels::recurrent::CellState;
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, check_product, fitting};
use crate::forward::Forward;
use crate::layers::attention::attention_block::{AttentionBlock, AttentionBlockConfig};
use crate::layers::embedding::{Embedding, EmbeddingConfig, check_fields};
use crate::layers::linear::{Linear, LinearConfig};
use crate::layers::recurrent::cell::Cell;
use crate::layers::recurrent::layer::{Recurrent, RecurrentConfig, RecurrentState, check_sizes};
use crate::shape::check_shape;
use crate::text::encoder::Encoded;

/// Settings of [`Decoder`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// The number of tokens; at least 1.
    #[serde(alias = "tokens")]
    pub vocab_size: usize,
    /// Features of a token's vector; at least 1.
    #[serde(alias = "embedding")]
    pub embedding_dim: usize,
    /// Features of the encoder's outputs and of the state; at least 1.
    #[serde(alias = "hidden")]
    pub hidden_size: usize,
    /// Layers of the LSTM, as many as the encoder's; at least 1.
    pub num_layers: usize,
    /// The share of features dropped in training; from 0, below 1.
    ///
    /// They are dropped after the embedding, between layers and before the last map.
    pub dropout: f64,
    /// The token that fills short sequences up.
    #[serde(alias = "padding")]
    pub padding_idx: usize,
}

config! {
    DecoderConfig {
        vocab_size: usize, embedding_dim: usize, hidden_size: usize
        ;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
        padding_idx: usize = 0, with_padding_idx;
    }
}

/// An LSTM with attention that writes token by token (Bahdanau, Cho, Bengio 2015).
///
/// At each step it reads the token before, and what it attends to in the encoder's outputs; its output and
/// the context give the next token.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_models::text::{DecoderConfig, EncoderConfig};
///
/// let device = Device::default();
/// let encoder = EncoderConfig::new(9, 4, 6).init(&device)?;
/// let decoder = DecoderConfig::new(7, 4, 6).init(&device)?;
/// let tokens = Tensor::<2, Int>::from_data([[3, 4, 5], [6, 0, 0]], &device);
/// let encoded = encoder.forward((tokens, Tensor::from_data([3, 1], &device)));
/// let mut decoding = decoder.begin(encoded);
/// let (logits, weights) = decoding.step(Tensor::from_data([1, 1], &device));
/// assert_eq!((logits.dims(), weights.dims()), ([2, 7], [2, 3]));
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// State: `embedding.weight`, `attention.…` as in [`AttentionBlock`], `rnn.…` as in [`Recurrent`],
/// `fc.weight` `[tokens, 2·hidden]`, `fc.bias`.
#[derive(Module, Debug)]
pub struct Decoder {
    /// The tokens' vectors.
    pub embedding: Embedding,
    /// The attention over the encoder's outputs.
    pub attention: AttentionBlock,
    /// The LSTM over a token's vector and the context.
    pub rnn: Recurrent,
    /// Output and context to logits.
    pub fc: Linear,
    dropout: Dropout,
}

impl DecoderConfig {
    /// The decoder with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Decoder, Error> {
        let Self { vocab_size: tokens, embedding_dim: embedding, hidden_size: hidden, .. } = *self;
        let Self { num_layers, dropout, padding_idx: padding, .. } = *self;
        check_fields("DecoderConfig", tokens, embedding, padding)?;
        check_product("DecoderConfig", 2, &[("vocab_size", tokens), ("hidden_size", hidden)])?;
        check_sizes("DecoderConfig", ("embedding_dim", embedding), hidden, num_layers)?;
        let ours = |made| move |error: Error| error.in_config(made, "DecoderConfig");
        Ok(Decoder {
            embedding: EmbeddingConfig::new(tokens, embedding)
                .with_padding_idx(Some(padding))
                .init(device)?,
            attention: AttentionBlockConfig::new(hidden)
                .init(device)
                .map_err(ours("AttentionBlockConfig"))?,
            rnn: RecurrentConfig::new(Cell::Lstm, embedding + hidden, hidden)
                .with_num_layers(num_layers)
                .with_dropout(dropout)
                .init(device)
                .map_err(ours("RecurrentConfig"))?,
            fc: LinearConfig::new(2 * hidden, tokens).init(device)?,
            dropout: DropoutConfig::new(dropout).init(),
        })
    }
}

/// A [`Decoder`] at work on one batch: what it attends to, and its state.
///
/// The decoder's page shows it.
#[derive(Clone, Debug)]
pub struct Decoding<'d> {
    decoder: &'d Decoder,
    outputs: Tensor<3>,
    /// W·outputs, the same at all steps.
    mapped: Tensor<3>,
    mask: Tensor<2, Bool>,
    state: RecurrentState,
}

impl Decoder {
    /// Begins to write about what an encoder has read, with its last state.
    ///
    /// # Panics
    /// If shapes don't fit.
    pub fn begin(&self, encoded: Encoded) -> Decoding<'_> {
        fitting(self.check_encoded(&encoded));
        let mapped = self.attention.W.forward(encoded.outputs.clone());
        let Encoded { outputs, state, mask } = encoded;
        Decoding { decoder: self, outputs, mapped, mask, state }
    }
}

impl Decoder {
    /// Looks whether what an encoder has read fits, without computing anything.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) says what it wants and what came.
    pub fn check_encoded(&self, Encoded { outputs, state, mask }: &Encoded) -> Result<(), Error> {
        const LAYER: &str = "Decoder";
        let ([batch, time, _], [_, hidden]) = (outputs.dims(), self.attention.W.sizes());
        check_shape(LAYER, "an encoder's outputs", &outputs.dims(), &[batch, time, hidden])?;
        check_shape(LAYER, "a mask", &mask.dims(), &[batch, time])?;
        self.rnn.check_state(LAYER, batch, Some(state))
    }
}

impl Decoding<'_> {
    /// Fails unless there is a token for each row of the batch.
    fn check_rows(&self, tokens: &[usize]) -> Result<(), Error> {
        let ([batch, ..], mut expected) = (self.outputs.dims(), tokens.to_vec());
        expected[0] = batch;
        check_shape("Decoder", "tokens", tokens, &expected)
    }

    pub(crate) fn device(&self) -> Device {
        self.outputs.device()
    }

    /// One step: the tokens before to the logits of the next, and the attention's weights.
    ///
    /// `[batch]` to `[batch, tokens]` and `[batch, time]`.
    ///
    /// # Panics
    /// If there is not a token for each row.
    pub fn step(&mut self, tokens: Tensor<1, Int>) -> (Tensor<2>, Tensor<2>) {
        fitting(self.check_rows(&tokens.dims()));
        let (output, context, weights) = self.advance(tokens);
        let logits = self.logits(Tensor::cat(vec![output, context], 2));
        (logits.squeeze_dim(1), weights.squeeze_dim(2))
    }

    /// All remaining steps at once: the tokens before each to the logits of the next.
    ///
    /// `[batch, steps]` to `[batch, steps, tokens]`. With one layer this is one operation; what no step waits
    /// for, the last map, is in any case that of all steps at once.
    ///
    /// # Panics
    /// If there is no step, or not a token for each row.
    pub fn steps(mut self, tokens: Tensor<2, Int>) -> Tensor<3> {
        fitting(self.check_rows(&tokens.dims()));
        assert!(tokens.dims()[1] > 0, "Decoder: expected at least one step, got none");
        let Decoder { embedding, attention, rnn, dropout, .. } = self.decoder;
        let [layers, ..] = self.state.hidden.dims();
        if layers == 1 {
            let vectors = dropout.forward(embedding.forward(tokens));
            let attended = Attended {
                mapped: self.mapped.clone(),
                encoder: self.outputs.clone(),
                v: attention.V.weight.val(),
                bias: attention.V.bias.as_ref().map(Param::val),
                mask: Some(self.mask.clone()),
            };
            let state = self.state.clone();
            let first = CellState {
                hidden: state.hidden.squeeze_dim(0),
                cell: state.cell.map(|cell| cell.squeeze_dim(0)),
            };
            return self.logits(attentive_lstm(vectors, attended, rnn.layers[0][0].values(), first));
        }
        let [_, steps] = tokens.dims();
        let both = (0..steps).map(|step| {
            let (output, context, _) = self.advance(tokens.clone().narrow(1, step, 1).squeeze_dim(1));
            Tensor::cat(vec![output, context], 2)
        });
        let both = Tensor::cat(both.collect(), 1);
        self.logits(both)
    }

    /// One step of the state: the LSTM's output, the context, and the attention's weights.
    ///
    /// The tokens before are `[batch]`, output and context `[batch, 1, hidden]`, the weights `[batch, time,
    /// 1]`.
    fn advance(&mut self, tokens: Tensor<1, Int>) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
        let Decoder { embedding, attention, rnn, dropout, .. } = self.decoder;
        let vectors = dropout.forward(embedding.forward(tokens.unsqueeze_dim(1)));
        let [layers, ..] = self.state.hidden.dims();
        // The last layer's state asks.
        let query = self.state.hidden.clone().narrow(0, layers - 1, 1).swap_dims(0, 1);
        let (outputs, mapped) = (self.outputs.clone(), self.mapped.clone());
        let (context, weights) = attention.attend(outputs, mapped, query, Some(self.mask.clone()));
        let input = Tensor::cat(vec![vectors, context.clone()], 2);
        let (output, state) = rnn.forward(input, None, Some(self.state.clone()));
        self.state = state;
        (output, context, weights)
    }

    /// Output and context `[batch, steps, 2·hidden]` to logits.
    fn logits(&self, both: Tensor<3>) -> Tensor<3> {
        self.decoder.fc.forward(self.decoder.dropout.forward(both))
    }

    /// Goes on with these rows of the batch, in this order: `[new batch]`.
    ///
    /// A row may come several times.
    pub fn select(&mut self, rows: Tensor<1, Int>) {
        let Self { outputs, mapped, mask, state, .. } = self;
        *outputs = outputs.clone().select(0, rows.clone());
        *mapped = mapped.clone().select(0, rows.clone());
        *mask = mask.clone().select(0, rows.clone());
        state.hidden = state.hidden.clone().select(1, rows.clone());
        state.cell = state.cell.clone().map(|cell| cell.select(1, rows));
    }
}
