//! Tensors put into a module by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::module::{Module, Param};
use burn::tensor::{Bool, Bytes, DType, Float, Int, Shape, Tensor, TensorData};

use super::convert::to_burn;
use super::paths::{self, PathMapper};
use super::ties::Ties;
use crate::error::{Error, ErrorKind};
use crate::raw_tensor::RawTensor;
use crate::state_dict::StateDict;

impl StateDict {
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
    ///
    /// ```
    /// use burn::nn::conv::Conv2dConfig;
    /// use burn::tensor::Device;
    /// use firebox_weights::{RawTensor, StateDict};
    ///
    /// let conv = || Conv2dConfig::new([1, 2], [1, 1]).init(&Device::default());
    /// let mut weights = StateDict::default();
    /// weights.insert("weight", RawTensor::new(&[1f32, 2.0], [2, 1, 1, 1])?);
    /// weights.insert("bias", RawTensor::from([0f32, 0.5]));
    /// assert_eq!(StateDict::of(&weights.apply(conv())?), weights);
    ///
    /// weights.insert("bias", RawTensor::from([0f32]));
    /// let error = weights.apply(conv()).unwrap_err();
    /// assert_eq!(error.to_string(), "the weights don't fit the module: bias: expected shape [2], got [1]");
    /// # Ok::<(), firebox_weights::Error>(())
    /// ```
    pub fn apply<M: Module>(&self, module: M) -> Result<M, Error> {
        let (module, partial, mut wrong) = Apply::run(self, module);
        let (mut wanted, mut left) = (partial.missing, partial.unsupported);
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

    /// As [`apply`](Self::apply), with the tensors that are there; the rest stays the module's own.
    ///
    /// Tensors may be missing, unsupported or left over. What was not loaded is returned with the module.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] for a tensor that is in both and doesn't fit; the error lists them all.
    ///
    /// ```
    /// use burn::nn::conv::Conv2dConfig;
    /// use burn::tensor::Device;
    /// use firebox_weights::{RawTensor, StateDict};
    ///
    /// let mut weights = StateDict::default();
    /// weights.insert("bias", RawTensor::from([0f32, 0.5]));
    /// weights.insert("head.bias", RawTensor::from([1f32]));
    /// let conv = Conv2dConfig::new([1, 2], [1, 1]).init(&Device::default());
    /// let (conv, partial) = weights.apply_partly(conv)?;
    /// assert_eq!(StateDict::of(&conv).get("bias"), weights.get("bias"));
    /// assert_eq!(partial.missing, ["weight"]);
    /// assert_eq!(partial.unused, ["head.bias"]);
    /// # Ok::<(), firebox_weights::Error>(())
    /// ```
    pub fn apply_partly<M: Module>(&self, module: M) -> Result<(M, Partial), Error> {
        let (module, partial, wrong) = Apply::run(self, module);
        fits(wrong).map(|()| (module, partial))
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

/// The tensors that [`StateDict::apply_partly`] did not load.
///
/// Its example shows one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// The module's tensors for which there was none, in the module's order.
    pub missing: Vec<String>,
    /// Keys of which the module has no tensor.
    pub unused: Vec<String>,
    /// The file's entries that are no readable tensors, by key, with what they are. A key
    /// that the module has is in `missing`, too.
    pub unsupported: BTreeMap<String, String>,
}

/// A mapper that replaces tensors and lists what doesn't fit.
struct Apply<'d> {
    from: &'d StateDict,
    seen: BTreeSet<String>,
    missing: Vec<String>,
    wrong: Vec<String>,
    /// One place that has a tensor, for each place of a parameter that has several.
    stands_for: HashMap<String, String>,
}

impl<'d> Apply<'d> {
    /// The module with what fits, what was not loaded, and what doesn't fit.
    fn run<M: Module>(from: &'d StateDict, module: M) -> (M, Partial, Vec<String>) {
        let ties = Ties::of(&module);
        let (seen, missing, mut wrong, mut stands_for) = <(_, _, Vec<_>, HashMap<_, _>)>::default();
        for paths in ties.groups() {
            let mut given = paths.iter().filter(|path| from.get(path).is_some());
            let Some(first) = given.next() else { continue };
            for other in given.filter(|other| from.get(other) != from.get(first)) {
                let text = "are one parameter of the module: expected equal tensors, got different ones";
                wrong.push(format!("{first} and {other} {text}"));
            }
            stands_for.extend(paths.iter().map(|path| (path.clone(), first.clone())));
        }
        let mut apply = Apply { from, seen, missing, wrong, stands_for };
        let module = ties.retie(paths::map(module, &mut apply));
        let keys = from.iter().map(|(key, _)| key);
        let unused = keys.filter(|key| !apply.seen.contains(*key)).map(str::to_owned).collect();
        let unsupported = from.unsupported().map(|(key, what)| (key.to_owned(), what.to_owned())).collect();
        (module, Partial { missing: apply.missing, unused, unsupported }, apply.wrong)
    }

    /// The tensor for a path, if there is one that fits.
    fn find(&mut self, path: &str, shape: Shape, dtype: DType) -> Option<TensorData> {
        self.seen.insert(path.to_owned());
        let own = self.from.get(path);
        let Some(tensor) = own.or_else(|| self.from.get(self.stands_for.get(path)?)) else {
            self.missing.push(path.to_owned());
            return None;
        };
        match fitted(tensor, shape, dtype) {
            Ok(data) => Some(data),
            Err(error) => {
                self.wrong.push(format!("{path}: {error}"));
                None
            }
        }
    }
}

fn fitted(tensor: &RawTensor, shape: Shape, dtype: DType) -> Result<TensorData, String> {
    let (got, from) = (tensor.shape(), to_burn(tensor.dtype()));
    if *got != *shape.as_slice() && !(got.is_empty() && shape == [1].into()) {
        return Err(format!("expected shape {:?}, got {got:?}", shape.to_vec()));
    }
    // A copy of its own: a part of a storage would keep the whole of it.
    let bytes = Bytes::from_bytes_vec(tensor.as_bytes().to_vec());
    let data = TensorData::from_bytes(bytes, shape, from);
    let integer = |dtype: DType| dtype.is_int() || dtype.is_uint();
    if from == dtype || (from.is_bool() && dtype.is_bool()) {
        Ok(data.convert_dtype(dtype))
    } else if from.is_float() && dtype.is_float() {
        to_float(data, dtype)
    } else if integer(from) && integer(dtype) {
        to_int(data, dtype)
    } else {
        Err(format!("expected {dtype:?}, got {from:?}"))
    }
}

/// Rounds to the nearest; a number must not become infinite.
fn to_float(data: TensorData, dtype: DType) -> Result<TensorData, String> {
    let max = |dtype: DType| dtype.finfo().map_or(0.0, |info| info.max);
    let narrowed = max(dtype) < max(data.dtype());
    let large =
        narrowed.then(|| data.iter::<f64>().map(f64::abs).filter(|x| x.is_finite()).fold(0.0, f64::max));
    let data = data.convert_dtype(dtype);
    match large {
        Some(large) if TensorData::from([large]).convert_dtype(dtype).iter::<f64>().any(f64::is_infinite) => {
            Err(format!("{large:e} is too large for {dtype:?}"))
        }
        _ => Ok(data),
    }
}

fn to_int(data: TensorData, dtype: DType) -> Result<TensorData, String> {
    let range = match dtype {
        DType::I64 => i64::MIN.into()..=i64::MAX.into(),
        DType::I32 => i32::MIN.into()..=i32::MAX.into(),
        DType::I16 => i16::MIN.into()..=i16::MAX.into(),
        DType::I8 => i8::MIN.into()..=i8::MAX.into(),
        DType::U64 => 0..=u64::MAX.into(),
        DType::U32 => 0..=u32::MAX.into(),
        DType::U16 => 0..=u16::MAX.into(),
        _ => 0i128..=u8::MAX.into(),
    };
    let outside = match data.dtype() {
        DType::U64 => data.iter::<u64>().map(i128::from).find(|value| !range.contains(value)),
        _ => data.iter::<i64>().map(i128::from).find(|value| !range.contains(value)),
    };
    match outside {
        Some(value) => Err(format!("{value} does not fit in {dtype:?}")),
        None => Ok(data.convert_dtype(dtype)),
    }
}

macro_rules! map {
    ($($name:ident $kind:ty),+) => {$(
        fn $name<const D: usize>(
            &mut self,
            path: &str,
            param: Param<Tensor<D, $kind>>,
        ) -> Param<Tensor<D, $kind>> {
            let form = param.transform_for_save().val();
            match self.find(path, form.shape(), form.dtype()) {
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

impl PathMapper for Apply<'_> {
    map!(map_float Float, map_int Int, map_bool Bool);
}
