//! An optimizer's state as tensors with names.

use std::collections::HashMap;

use burn::module::{Module, Param, ParamId};
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::tensor::{Bytes, Tensor, TensorData};
use burn_pack::{Reader, Scalar, Writer};
use firebox_weights::paths::{self, PathVisitor};
use firebox_weights::{DType, Element, RawTensor, StateDict};

use crate::error::{Error, ErrorKind};

/// The optimizer's state by parameter path and field: tensors as `fc2.weight/momentum.moment_1`, single
/// numbers as `fc2.weight#momentum.time`.
///
/// Burn keys it by `ParamId`, which is random, so that equal runs would save different bytes.
pub(super) fn of(optimizer: &ModuleOptimizer, paths: &Paths) -> Result<StateDict, Error> {
    let unreadable = |text: String| Error::new(ErrorKind::Checkpoint, format!("optimizer state: {text}"));
    let record = optimizer.to_record().into_bytes().map_err(|error| unreadable(error.to_string()))?;
    let record = Reader::from_bytes(record).map_err(|error| unreadable(error.to_string()))?;
    let first = paths.first_of_each();
    let key = |name: &str, mark: char| {
        let (id, field) = name.split_once('.')?;
        let id = id.parse::<u64>().map(ParamId::from).ok()?;
        Some(format!("{}{mark}{field}", first.get(&id)?))
    };
    let known =
        |name: &str, mark| key(name, mark).ok_or_else(|| unreadable(format!("{name} is of no parameter")));
    let mut state = StateDict::default();
    for (name, &scalar) in record.scalars() {
        state.insert(known(name, SCALAR)?, scalar_to_tensor(scalar));
    }
    for tensor in record.into_tensors().map_err(|error| unreadable(error.to_string()))? {
        let (name, dtype, shape, _, bytes) =
            tensor.into_parts().map_err(|error| unreadable(error.to_string()))?;
        state.insert(known(&name, TENSOR)?, TensorData::from_bytes(bytes, shape, dtype));
    }
    Ok(state)
}

/// The optimizer with this state, for the parameters of `model`.
pub(super) fn restored<M: Module>(
    optimizer: &ModuleOptimizer,
    model: &M,
    name: &str,
    state: &StateDict,
) -> Result<ModuleOptimizer, Error> {
    let refused = |text: String| Error::new(ErrorKind::Checkpoint, format!("{name}: {text}"));
    let paths = Paths::of(model);
    // The state of a parameter in several places stands under the first; one under another is of another
    // model.
    let ids: HashMap<_, _> = paths.first_of_each().into_iter().map(|(id, path)| (path, id)).collect();
    let mut tensors = Vec::new();
    let mut scalars = Vec::new();
    let mut strangers = Vec::new();
    for (key, data) in state.iter() {
        let known = key.split_once([TENSOR, SCALAR]).and_then(|(path, field)| {
            let id = ids.get(path)?.val();
            Some((id, format!("{id}.{field}")))
        });
        match (known, key.contains(SCALAR), tensor_to_scalar(data)) {
            (Some((_, field)), true, Some(scalar)) => scalars.push((field, scalar)),
            (Some((id, field)), false, _) => {
                let (bytes, shape, dtype) = TensorData::from(data).into_parts();
                tensors.push(burn_pack::Tensor::new(field, dtype, shape, Some(id), bytes));
            }
            _ => strangers.push(format!("unexpected {key}")),
        }
    }
    if !strangers.is_empty() {
        return Err(refused(strangers.join("; ")));
    }
    let mut writer = Writer::new(tensors);
    for (field, scalar) in scalars {
        writer = writer.with_scalar(&field, scalar);
    }
    for (path, id) in &ids {
        writer = writer.with_metadata(&id.val().to_string(), path);
    }
    let bytes: Bytes = writer.into_bytes().map_err(|error| refused(error.to_string()))?;
    let record = OptimizerRecord::from_bytes(bytes).map_err(|error| refused(error.to_string()))?;
    let optimizer = optimizer.clone().load_record(record);
    // Burn skips, without a word, what it cannot rebuild: look whether everything arrived.
    let arrived = of(&optimizer, &paths)?;
    let not_taken = state.iter().filter(|(key, data)| arrived.get(key) != Some(data));
    let not_given = arrived.iter().filter(|(key, _)| state.get(key).is_none());
    let wrong: Vec<_> = not_taken
        .map(|(key, _)| format!("not accepted by the optimizer: {key}"))
        .chain(not_given.map(|(key, _)| format!("missing {key}")))
        .collect();
    match wrong.is_empty() {
        true => Ok(optimizer),
        false => Err(refused(wrong.join("; "))),
    }
}

/// The separator between a parameter's path and the field of its state.
const TENSOR: char = '/';
const SCALAR: char = '#';

/// A single number is a tensor of one element, of a type of its own for each kind.
fn scalar_to_tensor(scalar: Scalar) -> RawTensor {
    match scalar {
        Scalar::Int(value) => [value].into(),
        Scalar::UInt(value) => [value].into(),
        Scalar::Float(value) => [value].into(),
        Scalar::Bool(value) => [u8::from(value)].into(),
    }
}

fn tensor_to_scalar(data: &RawTensor) -> Option<Scalar> {
    fn one<E: Element>(data: &RawTensor) -> Option<E> {
        data.to_vec().ok().filter(|values| values.len() == 1)?.pop()
    }
    match data.dtype() {
        DType::I64 => one(data).map(Scalar::Int),
        DType::U64 => one(data).map(Scalar::UInt),
        DType::F64 => one(data).map(Scalar::Float),
        DType::U8 => one::<u8>(data).map(|value| Scalar::Bool(value != 0)),
        _ => None,
    }
}

/// The path of each place of a floating-point parameter, in the module's order.
#[derive(Default)]
pub(super) struct Paths(pub(super) Vec<(ParamId, String)>);

impl Paths {
    pub(super) fn of<M: Module>(model: &M) -> Self {
        let mut all = Paths::default();
        paths::visit(model, &mut all);
        all
    }

    /// The path of each parameter: of one that stands in several places, the first.
    pub(super) fn first_of_each(&self) -> HashMap<ParamId, &str> {
        self.0.iter().rev().map(|(id, path)| (*id, path.as_str())).collect()
    }
}

impl PathVisitor for Paths {
    fn visit_float<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        self.0.push((param.id, path.to_owned()));
    }
}
