//! Crops of random size and shape, resized.

use firebox_core::SampleRng;

use super::resample::{Interpolation, resample};
use super::size::Size;
use super::stage;
use crate::error::{Error, check};
use crate::image::{CropBox, Image};

/// How often a box is drawn, before the middle of the image is taken.
const TRIES: usize = 10;

/// Cuts out a part of random area and aspect ratio, and resizes it.
///
/// The area is uniform, the logarithm of the ratio of width to height is uniform; a box that doesn't fit is
/// drawn again, ten times. Then the middle is taken, with the nearest ratio that is allowed.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::RandomResizedCrop;
/// use firebox_vision::{ColorMode, Image};
///
/// let photo = Image::filled(375, 500, ColorMode::Rgb, 9)?;
/// let crop = RandomResizedCrop::new(224).with_scale(0.25, 1.0).build()?;
/// let part = crop.apply(photo, &mut SampleRng::from_seed(0))?;
/// assert_eq!((part.height(), part.width()), (224, 224));
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RandomResizedCrop {
    size: Size,
    scale: (f64, f64),
    ratio: (f64, f64),
    interpolation: Interpolation,
    antialias: bool,
}

impl RandomResizedCrop {
    /// To this size: areas from 0.08 to 1, ratios from 3/4 to 4/3, bilinear with antialiasing.
    pub fn new(size: impl Into<Size>) -> Self {
        RandomResizedCrop {
            size: size.into(),
            scale: (0.08, 1.0),
            ratio: (3.0 / 4.0, 4.0 / 3.0),
            interpolation: Interpolation::Bilinear,
            antialias: true,
        }
    }

    /// The least and the largest part of the area.
    pub fn with_scale(self, least: f64, largest: f64) -> Self {
        RandomResizedCrop { scale: (least, largest), ..self }
    }

    /// The least and the largest ratio of width to height.
    pub fn with_ratio(self, least: f64, largest: f64) -> Self {
        RandomResizedCrop { ratio: (least, largest), ..self }
    }

    /// The interpolation. Default: bilinear.
    pub fn with_interpolation(self, interpolation: Interpolation) -> Self {
        RandomResizedCrop { interpolation, ..self }
    }

    /// Sets whether filters widen where the part becomes smaller. Default: yes.
    pub fn with_antialias(self, antialias: bool) -> Self {
        RandomResizedCrop { antialias, ..self }
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the size is 0, or a range is not one of
    /// positive numbers from the least to the largest.
    pub fn build(self) -> Result<Self, Error> {
        self.size.check("size")?;
        for (field, (least, largest)) in [("scale", self.scale), ("ratio", self.ratio)] {
            let holds = least > 0.0 && least <= largest && largest.is_finite();
            let got = format_args!("{least} to {largest}");
            check(holds, field, "positive numbers, the least first", got)?;
        }
        Ok(self)
    }

    /// The part of an image of this height and width that is cut out.
    pub fn crop_box(&self, height: usize, width: usize, rng: &mut SampleRng) -> CropBox {
        let uniform = |rng: &mut SampleRng, (from, to): (f64, f64)| from + (to - from) * rng.uniform_f64();
        let area = height as f64 * width as f64;
        let logs = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..TRIES {
            let target = area * uniform(rng, self.scale);
            let ratio = uniform(rng, logs).exp();
            // Python rounds halves to the even number.
            let columns = (target * ratio).sqrt().round_ties_even() as usize;
            let rows = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&columns) && (1..=height).contains(&rows) {
                let top = rng.below((height - rows) as u64 + 1) as usize;
                let left = rng.below((width - columns) as u64 + 1) as usize;
                return CropBox { top, left, height: rows, width: columns };
            }
        }
        let ratio = width as f64 / height as f64;
        let (rows, columns) = if ratio < self.ratio.0 {
            ((width as f64 / self.ratio.0).round_ties_even() as usize, width)
        } else if ratio > self.ratio.1 {
            (height, (height as f64 * self.ratio.1).round_ties_even() as usize)
        } else {
            (height, width)
        };
        let (rows, columns) = (rows.clamp(1, height.max(1)), columns.clamp(1, width.max(1)));
        let (top, left) = (height.saturating_sub(rows) / 2, width.saturating_sub(columns) / 2);
        CropBox { top, left, height: rows, width: columns }
    }

    fn transform(&self, image: Image, rng: &mut SampleRng) -> Result<Image, Error> {
        let part = self.crop_box(image.height(), image.width(), rng);
        resample(image, part, self.size, self.interpolation, self.antialias)
    }
}

stage!(RandomResizedCrop);
