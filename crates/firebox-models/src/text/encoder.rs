//! The reading half of a sequence-to-sequence model.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Bool, Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, check};
use crate::layers::embedding::{Embedding, EmbeddingConfig, check_fields};
use crate::layers::mask::sequence_mask;
use crate::layers::recurrent::cell::Cell;
use crate::layers::recurrent::layer::{Recurrent, RecurrentConfig, RecurrentState, check_sizes};
use crate::shape::sequences;

/// Settings of [`Encoder`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EncoderConfig {
    /// The number of tokens; at least 1.
    #[serde(alias = "tokens")]
    pub vocab_size: usize,
    /// Features of a token's vector; at least 1.
    #[serde(alias = "embedding")]
    pub embedding_dim: usize,
    /// Features of an output; at least 1.
    ///
    /// If `bidirectional` they are even, for each direction has half of them.
    #[serde(alias = "hidden")]
    pub hidden_size: usize,
    /// Layers of the LSTM; at least 1.
    pub num_layers: usize,
    /// The share of features dropped in training; from 0, below 1.
    ///
    /// They are dropped after the embedding and between layers.
    pub dropout: f64,
    /// True if the text is also read backwards.
    pub bidirectional: bool,
    /// The token that fills short sequences up.
    #[serde(alias = "padding")]
    pub padding_idx: usize,
}

config! {
    EncoderConfig {
        vocab_size: usize, embedding_dim: usize, hidden_size: usize
        ;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
        bidirectional: bool = true, with_bidirectional;
        padding_idx: usize = 0, with_padding_idx;
    }
}

/// An embedding and an LSTM that read a text; [`Decoder`](crate::text::Decoder) shows them at work.
///
/// State: `embedding.weight`, `rnn.…` as in [`Recurrent`].
#[derive(Module, Debug)]
pub struct Encoder {
    /// The tokens' vectors.
    pub embedding: Embedding,
    /// The LSTM.
    pub rnn: Recurrent,
    dropout: Dropout,
}

/// The outputs and the last state of an [`Encoder`].
#[derive(Clone, Debug)]
pub struct Encoded {
    /// `[batch, time, hidden]`, zero after the end of a sequence.
    pub outputs: Tensor<3>,
    /// The LSTM's last state, the directions side by side: `[num_layers, batch, hidden]`.
    pub state: RecurrentState,
    /// The places that hold a token, `[batch, time]`.
    pub mask: Tensor<2, Bool>,
}

impl EncoderConfig {
    /// The encoder with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Encoder, Error> {
        check_fields("EncoderConfig", self.vocab_size, self.embedding_dim, self.padding_idx)?;
        let directions = if self.bidirectional { 2 } else { 1 };
        let even = self.hidden_size > 0 && self.hidden_size.is_multiple_of(directions);
        let allowed = if self.bidirectional { "an even number above 0" } else { "at least 1" };
        check(even, "EncoderConfig.hidden_size", allowed, self.hidden_size)?;
        check_sizes(
            "EncoderConfig",
            ("embedding_dim", self.embedding_dim),
            self.hidden_size,
            self.num_layers,
        )?;
        let embedding = EmbeddingConfig::new(self.vocab_size, self.embedding_dim)
            .with_padding_idx(Some(self.padding_idx));
        let rnn = RecurrentConfig::new(Cell::Lstm, self.embedding_dim, self.hidden_size / directions)
            .with_num_layers(self.num_layers)
            .with_dropout(self.dropout)
            .with_bidirectional(self.bidirectional);
        Ok(Encoder {
            embedding: embedding.init(device)?,
            rnn: rnn.init(device).map_err(|error| error.in_config("RecurrentConfig", "EncoderConfig"))?,
            dropout: DropoutConfig::new(self.dropout).init(),
        })
    }
}

impl Encoder {
    /// Tokens and the lengths of the sequences to what the decoder needs.
    ///
    /// They are `[batch, time]` and `[batch]`, or what stands for both.
    ///
    /// # Panics
    /// If shapes don't fit.
    pub fn forward(&self, source: impl Into<(Tensor<2, Int>, Tensor<1, Int>)>) -> Encoded {
        let (tokens, lengths) = sequences("Encoder", source);
        let [batch, time] = tokens.dims();
        let mask = sequence_mask(lengths.clone(), time);
        let vectors = self.dropout.forward(self.embedding.forward(tokens));
        let (outputs, state) = self.rnn.forward(vectors, Some(lengths), None);
        let directions = self.rnn.directions();
        let join = |state: Tensor<3>| {
            let [parts, _, hidden] = state.dims();
            let layers = parts / directions;
            if batch == 0 {
                // For Burn a size of 0 in a reshape is that which the tensor has there.
                return Tensor::zeros([layers, 0, directions * hidden], (&state.device(), state.dtype()));
            }
            let state = state.reshape([layers, directions, batch, hidden]).swap_dims(1, 2);
            state.reshape([layers, batch, directions * hidden])
        };
        let state = RecurrentState { hidden: join(state.hidden), cell: state.cell.map(join) };
        Encoded { outputs, state, mask }
    }
}
