//! Batches as Burn tensors.

use burn::tensor::{Device, Element, Int, Tensor, TensorData};

use crate::collate::Stacked;

/// A batch that has a form as tensors.
///
/// [`Stacked`] arrays of rank R become `Tensor<R + 1>` with the samples first, integers `Tensor<1, Int>`,
/// tuples tuples. The values move; on the CPU they are not copied.
pub trait IntoTensors {
    /// The tensors.
    type Tensors;

    /// Puts the batch on a device. In Burn the device of a model's input decides whether BatchNorm and
    /// dropout train: pass an autodiff device for training, a plain one for evaluation.
    fn into_tensors(self, device: &Device) -> Self::Tensors;
}

macro_rules! stacked {
    ($($rank:literal)+) => {$(
        impl<T: Element> IntoTensors for Stacked<T, $rank> {
            type Tensors = Tensor<{ $rank + 1 }>;

            fn into_tensors(self, device: &Device) -> Self::Tensors {
                let mut shape = vec![self.samples];
                shape.extend(self.shape);
                Tensor::from_data(TensorData::new(self.values, shape), device)
            }
        }
    )+};
}

stacked!(0 1 2 3 4 5);

impl IntoTensors for Vec<i64> {
    type Tensors = Tensor<1, Int>;

    fn into_tensors(self, device: &Device) -> Self::Tensors {
        let samples = self.len();
        Tensor::from_data(TensorData::new(self, [samples]), device)
    }
}

macro_rules! tuples {
    ($(($($batch:ident $at:tt),+))+) => {$(
        impl<$($batch: IntoTensors),+> IntoTensors for ($($batch,)+) {
            type Tensors = ($($batch::Tensors,)+);

            fn into_tensors(self, device: &Device) -> Self::Tensors {
                ($(self.$at.into_tensors(device),)+)
            }
        }
    )+};
}

tuples! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
}
