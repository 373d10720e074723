//! Vectors for tokens.

use burn::module::{Content, DisplaySettings, Initializer, Module, ModuleDisplay, Param};
use burn::tensor::module::embedding;
use burn::tensor::{Device, Distribution, Int, Tensor, s};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, ErrorKind, check, check_product};

/// Settings of [`Embedding`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EmbeddingConfig {
    /// The number of tokens; at least 1.
    #[serde(alias = "tokens")]
    pub vocab_size: usize,
    /// The size of a token's vector; at least 1.
    #[serde(alias = "features")]
    pub embedding_dim: usize,
    /// A token whose vector is zero at the beginning and is not trained; below `vocab_size`.
    #[serde(alias = "padding")]
    pub padding_idx: Option<usize>,
}

config! {
    EmbeddingConfig {
        vocab_size: usize, embedding_dim: usize
        ;
        padding_idx: Option<usize> = None, with_padding_idx;
    }
}

/// A trained vector for each token, as `torch.nn.Embedding` with its `padding_idx`.
///
/// State: `weight` `[vocab_size, embedding_dim]`.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_models::layers::EmbeddingConfig;
///
/// let device = Device::default();
/// let embedding = EmbeddingConfig::new(50, 8).with_padding_idx(Some(0)).init(&device)?;
/// let tokens = Tensor::<2, Int>::from_data([[3, 4, 0], [7, 0, 0]], &device);
/// assert_eq!(embedding.forward(tokens).dims(), [2, 3, 8]);
/// assert!(embedding.check_tokens(&Tensor::from_data([[50]], &device)).is_err());
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Embedding {
    /// The vectors, initialized from the standard normal distribution.
    pub weight: Param<Tensor<2>>,
    padding: Option<usize>,
}

impl EmbeddingConfig {
    /// The layer with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Embedding, Error> {
        let Self { vocab_size: tokens, embedding_dim: features, padding_idx: padding } = *self;
        check(tokens > 0, "EmbeddingConfig.vocab_size", "at least 1", tokens)?;
        check(features > 0, "EmbeddingConfig.embedding_dim", "at least 1", features)?;
        check_product("EmbeddingConfig", 1, &[("vocab_size", tokens), ("embedding_dim", features)])?;
        let weight = match padding {
            None => Initializer::Normal { mean: 0.0, std: 1.0 }.init([tokens, features], device),
            Some(padding) => {
                check(
                    padding < tokens,
                    "EmbeddingConfig.padding_idx",
                    format_args!("below {tokens}"),
                    padding,
                )?;
                let drawn = Tensor::<2>::random([tokens, features], Distribution::Normal(0.0, 1.0), device);
                let zero = Tensor::zeros([1, features], device);
                Param::from_tensor(drawn.slice_assign(s![padding..padding + 1, ..], zero))
            }
        };
        Ok(Embedding { weight, padding })
    }
}

/// Checks the fields of a config that has an embedding made of them.
pub(crate) fn check_fields(
    config: &str,
    tokens: usize,
    embedding: usize,
    padding: usize,
) -> Result<(), Error> {
    check(tokens > 0, format_args!("{config}.vocab_size"), "at least 1", tokens)?;
    check(embedding > 0, format_args!("{config}.embedding_dim"), "at least 1", embedding)?;
    check(padding < tokens, format_args!("{config}.padding_idx"), format_args!("below {tokens}"), padding)?;
    check_product(config, 1, &[("vocab_size", tokens), ("embedding_dim", embedding)])
}

impl Embedding {
    /// Tokens `[batch, time]` to vectors `[batch, time, embedding_dim]`.
    ///
    /// A token beyond the vocabulary is a panic on the CPU, and unnoticed on some other devices:
    /// [`check_tokens`](Self::check_tokens) finds it.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let vectors = embedding(self.weight.val(), tokens.clone());
        match self.padding.filter(|_| vectors.shape().num_elements() > 0) {
            None => vectors,
            Some(padding) => {
                let pads = tokens.equal_elem(padding as i64).unsqueeze_dim::<3>(2).expand(vectors.shape());
                // What is at these places may be read, and gets no gradient.
                vectors.clone().mask_where(pads, vectors.detach())
            }
        }
    }
}

impl Embedding {
    /// Looks whether all tokens are in the vocabulary, the padding token among them.
    ///
    /// The tokens are read once. Elsewhere than on the CPU that is a transfer, and waits for the device.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] names the first token that is not, and its place.
    pub fn check_tokens(&self, tokens: &Tensor<2, Int>) -> Result<(), Error> {
        let ([known, _], [_, time]) = (self.weight.dims(), tokens.dims());
        let data = tokens.clone().into_data();
        let unknown = |token: &i64| usize::try_from(*token).map_or(true, |token| token >= known);
        match data.iter::<i64>().enumerate().find(|(_, token)| unknown(token)) {
            None => Ok(()),
            Some((at, token)) => {
                // There is a token, and so a place.
                let (row, place) = (at / time, at % time);
                let text = format!(
                    "Embedding: token {token} at row {row}, place {place}: expected a token below {known}"
                );
                Err(Error::new(ErrorKind::Input, text))
            }
        }
    }
}

impl ModuleDisplay for Embedding {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [tokens, features] = self.weight.dims();
        let content = content.add("vocab_size", &tokens).add("embedding_dim", &features);
        match &self.padding {
            Some(padding) => content.add("padding_idx", padding).optional(),
            None => content.optional(),
        }
    }
}
