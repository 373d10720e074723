//! The files that `torch.save` writes.
//!
//! Such a file is a zip archive with a pickle that describes the tensors, and one entry of raw bytes for each
//! storage that they lie in. The pickle is read by this crate: the crate `pytorch-reader`, which Burn's own
//! importer uses, brings a tar reader and a decompressor, passes over Python names that it doesn't know
//! without naming them, and lets a file of a few bytes ask for tensors of any size.
//!
//! A file from anywhere may be read. Nothing in it is run; entries must be stored as they are and apart from
//! each other, so that none is larger than the file. A storage is read once, whatever the number of tensors
//! in it: those that lie there in one piece are views of its bytes. The others (transposed, stepped,
//! expanded, negated) are made from it once for each layout. All that, and something for each name, may have
//! [`EXPANSION`] times the bytes of the file, which refuses one number that is spread over terabytes.
//!
//! What a dictionary holds beside tensors that are understood is passed over and named
//! ([`StateDict::unsupported`]). What is damaged is refused.
//!
//! | in the file | is |
//! |---|---|
//! | `data.pkl`, `data/KEY` | read; the length of a storage must be the entry's |
//! | `byteorder` | `little`, or refused |
//! | `version`, `.format_version` | 1 to 10, and 1, or refused |
//! | `.storage_alignment`, `.data/serialization_id` | passed over: where an entry is, the zip directory says |
//! | `constants.pkl`, `archive_format` | TorchScript and exported programs: refused |
//! | compressed, encrypted, overlapping entries, two of one name | refused |
//! | data descriptors, zip64 | read |
//! | a tensor's storage, offset, size, stride, dtype | read |
//! | its `requires_grad`, hooks and Python state, its storage's location | passed over: they change no number |
//! | the negative bit | read for floats |
//! | the conjugate bit, other metadata, types of numbers that [`DType`] lacks | the tensor is unsupported |

use std::collections::BTreeMap;
use std::path::Path;

use self::archive::{Archive, refused};
use self::layout::{Layout, Stored};
use self::pickle::{Id, Pickle, Role, Storage, Tensor, Value, short};
use crate::dtype::DType;
use crate::error::Error;
use crate::state_dict::StateDict;

mod archive;
mod layout;
mod pickle;

/// The most bytes of a file's tensors, in times the file's own.
const EXPANSION: u64 = 8;
/// The bytes of tensors, and values in its pickle, that any file may have.
const ALLOWANCE: u64 = 1 << 16;
/// Dimensions of a tensor; PyTorch's own kernels take no more.
const MAX_RANK: usize = 64;
/// Bytes of a tensor's name. A pickle may repeat a long one for a few bytes each time, and each is compared
/// with others.
const MAX_NAME: usize = 1 << 12;

impl StateDict {
    /// Reads the file that `torch.save(model.state_dict(), path)` wrote; no code in it is run.
    ///
    /// The tensors have the file's names, shapes and types and are contiguous; those that share a storage
    /// share memory. The modules' versions, which PyTorch adds to the dict, are left out. Everything else in
    /// the dict, and tensors of a kind that is unknown here, such as sparse, complex or 8-bit floats, is in
    /// [`unsupported`](Self::unsupported).
    ///
    /// ```
    /// use firebox_weights::StateDict;
    ///
    /// // torch.save(torch.nn.DataParallel(torch.nn.Linear(3, 2)).state_dict(), path)
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weight_files/dp.pt");
    /// let weights = StateDict::read_pytorch(path)?.strip_prefix("module.")?;
    /// assert_eq!(weights.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["bias", "weight"]);
    /// # Ok::<(), firebox_weights::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), or [`ErrorKind::Format`](crate::ErrorKind::Format) if the
    /// file is not of this kind, is in the format of PyTorch before 1.6, is damaged, holds no dict or one
    /// without any tensor that can be read, or would take more than eight times its own size and 64 KiB in
    /// tensors.
    pub fn read_pytorch(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::read_pytorch_at(path, &[])
    }

    /// Reads one dict of tensors of a file in which it is not the outermost.
    ///
    /// Of `{"epoch": 3, "state_dict": {…}}` the keys are `["state_dict"]`; what is elsewhere in the file may
    /// be anything.
    ///
    /// ```
    /// use firebox_weights::StateDict;
    ///
    /// // torch.save({"epoch": 3, "model": torch.nn.Linear(3, 2).state_dict(), …}, path)
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weight_files/ckpt.pt");
    /// let weights = StateDict::read_pytorch_at(path, &["model"])?;
    /// assert_eq!(weights.get("weight").unwrap().shape(), [2, 3]);
    /// # Ok::<(), firebox_weights::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read_pytorch`](Self::read_pytorch), and [`ErrorKind::Format`](crate::ErrorKind::Format) if there
    /// is no dict at `keys`.
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
    let items = items(&pickle, find(&pickle, keys)?, keys)?;

    let mut budget = Budget::of(archive.length);
    let mut storages = BTreeMap::<&str, Stored>::new();
    let mut dict = StateDict::default();
    for (name, id) in entries(&pickle, items)? {
        let wrong = |error: String| refused(format!("{}: {error}", short(&name)));
        match place(&pickle, id) {
            Ok((storage, layout)) => {
                if !storages.contains_key(storage.key) {
                    archive.check(&format!("data/{}", storage.key))?;
                }
                let stored = storages.entry(storage.key).or_insert_with(|| Stored::new(storage.bytes));
                let tensor = format!("this tensor of shape {:?}", layout.shape());
                let cost = stored.add(name.clone(), layout, storage.bytes).map_err(wrong)?;
                budget.take(cost, &tensor).map_err(wrong)?;
            }
            Err(Unread::Unsupported(what)) => {
                budget.take((64 + name.len() + what.len()) as u64, "this entry").map_err(wrong)?;
                dict.insert_unsupported(name, what);
            }
            Err(Unread::Damaged(error)) => return Err(wrong(error)),
        }
    }
    if storages.is_empty() && !items.is_empty() {
        return Err(no_tensors(keys, &list(&pickle, items), CHOOSE));
    }
    for (key, stored) in storages {
        let bytes = archive.required(&format!("data/{key}"))?;
        for (name, data) in stored.tensors(bytes).map_err(refused)? {
            dict.insert(name, data);
        }
    }
    Ok(dict)
}

/// The memory that a file may still take.
struct Budget {
    left: u64,
    file: u64,
}

impl Budget {
    fn of(file: u64) -> Self {
        Budget { left: file.saturating_mul(EXPANSION).saturating_add(ALLOWANCE), file }
    }

    fn take(&mut self, bytes: u64, what: &str) -> Result<(), String> {
        let left = self.left.checked_sub(bytes).ok_or_else(|| {
            format!(
                "with {what} the file would take more than {EXPANSION} times its {} bytes; \
                 save clones of tensors that are expanded or that share a storage",
                self.file
            )
        })?;
        self.left = left;
        Ok(())
    }
}

/// The value at `keys`, from the outermost dict inwards.
fn find(pickle: &Pickle<'_>, keys: &[&str]) -> Result<Id, Error> {
    keys.iter().enumerate().try_fold(pickle.root, |id, (depth, key)| {
        let Value::Dict(items) = pickle.get(id) else {
            let got = pickle.type_of(id);
            return Err(refused(format!("{}: expected a dict, got {got}", whereabouts(&keys[..depth]))));
        };
        let found = items
            .iter()
            .rev()
            .find(|(name, _)| matches!(pickle.get(*name), Value::Text(name) if name == key));
        found.map(|&(_, value)| value).ok_or_else(|| {
            let place = whereabouts(&keys[..depth]);
            refused(format!("{place}: expected the key {key:?}, got {}", list(pickle, items)))
        })
    })
}

/// The keys and values of the dict at `id`.
fn items<'p>(pickle: &'p Pickle<'_>, id: Id, keys: &[&str]) -> Result<&'p [(Id, Id)], Error> {
    match pickle.get(id) {
        Value::Dict(items) => Ok(items),
        Value::Object(_) => {
            Err(no_tensors(keys, &pickle.type_of(id), "torch.save(model.state_dict(), path) writes one"))
        }
        _ => Err(no_tensors(keys, &pickle.type_of(id), CHOOSE)),
    }
}

const CHOOSE: &str = "read_pytorch_at chooses a dict inside";

fn no_tensors(keys: &[&str], got: &str, advice: &str) -> Error {
    refused(format!("{}: expected a dict of tensors, got {got}; {advice}", whereabouts(keys)))
}

fn whereabouts(keys: &[&str]) -> String {
    match keys {
        [] => "the file's value".to_owned(),
        keys => format!("{keys:?}"),
    }
}

/// A dict's values by their names. The latest value of a name is the one that counts; a key that is no text
/// has its text as its name, unless another key has it.
fn entries(pickle: &Pickle<'_>, items: &[(Id, Id)]) -> Result<BTreeMap<String, Id>, Error> {
    let mut entries = BTreeMap::new();
    for &(key, value) in items {
        match pickle.get(key) {
            Value::Text(_) => {}
            Value::Int(number) => drop(entries.insert(number.to_string(), value)),
            _ => drop(entries.insert(format!("a key of type {}", pickle.type_of(key)), value)),
        }
    }
    for &(key, value) in items {
        let &Value::Text(name) = pickle.get(key) else { continue };
        match pickle.get(value) {
            _ if name.len() <= MAX_NAME => entries.insert(name.to_owned(), value),
            Value::Tensor(_) => {
                let got = format!("{} bytes: {}", name.len(), short(name));
                return Err(refused(format!("expected names of up to {MAX_NAME} bytes, got one of {got}")));
            }
            _ => entries.insert(short(name).to_owned(), value),
        };
    }
    Ok(entries)
}

/// The first few of a dict's entries.
fn list(pickle: &Pickle<'_>, items: &[(Id, Id)]) -> String {
    const SHOWN: usize = 20;
    let entry = |&(key, value): &(Id, Id)| {
        let value = match place(pickle, value) {
            Err(Unread::Unsupported(what)) => what,
            _ => "tensor".to_owned(),
        };
        match pickle.get(key) {
            Value::Text(key) => format!("{:?} ({value})", short(key)),
            Value::Int(key) => format!("{key} ({value})"),
            _ => format!("a key of type {} ({value})", pickle.type_of(key)),
        }
    };
    let first: Vec<_> = items.iter().take(SHOWN).map(entry).collect();
    match (items.len(), first.join(", ")) {
        (0, _) => "an empty dict".to_owned(),
        (0..=SHOWN, first) => first,
        (all, first) => format!("{first} and {} more", all - SHOWN),
    }
}

/// The reason that a value is not read as a tensor.
enum Unread {
    /// It is none, or one of a kind that is unknown here: what it is.
    Unsupported(String),
    /// It says something that cannot be.
    Damaged(String),
}

impl From<String> for Unread {
    fn from(error: String) -> Self {
        Unread::Damaged(error)
    }
}

/// The bytes of an entry `data/KEY`.
struct Place<'p> {
    key: &'p str,
    bytes: usize,
}

/// The place of the numbers of the tensor at `id`, field by field.
fn place<'p>(pickle: &Pickle<'p>, id: Id) -> Result<(Place<'p>, Layout), Unread> {
    let Value::Tensor(tensor) = pickle.get(id) else {
        return Err(Unread::Unsupported(pickle.type_of(id)));
    };
    let &Value::Storage(Storage { key, class, length }) = pickle.get(tensor.storage) else {
        return match pickle.get(tensor.storage) {
            Value::Object(_) => {
                Err(Unread::Unsupported(format!("a tensor in a {}", pickle.type_of(tensor.storage))))
            }
            _ => Err(format!("expected a storage, got {}", pickle.type_of(tensor.storage)).into()),
        };
    };
    let stored = numbers_of(pickle, class, Role::Storage)?;
    let dtype = tensor.dtype.map(|dtype| numbers_of(pickle, dtype, Role::Dtype)).transpose()?.flatten();
    let dtype = match (stored, dtype) {
        (Some(stored), Some(dtype)) if stored != dtype => {
            return Err(format!("expected {dtype:?}, got a storage of {stored:?}").into());
        }
        (Some(dtype), _) | (None, Some(dtype)) => dtype,
        (None, None) => return Err("expected a type of numbers, got a storage of bytes".to_owned().into()),
    };
    let negated = is_negated(pickle, tensor)?;
    if negated && !dtype.is_float() {
        return Err(Unread::Unsupported(format!("a negated tensor of {dtype:?}")));
    }
    let size = stored.map_or(1, |dtype| dtype.size());
    let bytes = usize::try_from(length).ok().and_then(|length| length.checked_mul(size));
    let bytes = bytes.ok_or_else(|| format!("a storage cannot have {length} elements"))?;
    let offset = match pickle.get(tensor.offset) {
        &Value::Int(offset) => usize::try_from(offset).ok(),
        _ => None,
    };
    let offset = offset.ok_or_else(|| "expected a whole number as the offset".to_owned())?;
    let shape = whole_numbers(pickle, tensor.shape, "shape")?;
    let stride = whole_numbers(pickle, tensor.stride, "strides")?;
    let layout = Layout::new(dtype, offset, shape, stride, negated, bytes)?;
    Ok((Place { key, bytes }, layout))
}

/// The type of numbers of a dtype or a class of storages; `None` for bytes.
fn numbers_of(pickle: &Pickle<'_>, id: Id, role: Role) -> Result<Option<DType>, Unread> {
    match pickle.get(id) {
        Value::Global(global) if global.role == role => Ok(global.dtype()),
        Value::Global(global) if global.role == Role::Bytes && role == Role::Storage => Ok(None),
        Value::Global(global) if global.role == Role::Foreign => {
            Err(Unread::Unsupported(format!("a tensor of {}", global.title())))
        }
        _ => Err(format!("expected a tensor's dtype, got {}", pickle.type_of(id)).into()),
    }
}

/// True if a tensor's numbers are the negatives of those in its storage.
///
/// Other metadata make it another kind of tensor.
fn is_negated(pickle: &Pickle<'_>, tensor: &Tensor) -> Result<bool, Unread> {
    let unsupported = |what: String| Err(Unread::Unsupported(format!("a tensor with the metadata {what}")));
    let Some(metadata) = tensor.metadata else { return Ok(false) };
    let items = match pickle.get(metadata) {
        Value::Opaque("None") => return Ok(false),
        Value::Dict(items) => items,
        _ => return unsupported(pickle.type_of(metadata)),
    };
    for &(key, value) in items {
        match (pickle.get(key), pickle.get(value)) {
            (Value::Text("neg"), Value::Bool(true)) => {}
            (Value::Text(key), _) => return unsupported(format!("{:?}", short(key))),
            _ => return unsupported(format!("of type {}", pickle.type_of(key))),
        }
    }
    Ok(!items.is_empty())
}

/// A tuple of whole numbers.
fn whole_numbers(pickle: &Pickle<'_>, id: Id, what: &str) -> Result<Vec<usize>, String> {
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
