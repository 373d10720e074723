//! Files of events in TensorBoard's format: a TFRecord for each event.
//!
//! A record is the length of its contents in 8 bytes, their masked CRC-32C in 4, the contents, and their
//! masked CRC-32C; numbers are little-endian (`tensorflow/core/lib/io/record_writer.h`). TensorBoard reads
//! the files of a folder one after the other, in the order of their names, which begin with the time; of a
//! file whose last record is short it takes the others.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::message;
use crate::error::{BoxError, Error, ErrorKind, io_error};
use firebox_core::files;

/// The beginning of an event file's name, and the digits of the seconds after it.
const PREFIX: &str = "events.out.tfevents.";
const DIGITS: usize = 10;

/// An event file that is being written.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
    /// Not buffered: TensorBoard shows each step as soon as it looks.
    file: File,
    bytes: u64,
}

impl EventFile {
    /// A new file after those in the folder, with the event that says the format's version.
    pub(super) fn create(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|error| io_error(folder, "cannot be created", error))?;
        let last = names(folder)?.iter().filter_map(|name| seconds_of(name)).max();
        // Also where the clock was set back, or within the second of the one before.
        let seconds = last.map_or(0, |last| last + 1).max(now() as u64);
        let path =
            folder.join(format!("{PREFIX}{seconds:0width$}.firebox.{}", std::process::id(), width = DIGITS));
        let failed = |error| io_error(&path, "cannot be created", error);
        let file = File::options().append(true).create_new(true).open(&path).map_err(failed)?;
        let mut events = EventFile { path, file, bytes: 0 };
        events.write(&message::version(now()))?;
        Ok(events)
    }

    /// Writes an event, whole or not at all.
    pub(super) fn write(&mut self, event: &[u8]) -> Result<(), Error> {
        let record = framed(event);
        if let Err(error) = files::write(&self.file, &self.path, &record) {
            // A full disk: what is there stays readable.
            let _ = files::cut(&self.file, &self.path, self.bytes);
            return Err(io_error(&self.path, "cannot be written", error));
        }
        self.bytes += record.len() as u64;
        Ok(())
    }
}

/// Seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The names of the event files in a folder that may be there.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let failed =
        |error: BoxError| Error::new(ErrorKind::Io, "cannot be read").at_path(folder).caused_by(error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed(error.into()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| failed(error.into()))?.file_name();
        names.extend(name.to_str().filter(|name| name.starts_with(PREFIX)).map(str::to_owned));
    }
    Ok(names)
}

fn seconds_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.get(..DIGITS)?.parse().ok()
}

fn framed(contents: &[u8]) -> Vec<u8> {
    let length = (contents.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(contents.len() + 16);
    record.extend(length);
    record.extend(masked(crc32c(&length)).to_le_bytes());
    record.extend(contents);
    record.extend(masked(crc32c(contents)).to_le_bytes());
    record
}

/// A checksum of data that hold checksums is masked, lest it be one of those.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C, Castagnoli's polynomial, bit-reversed (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        for (bytes, crc) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            assert_eq!(crc32c(bytes), crc, "{bytes:?}");
        }
    }

    #[test]
    fn a_record_is_the_one_that_tensorflow_writes() {
        // The first record of every event file of version 2 but for its time, which is 0 here.
        let event = b"\x09\0\0\0\0\0\0\0\0\x1a\x0dbrain.Event:2";
        let record = framed(event);
        assert_eq!(record.len(), 8 + 4 + event.len() + 4);
        // The length's checksum is in each file that TensorFlow has written: 24 bytes, masked.
        assert_eq!(record[..12], *b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22");
        assert_eq!(record[12..36], *event);
    }

    #[test]
    fn names_are_in_the_order_of_creation() {
        let folder = tempfile::tempdir().unwrap();
        let far = folder.path().join(format!("{PREFIX}9000000000.elsewhere.1"));
        fs::write(&far, "").unwrap();
        let paths: Vec<_> = (0..3).map(|_| EventFile::create(folder.path()).unwrap().path).collect();
        assert!(far < paths[0] && paths.is_sorted() && paths[1] < paths[2], "{paths:?}");
    }
}
