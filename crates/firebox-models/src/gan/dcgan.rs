//! A convolutional generator and its discriminator.

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::tensor::activation::{leaky_relu, relu, sigmoid, tanh};
use burn::tensor::{Device, Tensor};

use crate::error::{Error, OfPart, check, check_product, fitting};
use crate::forward::Forward;
use crate::gan::logits::Logits;
use crate::layers::batch_norm::{BatchNorm2d, BatchNorm2dConfig};
use crate::layers::sequential::sequential;
use crate::shape::check_shape;

/// Settings of [`DcganGenerator`] and [`DcganDiscriminator`], which they share.
#[derive(Config, Debug)]
pub struct DcganConfig {
    /// Features of the noise; at least 1.
    #[config(default = 100)]
    pub latent: usize,
    /// Channels of the images; at least 1.
    #[config(default = 1)]
    pub channels: usize,
    /// Height and width of the images; a multiple of 4.
    #[config(default = 28)]
    pub size: usize,
    /// Channels of the layer next to the image; at least 1.
    ///
    /// The layer before has twice as many.
    #[config(default = 64)]
    pub features: usize,
}

/// The generator of a deep convolutional GAN (Radford, Metz, Chintala 2016).
///
/// Noise → a quarter of the size → half → the image, each step a transposed convolution, with BatchNorm and
/// ReLU between and tanh at the end.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::gan::DcganConfig;
///
/// let device = Device::default();
/// let config = DcganConfig::new().with_latent(16).with_features(4).with_size(8);
/// let images = config.init_generator(&device)?.forward(Tensor::zeros([2, 16], &device));
/// assert_eq!(images.dims(), [2, 1, 8, 8]);
/// assert_eq!(config.init_discriminator(&device)?.logits(images).dims(), [2, 1]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// State: the convolutions `main.0.weight`, `main.3.weight`, `main.6.weight`, which have no bias, and the
/// normalizations `main.1` and `main.4`.
#[derive(Module, Debug)]
pub struct DcganGenerator {
    main: GeneratorLayers,
}

sequential! {
    GeneratorLayers {
        "0" project: ConvTranspose2d,
        "1" norm1: BatchNorm2d,
        "3" half: ConvTranspose2d,
        "4" norm2: BatchNorm2d,
        "6" image: ConvTranspose2d,
    }
}

/// The discriminator of a deep convolutional GAN; [`DcganGenerator`] shows it at work.
///
/// The image → half the size → a quarter → one number, each step a convolution, with LeakyReLU of slope 0.2
/// and BatchNorm between, none at the image.
///
/// State: the convolutions `main.0.weight`, `main.2.weight`, `main.5.weight`, which have no bias, and the
/// normalization `main.3`.
#[derive(Module, Debug)]
pub struct DcganDiscriminator {
    main: DiscriminatorLayers,
}

sequential! {
    DiscriminatorLayers {
        "0" image: Conv2d,
        "2" half: Conv2d,
        "3" norm: BatchNorm2d,
        "5" judge: Conv2d,
    }
}

/// Normal with the mean and a standard deviation of 0.02, as the paper has it.
fn normal(mean: f64) -> Initializer {
    Initializer::Normal { mean, std: 0.02 }
}

fn norm(channels: usize, device: &Device) -> Result<BatchNorm2d, Error> {
    let mut norm = BatchNorm2dConfig::new(channels).init(device)?;
    norm.weight = normal(1.0).init([channels], device);
    Ok(norm)
}

impl DcganConfig {
    fn check(&self) -> Result<(), Error> {
        let Self { latent, channels, size, features } = *self;
        check(latent > 0, "DcganConfig.latent", "at least 1", latent)?;
        check(channels > 0, "DcganConfig.channels", "at least 1", channels)?;
        check(size > 0 && size.is_multiple_of(4), "DcganConfig.size", "a multiple of 4", size)?;
        check(features > 0, "DcganConfig.features", "at least 1", features)?;
        let (features, side) = (("features", features), ("size", size));
        check_product("DcganConfig", 2, &[("latent", latent), features, side, side])?;
        check_product("DcganConfig", 2 * 16, &[features, features])?;
        check_product("DcganConfig", 16, &[("channels", channels), features])?;
        // The images themselves.
        check_product("DcganConfig", 1, &[("channels", channels), side, side])
    }

    /// The generator with the paper's initialization: weights normal with a standard deviation of 0.02.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init_generator(&self, device: &Device) -> Result<DcganGenerator, Error> {
        self.check()?;
        let Self { latent, channels, size, features } = *self;
        let conv = |channels: [usize; 2], kernel: usize, stride: usize, padding: usize| {
            ConvTranspose2dConfig::new(channels, [kernel; 2])
                .with_stride([stride; 2])
                .with_padding([padding; 2])
                .with_bias(false)
                .with_initializer(normal(0.0))
                .init(device)
        };
        Ok(DcganGenerator {
            main: GeneratorLayers {
                project: conv([latent, 2 * features], size / 4, 1, 0),
                norm1: norm(2 * features, device)?,
                half: conv([2 * features, features], 4, 2, 1),
                norm2: norm(features, device)?,
                image: conv([features, channels], 4, 2, 1),
            },
        })
    }

    /// The discriminator with the paper's initialization: weights normal with a standard deviation of 0.02.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init_discriminator(&self, device: &Device) -> Result<DcganDiscriminator, Error> {
        self.check()?;
        let Self { channels, size, features, .. } = *self;
        let conv = |channels: [usize; 2], kernel: usize, stride: usize, padding: usize| {
            Conv2dConfig::new(channels, [kernel; 2])
                .with_stride([stride; 2])
                .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
                .with_bias(false)
                .with_initializer(normal(0.0))
                .init(device)
        };
        Ok(DcganDiscriminator {
            main: DiscriminatorLayers {
                image: conv([channels, features], 4, 2, 1),
                half: conv([features, 2 * features], 4, 2, 1),
                norm: norm(2 * features, device)?,
                judge: conv([2 * features, 1], size / 4, 1, 0),
            },
        })
    }
}

impl Forward<Tensor<2>> for DcganGenerator {
    type Output = Tensor<4>;

    /// Noise `[batch, latent]` to images `[batch, channels, size, size]` in (−1, 1).
    fn forward(&self, noise: Tensor<2>) -> Tensor<4> {
        fitting(self.check_input(&noise));
        let x = self.main.project.forward(noise.unsqueeze_dims(&[2, 3]));
        let x = self.main.half.forward(relu(self.main.norm1.forward(x)));
        tanh(self.main.image.forward(relu(self.main.norm2.forward(x))))
    }

    fn check_input(&self, noise: &Tensor<2>) -> Result<(), Error> {
        let ([batch, _], [latent, channels, height, width]) = (noise.dims(), self.main.project.weight.dims());
        check_shape("DcganGenerator.main.0", "noise", &noise.dims(), &[batch, latent])?;
        let norm = &self.main.norm1;
        let trains = noise.device().is_autodiff() && norm.training.is_enabled();
        let fits = norm.check_shape([batch, channels, height, width], trains);
        fits.map_err(|error| error.in_layer("DcganGenerator.main.1"))
    }
}

impl DcganDiscriminator {
    /// Images `[batch, channels, size, size]` to the logits `[batch, 1]` of being real.
    pub fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        fitting(self.check_samples(&images));
        let x = leaky_relu(self.main.image.forward(images), 0.2);
        let x = leaky_relu(self.main.norm.forward(self.main.half.forward(x)), 0.2);
        self.main.judge.forward(x).flatten(1, 3)
    }
}

impl Logits<Tensor<4>> for DcganDiscriminator {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        DcganDiscriminator::logits(self, images)
    }

    fn check_samples(&self, images: &Tensor<4>) -> Result<(), Error> {
        let DiscriminatorLayers { image, norm, judge, .. } = &self.main;
        let ([_, channels, ..], [_, features, side, _]) = (image.weight.dims(), judge.weight.dims());
        let (got, size) = (images.dims(), 4 * side);
        // The last window then has a single place: with more there were more logits than samples.
        check_shape("DcganDiscriminator", "images", &got, &[got[0], channels, size, size])?;
        let trains = images.device().is_autodiff() && norm.training.is_enabled();
        let fits = norm.check_shape([got[0], features, side, side], trains);
        fits.map_err(|error| error.in_layer("DcganDiscriminator.main.3"))
    }
}

impl Forward<Tensor<4>> for DcganDiscriminator {
    type Output = Tensor<2>;

    /// Images `[batch, channels, size, size]` to the probabilities `[batch, 1]` of being real.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        sigmoid(self.logits(images))
    }

    fn check_input(&self, images: &Tensor<4>) -> Result<(), Error> {
        self.check_samples(images)
    }
}
