//! Pooling over windows of an image.

use burn::config::Config;
use burn::module::{DisplaySettings, Module, ModuleDisplay};
use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

use crate::error::{Error, check};
use crate::forward::Forward;

/// Settings of [`MaxPooling`].
#[derive(Config, Debug)]
pub struct MaxPoolingConfig {
    /// Height and width of the window; at least 1.
    pub kernel_size: usize,
    /// Step of the window in both directions; the kernel size if not given.
    pub stride: Option<usize>,
}

/// The maximum of each window, as `torch.nn.MaxPool2d` without padding: a window that would reach over the
/// border is left out.
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a value out of its range.
    pub fn init(&self) -> Result<MaxPooling, Error> {
        let stride = self.stride.unwrap_or(self.kernel_size);
        check(self.kernel_size > 0, "MaxPoolingConfig.kernel_size", "at least 1", self.kernel_size)?;
        check(stride > 0, "MaxPoolingConfig.stride", "at least 1", stride)?;
        Ok(MaxPooling { kernel_size: self.kernel_size, stride })
    }
}

impl MaxPooling {
    /// Whether it is the 2×2 pooling that halves an image.
    pub(crate) fn halves(&self) -> bool {
        (self.kernel_size, self.stride) == (2, 2)
    }
}

impl Forward<Tensor<4>> for MaxPooling {
    type Output = Tensor<4>;

    /// `[batch, channels, height, width]` to `[batch, channels, height', width']` with
    /// height' = ⌊(height − kernel_size) / stride⌋ + 1, likewise the width.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let mut options = MaxPoolOptions::new([self.kernel_size; 2]);
        options.stride = [self.stride; 2];
        max_pool2d(input, options)
    }
}

/// Settings of [`AvgPooling`].
#[derive(Config, Debug)]
pub struct AvgPoolingConfig {
    /// Height and width of the window; at least 1.
    pub kernel_size: usize,
    /// Step of the window in both directions; the kernel size if not given.
    pub stride: Option<usize>,
}

/// The mean of each window, as `torch.nn.AvgPool2d` without padding: a window that would reach over the border is left
/// out.
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
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a value out of its range.
    pub fn init(&self) -> Result<AvgPooling, Error> {
        let stride = self.stride.unwrap_or(self.kernel_size);
        check(self.kernel_size > 0, "AvgPoolingConfig.kernel_size", "at least 1", self.kernel_size)?;
        check(stride > 0, "AvgPoolingConfig.stride", "at least 1", stride)?;
        Ok(AvgPooling { kernel_size: self.kernel_size, stride })
    }
}

impl Forward<Tensor<4>> for AvgPooling {
    type Output = Tensor<4>;

    /// `[batch, channels, height, width]` to `[batch, channels, height', width']` with
    /// height' = ⌊(height − kernel_size) / stride⌋ + 1, likewise the width.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let mut options = AvgPoolOptions::new([self.kernel_size; 2]);
        options.stride = [self.stride; 2];
        avg_pool2d(input, options)
    }
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
