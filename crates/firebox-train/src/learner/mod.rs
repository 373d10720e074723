//! A model together with its optimizer.

mod average;
mod gradients;
mod state;

use std::collections::{HashMap, HashSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use firebox_weights::{StateDict, Ties};

use self::average::Average;
use self::gradients::{Clamped, GradientNorm, Scaled, Sum, by_factor, factors, lies_in, map, not_finite};
use self::state::Paths;
use crate::error::{Error, ErrorKind, check};
use crate::optimizer::scale::with_factor;
use crate::readout::to_scalar;
use crate::task::{StepContext, TaskState};

/// A model and the optimizer that moves its parameters.
///
/// # Tied weights
///
/// A parameter that stands in several places of the model, such as an output layer that shares the
/// embedding's weight, is one parameter in everything that a learner does: it has the sum of all places'
/// gradients, which counts once in the norm, one state of the optimizer, under the path of its first place,
/// and after each step all places hold the same numbers. A clone is the same parameter ([`Ties`]), unless it
/// is frozen and the other isn't: to freeze a tied weight, freeze all of its places.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::text::LanguageModelConfig;
/// use firebox_train::Learner;
/// use firebox_train::optimizer::SgdConfig;
///
/// let mut model = LanguageModelConfig::new(50, 16, 16).init(&Device::default().autodiff())?;
/// model.fc.weight = model.embedding.weight.clone();
/// let learner = Learner::new(model, SgdConfig::new().init()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Learner<M> {
    /// `None` while the optimizer has it, and after it has panicked with it.
    model: Option<M>,
    /// The model's parameters that stand in several places.
    ties: Ties,
    optimizer: ModuleOptimizer,
    clip_value: Option<f64>,
    clip: Option<Clip>,
    /// Learning rates as multiples of the step's, by the beginning of a parameter's path; the last one
    /// counts.
    groups: Vec<(String, f64)>,
    /// The factors of the parameters that the groups reach.
    factors: HashMap<ParamId, f64>,
    average: Option<Average<M>>,
    /// The gradients of a step that waits for more batches.
    sum: Option<Sum>,
    norm: Option<f64>,
}

/// The clipping of the gradients' norm.
struct Clip {
    max_norm: f64,
    /// The parameters of which it is known that their optimizers apply a factor themselves.
    scaling: HashSet<ParamId>,
}

impl<M: Module> Learner<M> {
    /// The model should be on an autodiff device.
    ///
    /// Its tied weights are found here, and made one node of the graph again if a move to another device or
    /// [`Module::train`] has parted them. Clones of a parameter that have different numbers by now are
    /// parameters of their own ([`Ties::settled`]). Parameters that [`Module::to_device`] has made the
    /// outcome of a copy, which no optimizer would move, are parameters again.
    pub fn new(model: M, optimizer: impl Into<ModuleOptimizer>) -> Self {
        let (model, ties) = Ties::settled(leaves(model));
        Learner {
            model: Some(model),
            ties,
            optimizer: optimizer.into(),
            clip_value: None,
            clip: None,
            groups: Vec::new(),
            factors: HashMap::new(),
            average: None,
            sum: None,
            norm: None,
        }
    }

    /// Clips the norm of each step's gradients, as `torch.nn.utils.clip_grad_norm_`.
    ///
    /// All of them are multiplied with `max_norm` / (norm + 1e-6) if that is below 1. Their norm is the L2
    /// norm of all gradients together, and the same with any number of threads.
    ///
    /// The gradients are read once for their norm. [`SgdConfig`](crate::optimizer::SgdConfig),
    /// [`AdamConfig`](crate::optimizer::AdamConfig), [`AdamWConfig`](crate::optimizer::AdamWConfig) and
    /// [`RmsPropConfig`](crate::optimizer::RmsPropConfig) then apply the factor as part of their step; for
    /// any other optimizer, and in the first step that clips, the gradients are multiplied before. As in
    /// PyTorch, [`step`](Self::step) sets every parameter to NaN if any gradient is NaN;
    /// [`learn`](Self::learn) and [`try_step`](Self::try_step) refuse it.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use firebox_models::Forward;
    /// use firebox_models::layers::LinearConfig;
    /// use firebox_train::optimizer::SgdConfig;
    /// use firebox_train::{Learner, StepContext, to_scalar};
    ///
    /// let device = Device::default().autodiff();
    /// let model = LinearConfig::new(1, 1).with_bias(false).init(&device)?;
    /// let before = to_scalar(&model.weight.val())?;
    /// let mut learner = Learner::new(model, SgdConfig::new().init()?).with_clip_norm(0.5)?;
    /// let loss = learner.model().forward(Tensor::<2>::full([1, 1], 100.0, &device)).sum();
    /// learner.learn(loss, 1.0, &StepContext::new(0, 0, 0.1))?;
    /// assert_eq!(learner.gradient_norm(), Some(100.0));
    /// let moved = before - to_scalar(&learner.model().weight.val())?;
    /// assert!((moved - 0.1 * 0.5).abs() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] unless `max_norm` is a finite number above 0.
    pub fn with_clip_norm(mut self, max_norm: f64) -> Result<Self, Error> {
        check(max_norm.is_finite() && max_norm > 0.0, "clip norm", "a number above 0", max_norm)?;
        self.clip = Some(Clip { max_norm, scaling: HashSet::new() });
        Ok(self)
    }

    /// Clips each element of each gradient to `-max_value..=max_value`, as `torch.nn.utils.clip_grad_value_`,
    /// before the norm is clipped.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] unless `max_value` is a finite number above 0.
    pub fn with_clip_value(mut self, max_value: f64) -> Result<Self, Error> {
        check(max_value.is_finite() && max_value > 0.0, "clip value", "a number above 0", max_value)?;
        self.clip_value = Some(max_value);
        Ok(self)
    }

    /// Gives a part of the model a learning rate of its own.
    ///
    /// The parameters at or below a path, such as `fc2` or `fc2.bias`, have the step's times `factor`. Of
    /// several groups that a parameter belongs to the last one counts.
    ///
    /// A parameter that stands in several places has the factor of the place that a group reaches, whichever
    /// it is.
    ///
    /// ```
    /// use burn::tensor::Device;
    /// use firebox_models::layers::LinearConfig;
    /// use firebox_train::Learner;
    /// use firebox_train::optimizer::SgdConfig;
    ///
    /// let model = LinearConfig::new(4, 2).init(&Device::default().autodiff())?;
    /// // The bias stays as it is, and the weight moves slowly.
    /// let learner = Learner::new(model, SgdConfig::new().init()?);
    /// let learner = learner.with_lr_factor("weight", 0.1)?.with_lr_factor("bias", 0.0)?;
    /// assert!(learner.with_lr_factor("fc", 0.1).is_err(), "there is no such layer");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if no parameter is there, or `factor` is not a finite number of at least 0;
    /// [`ErrorKind::Config`] if two places of one parameter would have factors that differ.
    pub fn with_lr_factor(mut self, path: &str, factor: f64) -> Result<Self, Error> {
        check(
            factor.is_finite() && factor >= 0.0,
            "learning rate's factor",
            "a number of at least 0",
            factor,
        )?;
        let paths = Paths::of(self.model());
        if !paths.0.iter().any(|(_, other)| lies_in(other, path)) {
            let have: Vec<_> = paths.0.into_iter().map(|(_, path)| path).collect();
            return Err(Error::out_of_range(
                "learning rate's group",
                format_args!("one of {}", have.join(", ")),
                path,
            ));
        }
        self.groups.push((path.to_owned(), factor));
        self.factors = factors(&paths, &self.groups).map_err(|[(one, first), (other, second)]| {
            let text = format!(
                "learning rate's factor: expected one factor for {one} and {other}, which are one parameter, got \
                 {first} and {second}"
            );
            Error::new(ErrorKind::Config, text)
        })?;
        Ok(self)
    }

    /// Keeps an exponential moving average of the parameters.
    ///
    /// [`averaged`](Self::averaged) gives it. After each step e ← decay · e + (1 − decay) · p, as
    /// `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)` and the model as its
    /// beginning. Buffers are the model's own.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use firebox_models::Forward;
    /// use firebox_models::layers::LinearConfig;
    /// use firebox_train::optimizer::SgdConfig;
    /// use firebox_train::{Learner, StepContext, to_scalar};
    ///
    /// let device = Device::default().autodiff();
    /// let model = LinearConfig::new(1, 1).with_bias(false).init(&device)?;
    /// let before = to_scalar(&model.weight.val())?;
    /// let mut learner = Learner::new(model, SgdConfig::new().init()?).with_ema(0.75)?;
    /// let loss = learner.model().forward(Tensor::<2>::ones([1, 1], &device)).sum();
    /// learner.learn(loss, 1.0, &StepContext::new(0, 0, 0.4))?;
    /// // The weight has moved by 0.4, the average by a quarter of that.
    /// let average = to_scalar(&learner.averaged().weight.val())?;
    /// assert!((before - average - 0.1).abs() < 1e-6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] unless `decay` is from 0, below 1.
    pub fn with_ema(mut self, decay: f64) -> Result<Self, Error> {
        check((0.0..1.0).contains(&decay), "EMA's decay", "a number from 0, below 1", decay)?;
        self.average = Some(Average::new(decay, self.model()));
        Ok(self)
    }

    /// The norm of the last step's gradients before they were clipped.
    ///
    /// It is that of the mean where several batches make a step. `None` before the first step, after one that
    /// had none, and after a [`step`](Self::step) without a clip norm.
    pub fn gradient_norm(&self) -> Option<f64> {
        self.norm
    }

    /// The model as it is now.
    ///
    /// # Panics
    /// If the optimizer has panicked in a step, and the model was lost with it.
    pub fn model(&self) -> &M {
        self.whole().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The model, unless an optimizer has panicked with it.
    fn whole(&self) -> Result<&M, Error> {
        let lost =
            || Error::new(ErrorKind::Task, "there is no model: the optimizer panicked with it in a step");
        self.model.as_ref().ok_or_else(lost)
    }

    /// The device of the parameters; `None` for a model that has none.
    ///
    /// One without autodiff if any of them is on such a one: it would stay as it is, in silence. Parameters
    /// that are not to be trained are on the autodiff device, too, by [`Module::no_grad`].
    pub fn device(&self) -> Option<Device> {
        let mut devices = Devices::default();
        self.whole().ok()?.visit(&mut devices);
        devices.plain.or(devices.trained).or(devices.any)
    }

    /// The model that evaluations should judge, on a device without autodiff.
    ///
    /// It is the moving average of the model if there is one, else the model.
    pub fn averaged(&self) -> M {
        match self.average.as_ref().and_then(|average| average.model.as_ref()) {
            Some(average) => average.clone(),
            None => self.model().valid(),
        }
    }

    /// Learns from one batch by its loss.
    ///
    /// `loss` is a single number that is a mean over `weight` samples (or tokens). With gradient accumulation
    /// the parameters move with the last batch of the step, along the mean of all its batches' gradients by
    /// their weights, which is the gradient of one large batch.
    ///
    /// The loss, and before the parameters move their gradients, are looked at.
    ///
    /// # Errors
    /// [`ErrorKind::NotFinite`] if one is infinite or not a number; it names the parameters. That batch has
    /// then changed nothing here; what other batches have added to the step stands. If each is finite and
    /// their mean isn't, the step is given up, and nothing waits for the next one.
    ///
    /// [`ErrorKind::Task`] if `weight` is not a finite number above 0, or the loss follows from no parameter
    /// of this model that is trained; [`ErrorKind::OutOfRange`] if the context's learning rate is not a
    /// finite number of at least 0. Then nothing was changed.
    pub fn learn(&mut self, loss: Tensor<1>, weight: f64, context: &StepContext) -> Result<(), Error> {
        let lr = context.lr;
        check(lr.is_finite() && lr >= 0.0, "learning rate", "a number of at least 0", lr)?;
        if !(weight.is_finite() && weight > 0.0) {
            let text = format!("weight of a batch: expected a number above 0, got {weight}");
            return Err(Error::new(ErrorKind::Task, text));
        }
        self.check_loss(&loss)?;
        let value = to_scalar(&loss)?;
        let found = match value.is_finite() {
            false => {
                Err(Error::new(ErrorKind::NotFinite, format!("loss: expected a finite number, got {value}")))
            }
            true => {
                let gradients = GradientsParams::from_grads(loss.backward(), self.model());
                let norm = GradientNorm::of(self.model(), &gradients);
                self.check_gradients(&norm)?;
                self.finite(&gradients, &norm).map(|()| (gradients, norm))
            }
        };
        let (alone, learned) = match (found, self.sum.take()) {
            (Ok(alone), None) if context.is_optimizer_step => (Some(alone), Ok(())),
            (Ok((gradients, _)), sum) => {
                let mut sum = sum.unwrap_or_default();
                sum.add(self.model(), gradients, weight);
                self.sum = Some(sum);
                (None, Ok(()))
            }
            (Err(error), sum) => {
                self.sum = sum;
                (None, Err(error))
            }
        };
        let ended = if context.is_optimizer_step { self.end_step(alone, context.lr) } else { Ok(()) };
        learned.and(ended)
    }

    /// Takes part in a step with a batch of 0 samples.
    ///
    /// A rank may have such a one where others have the samples.
    ///
    /// It has no loss, and weight 0: with gradient accumulation the parameters move with the last batch of
    /// the step along the mean of the others' gradients, as if this one were not there; if it is all there
    /// is, nothing moves, and nothing of the optimizer's state changes.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] and [`ErrorKind::NotFinite`] as for [`learn`](Self::learn).
    pub fn learn_nothing(&mut self, context: &StepContext) -> Result<(), Error> {
        let lr = context.lr;
        check(lr.is_finite() && lr >= 0.0, "learning rate", "a number of at least 0", lr)?;
        self.whole()?;
        if context.is_optimizer_step { self.end_step(None, lr) } else { Ok(()) }
    }

    /// Moves the parameters along the mean of the step's gradients, or along those of its only batch.
    fn end_step(&mut self, alone: Option<(GradientsParams, GradientNorm)>, lr: f64) -> Result<(), Error> {
        let (mut found, mut ended) = (alone, Ok(()));
        if let Some(sum) = self.sum.take() {
            let mean = sum.mean(self.model());
            let norm = GradientNorm::of(self.model(), &mean);
            // Numbers that are finite, each, can have a sum that isn't.
            ended = self.finite(&mean, &norm);
            found = ended.is_ok().then_some((mean, norm));
        }
        match found {
            Some((gradients, norm)) => self.follow(gradients, Some(norm), lr),
            // Not that of another step.
            None => self.norm = None,
        }
        ended
    }

    /// Fails if there is no model to learn, or nothing of it would learn from a loss.
    fn check_loss(&self, loss: &Tensor<1>) -> Result<(), Error> {
        let model = self.whole()?;
        if loss.is_tracked() {
            return Ok(());
        }
        // Either the model is where nothing has gradients, or none of it is to have some.
        let why = match model.devices().iter().any(Device::is_autodiff) {
            true => "no parameter that it follows from is trained",
            false => "the model is on a device without autodiff: make it on `device.autodiff()`",
        };
        Err(Error::new(
            ErrorKind::Task,
            format!("loss: expected one that has gradients, got one without: {why}"),
        ))
    }

    /// Fails if a loss has left no gradient with any parameter: a step would do nothing, without a word.
    fn check_gradients(&self, norm: &GradientNorm) -> Result<(), Error> {
        match norm.parameters.is_empty() {
            false => Ok(()),
            true => {
                let text = "loss: expected gradients of the learner's parameters, got none: it follows from another model's";
                Err(Error::new(ErrorKind::Task, text))
            }
        }
    }

    /// Moves the parameters along the gradients of `loss`, a single number.
    ///
    /// # Panics
    /// If `loss` has no gradients, because the model is on a device without autodiff or nothing of it is
    /// trained; [`try_step`](Self::try_step) has errors instead.
    pub fn step(&mut self, loss: Tensor<1>, lr: f64) {
        let gradients = GradientsParams::from_grads(loss.backward(), self.model());
        self.follow(gradients, None, lr);
    }

    /// Steps unless the norm of all gradients is not finite.
    ///
    /// That is `error_if_nonfinite` of `torch.nn.utils.clip_grad_norm_`, without clipping too.
    ///
    /// # Errors
    /// [`ErrorKind::NotFinite`] if a gradient is infinite or not a number; it names the parameters.
    /// [`ErrorKind::Task`] if the loss follows from no parameter that is trained, [`ErrorKind::OutOfRange`]
    /// if `lr` is not a finite number of at least 0. Then nothing was changed.
    pub fn try_step(&mut self, loss: Tensor<1>, lr: f64) -> Result<(), Error> {
        check(lr.is_finite() && lr >= 0.0, "learning rate", "a number of at least 0", lr)?;
        self.check_loss(&loss)?;
        let gradients = GradientsParams::from_grads(loss.backward(), self.model());
        let norm = GradientNorm::of(self.model(), &gradients);
        self.check_gradients(&norm)?;
        self.finite(&gradients, &norm)?;
        self.follow(gradients, Some(norm), lr);
        Ok(())
    }

    /// Has no norm of gradients until the next step.
    pub(crate) fn forget_norm(&mut self) {
        self.norm = None;
    }

    fn finite(&self, gradients: &GradientsParams, norm: &GradientNorm) -> Result<(), Error> {
        if norm.value.is_finite() {
            return Ok(());
        }
        let text = format!(
            "norm of the gradients: expected a finite number, got {}, by {}",
            norm.value,
            not_finite(self.model(), gradients).join(", ")
        );
        Err(Error::new(ErrorKind::NotFinite, text))
    }

    /// Moves the parameters; `norm` is that of these gradients if it is known.
    fn follow(&mut self, mut gradients: GradientsParams, mut norm: Option<GradientNorm>, lr: f64) {
        let Some(mut model) = self.model.take() else { return };
        // What is told is what came, not what is left of it.
        let came = norm.as_ref().map(|norm| norm.value);
        if let Some(most) = self.clip_value {
            map(&model, &mut gradients, Clamped(most));
            norm = None;
        }
        if norm.is_none() && self.clip.is_some() {
            norm = Some(GradientNorm::of(&model, &gradients));
        }
        self.norm = came.or(norm.as_ref().map(|norm| norm.value));
        let mut factor = 1.0;
        if let (Some(clip), Some(norm)) = (&self.clip, &norm) {
            factor = clip.max_norm / (norm.value + 1e-6);
            // What is not a number stays none.
            if factor > 1.0 {
                factor = 1.0;
            }
            if factor != 1.0 && !norm.parameters.is_subset(&clip.scaling) {
                map(&model, &mut gradients, Scaled(factor));
                factor = 1.0;
            }
        }
        let mut taken = 0;
        for (group, part) in by_factor(&model, gradients, &self.factors) {
            let (moved, count) = with_factor(factor, || self.optimizer.step(lr * group, model, part));
            model = moved;
            taken += count;
        }
        // The optimizer has moved the first place of each.
        model = self.ties.retie(model);
        if let (Some(clip), Some(norm)) = (&mut self.clip, norm)
            && taken == norm.parameters.len()
        {
            clip.scaling.extend(norm.parameters);
        }
        if let Some(average) = &mut self.average {
            average.follow(&model);
        }
        self.model = Some(model);
    }

    /// Adds model, optimizer and moving average to a task's state.
    ///
    /// They are its parts `name`, `name.optimizer` and `name.ema`.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if a step waits for more batches, [`ErrorKind::Task`] if the optimizer has
    /// panicked with the model. If the optimizer's state has no form as tensors, who asks for it gets that
    /// error.
    pub fn save(&self, name: &str, state: &mut TaskState) -> Result<(), Error> {
        if self.sum.is_some() {
            let text = format!("{name}: a step that waits for more batches can't be saved");
            return Err(Error::new(ErrorKind::Checkpoint, text));
        }
        let model = self.whole()?;
        state.insert(name, StateDict::of(model));
        // Its moments are never changed in place while somebody else holds them.
        let (optimizer, paths) = (self.optimizer.clone(), Paths::of(model));
        state.insert_later(format!("{name}.optimizer"), move || state::of(&optimizer, &paths));
        if let Some(average) = self.average.as_ref().and_then(|average| average.model.as_ref()) {
            state.insert(format!("{name}.ema"), StateDict::of(average));
        }
        Ok(())
    }

    /// Takes model, optimizer state and moving average back from a task's state.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] that lists every tensor that is missing, left over or misshapen, and those
    /// that differ and are one parameter here; then nothing was changed. [`ErrorKind::Task`] if the optimizer
    /// has panicked with the model.
    pub fn load(&mut self, name: &str, state: &TaskState) -> Result<(), Error> {
        let applied = |name: &str, model: M| {
            let wrong = |error| Error::new(ErrorKind::Checkpoint, name).caused_by(error);
            state.get(name)?.apply(model).map_err(wrong)
        };
        let model = applied(name, self.whole()?.clone())?;
        let optimizer_name = format!("{name}.optimizer");
        let optimizer =
            state::restored(&self.optimizer, &model, &optimizer_name, state.get(&optimizer_name)?)?;
        let average_name = format!("{name}.ema");
        let average = match &self.average {
            Some(_) => Some(applied(&average_name, model.valid())?),
            None if state.names().any(|part| part == average_name) => {
                let text = format!(
                    "{average_name}: the checkpoint has a moving average, expected none without with_ema"
                );
                return Err(Error::new(ErrorKind::Checkpoint, text));
            }
            None => None,
        };
        if let Some(own) = &mut self.average {
            own.model = average;
        }
        (self.model, self.optimizer, self.sum) = (Some(model), optimizer, None);
        Ok(())
    }
}

/// The model with leaves of the graph of gradients for parameters, if some aren't.
fn leaves<M: Module>(model: M) -> M {
    let mut found = Grown(false);
    model.visit(&mut found);
    if found.0 { model.map(&mut Leaves) } else { model }
}

/// True if a parameter is the outcome of some operation, such as of a copy to another device.
fn is_grown<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.is_initialized() && param.is_tracked() && !param.is_require_grad()
}

struct Grown(bool);

impl ModuleVisitor for Grown {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 |= is_grown(param);
    }
}

struct Leaves;

impl ModuleMapper for Leaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if is_grown(&param) { param.map(|tensor| tensor.detach().require_grad()) } else { param }
    }
}

/// The first of each kind.
#[derive(Default)]
struct Devices {
    plain: Option<Device>,
    trained: Option<Device>,
    any: Option<Device>,
}

impl ModuleVisitor for Devices {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let device = value.device();
        let place = match (device.is_autodiff(), value.is_require_grad()) {
            (false, _) => &mut self.plain,
            (true, true) => &mut self.trained,
            (true, false) => &mut self.any,
        };
        place.get_or_insert(device);
    }
}
