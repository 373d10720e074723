//! A module's own tensor that is saved and not trained.

use std::fmt;
use std::sync::{Mutex, MutexGuard};

use burn::module::{
    Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId,
};
use burn::tensor::{Device, Tensor};

/// A tensor that a module updates in its forward pass, such as a running mean.
///
/// Unlike Burn's `RunningState`, a clone has a value of its own (a copy made for an average of weights cannot
/// change the live model), and an update is seen at once by everything that reads it: a checkpoint is never
/// one step late.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::Buffer;
///
/// let mean = Buffer::new(Tensor::<1>::zeros([2], &Device::default()));
/// let copy = mean.clone();
/// mean.update(|old| old + 1.0);
/// assert_eq!(mean.value().into_data().try_to_vec::<f32>()?, [1.0, 1.0]);
/// assert_eq!(copy.value().into_data().try_to_vec::<f32>()?, [0.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Buffer<const D: usize> {
    id: ParamId,
    /// Never tracked by autodiff. The forward pass has `&self` only, hence the lock.
    value: Mutex<Tensor<D>>,
}

impl<const D: usize> Buffer<D> {
    /// A buffer with a first value.
    pub fn new(value: Tensor<D>) -> Self {
        Self::with_id(ParamId::new(), value)
    }

    fn with_id(id: ParamId, value: Tensor<D>) -> Self {
        Buffer { id, value: Mutex::new(value.detach()) }
    }

    /// The value after the latest update.
    pub fn value(&self) -> Tensor<D> {
        self.lock().clone()
    }

    /// Replaces the value by a function of it.
    pub fn update(&self, next: impl FnOnce(Tensor<D>) -> Tensor<D>) {
        let mut value = self.lock();
        *value = next(value.clone()).detach();
    }

    /// The lock; a panic in `next` leaves the old value, which is whole.
    fn lock(&self) -> MutexGuard<'_, Tensor<D>> {
        self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn replaced(self, next: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Self {
        Self::with_id(self.id, next(self.value()))
    }
}

/// A clone has a value and an identifier of its own: it is not tied.
impl<const D: usize> Clone for Buffer<D> {
    fn clone(&self) -> Self {
        Self::new(self.value())
    }
}

impl<const D: usize> Module for Buffer<D> {
    fn collect_devices(&self, mut devices: Vec<Device>) -> Vec<Device> {
        let device = self.lock().device();
        if !devices.contains(&device) {
            devices.push(device);
        }
        devices
    }

    fn fork(self, device: &Device) -> Self {
        self.to_device(device)
    }

    fn to_device(self, device: &Device) -> Self {
        self.replaced(|value| value.to_device(device))
    }

    fn train(self) -> Self {
        self.replaced(Tensor::from_inner)
    }

    fn valid(&self) -> Self {
        Self::with_id(self.id, self.value().without_autodiff())
    }

    fn materialize(self) -> Self {
        self
    }

    /// None: what is visited like a parameter is not trained.
    fn num_params(&self) -> usize {
        0
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.visit_float(&Param::initialized(self.id, self.value()));
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let mapped = mapper.map_float(Param::initialized(self.id, self.value()));
        let (id, value, _) = mapped.consume();
        Self::with_id(id, value.set_require_grad(false))
    }
}

impl<const D: usize> fmt::Debug for Buffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("shape", &self.lock().dims()).finish_non_exhaustive()
    }
}

impl<const D: usize> fmt::Display for Buffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer{:?}", self.lock().dims())
    }
}

impl<const D: usize> ModuleDisplayDefault for Buffer<D> {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl<const D: usize> ModuleDisplay for Buffer<D> {}
