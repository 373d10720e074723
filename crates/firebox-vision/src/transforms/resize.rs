//! Resizing of whole images.

use firebox_core::SampleRng;

use super::resample::{Interpolation, resample};
use super::size::Size;
use super::stage;
use crate::error::{Error, check};
use crate::image::{CropBox, Image};

/// Resizes an image: to a height and a width, or its shorter side to a length.
///
/// Resampling is fast_image_resize's, with [PIL's filters](Interpolation).
///
/// # Resize the shorter side
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::Resize;
/// use firebox_vision::{ColorMode, Image};
///
/// let photo = Image::filled(375, 500, ColorMode::Rgb, 9)?;
/// let resized = Resize::shorter_side(256).build()?.apply(photo, &mut SampleRng::from_seed(0))?;
/// assert_eq!((resized.height(), resized.width()), (256, 341));
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Resize {
    to: To,
    max_size: Option<usize>,
    interpolation: Interpolation,
    antialias: bool,
}

#[derive(Clone, Copy, Debug)]
enum To {
    Size(Size),
    ShorterSide(usize),
}

impl Resize {
    /// To a size, whatever the shape: torchvision's `Resize((height, width))`.
    pub fn new(size: impl Into<Size>) -> Self {
        Self::to(To::Size(size.into()))
    }

    /// The shorter side to a length, the other one in proportion: torchvision's `Resize(length)`.
    pub fn shorter_side(length: usize) -> Self {
        Self::to(To::ShorterSide(length))
    }

    fn to(to: To) -> Self {
        Resize { to, max_size: None, interpolation: Interpolation::Bilinear, antialias: true }
    }

    /// The most that the longer side may become, where the shorter one has a length. Default: no limit.
    pub fn with_max_size(self, length: usize) -> Self {
        Resize { max_size: Some(length), ..self }
    }

    /// The interpolation. Default: bilinear.
    pub fn with_interpolation(self, interpolation: Interpolation) -> Self {
        Resize { interpolation, ..self }
    }

    /// Sets whether filters widen where the image becomes smaller. Default: yes.
    ///
    /// Without it a cubic filter keeps a = −0.5, where PyTorch has −0.75.
    pub fn with_antialias(self, antialias: bool) -> Self {
        Resize { antialias, ..self }
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if a size is 0, or if there is a longest side
    /// that is not longer than the shorter one, or that is not asked for.
    pub fn build(self) -> Result<Self, Error> {
        match (self.to, self.max_size) {
            (To::Size(size), max_size) => {
                size.check("size")?;
                let got = max_size.unwrap_or_default();
                check(max_size.is_none(), "max size", "none beside a height and a width", got)?;
            }
            (To::ShorterSide(length), max_size) => {
                check(length > 0, "size", "at least 1", length)?;
                let max = max_size.unwrap_or(usize::MAX);
                check(max > length, "max size", format_args!("more than {length}"), max)?;
            }
        }
        Ok(self)
    }

    /// The size that an image of this height and width gets.
    pub fn output_size(&self, height: usize, width: usize) -> Size {
        let length = match self.to {
            To::Size(size) => return size,
            To::ShorterSide(length) => length,
        };
        let (short, long) = (height.min(width), height.max(width));
        let scale = |by: usize, side: usize, of: usize| {
            // As Python's int(by * side / of).
            usize::try_from(by as u128 * side as u128 / of.max(1) as u128).unwrap_or(usize::MAX)
        };
        let (mut new_short, mut new_long) = (length, scale(length, long, short));
        if let Some(max) = self.max_size.filter(|max| new_long > *max) {
            (new_short, new_long) = (scale(max, new_short, new_long).max(1), max);
        }
        match width <= height {
            true => Size { height: new_long, width: new_short },
            false => Size { height: new_short, width: new_long },
        }
    }

    fn transform(&self, image: Image, _: &mut SampleRng) -> Result<Image, Error> {
        let (height, width) = (image.height(), image.width());
        let whole = CropBox { top: 0, left: 0, height, width };
        resample(image, whole, self.output_size(height, width), self.interpolation, self.antialias)
    }
}

stage!(Resize);
