//! Decoding: bytes of a file become an image, within limits.

mod encoded;
mod format;
mod jpeg;
mod orient;
mod others;

use std::panic::{AssertUnwindSafe, catch_unwind};

use firebox_core::{BoxError, SampleRng, panic_message};
use firebox_data::Transform;

use crate::error::{Error, ErrorKind, check, too_large};
use crate::image::{ColorMode, Image, MAX_PIXELS};

pub use encoded::Encoded;
pub use format::Format;

/// The most bytes of an encoded file, unless [`Decode`] is told another number.
pub(crate) const MAX_BYTES: usize = 256 << 20;

/// The longest side that an image may have: that of a JPEG.
const MAX_SIDE: usize = 65_535;

/// The stage that decodes: JPEG, PNG, WebP, GIF, BMP and TIFF, told by their first bytes.
///
/// An image is RGB as PIL's `convert("RGB")` gives it: gray is repeated, a palette looked up, alpha left out,
/// CMYK and YCCK mixed in Adobe's inverted way. Of 16 bits the high 8 are taken, as PIL does for color. Gray
/// with 16 bits is done likewise, where PIL cuts off at 255, which leaves white. Of an animation it takes the
/// first frame.
///
/// Numbers that a file states are checked before memory is taken for them. A file that is cut short is an
/// error, and so is one that a decoder finds to be damaged. A JPEG has no checksum: one with other pixels
/// that is well formed is an image.
///
/// # Decode what a folder has
/// ```
/// use firebox_data::Transform;
/// use firebox_core::SampleRng;
/// use firebox_vision::{Decode, Encoded, ErrorKind};
///
/// let bmp = b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0\
///     \0\0\0\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\x02\x01\0";
/// let (image, class) = Decode::new().apply((Encoded::new(*bmp), 7), &mut SampleRng::from_seed(0))?;
/// assert_eq!((image.pixels(), class), (&[1, 2, 3][..], 7));
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
///
/// # Set limits
/// ```
/// use firebox_vision::{Decode, Encoded, ErrorKind};
///
/// // A GIF that says it is 65,535 × 65,535.
/// let bomb = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x01\0\0;";
/// let error = Decode::new().with_max_pixels(1 << 20).decode(&Encoded::new(*bomb)).unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::TooLarge(limit) if limit.expected == "at most 1048576 pixels"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decode {
    mode: ColorMode,
    orientation: bool,
    max_pixels: usize,
    max_side: usize,
    max_bytes: usize,
}

impl Decode {
    /// To RGB, as the pixels lie in the file.
    ///
    /// The limits are 178,956,970 pixels, sides of 65,535 and files of 256 MiB.
    pub fn new() -> Self {
        Decode {
            mode: ColorMode::Rgb,
            orientation: false,
            max_pixels: MAX_PIXELS,
            max_side: MAX_SIDE,
            max_bytes: MAX_BYTES,
        }
    }

    /// The channels that an image gets, whatever the file has. Default: RGB.
    ///
    /// Gray is PIL's `convert("L")`: 0.299 red, 0.587 green, 0.114 blue. Of a JPEG it is the luma.
    pub fn with_mode(self, mode: ColorMode) -> Self {
        Decode { mode, ..self }
    }

    /// Sets whether an image is turned as its EXIF orientation says. Default: no, as PIL opens it.
    pub fn with_exif_orientation(self, orientation: bool) -> Self {
        Decode { orientation, ..self }
    }

    /// Sets the most pixels that an image may have.
    ///
    /// A higher number than [`MAX_PIXELS`] is that one.
    pub fn with_max_pixels(self, pixels: usize) -> Self {
        Decode { max_pixels: pixels.min(MAX_PIXELS), ..self }
    }

    /// Sets the longest side that an image may have.
    pub fn with_max_side(self, side: usize) -> Self {
        Decode { max_side: side, ..self }
    }

    /// Sets the most bytes that a file may have.
    pub fn with_max_bytes(self, bytes: usize) -> Self {
        Decode { max_bytes: bytes, ..self }
    }

    /// Decodes.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it is damaged or no image, [`ErrorKind::Unsupported`] if it is of a kind that
    /// is not decoded, [`ErrorKind::TooLarge`] if it exceeds a limit: each with the name of the file, if it
    /// is known.
    pub fn decode(&self, encoded: &Encoded) -> Result<Image, Error> {
        let decoded = self.bytes(encoded.bytes());
        decoded.map_err(|error| match encoded.path() {
            Some(path) => error.at_path(path),
            None => error,
        })
    }

    fn bytes(&self, bytes: &[u8]) -> Result<Image, Error> {
        if bytes.len() > self.max_bytes {
            let expected = format_args!("at most {} bytes", self.max_bytes);
            return Err(too_large("file", expected, bytes.len()));
        }
        let format = Format::of(bytes)?;
        // Decoders of others: one that panics has met a damaged file.
        let decoded = catch_unwind(AssertUnwindSafe(|| match format {
            Format::Jpeg => jpeg::decode(bytes, self),
            format => others::decode(bytes, format, self),
        }));
        decoded.unwrap_or_else(|panic| {
            let text = format!("{format}: the decoder panicked: {}", panic_message(panic));
            Err(Error::new(ErrorKind::Format, text))
        })
    }

    /// Checks the size that a file states.
    fn check_size(&self, height: usize, width: usize) -> Result<(), Error> {
        let got = || format!("{height}×{width}");
        check::<ErrorKind>(height > 0 && width > 0, "image", "at least one pixel", got())
            .map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
        if height.max(width) > self.max_side {
            let expected = format!("sides of at most {}", self.max_side);
            return Err(too_large("image", expected, got()));
        }
        if height.checked_mul(width).is_none_or(|pixels| pixels > self.max_pixels) {
            return Err(too_large("image", format!("at most {} pixels", self.max_pixels), got()));
        }
        Ok(())
    }
}

impl Default for Decode {
    fn default() -> Self {
        Decode::new()
    }
}

impl Transform<Encoded> for Decode {
    type Out = Image;

    fn apply(&self, encoded: Encoded, _: &mut SampleRng) -> Result<Image, BoxError> {
        Ok(self.decode(&encoded)?)
    }
}

impl<L> Transform<(Encoded, L)> for Decode {
    type Out = (Image, L);

    fn apply(&self, (encoded, label): (Encoded, L), _: &mut SampleRng) -> Result<(Image, L), BoxError> {
        Ok((self.decode(&encoded)?, label))
    }
}

/// Decodes to RGB with the limits of [`Decode::new`].
///
/// ```
/// use firebox_vision::{Encoded, ErrorKind, decode};
///
/// let cut = Encoded::new(*b"\xff\xd8\xff\xe0").named("a.jpg");
/// assert_eq!(decode(&cut).unwrap_err().kind(), &ErrorKind::Format);
/// ```
///
/// # Errors
/// As [`Decode::decode`].
pub fn decode(encoded: &Encoded) -> Result<Image, Error> {
    Decode::new().decode(encoded)
}

/// PIL's luma: a weighted mean in 16 bits, rounded.
pub(crate) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16) as u8
}

/// The message of another crate in one line.
fn one_line(text: impl std::fmt::Display) -> String {
    text.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
