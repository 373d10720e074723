//! Mirror images.

use firebox_core::SampleRng;

use super::{check_p, stage};
use crate::error::Error;
use crate::image::Image;

/// Mirrors an image from left to right, with a probability.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::RandomHorizontalFlip;
/// use firebox_vision::{ColorMode, Image};
///
/// let image = Image::new(1, 2, ColorMode::Rgb, vec![1, 2, 3, 4, 5, 6])?;
/// let flip = RandomHorizontalFlip::new().with_p(1.0).build()?;
/// assert_eq!(flip.apply(image, &mut SampleRng::from_seed(0))?.pixels(), [4, 5, 6, 1, 2, 3]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RandomHorizontalFlip {
    p: f32,
}

/// Mirrors an image from top to bottom, with a probability.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::RandomVerticalFlip;
/// use firebox_vision::{ColorMode, Image};
///
/// let image = Image::new(2, 1, ColorMode::Gray, vec![1, 2])?;
/// let flip = RandomVerticalFlip::new().with_p(1.0).build()?;
/// assert_eq!(flip.apply(image, &mut SampleRng::from_seed(0))?.pixels(), [2, 1]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RandomVerticalFlip {
    p: f32,
}

impl RandomHorizontalFlip {
    /// One image of two.
    pub fn new() -> Self {
        RandomHorizontalFlip { p: 0.5 }
    }

    /// The probability. Default: 0.5.
    pub fn with_p(self, p: f32) -> Self {
        RandomHorizontalFlip { p }
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the probability is none.
    pub fn build(self) -> Result<Self, Error> {
        check_p("p", self.p)?;
        Ok(self)
    }

    fn transform(&self, mut image: Image, rng: &mut SampleRng) -> Result<Image, Error> {
        if rng.chance(self.p) {
            let (width, channels) = (image.width(), image.channels());
            for row in image.pixels_mut().chunks_exact_mut(width * channels) {
                match channels {
                    3 => row.as_chunks_mut::<3>().0.reverse(),
                    _ => row.reverse(),
                }
            }
        }
        Ok(image)
    }
}

impl RandomVerticalFlip {
    /// One image of two.
    pub fn new() -> Self {
        RandomVerticalFlip { p: 0.5 }
    }

    /// The probability. Default: 0.5.
    pub fn with_p(self, p: f32) -> Self {
        RandomVerticalFlip { p }
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the probability is none.
    pub fn build(self) -> Result<Self, Error> {
        check_p("p", self.p)?;
        Ok(self)
    }

    fn transform(&self, mut image: Image, rng: &mut SampleRng) -> Result<Image, Error> {
        if rng.chance(self.p) {
            let (height, bytes) = (image.height(), image.width() * image.channels());
            let (upper, lower) = image.pixels_mut().split_at_mut(height / 2 * bytes);
            let below = lower.chunks_exact_mut(bytes).rev();
            upper.chunks_exact_mut(bytes).zip(below).for_each(|(row, other)| row.swap_with_slice(other));
        }
        Ok(image)
    }
}

impl Default for RandomHorizontalFlip {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for RandomVerticalFlip {
    fn default() -> Self {
        Self::new()
    }
}

stage!(RandomHorizontalFlip);
stage!(RandomVerticalFlip);
