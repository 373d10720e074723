//! A generator of samples from noise.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebox_kernels::linear::Activation;
use serde::{Deserialize, Serialize};

use crate::config::config;
use crate::error::{Error, OfPart, check, check_product, fitting};
use crate::forward::Forward;
use crate::layers::linear::{Linear, LinearConfig};
use crate::layers::sequential::sequential;

/// Settings of [`Generator`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GeneratorConfig {
    /// Features of the noise; at least 1.
    pub latent: usize,
    /// Features of a sample, such as the pixels of an image; at least 1.
    #[serde(alias = "features_out")]
    pub out_features: usize,
}

config! {
    GeneratorConfig {
        latent: usize, out_features: usize
        ;
    }
}

/// The generator of a generative adversarial network (Goodfellow et al. 2014).
///
/// Noise → 256 → 512 → sample, with ReLU between and tanh at the end, so that samples lie in (−1, 1).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::gan::{DiscriminatorConfig, GeneratorConfig};
///
/// let device = Device::default();
/// let samples = GeneratorConfig::new(16, 784).init(&device)?.forward(Tensor::zeros([2, 16], &device));
/// assert_eq!(samples.dims(), [2, 784]);
/// assert_eq!(DiscriminatorConfig::new(784).init(&device)?.logits(samples).dims(), [2, 1]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// State: `main.0`, `main.2` and `main.4`, each with `weight` and `bias`.
#[derive(Module, Debug)]
pub struct Generator {
    main: Layers,
}

sequential! {
    Layers { "0" first: Linear, "2" second: Linear, "4" last: Linear }
}

impl GeneratorConfig {
    /// The model with PyTorch's initialization.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Generator, Error> {
        let Self { latent, out_features } = *self;
        check(latent > 0, "GeneratorConfig.latent", "at least 1", latent)?;
        check(out_features > 0, "GeneratorConfig.out_features", "at least 1", out_features)?;
        check_product("GeneratorConfig", 256, &[("latent", latent)])?;
        check_product("GeneratorConfig", 512, &[("out_features", out_features)])?;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let main = Layers {
            first: linear(latent, 256)?,
            second: linear(256, 512)?,
            last: linear(512, out_features)?,
        };
        Ok(Generator { main })
    }
}

impl Forward<Tensor<2>> for Generator {
    type Output = Tensor<2>;

    /// Noise `[batch, latent]` to samples `[batch, out_features]` in (−1, 1).
    fn forward(&self, noise: Tensor<2>) -> Tensor<2> {
        fitting(self.check_input(&noise));
        let x = self.main.first.activated(noise, Activation::Relu);
        let x = self.main.second.activated(x, Activation::Relu);
        self.main.last.activated(x, Activation::Tanh)
    }

    fn check_input(&self, noise: &Tensor<2>) -> Result<(), Error> {
        self.main.first.check_shape(&noise.dims()).map_err(|error| error.in_layer("Generator.main.0"))
    }
}
