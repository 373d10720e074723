//! Steps of optimisers on the backend flex.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, backend_extension};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::operation::fused::values;
use crate::operation::switch::{count_fallback, enabled};
use crate::optimizer::adam_step::AdamStep;
use crate::optimizer::pass;
use crate::optimizer::sgd_step::SgdStep;

/// Steps, in place where nobody else holds the memory.
#[backend_extension(Flex)]
pub(crate) trait OptimizerOps: Backend {
    /// The parameter and both moments after a step of Adam.
    fn adam(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The same, and the largest second moment.
    fn amsgrad(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        largest: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The parameter after a step without momentum.
    fn sgd(parameter: FloatTensor<Self>, gradient: FloatTensor<Self>, step: SgdStep) -> FloatTensor<Self>;

    /// The parameter and the buffer, which has zeros before the first step, after a step with momentum.
    fn sgd_momentum(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        buffer: FloatTensor<Self>,
        first: bool,
        step: SgdStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The sum of squares, `[1]` in 64 bits.
    fn square_sum(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl OptimizerOps for Flex {
    fn adam(
        parameter: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        step: AdamStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [parameter, first, second] = in_place([parameter, first, second], gradient, step.coefficients());
        (parameter, first, second)
    }

    fn amsgrad(
        parameter: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        largest: FlexTensor,
        step: AdamStep,
    ) -> (FlexTensor, FlexTensor, FlexTensor, FlexTensor) {
        let tensors = [parameter, first, second, largest];
        let [parameter, first, second, largest] = in_place(tensors, gradient, step.coefficients());
        (parameter, first, second, largest)
    }

    fn sgd(parameter: FlexTensor, gradient: FlexTensor, step: SgdStep) -> FlexTensor {
        let [parameter] = in_place([parameter], gradient, step.coefficients(false));
        parameter
    }

    fn sgd_momentum(
        parameter: FlexTensor,
        gradient: FlexTensor,
        buffer: FlexTensor,
        first: bool,
        step: SgdStep,
    ) -> (FlexTensor, FlexTensor) {
        let [parameter, buffer] = in_place([parameter, buffer], gradient, step.coefficients(first));
        (parameter, buffer)
    }

    fn square_sum(tensor: FlexTensor) -> FlexTensor {
        let sum = pass::square_sum(values(&tensor.to_contiguous()));
        FlexTensor::from_data(TensorData::new(vec![sum], [1]))
    }
}

/// Tells if the kernels take these tensors, which are those of one parameter.
pub(crate) fn takes<const D: usize>(tensors: &[&Tensor<D>]) -> bool {
    if !enabled() || tensors.iter().any(|tensor| tensor.device() != Device::flex()) {
        return false;
    }
    let takes =
        tensors.iter().all(|tensor| tensor.dtype() == DType::F32 && tensor.dims() == tensors[0].dims());
    if !takes {
        count_fallback();
    }
    takes
}

/// The tensors after a pass over them. They are copied first where somebody else holds them, too.
fn in_place<const N: usize>(
    written: [FlexTensor; N],
    read: FlexTensor,
    pass: impl pass::Pass<N>,
) -> [FlexTensor; N] {
    let read = read.to_contiguous();
    let mut written = written.map(whole);
    pass::run(pass, written.each_mut().map(|tensor| tensor.storage_mut()), values(&read));
    written
}

/// The tensor with its elements in order and nothing else in its storage.
fn whole(tensor: FlexTensor) -> FlexTensor {
    let tensor = tensor.to_contiguous();
    let all = tensor.layout().num_elements();
    match tensor.layout().start_offset() == 0 && tensor.storage::<f32>().len() == all {
        true => tensor,
        false => {
            FlexTensor::from_data(TensorData::new(values(&tensor).to_vec(), tensor.layout().shape().clone()))
        }
    }
}
