//! Initialisation under a seed.

use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor};

/// Makes a module whose initial parameters follow from `seed` alone.
///
/// Burn draws a parameter's initial values when they are first used, from one generator that all threads
/// share. Here they are drawn at once, behind the seed, and no two calls mix. What else draws from Burn's
/// generator, such as dropout, must not run at the same time in another thread.
///
/// # Errors
/// What `make` returns.
pub fn init<M, E>(seed: u64, device: &Device, make: impl FnOnce() -> Result<M, E>) -> Result<M, E>
where
    M: Module,
{
    static DRAWS: Mutex<()> = Mutex::new(());
    let _alone = DRAWS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    device.seed(seed);
    let module = make()?;
    module.visit(&mut Materialise);
    Ok(module)
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
