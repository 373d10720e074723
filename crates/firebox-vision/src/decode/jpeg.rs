//! JPEG: its markers are looked at first, then zune-jpeg decodes.

use std::borrow::Cow;

use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Decode, luma, one_line, orient};
use crate::error::{Error, ErrorKind, too_large};
use crate::image::{ColorMode, Image};

/// The most pixels of one byte of a file.
///
/// Each block of 8 × 8 pixels takes at least one bit, of the scan with its mean.
const MAX_PIXELS_PER_BYTE: usize = 512;

pub(super) fn decode(bytes: &[u8], settings: &Decode) -> Result<Image, Error> {
    let header = Header::read(bytes)?;
    let (height, width) = (header.height, header.width);
    settings.check_size(height, width)?;
    if height * width > bytes.len().saturating_mul(MAX_PIXELS_PER_BYTE) {
        let most = bytes.len().saturating_mul(MAX_PIXELS_PER_BYTE);
        let expected = format_args!("at most {most} pixels in a file of {} bytes", bytes.len());
        return Err(too_large("JPEG", expected, format_args!("{height}×{width}")));
    }
    header.check_color()?;
    // As libjpeg guesses it. Where the components are red, green and blue, they are taken as they are.
    let (space, bytes) = match (header.components.len(), settings.mode) {
        (1, ColorMode::Gray) => (ColorSpace::Luma, header.without_adobe(bytes)),
        (1, ColorMode::Rgb) => (ColorSpace::RGB, header.without_adobe(bytes)),
        (3, _) if header.is_rgb() => {
            let space = if header.has_rgb_names() { ColorSpace::RGB } else { ColorSpace::YCbCr };
            (space, header.without_adobe(bytes))
        }
        (3, ColorMode::Gray) => (ColorSpace::Luma, Cow::Borrowed(bytes)),
        _ => (ColorSpace::RGB, Cow::Borrowed(bytes)),
    };
    let options = DecoderOptions::default()
        .set_max_width(width)
        .set_max_height(height)
        // What is damaged is an error, and not gray.
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(space);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&*bytes), options);
    let pixels = decoder.decode().map_err(|error| damaged(error.to_string()))?;
    let mode = if space == ColorSpace::Luma { ColorMode::Gray } else { ColorMode::Rgb };
    let image = Image::new(height, width, mode, pixels)?;
    let image = match (mode, settings.mode) {
        (ColorMode::Rgb, ColorMode::Gray) => {
            let (pixels, _) = image.pixels().as_chunks::<3>();
            Image::new(height, width, ColorMode::Gray, pixels.iter().map(|pixel| luma(*pixel)).collect())?
        }
        _ => image,
    };
    match header.orientation {
        Some(orientation) if settings.orientation => orient::orient(image, orientation),
        _ => Ok(image),
    }
}

/// The parts of a file before its first scan.
struct Header {
    height: usize,
    width: usize,
    /// The components' identifiers.
    components: Vec<u8>,
    /// Adobe's color transform, and where its segment's text begins; the last segment counts.
    adobe: Vec<(u8, usize)>,
    has_jfif: bool,
    orientation: Option<Orientation>,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Header, Error> {
        let mut frame = None;
        let (mut adobe, mut has_jfif, mut orientation) = (Vec::new(), false, None);
        let mut at = 2;
        loop {
            // Whatever stands between segments is passed over, as libjpeg does.
            let Some(found) = bytes[at..].iter().position(|byte| *byte == 0xff) else {
                return Err(damaged("expected a scan, got the end of the file"));
            };
            at += found;
            let fill = bytes[at..].iter().take_while(|byte| **byte == 0xff).count();
            at += fill;
            let Some(&marker) = bytes.get(at) else {
                return Err(damaged("expected a scan, got the end of the file"));
            };
            at += 1;
            match marker {
                // Not a segment: a stuffed zero, a restart, or another beginning.
                0x00 | 0x01 | 0xd0..=0xd8 => continue,
                0xd9 => return Err(damaged("expected a scan, got the end of the image")),
                _ => {}
            }
            let length = match bytes.get(at..at + 2) {
                Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
                _ => return Err(damaged("expected the length of a segment, got the end of the file")),
            };
            let Some(segment) = length.checked_sub(2).and_then(|rest| bytes.get(at + 2..at + 2 + rest))
            else {
                let text = format!("expected a segment of {length} bytes, got {} bytes", bytes.len() - at);
                return Err(damaged(text));
            };
            match marker {
                0xc0..=0xc2 => {
                    if frame.is_some() {
                        return Err(damaged("expected one frame, got two"));
                    }
                    frame = Some(Self::frame(segment)?);
                }
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    let text = match marker {
                        0xc9..=0xcb | 0xcd..=0xcf => "JPEG with arithmetic coding: expected Huffman coding",
                        0xc3 => "lossless JPEG: expected a baseline or progressive one",
                        _ => "hierarchical JPEG: expected a baseline or progressive one",
                    };
                    return Err(Error::new(ErrorKind::Unsupported, text));
                }
                0xe0 if segment.starts_with(b"JFIF\0") => has_jfif = true,
                0xe1 if segment.starts_with(b"Exif\0\0") => {
                    orientation = orientation.or(Orientation::from_exif_chunk(&segment[6..]));
                }
                0xee if segment.starts_with(b"Adobe") && segment.len() >= 12 => {
                    adobe.push((segment[11], at + 2));
                }
                0xda => break,
                _ => {}
            }
            at += length;
        }
        let Some((height, width, components)) = frame else {
            return Err(damaged("expected a frame before the first scan, got none"));
        };
        // The end is where a well-formed file is looked at first; pixels never look like it.
        let has_end = bytes[at..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]);
        if !has_end {
            return Err(damaged("expected the marker of the end, got a file that is cut short"));
        }
        Ok(Header { height, width, components, adobe, has_jfif, orientation })
    }

    fn frame(segment: &[u8]) -> Result<(usize, usize, Vec<u8>), Error> {
        let &[precision, h1, h0, w1, w0, count, ref rest @ ..] = segment else {
            return Err(damaged(format!("expected a frame of at least 6 bytes, got {}", segment.len())));
        };
        if precision != 8 {
            let text = format!("JPEG: expected 8 bits a sample, got {precision}");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        if !matches!(count, 1 | 3 | 4) {
            let text = format!("JPEG: expected 1, 3 or 4 components, got {count}");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        if rest.len() < 3 * usize::from(count) {
            return Err(damaged(format!("expected {count} components in a frame, got {}", rest.len() / 3)));
        }
        let components = rest.chunks_exact(3).take(count.into()).map(|component| component[0]).collect();
        let size = |high, low| usize::from(u16::from_be_bytes([high, low]));
        Ok((size(h1, h0), size(w1, w0), components))
    }

    /// Adobe's color transform.
    fn transform(&self) -> Option<u8> {
        self.adobe.last().map(|(transform, _)| *transform)
    }

    fn has_rgb_names(&self) -> bool {
        self.components == *b"RGB"
    }

    /// Tells whether three components are red, green and blue, as libjpeg guesses it.
    fn is_rgb(&self) -> bool {
        !self.has_jfif && self.transform().map_or(self.has_rgb_names(), |transform| transform == 0)
    }

    /// Refuses the colors that zune-jpeg would take for others.
    fn check_color(&self) -> Result<(), Error> {
        let text = match (self.components.len(), self.transform()) {
            (3, _) if self.has_rgb_names() && !self.is_rgb() => {
                "JPEG: expected components of YCbCr, got some named R, G and B".to_owned()
            }
            (3, Some(transform)) if transform > 1 => {
                format!("JPEG: expected Adobe's transform 0 or 1 of three components, got {transform}")
            }
            (4, Some(transform)) if !matches!(transform, 0 | 2) => {
                format!("JPEG: expected Adobe's transform 0 or 2 of four components, got {transform}")
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    /// The file without Adobe's segment, by which zune-jpeg takes one or three components for four.
    fn without_adobe<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.adobe.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut changed = bytes.to_vec();
        self.adobe.iter().for_each(|(_, at)| changed[*at] = b'a');
        Cow::Owned(changed)
    }
}

fn damaged(text: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, one_line(format_args!("JPEG: {text}")))
}
