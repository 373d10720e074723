//! Files that may be packed with gzip.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind as IoKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, ErrorKind};
use crate::formats::text_file::{GZIP, LONGEST_MARK, mark};

/// Opens a file for reading; whether it is compressed is seen from its first bytes.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    let file = BufReader::new(File::open(path).map_err(unreadable)?);
    let (head, file) = look_ahead(file, GZIP.len()).map_err(unreadable)?;
    Ok(if head == GZIP { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

/// Opens a file of text: its bytes without a byte order mark.
pub(crate) fn open_text(path: &Path) -> Result<impl BufRead, Error> {
    let (head, mut file) = look_ahead(BufReader::new(open(path)?), LONGEST_MARK).map_err(undecodable)?;
    file.by_ref().take(mark(&head)? as u64).read_to_end(&mut Vec::new()).map_err(undecodable)?;
    Ok(file)
}

/// The first bytes of a file, fewer if it has fewer, and the file from its beginning. A pipe may give them
/// one by one.
fn look_ahead(mut file: impl BufRead, bytes: usize) -> std::io::Result<(Vec<u8>, impl BufRead)> {
    let mut head = Vec::new();
    file.by_ref().take(bytes as u64).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(file)))
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
