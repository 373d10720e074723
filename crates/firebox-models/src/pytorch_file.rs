//! The files that `torch.save` writes.
//!
//! Such a file is a zip archive with a pickle that describes the tensors, and one entry of raw bytes for each
//! storage that they lie in. The pickle is read by this crate: the crate `pytorch-reader`, which Burn's own
//! importer uses, brings a tar reader and a decompressor, passes over Python names that it doesn't know instead
//! of refusing them, and lets a file of a few bytes ask for tensors of any size.
//!
//! A file from anywhere may be read. Nothing in it is run; entries must be stored as they are and apart from
//! each other, so that none is larger than the file; and all tensors together may have [`EXPANSION`] times the
//! bytes of the file, which lets tensors share a storage and refuses one number that is spread over terabytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use burn::tensor::TensorData;
use zip::read::ZipReadOptions;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::error::{Error, ErrorKind};
use crate::pickle::{Id, Pickle, Storage, Tensor, Value};
use crate::safetensors_file::checked;
use crate::state_dict::StateDict;

/// How many times the file's bytes its tensors may have.
const EXPANSION: u64 = 8;
/// What a small file may have beyond that: bytes of tensors, and values in its pickle.
const ALLOWANCE: u64 = 1 << 16;
/// Dimensions of a tensor; PyTorch's own kernels take no more.
const MAX_RANK: usize = 64;
/// Bytes of a tensor's name. A pickle may repeat a long one for a few bytes each time, and each is compared with others.
const MAX_NAME: usize = 1 << 12;

impl StateDict {
    /// Reads the file that `torch.save(model.state_dict(), path)` wrote. No code in it is run.
    ///
    /// The tensors have the file's names, shapes and types and are contiguous; tensors that share a storage
    /// become copies. The modules' versions, which PyTorch adds to the dict, are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Format`] if the file is not of this kind, is in the legacy format of
    /// PyTorch before 1.6, is damaged, holds anything but a dict of dense tensors, names something in Python
    /// that such a dict doesn't need, or would take more than eight times its own size, or 64 KiB, in tensors.
    pub fn read_pytorch(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::read_pytorch_at(path, &[])
    }

    /// Reads one dict of tensors of a file in which it is not the outermost, such as
    /// `{"epoch": 3, "state_dict": {…}}` with the keys `["state_dict"]`.
    ///
    /// # Errors
    /// As [`read_pytorch`](Self::read_pytorch), and [`ErrorKind::Format`] if there is no dict at `keys`.
    pub fn read_pytorch_at(path: impl AsRef<Path>, keys: &[&str]) -> Result<Self, Error> {
        let path = path.as_ref();
        read(path, keys).map_err(|error| error.at_path(path))
    }
}

fn read(path: &Path, keys: &[&str]) -> Result<StateDict, Error> {
    let mut archive = Archive::open(path)?;
    let bytes = archive.required("data.pkl")?;
    let limit = usize::try_from(archive.length / 8 + ALLOWANCE).unwrap_or(usize::MAX);
    let pickle = Pickle::read(&bytes, limit).map_err(refused)?;
    let named = tensors(&pickle, find(&pickle, keys)?, keys)?;

    let mut by_storage = BTreeMap::<&str, Vec<(&str, Layout)>>::new();
    let mut left = archive.length.saturating_mul(EXPANSION).saturating_add(ALLOWANCE);
    for (name, tensor) in named {
        let wrong = |error: String| refused(format!("{name}: {error}"));
        let (key, layout) = Layout::of(&pickle, tensor).map_err(wrong)?;
        left = left.checked_sub(layout.cost()).ok_or_else(|| {
            wrong(format!(
                "with this tensor of shape {:?} the file would take more than {EXPANSION} times its {} bytes; \
                 save clones of tensors that are expanded or that share a storage",
                layout.shape, archive.length
            ))
        })?;
        by_storage.entry(key).or_default().push((name, layout));
    }
    let mut dict = StateDict::default();
    for (key, layouts) in by_storage {
        let bytes = archive.required(&format!("data/{key}"))?;
        for (name, layout) in layouts {
            let data = layout.gather(&bytes).map_err(|error| refused(format!("{name}: {error}")))?;
            dict.insert(name, data);
        }
    }
    Ok(dict)
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, message)
}

/// A zip archive of which every entry is stored as it is, so that none is larger than the file.
struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// The folder that holds everything, called as the file was when it was written.
    folder: String,
    /// The file's, in bytes.
    length: u64,
}

impl Archive {
    fn open(path: &Path) -> Result<Self, Error> {
        let unreadable = |error| Error::new(ErrorKind::Io, "cannot be read").caused_by(error);
        let mut file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut start = Vec::new();
        file.by_ref().take(16).read_to_end(&mut start).map_err(unreadable)?;
        file.rewind().map_err(unreadable)?;
        if start.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") {
            return Err(refused(
                "expected PyTorch's zip format, got its legacy format; save it anew with PyTorch 1.6 or later: \
                 torch.save(torch.load(path, map_location=\"cpu\"), path)",
            ));
        }
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(not_pytorch)?;
        // Two entries on the same bytes could each be as large as the file.
        if zip.has_overlapping_entries().map_err(not_pytorch)? {
            return Err(refused("entries of the zip archive overlap"));
        }
        let folder = zip
            .file_names()
            .filter_map(Result::ok)
            .find_map(|name| name.strip_suffix("/data.pkl").map(str::to_owned))
            .ok_or_else(|| refused("a zip archive without data.pkl, so not of torch.save"))?;
        let mut archive = Archive { zip, folder, length };
        if archive.entry("constants.pkl")?.is_some() {
            return Err(refused(
                "expected a dict of tensors, got a TorchScript program; save its weights: \
                 torch.save(module.state_dict(), path)",
            ));
        }
        match archive.entry("byteorder")? {
            Some(order) if order != b"little" => {
                let order = String::from_utf8_lossy(&order).into_owned();
                Err(refused(format!("expected the byte order little, got {order:?}")))
            }
            _ => Ok(archive),
        }
    }

    fn required(&mut self, name: &str) -> Result<Vec<u8>, Error> {
        let found = self.entry(name)?;
        found.ok_or_else(|| refused(format!("the entry {name} is missing")))
    }

    /// The bytes of an entry, if there is one.
    fn entry(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(index) = self.zip.index_for_name(&format!("{}/{name}", self.folder)) else {
            return Ok(None);
        };
        let damaged = |error: std::io::Error| refused(format!("the entry {name}")).caused_by(error);
        let entry = self.zip.by_index_data(index).map_err(not_pytorch)?;
        if entry.compression() != CompressionMethod::Stored || entry.size() != entry.compressed_size() {
            return Err(refused(format!("the entry {name} is compressed, which torch.save never does")));
        }
        // PyTorch can be told to leave the sums out; it writes zeros then.
        let options = ZipReadOptions::new().ignore_crc32(entry.crc32() == 0);
        let mut bytes = Vec::new();
        let mut entry = self.zip.by_index_with_options(index, options).map_err(not_pytorch)?;
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        Ok(Some(bytes))
    }
}

fn not_pytorch(error: ZipError) -> Error {
    match error {
        ZipError::Io(error) => refused("not a whole zip archive").caused_by(error),
        error => refused("expected a zip archive, as torch.save writes").caused_by(error),
    }
}

/// What is at `keys`, from the outermost dict inwards.
fn find(pickle: &Pickle<'_>, keys: &[&str]) -> Result<Id, Error> {
    keys.iter().enumerate().try_fold(pickle.root, |id, (depth, key)| {
        let Value::Dict(items) = pickle.get(id) else {
            let got = pickle.get(id).type_name();
            return Err(refused(format!("{}: expected a dict, got {got}", place(&keys[..depth]))));
        };
        let found = items
            .iter()
            .rev()
            .find(|(name, _)| matches!(pickle.get(*name), Value::Text(name) if name == key));
        found.map(|&(_, value)| value).ok_or_else(|| {
            let place = place(&keys[..depth]);
            refused(format!("{place}: expected the key {key:?}, got {}", list(pickle, items)))
        })
    })
}

/// The tensors by name of the dict at `id`.
fn tensors<'p>(
    pickle: &'p Pickle<'_>,
    id: Id,
    keys: &[&str],
) -> Result<BTreeMap<&'p str, &'p Tensor>, Error> {
    let expected = |got: String| {
        let place = place(keys);
        refused(format!(
            "{place}: expected a dict of tensors, got {got}; read_pytorch_at chooses a dict inside"
        ))
    };
    let Value::Dict(items) = pickle.get(id) else {
        return Err(expected(pickle.get(id).type_name().to_owned()));
    };
    let mut tensors = BTreeMap::new();
    let mut others = Vec::new();
    for &(key, value) in items {
        match (pickle.get(key), pickle.get(value)) {
            (&Value::Text(name), Value::Tensor(tensor)) if name.len() <= MAX_NAME => {
                tensors.insert(name, tensor);
            }
            (&Value::Text(name), Value::Tensor(_)) => {
                let got = format!("{} bytes: {}", name.len(), short(name));
                return Err(refused(format!("expected names of up to {MAX_NAME} bytes, got one of {got}")));
            }
            _ => others.push((key, value)),
        }
    }
    match others.is_empty() {
        true => Ok(tensors),
        false => Err(expected(list(pickle, &others))),
    }
}

fn place(keys: &[&str]) -> String {
    match keys {
        [] => "the file's value".to_owned(),
        keys => format!("{keys:?}"),
    }
}

/// A dict's key with its value's type.
fn entry(pickle: &Pickle<'_>, key: Id, value: Id) -> String {
    let value = pickle.get(value).type_name();
    match pickle.get(key) {
        Value::Text(key) => format!("{:?} ({value})", short(key)),
        Value::Int(key) => format!("{key} ({value})"),
        key => format!("a key of type {} ({value})", key.type_name()),
    }
}

/// The first few of a dict's entries.
fn list(pickle: &Pickle<'_>, items: &[(Id, Id)]) -> String {
    const SHOWN: usize = 20;
    let first: Vec<_> = items.iter().take(SHOWN).map(|&(key, value)| entry(pickle, key, value)).collect();
    match (items.len(), first.join(", ")) {
        (0, _) => "an empty dict".to_owned(),
        (0..=SHOWN, first) => first,
        (all, first) => format!("{first} and {} more", all - SHOWN),
    }
}

/// The beginning of a name: a file may have one of any length, and any number of times.
fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(100)]
}

/// Where a tensor's elements lie in its storage; checked to lie within it.
struct Layout {
    dtype: burn::tensor::DType,
    /// In elements.
    offset: usize,
    shape: Vec<usize>,
    /// In elements.
    stride: Vec<usize>,
    elements: usize,
    /// The storage's bytes.
    storage: usize,
}

impl Layout {
    /// The storage's key with the layout.
    fn of<'p>(pickle: &Pickle<'p>, tensor: &Tensor) -> Result<(&'p str, Self), String> {
        let &Value::Storage(Storage { key, dtype, length }) = pickle.get(tensor.storage) else {
            return Err(format!("expected a storage, got {}", pickle.get(tensor.storage).type_name()));
        };
        let stored = dtype.map_or(1, |dtype| dtype.size());
        let dtype = match (dtype, tensor.dtype) {
            (Some(stored), Some(dtype)) if stored != dtype => {
                return Err(format!("expected {dtype:?}, got a storage of {stored:?}"));
            }
            (Some(dtype), _) | (None, Some(dtype)) => dtype,
            (None, None) => return Err("expected a type of numbers, got a storage of bytes".to_owned()),
        };
        let storage = usize::try_from(length).ok().and_then(|length| length.checked_mul(stored));
        let storage = storage.ok_or_else(|| format!("a storage cannot have {length} elements"))?;
        let offset = match pickle.get(tensor.offset) {
            &Value::Int(offset) => usize::try_from(offset).ok(),
            _ => None,
        };
        let offset = offset.ok_or("expected a whole number as the offset")?;
        let (shape, stride) =
            (numbers(pickle, tensor.shape, "shape")?, numbers(pickle, tensor.stride, "strides")?);
        if shape.len() != stride.len() {
            return Err(format!("shape {shape:?} with strides {stride:?}: expected one stride a dimension"));
        }
        let elements = match shape.contains(&0) {
            true => Some(0),
            false => shape.iter().try_fold(1usize, |all, &length| all.checked_mul(length)),
        };
        let end = match elements {
            Some(0) => Some(offset),
            _ => std::iter::zip(&shape, &stride)
                .try_fold(offset, |last, (&length, &step)| last.checked_add((length - 1).checked_mul(step)?))
                .and_then(|last| last.checked_add(1)),
        };
        match (elements, end) {
            (Some(elements), Some(end)) if end <= storage / dtype.size() => {
                Ok((key, Layout { dtype, offset, shape, stride, elements, storage }))
            }
            _ => Err(format!(
                "shape {shape:?} with strides {stride:?} from element {offset} reaches beyond its storage of {} \
                 elements",
                storage / dtype.size()
            )),
        }
    }

    /// What the tensor takes in memory, in bytes.
    fn cost(&self) -> u64 {
        let numbers = (self.elements as u64).saturating_mul(self.dtype.size() as u64);
        numbers.saturating_add(64 + 16 * self.shape.len() as u64)
    }

    /// The tensor, contiguous.
    fn gather(self, storage: &[u8]) -> Result<TensorData, String> {
        if storage.len() != self.storage {
            return Err(format!("expected a storage of {} bytes, got {}", self.storage, storage.len()));
        }
        let size = self.dtype.size();
        let mut bytes = Vec::with_capacity(self.elements * size);
        // A tensor without dimensions is one row of one element.
        let (row, step, outer) = match (self.shape.split_last(), self.stride.split_last()) {
            (Some((&row, outer)), Some((&step, _))) => (row, step, outer),
            _ => (1, 1, &[][..]),
        };
        let mut index = vec![0; outer.len()];
        let mut start = self.offset;
        while bytes.len() < self.elements * size {
            match step {
                1 => bytes.extend_from_slice(&storage[start * size..(start + row) * size]),
                _ => (0..row).for_each(|i| {
                    let at = (start + i * step) * size;
                    bytes.extend_from_slice(&storage[at..at + size]);
                }),
            }
            for axis in (0..outer.len()).rev() {
                index[axis] += 1;
                start += self.stride[axis];
                if index[axis] < outer[axis] {
                    break;
                }
                start -= outer[axis] * self.stride[axis];
                index[axis] = 0;
            }
        }
        checked(bytes, self.shape, self.dtype)
    }
}

/// A tuple of whole numbers.
fn numbers(pickle: &Pickle<'_>, id: Id, what: &str) -> Result<Vec<usize>, String> {
    let wrong = || format!("expected a tuple of at most {MAX_RANK} whole numbers as the {what}");
    match pickle.get(id) {
        Value::Tuple(ids) if ids.len() <= MAX_RANK => ids
            .iter()
            .map(|&id| match pickle.get(id) {
                &Value::Int(number) => usize::try_from(number).ok(),
                _ => None,
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(wrong),
        _ => Err(wrong()),
    }
}
