//! A linear map and its activation.

use burn::tensor::{Tensor, module};

#[cfg(feature = "flex")]
use crate::operation::fused::fused;
use crate::operation::shape::expect_shape;
#[cfg(feature = "flex")]
use crate::operation::switch::eligible;

mod activation;
#[cfg(feature = "flex")]
mod kernel;

pub use activation::Activation;

/// A linear map and its activation: activation(x·Wᵀ + b).
///
/// It takes `input` `[…, features in]` to `[…, features out]` by a weight
/// `[features out, features in]`, which is PyTorch's layout, and a bias `[features out]`.
///
/// # Panics
/// If shapes don't fit.
pub fn linear<const D: usize>(
    input: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<D> {
    let ([to, from], sizes) = (weight.dims(), input.dims());
    let fits = sizes.last() == Some(&from);
    assert!(fits, "linear: expected [.., {from}] for a weight [{to}, {from}], got {sizes:?}");
    bias.as_ref().inspect(|bias| expect_shape("linear", "a bias", bias.dims(), [to]));
    #[cfg(feature = "flex")]
    {
        if !activation.is_told_by_its_output() {
            return activation.plain(linear(input, weight, bias, Activation::None));
        }
        if takes(&input, &weight, bias.as_ref()) {
            return match activation {
                Activation::None => by_kernel::<D, false>(input, weight, bias, activation),
                _ => by_kernel::<D, true>(input, weight, bias, activation),
            };
        }
    }
    activation.plain(plain(input, weight, bias))
}

/// By Burn's operation, but for a batch without rows, which flex multiplies as if there were one: those are a
/// matrix first.
pub(crate) fn plain<const D: usize>(
    input: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let mut shape = input.dims();
    if D <= 2 || shape.iter().all(|&size| size > 0) {
        return module::linear(input, weight.transpose(), bias);
    }
    shape[D - 1] = weight.dims()[0];
    if shape[1..].contains(&0) {
        // For Burn a size of 0 in a reshape is that which the tensor has there.
        return Tensor::zeros(shape, (&input.device(), input.dtype()));
    }
    module::linear(input.flatten::<2>(0, D - 2), weight.transpose(), bias).reshape(shape)
}

#[cfg(feature = "flex")]
fn takes<const D: usize>(input: &Tensor<D>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> bool {
    let mut tensors = vec![(input.device(), input.dtype()), (weight.device(), weight.dtype())];
    tensors.extend(bias.map(|bias| (bias.device(), bias.dtype())));
    eligible(&tensors, || {
        // The shapes fit.
        weight.dims()[0] > 0 && input.dims().iter().all(|&size| size > 0)
    })
}

#[cfg(feature = "flex")]
fn by_kernel<const D: usize, const KEEPS_OUTPUT: bool>(
    input: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<D> {
    let ([features_out, features_in], mut shape) = (weight.dims(), input.dims().to_vec());
    let rows = input.shape().num_elements() / features_in;
    if let Some(last) = shape.last_mut() {
        *last = features_out;
    }
    let operation = kernel::Linear::<KEEPS_OUTPUT> { rows, features_in, features_out, shape, activation };
    let (input, weight) = (input.into_dispatch(), weight.into_dispatch());
    let [output] = match bias {
        Some(bias) => fused(operation, [input, weight, bias.into_dispatch()]),
        None => fused(operation, [input, weight]),
    };
    Tensor::from_dispatch(output)
}
