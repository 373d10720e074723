//! What optimisers do on the backend flex.

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex, backend_extension};
use burn::tensor::TensorData;

use crate::adam::{self, AdamStep};
use crate::fused::values;

/// What optimisers do.
#[backend_extension(Flex)]
pub(crate) trait AdamOps: Backend {
    /// See [`adam`](crate::adam()): the parameter and both moments after the step.
    #[allow(clippy::too_many_arguments, reason = "an extension's arguments are plain")]
    fn adam(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        beta_1: f64,
        beta_2: f64,
        decay: f64,
        shrink: f64,
        rate: f64,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl AdamOps for Flex {
    fn adam(
        parameter: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        beta_1: f64,
        beta_2: f64,
        decay: f64,
        shrink: f64,
        rate: f64,
        epsilon: f64,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let step = AdamStep { betas: [beta_1, beta_2], decay, shrink, rate, epsilon };
        let gradient = gradient.to_contiguous();
        // Copies, where somebody else holds the tensor, too.
        let [mut parameter, mut first, mut second] = [parameter, first, second].map(whole);
        adam::step(
            parameter.storage_mut(),
            values(&gradient),
            first.storage_mut(),
            second.storage_mut(),
            step,
        );
        (parameter, first, second)
    }
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
