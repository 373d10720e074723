//! Colors changed at random.

use firebox_core::SampleRng;

use super::grayscale::gray;
use super::stage;
use crate::error::{Error, check};
use crate::image::{ColorMode, Image};

/// Changes brightness, contrast, saturation and hue at random, in a random order.
///
/// The arithmetic is that of torchvision's tensors of 8 bits: in `f32`, cut off after each of the four.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::ColorJitter;
/// use firebox_vision::{ColorMode, Image};
///
/// let image = Image::new(1, 1, ColorMode::Rgb, vec![100, 150, 200])?;
/// let jitter = ColorJitter::new().with_brightness_range(0.5, 0.5).build()?;
/// assert_eq!(jitter.apply(image, &mut SampleRng::from_seed(0))?.pixels(), [50, 75, 100]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ColorJitter {
    brightness: Option<(f64, f64)>,
    contrast: Option<(f64, f64)>,
    saturation: Option<(f64, f64)>,
    hue: Option<(f64, f64)>,
}

/// The range about 1 that a number stands for.
fn about_one(value: f64) -> Option<(f64, f64)> {
    // A number that is none is kept for `build` to refuse.
    let least = if value < 0.0 { value } else { (1.0 - value).max(0.0) };
    Some((least, 1.0 + value))
}

impl ColorJitter {
    /// Nothing, as it stands.
    pub fn new() -> Self {
        ColorJitter::default()
    }

    /// A factor from max(0, 1 − `value`) to 1 + `value`.
    pub fn with_brightness(self, value: f64) -> Self {
        ColorJitter { brightness: about_one(value), ..self }
    }

    /// A factor of this range.
    pub fn with_brightness_range(self, least: f64, largest: f64) -> Self {
        ColorJitter { brightness: Some((least, largest)), ..self }
    }

    /// A factor from max(0, 1 − `value`) to 1 + `value`.
    pub fn with_contrast(self, value: f64) -> Self {
        ColorJitter { contrast: about_one(value), ..self }
    }

    /// A factor of this range.
    pub fn with_contrast_range(self, least: f64, largest: f64) -> Self {
        ColorJitter { contrast: Some((least, largest)), ..self }
    }

    /// A factor from max(0, 1 − `value`) to 1 + `value`.
    pub fn with_saturation(self, value: f64) -> Self {
        ColorJitter { saturation: about_one(value), ..self }
    }

    /// A factor of this range.
    pub fn with_saturation_range(self, least: f64, largest: f64) -> Self {
        ColorJitter { saturation: Some((least, largest)), ..self }
    }

    /// A part of a turn around the circle of colors, from −`value` to `value`.
    ///
    /// It is at most 0.5.
    pub fn with_hue(self, value: f64) -> Self {
        ColorJitter { hue: Some((-value, value)), ..self }
    }

    /// A part of a turn of this range, within −0.5 and 0.5.
    pub fn with_hue_range(self, least: f64, largest: f64) -> Self {
        ColorJitter { hue: Some((least, largest)), ..self }
    }

    /// The stage, with its settings checked.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if a factor may be negative, a turn may be
    /// more than a half, or a range is none.
    pub fn build(self) -> Result<Self, Error> {
        for (field, range, (from, to)) in [
            ("brightness", self.brightness, (0.0, f64::MAX)),
            ("contrast", self.contrast, (0.0, f64::MAX)),
            ("saturation", self.saturation, (0.0, f64::MAX)),
            ("hue", self.hue, (-0.5, 0.5)),
        ] {
            let Some((least, largest)) = range else { continue };
            let expected = match field {
                "hue" => "a range within -0.5 and 0.5",
                _ => "a range of numbers that are not negative",
            };
            let holds = from <= least && least <= largest && largest <= to;
            check(holds, field, expected, format_args!("{least} to {largest}"))?;
        }
        Ok(self)
    }

    fn transform(&self, mut image: Image, rng: &mut SampleRng) -> Result<Image, Error> {
        let mut order = [0, 1, 2, 3];
        for last in (1..4).rev() {
            order.swap(last, rng.below(last as u64 + 1) as usize);
        }
        let ranges = [self.brightness, self.contrast, self.saturation, self.hue];
        let factors = ranges.map(|range| {
            range.map(|(least, largest)| (least + (largest - least) * rng.uniform_f64()) as f32)
        });
        for which in order {
            let Some(factor) = factors[which] else { continue };
            match which {
                0 => brightness(&mut image, factor),
                1 => contrast(&mut image, factor),
                2 => saturation(&mut image, factor),
                _ => hue(&mut image, factor),
            }
        }
        Ok(image)
    }
}

/// `factor` of one and the rest of the other, cut off to 8 bits.
fn blend(value: u8, other: f32, factor: f32) -> u8 {
    (factor * f32::from(value) + (1.0 - factor) * other).clamp(0.0, 255.0) as u8
}

fn brightness(image: &mut Image, factor: f32) {
    image.pixels_mut().iter_mut().for_each(|value| *value = blend(*value, 0.0, factor));
}

fn contrast(image: &mut Image, factor: f32) {
    let sum: u64 = match image.mode() {
        ColorMode::Gray => image.pixels().iter().map(|value| u64::from(*value)).sum(),
        ColorMode::Rgb => image.pixels().as_chunks::<3>().0.iter().map(|pixel| gray(*pixel) as u64).sum(),
    };
    let mean = (sum as f64 / (image.height() * image.width()) as f64) as f32;
    image.pixels_mut().iter_mut().for_each(|value| *value = blend(*value, mean, factor));
}

fn saturation(image: &mut Image, factor: f32) {
    if image.mode() == ColorMode::Rgb {
        for pixel in image.pixels_mut().as_chunks_mut::<3>().0 {
            let gray = gray(*pixel).floor();
            *pixel = pixel.map(|value| blend(value, gray, factor));
        }
    }
}

fn hue(image: &mut Image, turn: f32) {
    if image.mode() == ColorMode::Rgb {
        for pixel in image.pixels_mut().as_chunks_mut::<3>().0 {
            *pixel = turned(*pixel, turn);
        }
    }
}

/// Torchvision's way to HSV, around, and back.
fn turned(pixel: [u8; 3], turn: f32) -> [u8; 3] {
    let [red, green, blue] = pixel.map(|value| f32::from(value) / 255.0);
    let (value, least) = (red.max(green).max(blue), red.min(green).min(blue));
    let range = value - least;
    if range == 0.0 {
        return pixel;
    }
    let saturation = range / value;
    let [from_red, from_green, from_blue] = [red, green, blue].map(|channel| (value - channel) / range);
    let sixths = if value == red {
        from_blue - from_green
    } else if value == green {
        2.0 + from_red - from_blue
    } else {
        4.0 + from_green - from_red
    };
    let hue = ((sixths / 6.0 + 1.0).fract() + turn).rem_euclid(1.0);
    let sixths = hue * 6.0;
    let (sector, rest) = (sixths.floor(), sixths - sixths.floor());
    let low = (value * (1.0 - saturation)).clamp(0.0, 1.0);
    let falling = (value * (1.0 - saturation * rest)).clamp(0.0, 1.0);
    let rising = (value * (1.0 - saturation * (1.0 - rest))).clamp(0.0, 1.0);
    let turned = match sector as u32 % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    };
    turned.map(|channel| (channel * 255.999) as u8)
}

stage!(ColorJitter);
