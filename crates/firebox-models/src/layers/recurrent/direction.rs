//! The weights of one direction.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use firebox_kernels::recurrent::RecurrentWeights;

/// The weights of one direction of one layer.
#[derive(Module, Debug)]
pub(crate) struct Direction {
    /// `[gates·hidden, input]`
    pub(crate) weight_ih: Param<Tensor<2>>,
    /// `[gates·hidden, hidden]`
    pub(crate) weight_hh: Param<Tensor<2>>,
    /// `[gates·hidden]`
    pub(crate) bias_ih: Param<Tensor<1>>,
    /// `[gates·hidden]`
    pub(crate) bias_hh: Param<Tensor<1>>,
}

impl Direction {
    pub(crate) fn values(&self) -> RecurrentWeights {
        RecurrentWeights {
            weight_ih: self.weight_ih.val(),
            weight_hh: self.weight_hh.val(),
            bias_ih: self.bias_ih.val(),
            bias_hh: self.bias_hh.val(),
        }
    }
}
