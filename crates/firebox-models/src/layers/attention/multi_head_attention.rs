//! Scaled dot-product attention with several heads.

use burn::module::{Content, DisplaySettings, Initializer, Module, ModuleDisplay, Param};
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Bool, Device, Tensor};
use firebox_kernels::attention::masked_softmax;
use firebox_kernels::linear::{Activation, linear};
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, check, check_product, fitting};
use crate::forward::Forward;
use crate::layers::linear::{Linear, LinearConfig};
use crate::shape::check_shape;

/// Settings of [`MultiHeadAttention`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MultiHeadAttentionConfig {
    /// Features of queries, keys, values and the output; at least 1.
    #[serde(alias = "features")]
    pub embed_dim: usize,
    /// Heads, each of `embed_dim / num_heads` features; a divisor of `embed_dim`.
    #[serde(alias = "heads")]
    pub num_heads: usize,
    /// The share of weights dropped in training; from 0, below 1.
    pub dropout: f64,
}

config! {
    MultiHeadAttentionConfig {
        embed_dim: usize, num_heads: usize
        ;
        dropout: f64 = 0.0, with_dropout;
    }
}

/// Attention by scaled dot products, `torch.nn.MultiheadAttention` with `batch_first=True`.
///
/// Each head computes softmax(q·kᵀ/√d)·v (Vaswani et al. 2017).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::{AttentionMask, MultiHeadAttentionConfig};
///
/// let device = Device::default();
/// let attention = MultiHeadAttentionConfig::new(8, 2).init(&device)?;
/// let x = Tensor::zeros([3, 5, 8], &device);
/// let (output, weights) = attention.forward(x.clone(), x.clone(), x, AttentionMask::causal(5, &device));
/// assert_eq!((output.dims(), weights.dims()), ([3, 5, 8], [3, 5, 5]));
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// State: `in_proj_weight` `[3·embed_dim, embed_dim]` and `in_proj_bias` `[3·embed_dim]`, for queries, keys and
/// values, one after the other; `out_proj.weight`, `out_proj.bias`.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct MultiHeadAttention {
    /// The maps to queries, keys and values; uniform by Xavier's rule.
    pub in_proj_weight: Param<Tensor<2>>,
    /// Their biases; zero at the beginning.
    pub in_proj_bias: Param<Tensor<1>>,
    /// The map of the heads' outputs; its bias is zero at the beginning.
    pub out_proj: Linear,
    dropout: Dropout,
    heads: usize,
}

impl MultiHeadAttentionConfig {
    /// The block with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<MultiHeadAttention, Error> {
        let Self { embed_dim: features, num_heads: heads, dropout } = *self;
        check(features > 0, "MultiHeadAttentionConfig.embed_dim", "at least 1", features)?;
        let divides = heads > 0 && features.is_multiple_of(heads);
        check(
            divides,
            "MultiHeadAttentionConfig.num_heads",
            format_args!("a divisor of {features} features"),
            heads,
        )?;
        check((0.0..1.0).contains(&dropout), "MultiHeadAttentionConfig.dropout", "0 ≤ p < 1", dropout)?;
        check_product("MultiHeadAttentionConfig", 3, &[("embed_dim", features); 2])?;
        let xavier = Initializer::XavierUniform { gain: 1.0 };
        let mut out_proj = LinearConfig::new(features, features).init(device)?;
        out_proj.bias = Some(Initializer::Zeros.init([features], device));
        Ok(MultiHeadAttention {
            in_proj_weight: xavier.init_with(
                [3 * features, features],
                Some(features),
                Some(3 * features),
                device,
            ),
            in_proj_bias: Initializer::Zeros.init([3 * features], device),
            out_proj,
            dropout: DropoutConfig::new(dropout).init(),
            heads,
        })
    }
}

/// The places that each query may look at; with both, those that both name.
///
/// [`MultiHeadAttention`] shows a causal one.
#[derive(Clone, Debug, Default)]
pub struct AttentionMask {
    /// `[batch, keys]`: the places that hold something, such as
    /// [`sequence_mask`](crate::layers::sequence_mask) gives them. PyTorch's `key_padding_mask` names the
    /// others.
    pub keys: Option<Tensor<2, Bool>>,
    /// `[queries, keys]`: the places that each query may look at. PyTorch's `attn_mask` names the others.
    pub pairs: Option<Tensor<2, Bool>>,
}

impl AttentionMask {
    /// A mask with which each of `time` places looks at itself and those before it.
    pub fn causal(time: usize, device: &Device) -> Self {
        AttentionMask {
            pairs: Some(Tensor::tril_mask([time, time], 0, device).bool_not()),
            ..AttentionMask::default()
        }
    }
}

impl MultiHeadAttention {
    /// Queries, keys and values to the output, and the weights averaged over the heads.
    ///
    /// Queries and output are `[batch, queries, features]`, keys and values `[batch, keys, features]`, the
    /// weights `[batch, queries, keys]`.
    ///
    /// A query that may look nowhere has the weights zero.
    pub fn forward(
        &self,
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        mask: AttentionMask,
    ) -> (Tensor<3>, Tensor<3>) {
        fitting(self.check_input(&query, &key, &value, &mask));
        let ([batch, queries, features], [_, keys, _]) = (query.dims(), key.dims());
        let (weight, bias) = (self.in_proj_weight.val(), self.in_proj_bias.val());
        let heads = |input: Tensor<3>, part: usize, places: usize| {
            let weight = weight.clone().narrow(0, part * features, features);
            let bias = bias.clone().narrow(0, part * features, features);
            let projected = linear(input, weight, Some(bias), Activation::None);
            projected.reshape([batch, places, self.heads, features / self.heads]).swap_dims(1, 2)
        };
        let (query, key, value) = (heads(query, 0, queries), heads(key, 1, keys), heads(value, 2, keys));
        let scale = 1.0 / ((features / self.heads) as f64).sqrt();
        let scores = query.mul_scalar(scale).matmul(key.transpose());
        let shape = [batch, self.heads, queries, keys];
        let mut allowed: Tensor<4, Bool> = Tensor::full(shape, true, &scores.device());
        // Burn expands nothing to a size of 0.
        let mask = if shape.contains(&0) { AttentionMask::default() } else { mask };
        if let Some(keys) = mask.keys {
            allowed = allowed.bool_and(keys.unsqueeze_dims::<4>(&[1, 2]).expand(shape));
        }
        if let Some(pairs) = mask.pairs {
            allowed = allowed.bool_and(pairs.unsqueeze::<4>().expand(shape));
        }
        let weights = self.dropout.forward(masked_softmax(scores, allowed));
        let heads = weights.clone().matmul(value).swap_dims(1, 2).reshape([batch, queries, features]);
        (self.out_proj.forward(heads), weights.mean_dim(1).squeeze_dim(1))
    }

    /// Looks whether shapes fit, without computing anything.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) says what it wants and what came.
    pub fn check_input(
        &self,
        query: &Tensor<3>,
        key: &Tensor<3>,
        value: &Tensor<3>,
        mask: &AttentionMask,
    ) -> Result<(), Error> {
        const LAYER: &str = "MultiHeadAttention";
        let ([batch, queries, _], [_, keys, _]) = (query.dims(), key.dims());
        let [_, features] = self.in_proj_weight.dims();
        check_shape(LAYER, "queries", &query.dims(), &[batch, queries, features])?;
        check_shape(LAYER, "keys", &key.dims(), &[batch, keys, features])?;
        check_shape(LAYER, "values", &value.dims(), &[batch, keys, features])?;
        if let Some(mask) = &mask.keys {
            check_shape(LAYER, "a mask of keys", &mask.dims(), &[batch, keys])?;
        }
        match &mask.pairs {
            Some(mask) => check_shape(LAYER, "a mask of pairs", &mask.dims(), &[queries, keys]),
            None => Ok(()),
        }
    }
}

impl ModuleDisplay for MultiHeadAttention {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [_, features] = self.in_proj_weight.dims();
        content
            .add("embed_dim", &features)
            .add("num_heads", &self.heads)
            .add("dropout", &self.dropout.prob)
            .optional()
    }
}
