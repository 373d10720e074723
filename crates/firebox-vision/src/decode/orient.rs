//! EXIF orientations.

use image::metadata::Orientation;

use crate::error::Error;
use crate::image::Image;

/// Turns an image as its orientation says.
pub(super) fn orient(image: Image, orientation: Orientation) -> Result<Image, Error> {
    let (height, width) = (image.height(), image.width());
    // Where the pixel of the turned image at a row and column comes from.
    type Source = fn(usize, usize, usize, usize) -> (usize, usize);
    let (transposes, source): (bool, Source) = match orientation {
        Orientation::NoTransforms => return Ok(image),
        Orientation::FlipHorizontal => (false, |row, column, _, width| (row, width - 1 - column)),
        Orientation::Rotate180 => {
            (false, |row, column, height, width| (height - 1 - row, width - 1 - column))
        }
        Orientation::FlipVertical => (false, |row, column, height, _| (height - 1 - row, column)),
        Orientation::Rotate90FlipH => (true, |row, column, _, _| (column, row)),
        Orientation::Rotate90 => (true, |row, column, height, _| (height - 1 - column, row)),
        Orientation::Rotate270FlipH => {
            (true, |row, column, height, width| (height - 1 - column, width - 1 - row))
        }
        Orientation::Rotate270 => (true, |row, column, _, width| (column, width - 1 - row)),
    };
    let (rows, columns) = if transposes { (width, height) } else { (height, width) };
    let mut pixels = Vec::with_capacity(image.pixels().len());
    for row in 0..rows {
        for column in 0..columns {
            let (row, column) = source(row, column, height, width);
            pixels.extend_from_slice(image.pixel(row, column));
        }
    }
    image.with(rows, columns, pixels)
}
