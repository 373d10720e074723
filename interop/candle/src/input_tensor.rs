//! A tensor that the loader's batches take turns in.

use std::cell::Cell;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Tensor, WithDType};
use firebox_data::collate::Stacked;

/// A tensor on the CPU that holds one batch after the other, without a copy.
///
/// A batch's memory becomes the tensor's, and what the tensor held before goes back to the loader, which
/// makes a later batch in it: in the long run nothing is allocated. As with everything that candle does in
/// place, clones and views of the tensor show the new batch, too: what has to outlive the batch is copied, or
/// made of a tensor of its own by `Tensor::from_vec(batch.values.into_vec(), ..)`.
///
/// ```
/// use firebox_candle::InputTensor;
/// use firebox_data::{Loader, Stack};
///
/// let pictures = vec![[0.5f32; 12]; 100];
/// let loader = Loader::builder(pictures).batch_size(32).build(Stack::new([3, 2, 2]), |picture, _, slot| {
///     slot.copy_from_slice(&picture);
///     Ok(())
/// })?;
/// let mut input = InputTensor::new();
/// for batch in loader.epoch(0) {
///     let pictures = input.load(batch?)?;
///     assert_eq!(pictures.mean_all()?.to_scalar::<f32>()?, 0.5);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct InputTensor {
    tensor: Option<Tensor>,
}

impl InputTensor {
    /// Makes one that holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds a batch: a tensor of its samples, whose shape is the number of samples and the shape of each.
    ///
    /// A batch of another shape than the one before, such as a short last one, gets a tensor of its own.
    ///
    /// # Errors
    /// Those of candle.
    pub fn load<T: WithDType, const R: usize>(&mut self, batch: Stacked<T, R>) -> Result<&Tensor> {
        let shape = [&[batch.samples], &batch.shape[..]].concat();
        let (values, loan) = batch.values.lend();
        let tensor = match self.tensor.take() {
            Some(tensor) if tensor.dims() == shape && tensor.dtype() == T::DTYPE => {
                let exchange = Exchange(Cell::new(values));
                tensor.inplace_op1(&exchange)?;
                loan.give_back(exchange.0.into_inner());
                tensor
            }
            _ => Tensor::from_vec(values, shape, &Device::Cpu)?,
        };
        Ok(self.tensor.insert(tensor))
    }
}

/// The operation that puts other elements, as many, into a tensor's place, and takes out those that were
/// there.
struct Exchange<T>(Cell<Vec<T>>);

impl<T: WithDType> InplaceOp1 for Exchange<T> {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        let new = T::to_cpu_storage_owned(self.0.take());
        self.0.set(T::cpu_storage_data(std::mem::replace(storage, new))?);
        Ok(())
    }
}
