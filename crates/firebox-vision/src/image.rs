//! Images: 8-bit pixels in memory of their own.

use std::fmt;

use crate::error::{Error, ErrorKind, too_large};

/// The most pixels that an image may have, unless [`Decode`](crate::Decode) is told a lower number.
///
/// It is twice PIL's `MAX_IMAGE_PIXELS`, where PIL's warning of a bomb becomes an error.
pub const MAX_PIXELS: usize = 178_956_970;

/// The channels of an [`Image`].
///
/// ```
/// use firebox_vision::ColorMode;
///
/// assert_eq!((ColorMode::Gray.channels(), ColorMode::Rgb.channels()), (1, 3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColorMode {
    /// One channel: luma, PIL's mode `L`.
    Gray,
    /// Red, green and blue, PIL's mode `RGB`.
    Rgb,
}

impl ColorMode {
    /// The number of channels.
    pub fn channels(self) -> usize {
        match self {
            ColorMode::Gray => 1,
            ColorMode::Rgb => 3,
        }
    }
}

/// An image: 8-bit pixels, row after row, the channels of a pixel side by side.
///
/// It goes from stage to stage, by value: a stage that changes no size writes into the same memory.
///
/// ```
/// use firebox_vision::{ColorMode, Image};
///
/// let image = Image::new(1, 2, ColorMode::Rgb, vec![255, 0, 0, 0, 0, 255])?;
/// assert_eq!((image.height(), image.width(), image.channels()), (1, 2, 3));
/// assert_eq!(image.pixel(0, 1), [0, 0, 255]);
/// assert!(Image::new(2, 2, ColorMode::Gray, vec![0; 3]).is_err());
/// # Ok::<(), firebox_vision::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    height: usize,
    width: usize,
    mode: ColorMode,
    pixels: Vec<u8>,
}

impl Image {
    /// An image of these pixels: `height` × `width` × channels bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if it has no pixel, or there is another number of bytes;
    /// [`ErrorKind::TooLarge`] beyond [`MAX_PIXELS`].
    pub fn new(height: usize, width: usize, mode: ColorMode, pixels: Vec<u8>) -> Result<Self, Error> {
        let bytes = bytes(height, width, mode)?;
        if pixels.len() != bytes {
            let text = format!(
                "image: expected {bytes} bytes for {height}×{width}×{}, got {}",
                mode.channels(),
                pixels.len()
            );
            return Err(Error::new(ErrorKind::Shape, text));
        }
        Ok(Image { height, width, mode, pixels })
    }

    /// An image whose every byte is `value`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn filled(height: usize, width: usize, mode: ColorMode, value: u8) -> Result<Self, Error> {
        Ok(Image { height, width, mode, pixels: vec![value; bytes(height, width, mode)?] })
    }

    /// The number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Its channels by name.
    pub fn mode(&self) -> ColorMode {
        self.mode
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.mode.channels()
    }

    /// All bytes: height × width × channels.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All bytes, to be changed.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// Its memory.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The channels of a pixel.
    ///
    /// # Panics
    /// If there is no such pixel.
    pub fn pixel(&self, row: usize, column: usize) -> &[u8] {
        assert!(column < self.width, "column: expected one below {}, got {column}", self.width);
        let (channels, at) = (self.channels(), (row * self.width + column) * self.channels());
        &self.pixels[at..at + channels]
    }

    /// The rows, each of width × channels bytes.
    pub(crate) fn rows(&self) -> std::slice::ChunksExact<'_, u8> {
        self.pixels.chunks_exact(self.width * self.channels())
    }

    /// An image of the same channels with other pixels.
    pub(crate) fn with(&self, height: usize, width: usize, pixels: Vec<u8>) -> Result<Image, Error> {
        Image::new(height, width, self.mode, pixels)
    }

    /// The part within a box, which must lie in the image.
    pub(crate) fn crop(self, at: CropBox) -> Result<Image, Error> {
        let CropBox { top, left, height, width } = at;
        if (top, left, height, width) == (0, 0, self.height, self.width) {
            return Ok(self);
        }
        at.check_within(&self)?;
        let channels = self.channels();
        let mut pixels = Vec::with_capacity(height * width * channels);
        for row in self.rows().skip(top).take(height) {
            pixels.extend_from_slice(&row[left * channels..(left + width) * channels]);
        }
        self.with(height, width, pixels)
    }
}

/// The bytes of an image, if it may be allocated.
fn bytes(height: usize, width: usize, mode: ColorMode) -> Result<usize, Error> {
    if height == 0 || width == 0 {
        let text = format!("image: expected at least one pixel, got {height}×{width}");
        return Err(Error::new(ErrorKind::Shape, text));
    }
    match height.checked_mul(width).filter(|pixels| *pixels <= MAX_PIXELS) {
        Some(pixels) => Ok(pixels * mode.channels()),
        None => {
            let expected = format_args!("at most {MAX_PIXELS} pixels");
            Err(too_large("image", expected, format_args!("{height}×{width}")))
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Image { height, width, mode, .. } = self;
        write!(f, "Image({height}×{width}, {mode:?})")
    }
}

/// A part of an image: its upper left corner, and its size.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_vision::CropBox;
/// use firebox_vision::transforms::RandomResizedCrop;
///
/// let crop = RandomResizedCrop::new(224).build()?;
/// let CropBox { top, left, height, width } = crop.crop_box(375, 500, &mut SampleRng::from_seed(1));
/// assert!(top + height <= 375 && left + width <= 500);
/// # Ok::<(), firebox_vision::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CropBox {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// The number of rows.
    pub height: usize,
    /// The number of columns.
    pub width: usize,
}

impl CropBox {
    pub(crate) fn check_within(self, image: &Image) -> Result<(), Error> {
        let CropBox { top, left, height, width } = self;
        if top.saturating_add(height) <= image.height && left.saturating_add(width) <= image.width {
            return Ok(());
        }
        let text = format!(
            "crop: expected a box within {}×{}, got {height}×{width} at row {top}, column {left}",
            image.height, image.width
        );
        Err(Error::new(ErrorKind::Shape, text))
    }
}
