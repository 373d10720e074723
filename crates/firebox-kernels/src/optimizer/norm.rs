//! The norm of many tensors together.

#[cfg(feature = "flex")]
use burn::backend::Dispatch;
use burn::tensor::{DType, FloatDType, Tensor};

#[cfg(feature = "flex")]
use crate::optimizer::operations::{OptimizerOps, takes};

/// The L2 norm of all elements of some tensors, as if they were one.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::optimizer::Norm;
///
/// let mut norm = Norm::new();
/// norm.add(Tensor::<1>::from_data([3.0], &Device::default()));
/// norm.add(Tensor::<2>::from_data([[0.0, 4.0]], &Device::default()));
/// assert_eq!(norm.value(), 5.0);
/// ```
///
/// On flex squares are summed in 64 bits, in chunks whose sums are added in their order, whatever the number
/// of threads. Elsewhere each tensor is summed on its device, in 32 bits at least, and all sums are read at
/// the end.
#[derive(Debug, Default)]
pub struct Norm {
    sums: Vec<Tensor<1>>,
}

impl Norm {
    /// That of nothing, which is 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor.
    pub fn add<const D: usize>(&mut self, tensor: Tensor<D>) {
        #[cfg(feature = "flex")]
        if takes(&[&tensor]) {
            self.sums.push(Tensor::from_dispatch(Dispatch::square_sum(tensor.into_dispatch())));
            return;
        }
        let tensor = match tensor.dtype() {
            DType::F16 | DType::BF16 => tensor.cast(FloatDType::F32),
            _ => tensor,
        };
        self.sums.push(tensor.square().sum());
    }

    /// The norm; NaN if an element is.
    pub fn value(self) -> f64 {
        let alike = self
            .sums
            .windows(2)
            .all(|pair| pair[0].device() == pair[1].device() && pair[0].dtype() == pair[1].dtype());
        // A device is asked once.
        let sums = if alike && self.sums.len() > 1 { vec![Tensor::cat(self.sums, 0)] } else { self.sums };
        let sum: f64 = sums.into_iter().map(|sums| sums.into_data().iter::<f64>().sum::<f64>()).sum();
        // Rust's sum of nothing is −0.
        (sum + 0.0).sqrt()
    }
}
