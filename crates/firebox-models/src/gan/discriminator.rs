//! A judge of samples.

use burn::module::Module;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};
use firebox_kernels::linear::Activation;
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, check, check_product, fitting};
use crate::forward::Forward;
use crate::gan::logits::Logits;
use crate::layers::linear::{Linear, LinearConfig};
use crate::layers::sequential::sequential;

/// Settings of [`Discriminator`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiscriminatorConfig {
    /// Features of a sample; at least 1.
    #[serde(alias = "features_in")]
    pub in_features: usize,
    /// The slope of LeakyReLU below zero; a finite number.
    pub negative_slope: f64,
}

config! {
    DiscriminatorConfig {
        in_features: usize
        ;
        negative_slope: f64 = 0.2, with_negative_slope;
    }
}

/// The discriminator of a generative adversarial network (Goodfellow et al. 2014).
///
/// Sample → 512 → 256 → 1, with LeakyReLU between. [`Generator`](crate::gan::Generator) shows it at work.
///
/// State: `main.0`, `main.2` and `main.4`, each with `weight` and `bias`.
#[derive(Module, Debug)]
pub struct Discriminator {
    main: Layers,
    negative_slope: f64,
}

sequential! {
    Layers { "0" first: Linear, "2" second: Linear, "4" last: Linear }
}

impl DiscriminatorConfig {
    /// The model with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Discriminator, Error> {
        let Self { in_features, negative_slope } = *self;
        check(in_features > 0, "DiscriminatorConfig.in_features", "at least 1", in_features)?;
        check(
            negative_slope.is_finite(),
            "DiscriminatorConfig.negative_slope",
            "a finite number",
            negative_slope,
        )?;
        check_product("DiscriminatorConfig", 512, &[("in_features", in_features)])?;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let main =
            Layers { first: linear(in_features, 512)?, second: linear(512, 256)?, last: linear(256, 1)? };
        Ok(Discriminator { main, negative_slope })
    }
}

impl Discriminator {
    /// Samples `[batch, in_features]` to the logits `[batch, 1]` of being real.
    ///
    /// A loss should be computed from them, for a probability close to 0 or 1 has lost the digits that its
    /// logarithm needs.
    pub fn logits(&self, samples: Tensor<2>) -> Tensor<2> {
        fitting(self.check_samples(&samples));
        let activation = Activation::LeakyRelu(self.negative_slope);
        let x = self.main.first.activated(samples, activation);
        let x = self.main.second.activated(x, activation);
        self.main.last.forward(x)
    }
}

impl Logits<Tensor<2>> for Discriminator {
    fn logits(&self, samples: Tensor<2>) -> Tensor<2> {
        Discriminator::logits(self, samples)
    }

    fn check_samples(&self, samples: &Tensor<2>) -> Result<(), Error> {
        self.main.first.check_shape(&samples.dims()).map_err(|error| error.in_layer("Discriminator.main.0"))
    }
}

impl Forward<Tensor<2>> for Discriminator {
    type Output = Tensor<2>;

    /// Samples `[batch, in_features]` to the probabilities `[batch, 1]` of being real.
    fn forward(&self, samples: Tensor<2>) -> Tensor<2> {
        sigmoid(self.logits(samples))
    }

    fn check_input(&self, samples: &Tensor<2>) -> Result<(), Error> {
        self.check_samples(samples)
    }
}
