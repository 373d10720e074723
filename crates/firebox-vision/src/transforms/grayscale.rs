//! Images without color.

use firebox_core::SampleRng;

use super::{check_p, stage};
use crate::error::{Error, check};
use crate::image::{ColorMode, Image};

/// Torchvision's gray of a pixel, before it is cut to 8 bits.
pub(super) fn gray([red, green, blue]: [u8; 3]) -> f32 {
    0.2989 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue)
}

/// Takes the color out of an image: 0.2989 red, 0.587 green, 0.114 blue, cut off to 8 bits.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::Grayscale;
/// use firebox_vision::{ColorMode, Image};
///
/// let red = Image::new(1, 1, ColorMode::Rgb, vec![255, 0, 0])?;
/// assert_eq!(Grayscale::new().apply(red, &mut SampleRng::from_seed(0))?.pixels(), [76]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Grayscale {
    channels: usize,
}

impl Grayscale {
    /// To one channel.
    pub fn new() -> Self {
        Grayscale { channels: 1 }
    }

    /// The number of channels, all alike: 1 or 3. Default: 1.
    pub fn with_num_output_channels(self, channels: usize) -> Self {
        Grayscale { channels }
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if there are neither 1 nor 3 channels.
    pub fn build(self) -> Result<Self, Error> {
        check(matches!(self.channels, 1 | 3), "output channels", "1 or 3", self.channels)?;
        Ok(self)
    }

    fn transform(&self, image: Image, _: &mut SampleRng) -> Result<Image, Error> {
        let (height, width) = (image.height(), image.width());
        match (image.mode(), self.channels) {
            (ColorMode::Gray, 3) => {
                let pixels = image.pixels().iter().flat_map(|pixel| [*pixel; 3]).collect();
                Image::new(height, width, ColorMode::Rgb, pixels)
            }
            (ColorMode::Gray, _) => Ok(image),
            (ColorMode::Rgb, 3) => Ok(without_color(image)),
            (ColorMode::Rgb, _) => {
                let pixels =
                    image.pixels().as_chunks::<3>().0.iter().map(|pixel| gray(*pixel) as u8).collect();
                Image::new(height, width, ColorMode::Gray, pixels)
            }
        }
    }
}

impl Default for Grayscale {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes the color out of an image, with a probability.
///
/// It keeps its number of channels.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::RandomGrayscale;
/// use firebox_vision::{ColorMode, Image};
///
/// let red = Image::new(1, 1, ColorMode::Rgb, vec![255, 0, 0])?;
/// let gray = RandomGrayscale::new().with_p(1.0).build()?;
/// assert_eq!(gray.apply(red, &mut SampleRng::from_seed(0))?.pixels(), [76, 76, 76]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RandomGrayscale {
    p: f32,
}

impl RandomGrayscale {
    /// One image of ten.
    pub fn new() -> Self {
        RandomGrayscale { p: 0.1 }
    }

    /// The probability. Default: 0.1.
    pub fn with_p(self, p: f32) -> Self {
        RandomGrayscale { p }
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the probability is none.
    pub fn build(self) -> Result<Self, Error> {
        check_p("p", self.p)?;
        Ok(self)
    }

    fn transform(&self, image: Image, rng: &mut SampleRng) -> Result<Image, Error> {
        Ok(if rng.chance(self.p) { without_color(image) } else { image })
    }
}

impl Default for RandomGrayscale {
    fn default() -> Self {
        Self::new()
    }
}

fn without_color(mut image: Image) -> Image {
    if image.mode() == ColorMode::Rgb {
        image
            .pixels_mut()
            .as_chunks_mut::<3>()
            .0
            .iter_mut()
            .for_each(|pixel| *pixel = [gray(*pixel) as u8; 3]);
    }
    image
}

stage!(Grayscale);
stage!(RandomGrayscale);
