//! PNG, WebP, GIF, BMP and TIFF, by the crate image.

use std::io::Cursor;

use image::error::{ImageError, LimitErrorKind};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{Decode, Format, luma, one_line, orient};
use crate::error::{Error, ErrorKind, too_large};
use crate::image::{ColorMode, Image};

/// Bytes that a decoder may have beside its pixels.
const MARGIN: u64 = 16 << 20;

pub(super) fn decode(bytes: &[u8], format: Format, settings: &Decode) -> Result<Image, Error> {
    let known = match format {
        Format::Png => ImageFormat::Png,
        Format::WebP => ImageFormat::WebP,
        Format::Gif => ImageFormat::Gif,
        Format::Bmp => ImageFormat::Bmp,
        Format::Tiff => ImageFormat::Tiff,
        Format::Jpeg => ImageFormat::Jpeg,
    };
    let failed = |error| failed(format, error);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), known);
    let side = u32::try_from(settings.max_side).unwrap_or(u32::MAX);
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(side);
    limits.max_image_height = Some(side);
    // Up to 8 bytes a pixel, twice.
    limits.max_alloc = Some((settings.max_pixels as u64).saturating_mul(16).saturating_add(MARGIN));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let (height, width) = (height as usize, width as usize);
    settings.check_size(height, width)?;
    let color = decoder.color_type();
    if matches!(color, ColorType::Rgb32F | ColorType::Rgba32F) {
        let text = format!("{format}: expected 8 or 16 bits a channel, got floating-point numbers");
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let orientation = match settings.orientation {
        true => decoder.orientation().map_err(failed)?,
        false => Orientation::NoTransforms,
    };
    // At most 8 bytes a pixel, of which there are not too many.
    let mut raw = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut raw).map_err(failed)?;
    let pixels = convert(raw, color, settings.mode).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("{format}: expected gray or RGB, got {color:?}"))
    })?;
    orient::orient(Image::new(height, width, settings.mode, pixels)?, orientation)
}

/// The high bytes of the channels that are kept.
fn convert(raw: Vec<u8>, color: ColorType, mode: ColorMode) -> Option<Vec<u8>> {
    // Samples of 16 bits are in the machine's order.
    let high = |bytes: &[u8], channel: usize| match bytes.get(2 * channel..2 * channel + 2) {
        Some(&[first, second]) => (u16::from_ne_bytes([first, second]) >> 8) as u8,
        _ => 0,
    };
    let gray = |stride: usize, of: &dyn Fn(&[u8]) -> u8| -> Vec<u8> {
        let pixels = raw.chunks_exact(stride).map(of);
        match mode {
            ColorMode::Gray => pixels.collect(),
            ColorMode::Rgb => pixels.flat_map(|value| [value; 3]).collect(),
        }
    };
    let rgb = |stride: usize, of: &dyn Fn(&[u8]) -> [u8; 3]| -> Vec<u8> {
        let pixels = raw.chunks_exact(stride).map(of);
        match mode {
            ColorMode::Gray => pixels.map(luma).collect(),
            ColorMode::Rgb => pixels.flatten().collect(),
        }
    };
    Some(match (color, mode) {
        (ColorType::L8, ColorMode::Gray) | (ColorType::Rgb8, ColorMode::Rgb) => raw,
        (ColorType::L8, _) => gray(1, &|pixel| pixel[0]),
        (ColorType::La8, _) => gray(2, &|pixel| pixel[0]),
        (ColorType::L16, _) => gray(2, &|pixel| high(pixel, 0)),
        (ColorType::La16, _) => gray(4, &|pixel| high(pixel, 0)),
        (ColorType::Rgb8, _) => rgb(3, &|pixel| [pixel[0], pixel[1], pixel[2]]),
        (ColorType::Rgba8, _) => rgb(4, &|pixel| [pixel[0], pixel[1], pixel[2]]),
        (ColorType::Rgb16, _) => rgb(6, &|pixel| [0, 1, 2].map(|channel| high(pixel, channel))),
        (ColorType::Rgba16, _) => rgb(8, &|pixel| [0, 1, 2].map(|channel| high(pixel, channel))),
        _ => return None,
    })
}

fn failed(format: Format, error: ImageError) -> Error {
    let text = format_args!("{format}: {error}");
    match &error {
        ImageError::Limits(limit) => {
            let got = match limit.kind() {
                LimitErrorKind::DimensionError => "longer sides",
                _ => "an image that needs more memory",
            };
            too_large("image", "a size within the limits", one_line(format_args!("{got}: {error}")))
        }
        ImageError::Unsupported(_) => Error::new(ErrorKind::Unsupported, one_line(text)),
        _ => Error::new(ErrorKind::Format, one_line(text)),
    }
}
