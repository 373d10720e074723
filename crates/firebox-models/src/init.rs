//! Initialisation under a seed.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor};

/// Makes a module whose initial parameters follow from `seed` alone.
///
/// Burn draws a parameter's initial values when they are first used, from one generator that all threads
/// share. Here they are drawn at once, behind the seed, before anything else can draw.
///
/// # Errors
/// What `make` returns.
pub fn init<M, E>(seed: u64, device: &Device, make: impl FnOnce() -> Result<M, E>) -> Result<M, E>
where
    M: Module,
{
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
