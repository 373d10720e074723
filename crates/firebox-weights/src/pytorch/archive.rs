//! The zip archive that `torch.save` writes.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use zip::read::ZipReadOptions;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::short;
use crate::error::{Error, ErrorKind};

/// A zip archive of stored entries, none of which is larger than the file.
pub(crate) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// The folder that holds everything, called as the file was when it was written.
    folder: String,
    /// The file's, in bytes.
    pub(crate) length: u64,
}

impl Archive {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let unreadable = |error| Error::new(ErrorKind::Io, "cannot be read").caused_by(error);
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        // Anything else has no end to look at first, or never ends.
        if !metadata.is_file() {
            let got = if metadata.is_dir() { "a folder" } else { "no file" };
            return Err(Error::new(ErrorKind::Io, format!("cannot be read: expected a file, got {got}")));
        }
        let mut start = Vec::new();
        file.by_ref().take(512).read_to_end(&mut start).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        if let Some(format) = other_format(&start) {
            return Err(refused(format!("expected PyTorch's zip format, got {format}")));
        }
        if !start.starts_with(b"PK") {
            return Err(refused("expected a zip archive, as torch.save writes: it begins with other bytes"));
        }
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(not_pytorch)?;
        // Two entries on the same bytes could each be as large as the file.
        if zip.has_overlapping_entries().map_err(not_pytorch)? {
            return Err(refused("entries of the zip archive overlap"));
        }
        if zip.has_duplicate_names() {
            return Err(refused("entries of the zip archive have one name"));
        }
        let folder = folder(&zip)?;
        let mut archive = Archive { zip, folder, length: metadata.len() };
        if archive.entry("constants.pkl")?.is_some() {
            return Err(refused(
                "expected a dict of tensors, got a TorchScript program; save its weights: \
                 torch.save(module.state_dict(), path)",
            ));
        }
        archive.expect("byteorder", "little", |order| order == "little")?;
        archive.expect(".format_version", "1", |version| version == "1")?;
        archive.expect("version", "1 to 10", |version| {
            version.parse::<u32>().is_ok_and(|version| (1..=10).contains(&version))
        })?;
        Ok(archive)
    }

    /// Fails if there is an entry `name` and its text is another than `expected` says.
    fn expect(&mut self, name: &str, expected: &str, holds: impl Fn(&str) -> bool) -> Result<(), Error> {
        let Some(bytes) = self.entry(name)? else { return Ok(()) };
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]);
        match holds(text.trim_ascii_end()) {
            true => Ok(()),
            false => Err(refused(format!("the entry {name}: expected {expected}, got {text:?}"))),
        }
    }

    /// Fails unless there is an entry `name` that can be read.
    pub(crate) fn check(&self, name: &str) -> Result<(), Error> {
        self.find(name)?.map(drop).ok_or_else(|| missing(name))
    }

    pub(crate) fn required(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        self.entry(name)?.ok_or_else(|| missing(name))
    }

    /// The bytes of an entry, if there is one.
    fn entry(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some((index, size, options)) = self.find(name)? else { return Ok(None) };
        let damaged = |error: std::io::Error| refused(format!("the entry {}", short(name))).caused_by(error);
        // It lies in the file as it is, apart from the others.
        let mut bytes = Vec::with_capacity(size);
        let mut entry = self.zip.by_index_with_options(index, options).map_err(not_pytorch)?;
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        Ok(Some(bytes))
    }

    /// The number, size and options of an entry, if there is one.
    fn find(&self, name: &str) -> Result<Option<(usize, usize, ZipReadOptions<'static>)>, Error> {
        let Some(index) = self.zip.index_for_name(&format!("{}/{name}", self.folder)) else {
            return Ok(None);
        };
        let entry = self.zip.by_index_data(index).map_err(not_pytorch)?;
        let never = |what: &str| {
            Err(refused(format!("the entry {} is {what}, which torch.save never does", short(name))))
        };
        if entry.encrypted() {
            return never("encrypted");
        }
        if entry.compression() != CompressionMethod::Stored || entry.size() != entry.compressed_size() {
            return never("compressed");
        }
        let size = usize::try_from(entry.size()).map_err(|error| refused(short(name)).caused_by(error))?;
        // PyTorch can be told to leave the sums out; it writes zeros then.
        Ok(Some((index, size, ZipReadOptions::new().ignore_crc32(entry.crc32() == 0))))
    }
}

fn missing(name: &str) -> Error {
    refused(format!("the entry {} is missing", short(name)))
}

pub(crate) fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, message)
}

fn not_pytorch(error: ZipError) -> Error {
    match error {
        ZipError::Io(error) => refused("not a whole zip archive").caused_by(error),
        error => refused("expected a zip archive, as torch.save writes").caused_by(error),
    }
}

/// The format of a file with these first bytes, if it is known.
fn other_format(start: &[u8]) -> Option<&'static str> {
    // The number that PyTorch's older format begins with, as a pickle.
    const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let pickle = matches!(start, [0x80, 2..=5, ..]);
    match start {
        [] => Some("an empty file"),
        [b'P', b'K', ..] => None,
        _ if pickle && start[..start.len().min(32)].windows(MAGIC.len()).any(|part| part == MAGIC) => Some(
            "its legacy format, the format before PyTorch 1.6; save it anew with PyTorch 1.6 or later: \
             torch.save(torch.load(path, map_location=\"cpu\"), path)",
        ),
        _ if pickle => {
            Some("a pickle alone; torch.save(model.state_dict(), path) writes one with its tensors")
        }
        [_, _, _, _, _, _, _, 0, b'{', ..] => Some("safetensors, which StateDict::read reads"),
        _ if start.get(257..262) == Some(b"ustar") => {
            Some("a tar archive, as of the first versions of PyTorch; save it anew with PyTorch 1.6 or later")
        }
        _ => None,
    }
}

/// The folder with the only `data.pkl`.
fn folder(zip: &ZipArchive<BufReader<File>>) -> Result<String, Error> {
    let names: Vec<_> = zip.file_names().filter_map(Result::ok).collect();
    let mut folders = names.iter().filter_map(|name| name.strip_suffix("/data.pkl"));
    match (folders.next(), folders.next()) {
        (Some(folder), None) => Ok(folder.to_owned()),
        (Some(_), Some(_)) => Err(refused("a zip archive with more than one data.pkl")),
        _ if names.iter().any(|name| {
            ["archive_format", "archive_version", "serialized_exported_program.json"]
                .contains(&name.rsplit('/').next().unwrap_or_default())
        }) =>
        {
            Err(refused(
                "expected a dict of tensors, got an exported program; save its weights: \
                 torch.save(program.state_dict, path)",
            ))
        }
        _ => Err(refused("a zip archive without data.pkl, so not of torch.save")),
    }
}
