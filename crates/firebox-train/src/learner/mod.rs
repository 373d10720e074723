//! A model together with its optimiser.

use std::collections::HashSet;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{Bytes, DType, Element, Tensor, TensorData};
use burn_pack::{Reader, Scalar, Writer};
use firebox_kernels::Norm;
use firebox_models::StateDict;

use crate::error::{Error, ErrorKind, check};
use crate::optimizer::scale::with_factor;
use crate::task::TaskState;

/// A model and the optimiser that moves its parameters.
pub struct Learner<M> {
    /// `None` only while the optimiser has it.
    model: Option<M>,
    optimizer: ModuleOptimizer,
    clip: Option<Clip>,
}

/// The clipping of the gradients' norm.
struct Clip {
    max_norm: f64,
    /// The norm of the last step's gradients.
    norm: Option<f64>,
    /// The parameters of which it is known that their optimisers apply a factor themselves.
    scaling: HashSet<ParamId>,
}

impl<M: Module> Learner<M> {
    /// The model should be on an autodiff device.
    pub fn new(model: M, optimizer: impl Into<ModuleOptimizer>) -> Self {
        Learner { model: Some(model), optimizer: optimizer.into(), clip: None }
    }

    /// Clips the gradients of each step, as `torch.nn.utils.clip_grad_norm_`: all of them are multiplied with
    /// `max_norm` / (norm + 1e-6) if that is below 1. Their norm is the L2 norm of all gradients together, and the same with
    /// any number of threads.
    ///
    /// The gradients are read once for their norm. [`Sgd`](crate::Sgd), [`Adam`](crate::Adam), [`AdamW`](crate::AdamW) and
    /// [`RmsProp`](crate::RmsProp) then apply the factor as part of their step; for any other optimiser, and in the first
    /// step that clips, the gradients are multiplied before. As in PyTorch, one gradient that is not a number makes all
    /// parameters none; [`try_step`](Self::try_step) refuses it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] unless `max_norm` is a finite number above 0.
    pub fn with_clip_norm(mut self, max_norm: f64) -> Result<Self, Error> {
        check(max_norm.is_finite() && max_norm > 0.0, "clip norm", "a number above 0", max_norm)?;
        self.clip = Some(Clip { max_norm, norm: None, scaling: HashSet::new() });
        Ok(self)
    }

    /// The norm of the last step's gradients before they were clipped; `None` before the first step, and without
    /// [`with_clip_norm`](Self::with_clip_norm).
    pub fn gradient_norm(&self) -> Option<f64> {
        self.clip.as_ref()?.norm
    }

    /// The model as it is now.
    pub fn model(&self) -> &M {
        match &self.model {
            Some(model) => model,
            None => unreachable!("the optimiser panicked with the model"),
        }
    }

    /// Moves the parameters along the gradients of `loss`, a single number.
    pub fn step(&mut self, loss: Tensor<1>, lr: f64) {
        let gradients = GradientsParams::from_grads(loss.backward(), self.model());
        let norm = self.clip.is_some().then(|| GradientNorm::of(self.model(), &gradients));
        self.follow(gradients, norm, lr);
    }

    /// As [`step`](Self::step), unless the norm of all gradients is not finite: `error_if_nonfinite` of
    /// `torch.nn.utils.clip_grad_norm_`, without clipping too.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] if a gradient is infinite or not a number; then nothing was changed.
    pub fn try_step(&mut self, loss: Tensor<1>, lr: f64) -> Result<(), Error> {
        let gradients = GradientsParams::from_grads(loss.backward(), self.model());
        let norm = GradientNorm::of(self.model(), &gradients);
        if !norm.value.is_finite() {
            let text = format!("norm of the gradients: expected a finite number, got {}", norm.value);
            return Err(Error::new(ErrorKind::Task, text));
        }
        self.follow(gradients, Some(norm), lr);
        Ok(())
    }

    fn follow(&mut self, mut gradients: GradientsParams, norm: Option<GradientNorm>, lr: f64) {
        let Some(model) = self.model.take() else { return };
        let model = match (&mut self.clip, norm) {
            (Some(clip), Some(GradientNorm { value, parameters })) => {
                let mut factor = clip.max_norm / (value + 1e-6);
                // What is not a number stays none.
                if factor > 1.0 {
                    factor = 1.0;
                }
                clip.norm = Some(value);
                if factor != 1.0 && !parameters.is_subset(&clip.scaling) {
                    let left = parameters.clone();
                    model.visit(&mut Scaling { gradients: &mut gradients, factor, left });
                    factor = 1.0;
                }
                let (model, taken) = with_factor(factor, || self.optimizer.step(lr, model, gradients));
                if taken == parameters.len() {
                    clip.scaling.extend(parameters);
                }
                model
            }
            _ => self.optimizer.step(lr, model, gradients),
        };
        self.model = Some(model);
    }

    /// Adds the model and its optimiser's state to a task's state, as `name` and `name.optimizer`.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if the optimiser's state has no form as tensors.
    pub fn save(&self, name: &str, state: &mut TaskState) -> Result<(), Error> {
        state.insert(name, StateDict::of(self.model()));
        state.insert(format!("{name}.optimizer"), self.optimizer_state()?);
        Ok(())
    }

    /// Takes model and optimiser state back from a task's state.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] that lists every tensor that is missing, left over or misshapen; then
    /// nothing was changed.
    pub fn load(&mut self, name: &str, state: &TaskState) -> Result<(), Error> {
        let wrong = |error| Error::new(ErrorKind::Checkpoint, name).caused_by(error);
        let model = state.get(name)?.apply(self.model().clone()).map_err(wrong)?;
        let optimizer_name = format!("{name}.optimizer");
        let optimizer = self.restored(&model, &optimizer_name, state.get(&optimizer_name)?)?;
        (self.model, self.optimizer) = (Some(model), optimizer);
        Ok(())
    }

    /// The optimiser's state by parameter path and field: tensors as `fc2.weight/momentum.moment_1`, single numbers
    /// as `fc2.weight#momentum.time`.
    ///
    /// Burn keys it by `ParamId`, which is random, so that equal runs would save different bytes.
    fn optimizer_state(&self) -> Result<StateDict, Error> {
        let unreadable = |text: String| Error::new(ErrorKind::Checkpoint, format!("optimiser state: {text}"));
        let record =
            self.optimizer.to_record().into_bytes().map_err(|error| unreadable(error.to_string()))?;
        let record = Reader::from_bytes(record).map_err(|error| unreadable(error.to_string()))?;
        let paths = Paths::of(self.model());
        let key = |name: &str, mark: char| {
            let (id, field) = name.split_once('.')?;
            let id = id.parse::<u64>().map(ParamId::from).ok()?;
            let path = paths.0.iter().find(|(other, _)| *other == id)?;
            Some(format!("{}{mark}{field}", path.1))
        };
        let known = |name: &str, mark| {
            key(name, mark).ok_or_else(|| unreadable(format!("{name} is of no parameter")))
        };
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

    /// The optimiser with this state, for the parameters of `model`.
    fn restored(&self, model: &M, name: &str, state: &StateDict) -> Result<ModuleOptimizer, Error> {
        let refused = |text: String| Error::new(ErrorKind::Checkpoint, format!("{name}: {text}"));
        let paths = Paths::of(model);
        let mut tensors = Vec::new();
        let mut scalars = Vec::new();
        let mut strangers = Vec::new();
        for (key, data) in state.iter() {
            let known = key.split_once([TENSOR, SCALAR]).and_then(|(path, field)| {
                let (id, _) = paths.0.iter().find(|(_, other)| other == path)?;
                Some((id.val(), format!("{}.{field}", id.val())))
            });
            match (known, key.contains(SCALAR), tensor_to_scalar(data)) {
                (Some((_, field)), true, Some(scalar)) => scalars.push((field, scalar)),
                (Some((id, field)), false, _) => {
                    let (bytes, shape, dtype) = data.clone().into_parts();
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
        for (id, path) in &paths.0 {
            writer = writer.with_metadata(&id.val().to_string(), path);
        }
        let bytes: Bytes = writer.into_bytes().map_err(|error| refused(error.to_string()))?;
        let record = OptimizerRecord::from_bytes(bytes).map_err(|error| refused(error.to_string()))?;
        let optimizer = self.optimizer.clone().load_record(record);
        // Burn skips, without a word, what it cannot rebuild: look whether everything arrived.
        let mirror = Learner { model: Some(model.clone()), optimizer, clip: None };
        let arrived = mirror.optimizer_state()?;
        let not_taken = state.iter().filter(|(key, data)| arrived.get(key) != Some(data));
        let not_given = arrived.iter().filter(|(key, _)| state.get(key).is_none());
        let wrong: Vec<_> = not_taken
            .map(|(key, _)| format!("not accepted by the optimiser: {key}"))
            .chain(not_given.map(|(key, _)| format!("missing {key}")))
            .collect();
        match wrong.is_empty() {
            true => Ok(mirror.optimizer),
            false => Err(refused(wrong.join("; "))),
        }
    }
}

/// The norm of all gradients together.
struct GradientNorm {
    value: f64,
    /// Those that have a gradient.
    parameters: HashSet<ParamId>,
}

impl GradientNorm {
    fn of<M: Module>(model: &M, gradients: &GradientsParams) -> Self {
        let mut visit = NormVisitor { gradients, norm: Norm::new(), parameters: HashSet::new() };
        model.visit(&mut visit);
        GradientNorm { value: visit.norm.value(), parameters: visit.parameters }
    }
}

struct NormVisitor<'a> {
    gradients: &'a GradientsParams,
    norm: Norm,
    parameters: HashSet<ParamId>,
}

impl ModuleVisitor for NormVisitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // A parameter that stands in two places counts once.
        if let Some(gradient) = self.gradients.get::<D>(param.id)
            && self.parameters.insert(param.id)
        {
            self.norm.add(gradient);
        }
    }
}

/// Multiplies gradients, each of them once.
struct Scaling<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
    left: HashSet<ParamId>,
}

impl ModuleVisitor for Scaling<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.left.remove(&param.id)
            && let Some(gradient) = self.gradients.remove::<D>(param.id)
        {
            self.gradients.register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}

/// What stands between a parameter's path and the field of its state.
const TENSOR: char = '/';
const SCALAR: char = '#';

/// A single number is a tensor of one element, of a type of its own for each kind.
fn scalar_to_tensor(scalar: Scalar) -> TensorData {
    match scalar {
        Scalar::Int(value) => TensorData::new(vec![value], [1]),
        Scalar::UInt(value) => TensorData::new(vec![value], [1]),
        Scalar::Float(value) => TensorData::new(vec![value], [1]),
        Scalar::Bool(value) => TensorData::new(vec![u8::from(value)], [1]),
    }
}

fn tensor_to_scalar(data: &TensorData) -> Option<Scalar> {
    fn one<E: Element>(data: &TensorData) -> Option<E> {
        data.try_to_vec().ok().filter(|values| values.len() == 1)?.pop()
    }
    match data.dtype() {
        DType::I64 => one(data).map(Scalar::Int),
        DType::U64 => one(data).map(Scalar::UInt),
        DType::F64 => one(data).map(Scalar::Float),
        DType::U8 => one::<u8>(data).map(|value| Scalar::Bool(value != 0)),
        _ => None,
    }
}

/// The path of each floating-point parameter.
#[derive(Default)]
struct Paths(Vec<(ParamId, String)>);

impl Paths {
    fn of<M: Module>(model: &M) -> Self {
        let mut visit = PathVisitor::default();
        model.visit(&mut visit);
        visit.paths
    }
}

#[derive(Default)]
struct PathVisitor {
    path: Vec<String>,
    paths: Paths,
}

impl ModuleVisitor for PathVisitor {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.paths.0.push((param.id, self.path.join(".")));
    }
}
