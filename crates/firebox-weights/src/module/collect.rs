//! Tensors taken out of a module by name.

use burn::module::{Module, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};

use super::paths::{self, PathVisitor};
use crate::state_dict::StateDict;

/// Tensors out of Burn's modules, and into them.
///
/// Names, shapes and types are those of the module, so PyTorch's for the blocks of `firebox-models`. Burn has
/// no tensors without dimensions: a shape `[]` fits a module's `[1]`, and a module's int tensor `[1]` at a
/// path that ends in `num_batches_tracked` is an int64 of shape `[]` here.
impl StateDict {
    /// The tensors of `module`, copied from its device.
    ///
    /// Quantized ones are given as the floats that they stand for.
    ///
    /// ```
    /// use burn::nn::conv::Conv2dConfig;
    /// use burn::tensor::Device;
    /// use firebox_weights::StateDict;
    ///
    /// let conv = Conv2dConfig::new([3, 8], [5, 5]).init(&Device::default());
    /// let weights = StateDict::of(&conv);
    /// assert_eq!(weights.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["bias", "weight"]);
    /// assert_eq!(weights.get("weight").unwrap().shape(), [8, 3, 5, 5]);
    /// ```
    pub fn of<M: Module>(module: &M) -> Self {
        let mut collect = Collect::default();
        paths::visit(module, &mut collect);
        collect.0
    }
}

#[derive(Default)]
struct Collect(StateDict);

impl PathVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let tensor = param.transform_for_save().val();
        self.0.insert(
            path,
            match tensor.dtype() {
                DType::QFloat(_) => tensor.dequantize().into_data(),
                _ => tensor.into_data(),
            },
        );
    }

    fn visit_int<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D, Int>>) {
        let data = param.transform_for_save().val().into_data();
        let is_counter = path.rsplit('.').next() == Some("num_batches_tracked");
        let data = match is_counter && *data.shape() == [1].into() {
            true => {
                let (bytes, _, dtype) = data.into_parts();
                TensorData::from_bytes(bytes, [0usize; 0], dtype).convert_dtype(DType::I64)
            }
            false => data,
        };
        self.0.insert(path, data);
    }

    fn visit_bool<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D, Bool>>) {
        self.0.insert(path, param.transform_for_save().val().into_data());
    }
}
