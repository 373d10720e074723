//! A model of text, token by token.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::decoding::sampling::{Sampling, draw};
use crate::error::{Error, OfPart, check, check_product, fitting};
use crate::forward::Forward;
use crate::layers::embedding::{Embedding, EmbeddingConfig};
use crate::layers::linear::{Linear, LinearConfig};
use crate::layers::recurrent::cell::Cell;
use crate::layers::recurrent::layer::{Recurrent, RecurrentConfig, RecurrentState, check_sizes};

/// Settings of [`LanguageModel`].
///
/// ```
/// use firebox_models::layers::Cell;
/// use firebox_models::text::LanguageModelConfig;
///
/// let config = LanguageModelConfig::new(80, 64, 256).with_cell(Cell::Gru).with_num_layers(2);
/// assert_eq!((config.vocab_size, config.embedding_dim, config.hidden_size), (80, 64, 256));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LanguageModelConfig {
    /// The number of tokens; at least 1.
    #[serde(alias = "tokens")]
    pub vocab_size: usize,
    /// Features of a token's vector; at least 1.
    #[serde(alias = "embedding")]
    pub embedding_dim: usize,
    /// Features of the recurrent layers' state; at least 1.
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
}

config! {
    LanguageModelConfig {
        vocab_size: usize, embedding_dim: usize, hidden_size: usize
        ;
        cell: Cell = Cell::Lstm, with_cell;
        num_layers: usize = 1, with_num_layers;
        dropout: f64 = 0.0, with_dropout;
    }
}

/// Embedding → recurrent layers → a map to the next token's logits.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_models::text::LanguageModelConfig;
///
/// let device = Device::default();
/// let model = LanguageModelConfig::new(10, 4, 8).init(&device)?;
/// let text = Tensor::<2, Int>::from_data([[1, 2, 3], [4, 5, 6]], &device);
/// let (logits, state) = model.forward(text, None);
/// // The texts' continuation.
/// let (next, _) = model.forward(Tensor::from_data([[7], [8]], &device), Some(state));
/// assert_eq!((logits.dims(), next.dims()), ([2, 3, 10], [2, 1, 10]));
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// State: `embedding.weight`, `rnn.…` as in [`Recurrent`], `fc.weight` `[tokens, hidden]`, `fc.bias`.
#[derive(Module, Debug)]
pub struct LanguageModel {
    /// The tokens' vectors.
    pub embedding: Embedding,
    /// The recurrent layers.
    pub rnn: Recurrent,
    /// State to logits.
    pub fc: Linear,
    dropout: Dropout,
}

impl LanguageModelConfig {
    /// The model with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<LanguageModel, Error> {
        let Self { vocab_size: tokens, embedding_dim: embedding, hidden_size: hidden, .. } = *self;
        let Self { cell, num_layers, dropout, .. } = *self;
        const NAME: &str = "LanguageModelConfig";
        check(tokens > 0, "LanguageModelConfig.vocab_size", "at least 1", tokens)?;
        check(embedding > 0, "LanguageModelConfig.embedding_dim", "at least 1", embedding)?;
        check_product(NAME, 1, &[("vocab_size", tokens), ("embedding_dim", embedding)])?;
        check_product(NAME, 1, &[("vocab_size", tokens), ("hidden_size", hidden)])?;
        check_sizes(NAME, ("embedding_dim", embedding), hidden, num_layers)?;
        let rnn =
            RecurrentConfig::new(cell, embedding, hidden).with_num_layers(num_layers).with_dropout(dropout);
        Ok(LanguageModel {
            embedding: EmbeddingConfig::new(tokens, embedding).init(device)?,
            rnn: rnn.init(device).map_err(|error| error.in_config("RecurrentConfig", NAME))?,
            fc: LinearConfig::new(hidden, tokens).init(device)?,
            dropout: DropoutConfig::new(dropout).init(),
        })
    }
}

impl LanguageModel {
    /// Tokens to the logits of the token after each, and the state after the last.
    ///
    /// Tokens are `[batch, time]`, logits `[batch, time, tokens]`. Given back as `state` with the text's
    /// continuation, the model goes on where it stood; without, it begins with zeros.
    ///
    /// The rows are stretches of text without padding, of which the state would take note.
    ///
    /// # Panics
    /// If the state is of another batch or of another model.
    pub fn forward(
        &self,
        tokens: Tensor<2, Int>,
        state: Option<RecurrentState>,
    ) -> (Tensor<3>, RecurrentState) {
        fitting(self.check_input(&tokens, state.as_ref()));
        let vectors = self.dropout.forward(self.embedding.forward(tokens));
        let (outputs, state) = self.rnn.forward(vectors, None, state);
        (self.fc.forward(self.dropout.forward(outputs)), state)
    }

    /// Looks whether tokens `[batch, time]` and a state fit together, without computing anything.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) says what it wants and what came.
    pub fn check_input(&self, tokens: &Tensor<2, Int>, state: Option<&RecurrentState>) -> Result<(), Error> {
        let [batch, _] = tokens.dims();
        self.rnn.check_state("LanguageModel.rnn", batch, state)
    }

    /// Looks whether all tokens are in the vocabulary: [`Embedding::check_tokens`], which reads them once.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) names the first token that is not, and its place.
    pub fn check_tokens(&self, tokens: &Tensor<2, Int>) -> Result<(), Error> {
        let known = self.embedding.check_tokens(tokens);
        known.map_err(|error| error.in_layer("LanguageModel.embedding"))
    }

    /// Goes on with a text, by `length` tokens drawn one after the other.
    ///
    /// The same settings and seed give the same text. In evaluation mode, whatever the model's device.
    /// [`Sampling`] has an example.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the prompt is empty or has an unknown
    /// token, or for a setting out of its range; [`ErrorKind::Value`](crate::ErrorKind::Value) if a token's
    /// logit is NaN or infinite: it names the step. A logit of −∞ is one of a token that cannot come, unless
    /// all are.
    pub fn generate(
        &self,
        prompt: &[usize],
        length: usize,
        sampling: &Sampling,
    ) -> Result<Vec<usize>, Error> {
        sampling.check()?;
        let [known, _] = self.embedding.weight.dims();
        check(!prompt.is_empty(), "prompt", "at least one token", "none")?;
        if let Some(&token) = prompt.iter().find(|&&token| token >= known) {
            check(false, "prompt", format_args!("tokens below {known}"), token)?;
        }
        let model = self.valid();
        let device = model.embedding.weight.val().device();
        let mut rng = sampling.rng();
        let (mut text, mut state) = (Vec::new(), None);
        let mut read = prompt.to_vec();
        while text.len() < length {
            let tokens: Vec<i64> = read.iter().map(|&token| token as i64).collect();
            let tokens = Tensor::<1, Int>::from_data(tokens.as_slice(), &device).unsqueeze();
            let (logits, next) = model.forward(tokens, state);
            let [_, time, _] = logits.dims();
            let logits = logits.narrow(1, time - 1, 1).flatten(0, 2);
            let token = draw(logits, sampling, &mut rng);
            let token = token.map_err(|error| error.within(format_args!("step {}", text.len())))?;
            state = Some(next);
            text.push(token);
            read = vec![token];
        }
        Ok(text)
    }
}
