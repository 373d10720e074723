//! Crops at random places.

use firebox_core::SampleRng;

use super::pad::{Padding, PaddingMode, pad};
use super::size::Size;
use super::stage;
use crate::error::{Error, ErrorKind};
use crate::image::{CropBox, Image};

/// Cuts a part of one size out of an image, at a random place.
///
/// # Augment small images
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::RandomCrop;
/// use firebox_vision::{ColorMode, Image};
///
/// let image = Image::filled(32, 32, ColorMode::Rgb, 9)?;
/// let crop = RandomCrop::new(32).with_padding(4).build()?;
/// assert_eq!(crop.apply(image, &mut SampleRng::from_seed(0))?.height(), 32);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RandomCrop {
    size: Size,
    padding: Padding,
    pad_if_needed: bool,
    fill: [u8; 3],
    mode: PaddingMode,
}

impl RandomCrop {
    /// Of this size.
    pub fn new(size: impl Into<Size>) -> Self {
        RandomCrop {
            size: size.into(),
            padding: Padding::default(),
            pad_if_needed: false,
            fill: [0; 3],
            mode: PaddingMode::Constant,
        }
    }

    /// A border that the image gets first. Default: none.
    pub fn with_padding(self, padding: impl Into<Padding>) -> Self {
        RandomCrop { padding: padding.into(), ..self }
    }

    /// Sets whether a smaller image is padded. Default: no, it is an error.
    ///
    /// As in torchvision, each of the two sides gets as much as is missing, so that the place is random.
    pub fn with_pad_if_needed(self, pad: bool) -> Self {
        RandomCrop { pad_if_needed: pad, ..self }
    }

    /// The color of a constant border. Default: 0.
    pub fn with_fill(self, fill: [u8; 3]) -> Self {
        RandomCrop { fill, ..self }
    }

    /// The pixels of the border. Default: constant.
    pub fn with_padding_mode(self, mode: PaddingMode) -> Self {
        RandomCrop { mode, ..self }
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if the size is 0.
    pub fn build(self) -> Result<Self, Error> {
        self.size.check("size")?;
        Ok(self)
    }

    fn transform(&self, image: Image, rng: &mut SampleRng) -> Result<Image, Error> {
        let Size { height, width } = self.size;
        let Padding { left, top, right, bottom } = self.padding;
        let mut padding = self.padding;
        let rows = image.height().saturating_add(top).saturating_add(bottom);
        let columns = image.width().saturating_add(left).saturating_add(right);
        if self.pad_if_needed {
            let (more_rows, more_columns) = (height.saturating_sub(rows), width.saturating_sub(columns));
            padding = Padding {
                left: left.saturating_add(more_columns),
                top: top.saturating_add(more_rows),
                right: right.saturating_add(more_columns),
                bottom: bottom.saturating_add(more_rows),
            };
        } else if rows < height || columns < width {
            let text = format!("random crop: expected at least {height}×{width}, got {rows}×{columns}");
            return Err(Error::new(ErrorKind::Shape, text));
        }
        let image = pad(image, padding, self.mode, self.fill)?;
        let top = rng.below((image.height() - height) as u64 + 1) as usize;
        let left = rng.below((image.width() - width) as u64 + 1) as usize;
        image.crop(CropBox { top, left, height, width })
    }
}

stage!(RandomCrop);
