//! A module's count of its training steps.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use burn::module::{
    Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId,
};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// A number that a module counts up in its forward pass, such as `num_batches_tracked`.
///
/// Like a [`Buffer`](crate::layers::Buffer), it is saved and not trained, and a clone has its own. It is kept
/// on the host: counting starts no kernel, and a mapper that leaves it alone, such as an optimizer's, costs
/// no transfer. Visitors and mappers see an int tensor `[1]`, of 64 bits where the device has them, else of
/// 32.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::layers::Counter;
///
/// let counter = Counter::new(&Device::default());
/// let copy = counter.clone();
/// counter.increment();
/// assert_eq!((counter.value(), copy.value()), (1, 0));
/// ```
pub struct Counter {
    id: ParamId,
    value: AtomicI64,
    device: Device,
}

impl Counter {
    /// A counter at zero.
    pub fn new(device: &Device) -> Self {
        Counter { id: ParamId::new(), value: AtomicI64::new(0), device: device.clone() }
    }

    /// The number so far.
    pub fn value(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }

    /// Counts one.
    pub fn increment(&self) {
        self.value.fetch_add(1, Ordering::Relaxed);
    }

    fn on(&self, device: Device) -> Self {
        Counter { id: self.id, value: AtomicI64::new(self.value()), device }
    }

    /// The number as a tensor that is only made if somebody looks at it.
    fn param(&self) -> Param<Tensor<1, Int>> {
        let value = self.value();
        let init = move |device: &Device, _| {
            let dtype = if device.supports_dtype(DType::I64) { DType::I64 } else { DType::I32 };
            Tensor::from_data(TensorData::from([value]).convert_dtype(dtype), (device, dtype))
        };
        Param::uninitialized(self.id, init, self.device.clone(), false, [1].into())
    }
}

/// A clone counts for itself, under an identifier of its own: it is not tied.
impl Clone for Counter {
    fn clone(&self) -> Self {
        Counter { id: ParamId::new(), ..self.on(self.device.clone()) }
    }
}

impl Module for Counter {
    fn collect_devices(&self, mut devices: Vec<Device>) -> Vec<Device> {
        if !devices.contains(&self.device) {
            devices.push(self.device.clone());
        }
        devices
    }

    fn fork(self, device: &Device) -> Self {
        self.to_device(device)
    }

    /// As a tensor's, the autodiff context stays.
    fn to_device(self, device: &Device) -> Self {
        match self.device.is_autodiff() {
            true => self.on(device.clone().autodiff()),
            false => self.on(device.clone().without_autodiff()),
        }
    }

    fn train(self) -> Self {
        self.on(self.device.clone().autodiff())
    }

    fn valid(&self) -> Self {
        self.on(self.device.clone().without_autodiff())
    }

    fn materialize(self) -> Self {
        self
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.visit_int(&self.param());
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let mapped = mapper.map_int(self.param());
        let value = match mapped.is_initialized() {
            true => mapped.val().into_scalar(),
            false => self.value(),
        };
        Counter { id: mapped.id, value: AtomicI64::new(value), device: mapped.lazy_device() }
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.value()).finish()
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counter({})", self.value())
    }
}

impl ModuleDisplayDefault for Counter {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.to_string()).optional()
    }
}

impl ModuleDisplay for Counter {}
