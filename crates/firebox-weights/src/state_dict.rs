//! A module's tensors by name.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, BoolStore, DType, Int, Tensor, TensorData};

use crate::apply::{Apply, Partial};
use crate::error::{Error, ErrorKind};

/// All tensors of a module, parameters and buffers, by their path in it, such as `conv1.bn.running_mean`.
///
/// Nothing else is in it: no identifiers that differ from run to run, so that equal modules have equal
/// dictionaries, and equal dictionaries equal files.
///
/// Names, shapes and types are PyTorch's, so that its files and those of this crate are the same. Burn has no
/// tensors without dimensions: a shape `[]` fits a module's `[1]`, and a module's int tensor `[1]` at a path
/// that ends in `num_batches_tracked` is an int64 of shape `[]` here.
///
/// Two dictionaries are equal if they have equal tensors under equal names.
///
/// # Load what can be had of a checkpoint
///
/// A file of PyTorch may hold anything beside tensors. What is understood is read, the rest is named, and
/// nothing of it is run:
///
/// ```no_run
/// use firebox_models::StateDict;
///
/// let weights = StateDict::read_pytorch_at("checkpoint.pt", &["state_dict"])?;
/// for (key, what) in weights.unsupported() {
///     println!("{key} is passed over: {what}");
/// }
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, TensorData>,
    /// What is no tensor that can be read, and what it is.
    unsupported: BTreeMap<String, String>,
}

impl PartialEq for StateDict {
    fn eq(&self, other: &Self) -> bool {
        self.tensors == other.tensors
    }
}

impl StateDict {
    /// The tensors of `module`, copied from its device.
    pub fn of<M: Module>(module: &M) -> Self {
        let mut collect = Collect::default();
        module.visit(&mut collect);
        StateDict { tensors: collect.tensors, unsupported: BTreeMap::new() }
    }

    /// `module` with these tensors in the place of its own, on its own device.
    ///
    /// A tensor takes the type of the module's: floats of any width become floats of another, rounded; ints
    /// of any width ints of another. Nothing else is converted.
    ///
    /// What is [unsupported](Self::unsupported) is left over as a tensor would be, but for a `None`: PyTorch
    /// writes one for a layer's `_extra_state` where there is nothing in it.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if a tensor of the module is missing or unsupported here, is left over here,
    /// has another shape or kind, or has a number that the module's type cannot hold; the error lists them
    /// all.
    pub fn apply<M: Module>(&self, module: M) -> Result<M, Error> {
        let (module, partial, mut wrong) = Apply::run(&self.tensors, module);
        let (mut wanted, mut left) = (partial.missing, self.unsupported.clone());
        wanted.retain(|key| match left.remove(key) {
            Some(what) => {
                wrong.push(format!("{key}: expected a tensor, got {what}"));
                false
            }
            None => true,
        });
        wrong.extend(wanted.into_iter().map(|key| format!("missing {key}")));
        wrong.extend(partial.unused.into_iter().map(|key| format!("unexpected {key}")));
        left.retain(|_, what| what != "None");
        wrong.extend(left.into_iter().map(|(key, what)| format!("unexpected {key} ({what})")));
        fits(wrong).map(|()| module)
    }

    /// As [`apply`](Self::apply), where tensors may be missing or unsupported, which leaves the module's own,
    /// or left over. What was not loaded is returned with the module.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] for a tensor that is in both and doesn't fit; the error lists them all.
    pub fn apply_partly<M: Module>(&self, module: M) -> Result<(M, Partial), Error> {
        let (module, partial, wrong) = Apply::run(&self.tensors, module);
        let partial = Partial { unsupported: self.unsupported.clone(), ..partial };
        fits(wrong).map(|()| (module, partial))
    }

    /// The dictionary with `prefix` taken off every key: `module.` of a model in PyTorch's `DataParallel`, or
    /// what is before a part of a larger model. What is [unsupported](Self::unsupported) may have other keys.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if keys don't begin with it, or are nothing else; the error lists them all.
    pub fn strip_prefix(self, prefix: &str) -> Result<Self, Error> {
        let short = |key: &str| key.strip_prefix(prefix).filter(|key| !key.is_empty()).map(str::to_owned);
        let others =
            self.tensors.keys().filter(|key| short(key).is_none()).map(String::as_str).collect::<Vec<_>>();
        if !others.is_empty() {
            let text = format!("expected keys that begin with {prefix:?}, got {}", others.join(", "));
            return Err(Error::new(ErrorKind::Mismatch, text));
        }
        let renamed = self.tensors.into_iter().filter_map(|(key, data)| Some((short(&key)?, data)));
        let mut dict = StateDict { tensors: renamed.collect(), unsupported: BTreeMap::new() };
        for (key, what) in self.unsupported {
            dict.insert_unsupported(short(&key).unwrap_or(key), what);
        }
        Ok(dict)
    }

    /// The tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorData)> {
        self.tensors.iter().map(|(key, data)| (key.as_str(), data))
    }

    /// One tensor.
    ///
    /// Its bytes may be a part of a storage that other tensors share, and so are a clone's, until they are
    /// changed.
    pub fn get(&self, key: &str) -> Option<&TensorData> {
        self.tensors.get(key)
    }

    /// Adds a tensor, or replaces it.
    pub fn insert(&mut self, key: impl Into<String>, data: TensorData) {
        let key = key.into();
        self.unsupported.remove(&key);
        self.tensors.insert(key, data);
    }

    /// What the file has and this reader has no tensor for, by key, with what it is.
    ///
    /// Such as `None`, `int`, `dict`, the name of a Python class, or "a tensor of torch.float8_e4m3fn".
    pub fn unsupported(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unsupported.iter().map(|(key, what)| (key.as_str(), what.as_str()))
    }

    /// Names what is no tensor that can be read, unless there is one of that name.
    pub(crate) fn insert_unsupported(&mut self, key: String, what: String) {
        if !self.tensors.contains_key(&key) {
            self.unsupported.insert(key, what);
        }
    }
}

fn fits(wrong: Vec<String>) -> Result<(), Error> {
    match wrong.is_empty() {
        true => Ok(()),
        false => {
            let text = format!("the weights don't fit the module: {}", wrong.join("; "));
            Err(Error::new(ErrorKind::Mismatch, text))
        }
    }
}

#[derive(Default)]
struct Collect {
    path: Vec<String>,
    tensors: BTreeMap<String, TensorData>,
}

impl Collect {
    fn add(&mut self, data: TensorData) {
        self.tensors.insert(self.path.join("."), data);
    }
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param.transform_for_save().val().into_data());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let data = param.transform_for_save().val().into_data();
        let is_counter = self.path.last().is_some_and(|name| name == "num_batches_tracked");
        self.add(match is_counter && *data.shape() == [1].into() {
            true => {
                let (bytes, _, dtype) = data.into_parts();
                TensorData::from_bytes(bytes, [0usize; 0], dtype).convert_dtype(DType::I64)
            }
            false => data,
        });
    }

    /// A device may keep bools as ints; files don't.
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let data = param.transform_for_save().val().into_data();
        self.add(data.convert_dtype(DType::Bool(BoolStore::Native)));
    }
}
