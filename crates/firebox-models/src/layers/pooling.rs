//! Pooling over windows of an image.

use burn::config::Config;
use burn::module::{DisplaySettings, Module, ModuleDisplay};
use burn::tensor::Tensor;
use firebox_kernels::pooling::PoolSettings;
use firebox_kernels::{avg_pool2d, max_pool2d};

use crate::error::{Error, check, check_product, fitting};
use crate::forward::Forward;
use crate::shape::{Window, windowed};

/// Settings of [`MaxPooling`].
///
/// ```
/// use firebox_models::layers::MaxPoolingConfig;
///
/// assert!(MaxPoolingConfig::new(3).with_stride(Some(2)).init().is_ok());
/// assert!(MaxPoolingConfig::new(0).init().is_err());
/// ```
#[derive(Config, Debug)]
pub struct MaxPoolingConfig {
    /// Height and width of the window; at least 1.
    pub kernel_size: usize,
    /// Step of the window in both directions; the kernel size if not given.
    pub stride: Option<usize>,
}

/// The maximum of each window, as `torch.nn.MaxPool2d` without padding.
///
/// A window that would reach over the border is left out. After a [`ConvBlock`](crate::layers::ConvBlock)
/// pooling of 2×2 costs least as a part of it: `ConvBlockConfig::with_pooling`, or both in a
/// [`Sequential`](crate::layers::Sequential).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::layers::MaxPoolingConfig;
///
/// let image = Tensor::<4>::from_data([[[[1.0, 5.0, 2.0], [3.0, 4.0, 0.0]]]], &Device::default());
/// let pooled = MaxPoolingConfig::new(2).init()?.forward(image);
/// assert_eq!(pooled.into_data().try_to_vec::<f32>().unwrap(), [5.0]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct MaxPooling {
    kernel_size: usize,
    stride: usize,
}

impl MaxPoolingConfig {
    /// The layer, which has no parameters.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self) -> Result<MaxPooling, Error> {
        let stride = self.stride.unwrap_or(self.kernel_size);
        check(self.kernel_size > 0, "MaxPoolingConfig.kernel_size", "at least 1", self.kernel_size)?;
        check(stride > 0, "MaxPoolingConfig.stride", "at least 1", stride)?;
        let side = [("kernel_size", self.kernel_size); 2];
        check_product("MaxPoolingConfig", 1, &side)?;
        check_product("MaxPoolingConfig", 1, &[("stride", stride)])?;
        Ok(MaxPooling { kernel_size: self.kernel_size, stride })
    }
}

impl MaxPooling {
    /// Tells if it is the 2×2 pooling that halves an image.
    pub(crate) fn halves(&self) -> bool {
        (self.kernel_size, self.stride) == (2, 2)
    }

    /// The shape of what an input of this shape is pooled to.
    pub(crate) fn output_shape(&self, input: [usize; 4]) -> Result<[usize; 4], Error> {
        pooled("MaxPooling", self.kernel_size, self.stride, input)
    }
}

impl Forward<Tensor<4>> for MaxPooling {
    type Output = Tensor<4>;

    /// `[batch, channels, height, width]` to `[batch, channels, height', width']` with
    /// height' = ⌊(height − kernel_size) / stride⌋ + 1, likewise the width.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        fitting(self.check_input(&input));
        max_pool2d(input, windows(self.kernel_size, self.stride))
    }

    fn check_input(&self, input: &Tensor<4>) -> Result<(), Error> {
        pooled("MaxPooling", self.kernel_size, self.stride, input.dims()).map(drop)
    }
}

/// Settings of [`AvgPooling`].
///
/// ```
/// use firebox_models::layers::AvgPoolingConfig;
///
/// assert!(AvgPoolingConfig::new(3).with_stride(Some(2)).init().is_ok());
/// assert!(AvgPoolingConfig::new(0).init().is_err());
/// ```
#[derive(Config, Debug)]
pub struct AvgPoolingConfig {
    /// Height and width of the window; at least 1.
    pub kernel_size: usize,
    /// Step of the window in both directions; the kernel size if not given.
    pub stride: Option<usize>,
}

/// The mean of each window, as `torch.nn.AvgPool2d` without padding.
///
/// A window that would reach over the border is left out.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::layers::AvgPoolingConfig;
///
/// let image = Tensor::<4>::from_data([[[[1.0, 5.0, 2.0], [3.0, 4.0, 0.0]]]], &Device::default());
/// let pooled = AvgPoolingConfig::new(2).init()?.forward(image);
/// assert_eq!(pooled.into_data().try_to_vec::<f32>().unwrap(), [3.25]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct AvgPooling {
    kernel_size: usize,
    stride: usize,
}

impl AvgPoolingConfig {
    /// The layer, which has no parameters.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self) -> Result<AvgPooling, Error> {
        let stride = self.stride.unwrap_or(self.kernel_size);
        check(self.kernel_size > 0, "AvgPoolingConfig.kernel_size", "at least 1", self.kernel_size)?;
        check(stride > 0, "AvgPoolingConfig.stride", "at least 1", stride)?;
        let side = [("kernel_size", self.kernel_size); 2];
        check_product("AvgPoolingConfig", 1, &side)?;
        check_product("AvgPoolingConfig", 1, &[("stride", stride)])?;
        Ok(AvgPooling { kernel_size: self.kernel_size, stride })
    }
}

impl Forward<Tensor<4>> for AvgPooling {
    type Output = Tensor<4>;

    /// `[batch, channels, height, width]` to `[batch, channels, height', width']` with
    /// height' = ⌊(height − kernel_size) / stride⌋ + 1, likewise the width.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        fitting(self.check_input(&input));
        avg_pool2d(input, windows(self.kernel_size, self.stride), true)
    }

    fn check_input(&self, input: &Tensor<4>) -> Result<(), Error> {
        pooled("AvgPooling", self.kernel_size, self.stride, input.dims()).map(drop)
    }
}

fn windows(kernel_size: usize, stride: usize) -> PoolSettings {
    PoolSettings::new([kernel_size; 2]).with_stride([stride; 2])
}

fn pooled(layer: &str, size: usize, stride: usize, input: [usize; 4]) -> Result<[usize; 4], Error> {
    windowed(layer, input, None, [Window { size, stride, padding: 0, dilation: 1 }; 2])
}

impl ModuleDisplay for MaxPooling {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }
}

impl ModuleDisplay for AvgPooling {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }
}
