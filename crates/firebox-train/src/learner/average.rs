//! The moving average of a model's parameters.

use std::collections::HashSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// An exponential moving average of the parameters (Polyak, Juditsky 1992), as
/// `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)`: e ← decay · e + (1 − decay) · p
/// after each step, beginning with the model itself. Buffers, and parameters that are not trained, are those
/// of the model.
pub(super) struct Average<M> {
    pub(super) decay: f64,
    /// On a device without autodiff. `None` only while it is moved.
    pub(super) model: Option<M>,
}

impl<M: Module> Average<M> {
    pub(super) fn new(decay: f64, model: &M) -> Self {
        Average { decay, model: Some(model.valid()) }
    }

    /// Follows the model by one step.
    pub(super) fn follow(&mut self, model: &M) {
        let mut trained = Trained(HashSet::new());
        model.visit(&mut trained);
        let mut past = Values { values: GradientsParams::new(), trained: &trained.0 };
        if let Some(average) = self.model.take() {
            average.visit(&mut past);
        }
        let mut blend = Blend { past: past.values, decay: self.decay };
        self.model = Some(model.valid().map(&mut blend));
    }
}

struct Trained(HashSet<ParamId>);

impl ModuleVisitor for Trained {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.val().is_require_grad() {
            self.0.insert(param.id);
        }
    }
}

/// The values of the trained parameters.
struct Values<'a> {
    values: GradientsParams,
    trained: &'a HashSet<ParamId>,
}

impl ModuleVisitor for Values<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.trained.contains(&param.id) {
            self.values.register(param.id, param.val());
        }
    }
}

struct Blend {
    past: GradientsParams,
    decay: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, now, mapper) = param.consume();
        let now = match self.past.get::<D>(id) {
            Some(past) => past.mul_scalar(self.decay) + now.mul_scalar(1.0 - self.decay),
            None => now,
        };
        Param::from_mapped_value(id, now, mapper)
    }
}
