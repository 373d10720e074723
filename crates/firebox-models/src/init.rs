//! Initialization under a seed.

use std::sync::Mutex;

use burn::module::{Initializer, Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor};

/// Makes a module on `device` whose initial parameters follow from `seed` alone.
///
/// Burn draws a parameter's initial values when they are first used, from a generator of the backend that all
/// threads share. Here they are drawn at once, after the seed is set, and no two calls mix; and if the build
/// has the backend flex they are drawn there, so that a model begins with the same numbers on every backend.
/// `make` is given the device to make the module on. What else draws from Burn's generator, such as dropout,
/// must not run at the same time in another thread.
///
/// # Errors
/// What `make` returns.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::init;
/// use firebox_models::layers::LinearConfig;
///
/// let linear = |seed| init(seed, &Device::default(), |device| LinearConfig::new(3, 2).init(device));
/// assert_eq!(linear(42)?.weight.val().into_data(), linear(42)?.weight.val().into_data());
/// # Ok::<(), firebox_models::Error>(())
/// ```
pub fn init<M, E>(seed: u64, device: &Device, make: impl FnOnce(&Device) -> Result<M, E>) -> Result<M, E>
where
    M: Module,
{
    static DRAWS: Mutex<()> = Mutex::new(());
    let _alone = DRAWS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    #[cfg(feature = "flex")]
    let host = match device.is_autodiff() {
        true => Device::flex().autodiff(),
        false => Device::flex(),
    };
    #[cfg(not(feature = "flex"))]
    let host = device.clone();
    host.seed(seed);
    let module = make(&host)?;
    module.visit(&mut Materialise);
    Ok(module.fork(device))
}

/// The uniform distribution within ±1/√n, which most of PyTorch's layers begin with.
///
/// n is the number of inputs of a unit.
pub(crate) fn uniform(n: usize) -> Initializer {
    let bound = 1.0 / (n as f64).sqrt();
    Initializer::Uniform { min: -bound, max: bound }
}

struct Materialise;

impl ModuleVisitor for Materialise {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        param.val();
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        param.val();
    }
}
