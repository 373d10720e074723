//! Tensors put into a module by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Bool, Bytes, DType, Float, Int, Shape, Tensor, TensorData};

use crate::tied::Ties;

/// What [`StateDict::apply_partly`](crate::StateDict::apply_partly) did not load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partial {
    /// The module's tensors for which there was none, in the module's order.
    pub missing: Vec<String>,
    /// Keys of which the module has no tensor.
    pub unused: Vec<String>,
    /// What the file has that is no tensor of a kind that can be read, by key, with what it is. A key that
    /// the module has is in `missing`, too.
    pub unsupported: BTreeMap<String, String>,
}

/// A mapper that replaces tensors and lists what doesn't fit.
pub(crate) struct Apply<'d> {
    path: Vec<String>,
    from: &'d BTreeMap<String, TensorData>,
    seen: BTreeSet<String>,
    missing: Vec<String>,
    wrong: Vec<String>,
    /// For each place of a parameter that has several: one of them for which there is a tensor.
    stands_for: HashMap<String, String>,
}

impl<'d> Apply<'d> {
    /// The module with what fits, what was not loaded, and what doesn't fit.
    pub(crate) fn run<M: Module>(
        from: &'d BTreeMap<String, TensorData>,
        module: M,
    ) -> (M, Partial, Vec<String>) {
        let ties = Ties::of(&module);
        let (path, seen, missing, mut wrong, mut stands_for) = <(_, _, _, Vec<_>, HashMap<_, _>)>::default();
        for paths in ties.groups() {
            let mut given = paths.iter().filter(|path| from.contains_key(*path));
            let Some(first) = given.next() else { continue };
            for other in given.filter(|other| from.get(*other) != from.get(first)) {
                let text = "are one parameter of the module: expected equal tensors, got different ones";
                wrong.push(format!("{first} and {other} {text}"));
            }
            stands_for.extend(paths.iter().map(|path| (path.clone(), first.clone())));
        }
        let mut apply = Apply { path, from, seen, missing, wrong, stands_for };
        let module = ties.retie(module.map(&mut apply));
        let unused = from.keys().filter(|key| !apply.seen.contains(*key)).cloned().collect();
        (module, Partial { missing: apply.missing, unused, ..Partial::default() }, apply.wrong)
    }

    /// The tensor for the current path, if there is one that fits.
    fn find(&mut self, shape: Shape, dtype: DType) -> Option<TensorData> {
        let key = self.path.join(".");
        self.seen.insert(key.clone());
        let own = self.from.get(&key);
        let Some(data) = own.or_else(|| self.from.get(self.stands_for.get(&key)?)) else {
            self.missing.push(key);
            return None;
        };
        match fitted(data, shape, dtype) {
            Ok(data) => Some(data),
            Err(error) => {
                self.wrong.push(format!("{key}: {error}"));
                None
            }
        }
    }
}

fn fitted(data: &TensorData, shape: Shape, dtype: DType) -> Result<TensorData, String> {
    let (got, from) = (data.shape(), data.dtype());
    if *got != shape && !(got.is_empty() && shape == [1].into()) {
        return Err(format!("expected shape {:?}, got {:?}", shape.to_vec(), got.to_vec()));
    }
    // A copy of its own: a part of a storage would keep the whole of it.
    let bytes = Bytes::from_bytes_vec(data.as_bytes().to_vec());
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

    map!(map_float Float, map_int Int, map_bool Bool);
}
