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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict(BTreeMap<String, TensorData>);

impl StateDict {
    /// The tensors of `module`, copied from its device.
    pub fn of<M: Module>(module: &M) -> Self {
        let mut collect = Collect::default();
        module.visit(&mut collect);
        StateDict(collect.tensors)
    }

    /// `module` with these tensors in the place of its own, on its own device.
    ///
    /// A tensor takes the type of the module's: floats of any width become floats of another, rounded; ints of
    /// any width ints of another. Nothing else is converted.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if a tensor of the module is missing here, is left over here, has another shape
    /// or kind, or has a number that the module's type cannot hold; the error lists them all.
    pub fn apply<M: Module>(&self, module: M) -> Result<M, Error> {
        let (module, Partial { missing, unused }, mut wrong) = Apply::run(&self.0, module);
        wrong.extend(missing.into_iter().map(|key| format!("missing {key}")));
        wrong.extend(unused.into_iter().map(|key| format!("unexpected {key}")));
        fits(wrong).map(|()| module)
    }

    /// As [`apply`](Self::apply), where tensors may be missing, which leaves the module's own, or left over. What
    /// was not loaded is returned with the module.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] for a tensor that is in both and doesn't fit; the error lists them all.
    pub fn apply_partly<M: Module>(&self, module: M) -> Result<(M, Partial), Error> {
        let (module, partial, wrong) = Apply::run(&self.0, module);
        fits(wrong).map(|()| (module, partial))
    }

    /// The dictionary with `prefix` taken off every key: `module.` of a model in PyTorch's `DataParallel`, or
    /// what is before a part of a larger model.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if keys don't begin with it, or are nothing else; the error lists them all.
    pub fn strip_prefix(self, prefix: &str) -> Result<Self, Error> {
        let short = |key: &str| key.strip_prefix(prefix).filter(|key| !key.is_empty()).map(str::to_owned);
        let others = self.0.keys().filter(|key| short(key).is_none()).map(String::as_str).collect::<Vec<_>>();
        if !others.is_empty() {
            let text = format!("expected keys that begin with {prefix:?}, got {}", others.join(", "));
            return Err(Error::new(ErrorKind::Mismatch, text));
        }
        Ok(StateDict(self.0.into_iter().filter_map(|(key, data)| Some((short(&key)?, data))).collect()))
    }

    /// The tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorData)> {
        self.0.iter().map(|(key, data)| (key.as_str(), data))
    }

    /// One tensor.
    pub fn get(&self, key: &str) -> Option<&TensorData> {
        self.0.get(key)
    }

    /// Adds a tensor, or replaces it.
    pub fn insert(&mut self, key: impl Into<String>, data: TensorData) {
        self.0.insert(key.into(), data);
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
