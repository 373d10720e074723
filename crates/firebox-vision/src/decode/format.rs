//! Formats, told by the first bytes.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// A format of image files.
///
/// ```
/// use firebox_vision::Format;
///
/// assert_eq!(Format::of(b"GIF89a...").unwrap(), Format::Gif);
/// assert_eq!(Format::of(b"").unwrap_err().to_string(), "expected an image, got an empty file");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "their names say it all")]
pub enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
    Tiff,
}

impl Format {
    /// The format of a file that begins like this, whatever its name.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if it is none of these.
    pub fn of(bytes: &[u8]) -> Result<Format, Error> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
            [b'B', b'M', ..] => Ok(Format::Bmp),
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Ok(Format::Tiff),
            [] => Err(Error::new(ErrorKind::Format, "expected an image, got an empty file")),
            _ => {
                let first = &bytes[..bytes.len().min(8)];
                let text = format!(
                    "expected a JPEG, PNG, WebP, GIF, BMP or TIFF, got a file that begins with \"{}\"",
                    first.escape_ascii()
                );
                Err(Error::new(ErrorKind::Format, text))
            }
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::WebP => "WebP",
            Format::Gif => "GIF",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
        })
    }
}
