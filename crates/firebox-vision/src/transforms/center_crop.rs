//! The middle of an image.

use firebox_core::SampleRng;

use super::pad::{Padding, PaddingMode, pad};
use super::size::{Size, half_to_even};
use super::stage;
use crate::error::Error;
use crate::image::{CropBox, Image};

/// Cuts out the middle of an image. A smaller image is padded with zeros first.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::CenterCrop;
/// use firebox_vision::{ColorMode, Image};
///
/// let image = Image::new(1, 4, ColorMode::Gray, vec![1, 2, 3, 4])?;
/// let middle = CenterCrop::new([3, 2]).build()?.apply(image, &mut SampleRng::from_seed(0))?;
/// assert_eq!(middle.pixels(), [0, 0, 2, 3, 0, 0]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CenterCrop {
    size: Size,
}

impl CenterCrop {
    /// Of this size.
    pub fn new(size: impl Into<Size>) -> Self {
        CenterCrop { size: size.into() }
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the size is 0.
    pub fn build(self) -> Result<Self, Error> {
        self.size.check("size")?;
        Ok(self)
    }

    fn transform(&self, image: Image, _: &mut SampleRng) -> Result<Image, Error> {
        let Size { height, width } = self.size;
        let (rows, columns) = (height.saturating_sub(image.height()), width.saturating_sub(image.width()));
        let padding = Padding {
            left: columns / 2,
            top: rows / 2,
            right: columns.div_ceil(2),
            bottom: rows.div_ceil(2),
        };
        let image = pad(image, padding, PaddingMode::Constant, [0; 3])?;
        let top = half_to_even(image.height() - height);
        let left = half_to_even(image.width() - width);
        image.crop(CropBox { top, left, height, width })
    }
}

stage!(CenterCrop);
