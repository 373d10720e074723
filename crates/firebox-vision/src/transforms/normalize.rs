//! The last stage: from 8-bit pixels to numbers in the batch.

use firebox_core::{BoxError, SampleRng};
use firebox_data::transform::Write;
use firebox_data::{Scalar, Stack};

use super::size::Size;
use crate::error::{Error, ErrorKind, check};
use crate::image::Image;

/// ImageNet's mean of each channel.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation of each channel.
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Writes images into the batch: (pixel / 255 − mean) / std, channel by channel.
///
/// It is torchvision's `ToTensor` and `Normalize` in one pass, from 8-bit pixels side by side to `f32` in the
/// order channels, height, width: a division by 255, a difference and a division, each rounded to `f32`. An
/// image of another size is an error.
///
/// # Write images with labels
/// ```
/// use firebox_data::Loader;
/// use firebox_vision::transforms::Normalize;
/// use firebox_vision::{ColorMode, Image};
///
/// let images = vec![(Image::new(1, 2, ColorMode::Gray, vec![0, 255])?, 7i64)];
/// let normalize = Normalize::new([1, 2], &[0.5], &[0.25]).build()?;
/// let loader = Loader::builder(images).build_with(normalize.labeled_layout(), normalize)?;
/// let (pixels, labels) = loader.epoch(0).next().unwrap()?;
/// assert_eq!((&*pixels.values, pixels.shape, &*labels), (&[-2.0, 2.0][..], [1, 1, 2], &[7][..]));
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Normalize {
    size: Size,
    mean: Vec<f32>,
    std: Vec<f32>,
    /// For each channel, the number that a byte becomes.
    numbers: Vec<[f32; 256]>,
}

impl Normalize {
    /// For images of this size, with as many channels as there are means.
    pub fn new(size: impl Into<Size>, mean: &[f32], std: &[f32]) -> Self {
        let number = |byte: usize, mean: f32, std: f32| (byte as f32 / 255.0 - mean) / std;
        let numbers = std::iter::zip(mean, std)
            .map(|(mean, std)| std::array::from_fn(|byte| number(byte, *mean, *std)))
            .collect();
        Normalize { size: size.into(), mean: mean.to_vec(), std: std.to_vec(), numbers }
    }

    /// With ImageNet's means and deviations, which pretrained networks expect.
    pub fn imagenet(size: impl Into<Size>) -> Self {
        Self::new(size, &IMAGENET_MEAN, &IMAGENET_STD)
    }

    /// From 0 to 1, for this number of channels: no mean, no deviation.
    pub fn unit(size: impl Into<Size>, channels: usize) -> Self {
        Self::new(size, &vec![0.0; channels], &vec![1.0; channels])
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if the size is 0, there are neither 1 nor 3 channels, another number of
    /// deviations than of means, or a number that no pixel can be divided by.
    pub fn build(self) -> Result<Self, Error> {
        self.size.check("size")?;
        let channels = self.mean.len();
        check(matches!(channels, 1 | 3), "mean", "1 or 3 channels", channels)?;
        let expected = format_args!("as many as means, {channels}");
        check(self.std.len() == channels, "std", expected, self.std.len())?;
        for (mean, std) in std::iter::zip(&self.mean, &self.std) {
            check(mean.is_finite(), "mean", "a finite number", mean)?;
            check(std.is_finite() && *std > 0.0, "std", "a finite number above 0", std)?;
        }
        Ok(self)
    }

    /// The layout that it writes into: channels, height, width.
    pub fn layout(&self) -> Stack<f32, 3> {
        Stack::new([self.mean.len(), self.size.height, self.size.width])
    }

    /// The layout for images with labels.
    pub fn labeled_layout(&self) -> (Stack<f32, 3>, Scalar<i64>) {
        (self.layout(), Scalar::new())
    }

    fn fill(&self, image: &Image, slot: &mut [f32]) -> Result<(), Error> {
        let (height, width, channels) = (self.size.height, self.size.width, self.numbers.len());
        let got = (image.height(), image.width(), image.channels());
        let plane = height * width;
        if got != (height, width, channels) || slot.len() != plane * channels {
            let text = format!(
                "normalize: expected {height}×{width}×{channels} in a slot of {} numbers, got {}×{}×{} in one of {}",
                plane * channels,
                got.0,
                got.1,
                got.2,
                slot.len()
            );
            return Err(Error::new(ErrorKind::Shape, text));
        }
        match &*self.numbers {
            [gray] => {
                for (to, from) in slot.iter_mut().zip(image.pixels()) {
                    *to = gray[usize::from(*from)];
                }
            }
            [red, green, blue] => {
                let (reds, rest) = slot.split_at_mut(plane);
                let (greens, blues) = rest.split_at_mut(plane);
                let pixels = image.pixels().as_chunks::<3>().0;
                for (((r, g), b), pixel) in reds.iter_mut().zip(greens).zip(blues).zip(pixels) {
                    *r = red[usize::from(pixel[0])];
                    *g = green[usize::from(pixel[1])];
                    *b = blue[usize::from(pixel[2])];
                }
            }
            _ => {
                let text = format!("normalize: expected 1 or 3 channels, got {channels}");
                return Err(Error::new(ErrorKind::Shape, text));
            }
        }
        Ok(())
    }
}

impl Write<Image, Stack<f32, 3>> for Normalize {
    fn write(&self, image: Image, _: &mut SampleRng, slot: &mut [f32]) -> Result<(), BoxError> {
        Ok(self.fill(&image, slot)?)
    }
}

impl<T> Write<(Image, T), (Stack<f32, 3>, Scalar<T>)> for Normalize
where
    T: Clone + Default + Send + 'static,
{
    fn write(
        &self,
        (image, label): (Image, T),
        _: &mut SampleRng,
        (slot, target): (&mut [f32], &mut T),
    ) -> Result<(), BoxError> {
        self.fill(&image, slot)?;
        *target = label;
        Ok(())
    }
}
