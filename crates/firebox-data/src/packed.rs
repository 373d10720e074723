//! Files that may be packed with gzip.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind as IoKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, ErrorKind};

/// Opens a file for reading; whether it is compressed is seen from its first bytes.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let gzip = file.fill_buf().map_err(unreadable)?.starts_with(&[0x1f, 0x8b]);
    Ok(if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// The file of that name in a folder, with `.gz` or without.
pub(crate) fn find(folder: &Path, name: &str) -> Result<PathBuf, Error> {
    let plain = folder.join(name);
    let gzip = plain.with_added_extension("gz");
    if gzip.exists() {
        Ok(gzip)
    } else if plain.exists() {
        Ok(plain)
    } else {
        Err(Error::new(ErrorKind::Io, "no such file, neither with .gz nor without").at_path(plain))
    }
}

pub(crate) fn unreadable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot be read").caused_by(error)
}

/// Errors behind the first bytes: the decoder's are about the file's contents.
pub(crate) fn undecodable(error: std::io::Error) -> Error {
    match error.kind() {
        IoKind::InvalidData | IoKind::InvalidInput | IoKind::UnexpectedEof => {
            Error::new(ErrorKind::Format, "damaged or cut short").caused_by(error)
        }
        _ => unreadable(error),
    }
}
