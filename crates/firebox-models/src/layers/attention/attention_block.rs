//! Additive attention.
#![allow(non_snake_case, reason = "W and V are the paper's names and the keys of the state")]

use burn::module::{Module, Param};
use burn::tensor::{Bool, Device, Tensor};
use firebox_kernels::additive_attention;
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, check, check_product, fitting};
use crate::forward::Forward;
use crate::layers::linear::{Linear, LinearConfig};
use crate::shape::check_shape;

/// Settings of [`AttentionBlock`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttentionBlockConfig {
    /// Features of the encoder's outputs and of the decoder's state; at least 1.
    #[serde(alias = "hidden")]
    pub hidden_size: usize,
}

config! {
    AttentionBlockConfig {
        hidden_size: usize
        ;
    }
}

/// Additive attention over time (Bahdanau, Cho, Bengio 2015).
///
/// The weights are softmax(V·tanh(W·encoder + decoder)), and the context is the encoder's outputs by these
/// weights.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::AttentionBlockConfig;
///
/// let device = Device::default();
/// let attention = AttentionBlockConfig::new(8).init(&device)?;
/// let (outputs, state) = (Tensor::zeros([2, 5, 8], &device), Tensor::zeros([2, 1, 8], &device));
/// let (context, weights) = attention.forward(outputs, state, None);
/// assert_eq!((context.dims(), weights.dims()), ([2, 1, 8], [2, 5, 1]));
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// State: `W.weight`, `W.bias`, `V.weight`, `V.bias`.
#[derive(Module, Debug)]
pub struct AttentionBlock {
    /// The map of the encoder's outputs, `[hidden, hidden]`.
    pub W: Linear,
    /// The map to a score, `[1, hidden]`. Its bias moves all scores alike and has no effect.
    pub V: Linear,
}

impl AttentionBlockConfig {
    /// The block with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<AttentionBlock, Error> {
        let hidden = self.hidden_size;
        check(hidden > 0, "AttentionBlockConfig.hidden_size", "at least 1", hidden)?;
        check_product("AttentionBlockConfig", 1, &[("hidden_size", hidden); 2])?;
        Ok(AttentionBlock {
            W: LinearConfig::new(hidden, hidden).init(device)?,
            V: LinearConfig::new(hidden, 1).init(device)?,
        })
    }
}

impl AttentionBlock {
    /// The encoder's outputs and the decoder's state to the context and the weights.
    ///
    /// Outputs are `[batch, time, hidden]`, state and context `[batch, 1, hidden]`, the weights `[batch,
    /// time, 1]`.
    ///
    /// With a `mask` `[batch, time]` only the places that it names have a weight. Where it names none, all
    /// weights and the context are zero.
    pub fn forward(
        &self,
        encoder_outputs: Tensor<3>,
        decoder_hidden: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
    ) -> (Tensor<3>, Tensor<3>) {
        fitting(self.check_input(&encoder_outputs, &decoder_hidden, mask.as_ref()));
        let mapped = self.W.forward(encoder_outputs.clone());
        self.attend(encoder_outputs, mapped, decoder_hidden, mask)
    }

    /// Looks whether shapes fit, without computing anything.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) says what it wants and what came.
    pub fn check_input(
        &self,
        encoder_outputs: &Tensor<3>,
        decoder_hidden: &Tensor<3>,
        mask: Option<&Tensor<2, Bool>>,
    ) -> Result<(), Error> {
        const LAYER: &str = "AttentionBlock";
        let ([batch, time, _], [_, hidden]) = (encoder_outputs.dims(), self.W.sizes());
        let expected = [batch, time, hidden];
        check_shape(LAYER, "an encoder's outputs", &encoder_outputs.dims(), &expected)?;
        check_shape(LAYER, "a decoder's state", &decoder_hidden.dims(), &[batch, 1, hidden])?;
        mask.map_or(Ok(()), |mask| check_shape(LAYER, "a mask", &mask.dims(), &[batch, time]))
    }

    /// [`forward`](Self::forward) with W·encoder, which a decoder needs at each of its steps and computes
    /// once.
    pub(crate) fn attend(
        &self,
        encoder_outputs: Tensor<3>,
        mapped: Tensor<3>,
        decoder_hidden: Tensor<3>,
        mask: Option<Tensor<2, Bool>>,
    ) -> (Tensor<3>, Tensor<3>) {
        let bias = self.V.bias.as_ref().map(Param::val);
        additive_attention(mapped, decoder_hidden, self.V.weight.val(), bias, encoder_outputs, mask)
    }
}
