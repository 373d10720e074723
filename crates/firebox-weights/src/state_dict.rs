//! Tensors by name.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::raw_tensor::RawTensor;

/// The tensors of a model by name, such as `conv1.bn.running_mean`: its parameters and buffers.
///
/// Nothing else is in it: no identifiers that differ from run to run, so that equal models have equal
/// dictionaries, and equal dictionaries equal files. Two dictionaries are equal if they have equal tensors
/// under equal names.
///
/// With the feature `burn` it is made of a module (`StateDict::of`) and applied to one (`apply`,
/// `apply_partly`).
///
/// # Look into a file
///
/// A `.pt` file may come from anywhere: it is read as data, and nothing in it is run.
///
/// ```no_run
/// use firebox_weights::StateDict;
///
/// let weights = StateDict::read_pytorch("model.pt")?;
/// for (name, tensor) in weights.iter() {
///     println!("{name}: {:?} of {:?}", tensor.shape(), tensor.dtype());
/// }
/// # Ok::<(), firebox_weights::Error>(())
/// ```
///
/// # Load what can be had of a checkpoint
///
/// A file of PyTorch may hold anything beside tensors. What is understood is read, and the rest is named:
///
/// ```no_run
/// use firebox_weights::StateDict;
///
/// // torch.save({"epoch": 3, "model": parallel.state_dict()}, "checkpoint.pt")
/// let weights = StateDict::read_pytorch_at("checkpoint.pt", &["model"])?;
/// for (key, what) in weights.unsupported() {
///     println!("{key} is passed over: {what}");
/// }
/// let weights = weights.strip_prefix("module.")?;
/// # Ok::<(), firebox_weights::Error>(())
/// ```
///
/// # Write tensors under names of one's own
///
/// ```
/// use firebox_weights::{RawTensor, StateDict};
///
/// # let folder = std::env::temp_dir().join(format!("firebox-state-dict-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("model.safetensors");
/// let mut dict = StateDict::default();
/// dict.insert("fc.weight", RawTensor::new(&[1f32, 2.0, 3.0, 4.0], [2, 2])?);
/// dict.insert("fc.bias", RawTensor::from([0.5f32, -0.5]));
/// dict.write(&path)?;
/// assert_eq!(StateDict::read(&path)?, dict);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, RawTensor>,
    /// By key, what has no tensor that can be read, and what it is.
    unsupported: BTreeMap<String, String>,
}

impl PartialEq for StateDict {
    fn eq(&self, other: &Self) -> bool {
        self.tensors == other.tensors
    }
}

impl StateDict {
    /// The dictionary with `prefix` taken off every key.
    ///
    /// Such as `module.` of a model in PyTorch's `DataParallel`, or the name of a part in a larger model.
    /// What is [unsupported](Self::unsupported) may have other keys.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if keys don't begin with it, or are nothing else; the error lists them all.
    ///
    /// ```
    /// use firebox_weights::{RawTensor, StateDict};
    ///
    /// let mut dict = StateDict::default();
    /// dict.insert("module.fc.bias", RawTensor::from([0f32]));
    /// assert!(dict.strip_prefix("module.")?.get("fc.bias").is_some());
    /// # Ok::<(), firebox_weights::Error>(())
    /// ```
    pub fn strip_prefix(self, prefix: &str) -> Result<Self, Error> {
        let short = |key: &str| key.strip_prefix(prefix).filter(|key| !key.is_empty()).map(str::to_owned);
        let others =
            self.tensors.keys().filter(|key| short(key).is_none()).map(String::as_str).collect::<Vec<_>>();
        if !others.is_empty() {
            let text = format!("expected keys that begin with {prefix:?}, got {}", others.join(", "));
            return Err(Error::new(ErrorKind::Mismatch, text));
        }
        let renamed = self.tensors.into_iter().filter_map(|(key, tensor)| Some((short(&key)?, tensor)));
        let mut dict = StateDict { tensors: renamed.collect(), unsupported: BTreeMap::new() };
        for (key, what) in self.unsupported {
            dict.insert_unsupported(short(&key).unwrap_or(key), what);
        }
        Ok(dict)
    }

    /// The tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawTensor)> {
        self.tensors.iter().map(|(key, tensor)| (key.as_str(), tensor))
    }

    /// One tensor.
    pub fn get(&self, key: &str) -> Option<&RawTensor> {
        self.tensors.get(key)
    }

    /// Adds a tensor, or replaces it.
    pub fn insert(&mut self, key: impl Into<String>, tensor: impl Into<RawTensor>) {
        let key = key.into();
        self.unsupported.remove(&key);
        self.tensors.insert(key, tensor.into());
    }

    /// The file's entries that are no readable tensors, by key, with what they are.
    ///
    /// Such as `None`, `int`, `dict`, the name of a Python class, or "a tensor of torch.float8_e4m3fn".
    pub fn unsupported(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unsupported.iter().map(|(key, what)| (key.as_str(), what.as_str()))
    }

    /// Names an entry that is no readable tensor, unless one has its name.
    pub(crate) fn insert_unsupported(&mut self, key: String, what: String) {
        if !self.tensors.contains_key(&key) {
            self.unsupported.insert(key, what);
        }
    }
}
