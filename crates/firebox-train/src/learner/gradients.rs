//! The way of a model's gradients between the backward pass and the optimizer.

use std::collections::{BTreeSet, HashMap, HashSet};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebox_kernels::optimizer::Norm;

use super::state::Paths;

/// The norm of all gradients together.
pub(super) struct GradientNorm {
    pub(super) value: f64,
    /// Those that have a gradient.
    pub(super) parameters: HashSet<ParamId>,
}

impl GradientNorm {
    pub(super) fn of<M: Module>(model: &M, gradients: &GradientsParams) -> Self {
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

/// The paths of the parameters whose gradients are not finite, in the model's order: of one that stands in
/// several places, the first.
pub(super) fn not_finite<M: Module>(model: &M, gradients: &GradientsParams) -> Vec<String> {
    let mut visit = FiniteVisitor { gradients, bad: HashSet::new() };
    model.visit(&mut visit);
    let mut bad = visit.bad;
    Paths::of(model).0.into_iter().filter(|(id, _)| bad.remove(id)).map(|(_, path)| path).collect()
}

struct FiniteVisitor<'a> {
    gradients: &'a GradientsParams,
    bad: HashSet<ParamId>,
}

impl ModuleVisitor for FiniteVisitor<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let mut norm = Norm::new();
            norm.add(gradient);
            if !norm.value().is_finite() {
                self.bad.insert(param.id);
            }
        }
    }
}

/// Gives every gradient of a model another value, each of them once.
pub(super) fn map<M: Module>(model: &M, gradients: &mut GradientsParams, map: impl Elementwise) {
    model.visit(&mut Mapping { gradients, map, seen: HashSet::new() });
}

/// A function of tensors of every rank.
pub(super) trait Elementwise {
    fn apply<const D: usize>(&self, gradient: Tensor<D>) -> Tensor<D>;
}

/// Times a factor.
pub(super) struct Scaled(pub(super) f64);

/// No further from 0 than this.
pub(super) struct Clamped(pub(super) f64);

impl Elementwise for Scaled {
    fn apply<const D: usize>(&self, gradient: Tensor<D>) -> Tensor<D> {
        gradient.mul_scalar(self.0)
    }
}

impl Elementwise for Clamped {
    fn apply<const D: usize>(&self, gradient: Tensor<D>) -> Tensor<D> {
        gradient.clamp(-self.0, self.0)
    }
}

struct Mapping<'a, E> {
    gradients: &'a mut GradientsParams,
    map: E,
    seen: HashSet<ParamId>,
}

impl<E: Elementwise> ModuleVisitor for Mapping<'_, E> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.seen.insert(param.id)
            && let Some(gradient) = self.gradients.remove::<D>(param.id)
        {
            self.gradients.register(param.id, self.map.apply(gradient));
        }
    }
}

/// The gradients of the batches of a step that is not complete.
#[derive(Default)]
pub(super) struct Sum {
    gradients: GradientsParams,
    weight: f64,
}

impl Sum {
    /// Adds the gradients of a batch, which are a mean over so much.
    pub(super) fn add<M: Module>(&mut self, model: &M, mut gradients: GradientsParams, weight: f64) {
        map(model, &mut gradients, Scaled(weight));
        model.visit(&mut Adding { sum: &mut self.gradients, new: &mut gradients });
        self.weight += weight;
    }

    /// The mean over everything.
    pub(super) fn mean<M: Module>(mut self, model: &M) -> GradientsParams {
        map(model, &mut self.gradients, Scaled(1.0 / self.weight));
        self.gradients
    }
}

struct Adding<'a> {
    sum: &'a mut GradientsParams,
    new: &'a mut GradientsParams,
}

impl ModuleVisitor for Adding<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(new) = self.new.remove::<D>(param.id) {
            let sum = match self.sum.remove::<D>(param.id) {
                Some(sum) => sum + new,
                None => new,
            };
            self.sum.register(param.id, sum);
        }
    }
}

/// The gradients in parts that have a learning rate each, by the factors of the parameters whose factor is
/// not 1.
pub(super) fn by_factor<M: Module>(
    model: &M,
    mut gradients: GradientsParams,
    factors: &HashMap<ParamId, f64>,
) -> Vec<(f64, GradientsParams)> {
    if factors.is_empty() {
        return vec![(1.0, gradients)];
    }
    let distinct: BTreeSet<u64> = factors.values().copied().chain([1.0]).map(f64::to_bits).collect();
    let mut parts = Vec::new();
    for bits in distinct {
        let mut part = GradientsParams::new();
        let wanted = |id: &ParamId| factors.get(id).copied().unwrap_or(1.0).to_bits() == bits;
        model.visit(&mut Moving { from: &mut gradients, to: &mut part, wanted });
        parts.push((f64::from_bits(bits), part));
    }
    parts
}

/// The factor of each parameter that a group reaches: that of the last group whose beginning its path has.
///
/// A parameter that stands in several places belongs to the groups of each. What groups say of its places
/// must be one factor, or two paths with a factor each are returned.
pub(super) fn factors(
    paths: &Paths,
    groups: &[(String, f64)],
) -> Result<HashMap<ParamId, f64>, [(String, f64); 2]> {
    let mut factors: HashMap<ParamId, (&str, f64)> = HashMap::new();
    for (id, path) in &paths.0 {
        let Some((_, factor)) = groups.iter().rev().find(|(prefix, _)| lies_in(path, prefix)) else {
            continue;
        };
        let (other, own) = *factors.entry(*id).or_insert((path, *factor));
        if own != *factor {
            return Err([(other.to_owned(), own), (path.clone(), *factor)]);
        }
    }
    Ok(factors.into_iter().map(|(id, (_, factor))| (id, factor)).collect())
}

/// True if a parameter's path is `prefix` or something within it.
pub(super) fn lies_in(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

struct Moving<'a, F> {
    from: &'a mut GradientsParams,
    to: &'a mut GradientsParams,
    wanted: F,
}

impl<F: Fn(&ParamId) -> bool> ModuleVisitor for Moving<'_, F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if (self.wanted)(&param.id)
            && let Some(gradient) = self.from.remove::<D>(param.id)
        {
            self.to.register(param.id, gradient);
        }
    }
}
