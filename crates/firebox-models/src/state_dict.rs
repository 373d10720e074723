//! A module's tensors by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Shape, Tensor, TensorData, kind::Basic};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, ErrorKind};

/// All tensors of a module, parameters and buffers, by their path in it, such as `conv1.bn.running_mean`.
///
/// Nothing else is in it: no identifiers that differ from run to run, so that equal modules have equal
/// dictionaries, and equal dictionaries equal files.
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
    /// # Errors
    /// [`ErrorKind::Mismatch`] if a tensor of the module is missing here, is left over here, or has another
    /// shape or type; the error lists them all.
    pub fn apply<M: Module>(&self, module: M) -> Result<M, Error> {
        let mut apply = Apply { path: Vec::new(), from: &self.0, seen: BTreeSet::new(), wrong: Vec::new() };
        let module = module.map(&mut apply);
        let (seen, mut wrong) = (apply.seen, apply.wrong);
        wrong.extend(self.0.keys().filter(|key| !seen.contains(*key)).map(|key| format!("unexpected {key}")));
        match wrong.is_empty() {
            true => Ok(module),
            false => {
                let text = format!("the weights don't fit the module: {}", wrong.join("; "));
                Err(Error::new(ErrorKind::Mismatch, text))
            }
        }
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

    /// The dictionary as the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a tensor type that the format lacks, such as a quantised one.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let views = self
            .iter()
            .map(|(key, data)| {
                let dtype = to_safetensors(data.dtype()).ok_or_else(|| {
                    format_error(format!("{key}: no safetensors type for {:?}", data.dtype()))
                })?;
                let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
                    .map_err(|error| format_error(key.to_owned()).caused_by(error))?;
                Ok((key, view))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        safetensors::serialize(views, None).map_err(|error| format_error("safetensors").caused_by(error))
    }

    /// The dictionary in the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if they are none.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| format_error("not a safetensors file").caused_by(error))?;
        let mut tensors = BTreeMap::new();
        for (key, view) in file.iter() {
            let dtype = from_safetensors(view.dtype())
                .ok_or_else(|| format_error(format!("{key}: no tensor type for {:?}", view.dtype())))?;
            let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
            tensors.insert(key.to_owned(), data);
        }
        Ok(StateDict(tensors))
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Format`], with the file's path.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path)
            .map_err(|error| Error::new(ErrorKind::Io, "cannot be read").at_path(path).caused_by(error))?;
        Self::from_safetensors(&bytes).map_err(|error| error.at_path(path))
    }
}

fn format_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, message)
}

const DTYPES: [(DType, Dtype); 12] = [
    (DType::F64, Dtype::F64),
    (DType::F32, Dtype::F32),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::I64, Dtype::I64),
    (DType::I32, Dtype::I32),
    (DType::I16, Dtype::I16),
    (DType::I8, Dtype::I8),
    (DType::U64, Dtype::U64),
    (DType::U32, Dtype::U32),
    (DType::U16, Dtype::U16),
    (DType::U8, Dtype::U8),
];

fn to_safetensors(dtype: DType) -> Option<Dtype> {
    DTYPES.iter().find(|(burn, _)| *burn == dtype).map(|&(_, safe)| safe)
}

fn from_safetensors(dtype: Dtype) -> Option<DType> {
    DTYPES.iter().find(|(_, safe)| *safe == dtype).map(|&(burn, _)| burn)
}

#[derive(Default)]
struct Collect {
    path: Vec<String>,
    tensors: BTreeMap<String, TensorData>,
}

impl Collect {
    fn add<const D: usize, K: Basic>(&mut self, value: Tensor<D, K>) {
        self.tensors.insert(self.path.join("."), value.into_data());
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
        self.add(param.transform_for_save().val());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(param.transform_for_save().val());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.add(param.transform_for_save().val());
    }
}

struct Apply<'d> {
    path: Vec<String>,
    from: &'d BTreeMap<String, TensorData>,
    seen: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Apply<'_> {
    /// The tensor for the current path, if there is one that fits.
    fn find(&mut self, shape: Shape, dtype: DType) -> Option<TensorData> {
        let key = self.path.join(".");
        let found = self.from.get(&key);
        let wrong = match found {
            None => Some(format!("missing {key}")),
            Some(data) if *data.shape() != shape => {
                Some(format!("{key}: expected shape {:?}, got {:?}", shape.to_vec(), data.shape().to_vec()))
            }
            Some(data) if data.dtype() != dtype => {
                Some(format!("{key}: expected {dtype:?}, got {:?}", data.dtype()))
            }
            Some(_) => None,
        };
        self.seen.insert(key);
        match wrong {
            Some(wrong) => {
                self.wrong.push(wrong);
                None
            }
            None => found.cloned(),
        }
    }
}

macro_rules! map {
    ($($name:ident $kind:ty),+) => {$(
        fn $name<const D: usize>(&mut self, param: Param<Tensor<D, $kind>>) -> Param<Tensor<D, $kind>> {
            let form = param.transform_for_save().val();
            match self.find(form.shape(), form.dtype()) {
                Some(data) => {
                    let tensor = Tensor::from_data(data, (&param.lazy_device(), form.dtype()));
                    let id = param.id;
                    param.transform_for_load(tensor, id)
                }
                None => param,
            }
        }
    )+};
}

impl ModuleMapper for Apply<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    map!(map_float burn::tensor::Float, map_int Int, map_bool Bool);
}
