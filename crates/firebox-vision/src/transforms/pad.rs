//! Borders around images.

use firebox_core::SampleRng;

use super::stage;
use crate::error::{Error, ErrorKind};
use crate::image::Image;

/// The width of a border on each side.
///
/// One number is for all sides, two are for left and right and for top and bottom, four are left, top, right
/// and bottom, in torchvision's order.
///
/// ```
/// use firebox_vision::transforms::Padding;
///
/// assert_eq!(Padding::from([1, 2]), Padding::from([1, 2, 1, 2]));
/// assert_eq!(Padding::from(3).bottom, 3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "their names say it all")]
pub struct Padding {
    pub left: usize,
    pub top: usize,
    pub right: usize,
    pub bottom: usize,
}

impl From<usize> for Padding {
    fn from(width: usize) -> Self {
        [width; 4].into()
    }
}

impl From<[usize; 2]> for Padding {
    fn from([horizontal, vertical]: [usize; 2]) -> Self {
        [horizontal, vertical, horizontal, vertical].into()
    }
}

impl From<[usize; 4]> for Padding {
    fn from([left, top, right, bottom]: [usize; 4]) -> Self {
        Padding { left, top, right, bottom }
    }
}

/// The pixels of a border.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::{Pad, PaddingMode};
/// use firebox_vision::{ColorMode, Image};
///
/// let row = |mode| {
///     let image = Image::new(1, 3, ColorMode::Gray, vec![1, 2, 3])?;
///     let padded = Pad::new([2, 0]).with_padding_mode(mode).apply(image, &mut SampleRng::from_seed(0))?;
///     Ok::<_, firebox_core::BoxError>(padded.into_pixels())
/// };
/// assert_eq!(row(PaddingMode::Edge)?, [1, 1, 1, 2, 3, 3, 3]);
/// assert_eq!(row(PaddingMode::Reflect)?, [3, 2, 1, 2, 3, 2, 1]);
/// assert_eq!(row(PaddingMode::Symmetric)?, [2, 1, 1, 2, 3, 3, 2]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PaddingMode {
    /// One color.
    #[default]
    Constant,
    /// The nearest pixel of the image.
    Edge,
    /// The image mirrored at its last pixel, which is not repeated.
    Reflect,
    /// The image mirrored at its edge: the last pixel is repeated.
    Symmetric,
}

/// Adds a border to an image.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::Pad;
/// use firebox_vision::{ColorMode, Image};
///
/// let image = Image::new(1, 1, ColorMode::Gray, vec![7])?;
/// let padded = Pad::new([1, 0]).with_fill([9; 3]).apply(image, &mut SampleRng::from_seed(0))?;
/// assert_eq!(padded.pixels(), [9, 7, 9]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pad {
    padding: Padding,
    mode: PaddingMode,
    fill: [u8; 3],
}

impl Pad {
    /// A black border of this width.
    pub fn new(padding: impl Into<Padding>) -> Self {
        Pad { padding: padding.into(), mode: PaddingMode::Constant, fill: [0; 3] }
    }

    /// The color of a constant border. A gray image takes the first number. Default: 0.
    pub fn with_fill(self, fill: [u8; 3]) -> Self {
        Pad { fill, ..self }
    }

    /// The pixels of the border. Default: constant.
    pub fn with_padding_mode(self, mode: PaddingMode) -> Self {
        Pad { mode, ..self }
    }

    fn transform(&self, image: Image, _: &mut SampleRng) -> Result<Image, Error> {
        pad(image, self.padding, self.mode, self.fill)
    }
}

stage!(Pad);

pub(super) fn pad(image: Image, padding: Padding, mode: PaddingMode, fill: [u8; 3]) -> Result<Image, Error> {
    let Padding { left, top, right, bottom } = padding;
    if padding == Padding::default() {
        return Ok(image);
    }
    let (height, width) = (image.height(), image.width());
    for (side, most, length) in [("columns", left.max(right), width), ("rows", top.max(bottom), height)] {
        let expected = match mode {
            PaddingMode::Reflect => length - 1,
            PaddingMode::Symmetric => length,
            PaddingMode::Constant | PaddingMode::Edge => usize::MAX,
        };
        if most > expected {
            let text = format!("padding of {image:?}: expected at most {expected} {side}, got {most}");
            return Err(Error::new(ErrorKind::Shape, text));
        }
    }
    let rows = height.saturating_add(top).saturating_add(bottom);
    let columns = width.saturating_add(left).saturating_add(right);
    let mut padded = Image::filled(rows, columns, image.mode(), fill[0])?;
    let channels = image.channels();
    if mode == PaddingMode::Constant {
        if fill != [fill[0]; 3] && channels == 3 {
            padded.pixels_mut().chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&fill));
        }
        let inner = padded.pixels_mut().chunks_exact_mut(columns * channels).skip(top);
        for (to, from) in inner.zip(image.rows()) {
            to[left * channels..(left + width) * channels].copy_from_slice(from);
        }
        return Ok(padded);
    }
    let source_columns: Vec<usize> = (0..columns).map(|column| source(column, left, width, mode)).collect();
    let pixels = image.pixels();
    for (row, to) in padded.pixels_mut().chunks_exact_mut(columns * channels).enumerate() {
        let from = &pixels[source(row, top, height, mode) * width * channels..][..width * channels];
        for (to, column) in to.chunks_exact_mut(channels).zip(&source_columns) {
            to.copy_from_slice(&from[column * channels..(column + 1) * channels]);
        }
    }
    Ok(padded)
}

/// The row or column that a padded one is copied of.
fn source(place: usize, before: usize, length: usize, mode: PaddingMode) -> usize {
    let repeats = usize::from(mode == PaddingMode::Symmetric);
    if place < before {
        match mode {
            PaddingMode::Edge => 0,
            _ => before - place - repeats,
        }
    } else if place - before >= length {
        match mode {
            PaddingMode::Edge => length - 1,
            _ => length - 2 - (place - before - length) + repeats,
        }
    } else {
        place - before
    }
}
