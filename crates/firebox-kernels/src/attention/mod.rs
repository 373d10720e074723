//! Additive attention, and softmax under a mask.

use burn::tensor::activation::tanh;
use burn::tensor::{Bool, Tensor};

use crate::linear::plain;
#[cfg(feature = "flex")]
use crate::operation::fused::fused;
use crate::operation::shape::expect_shape;
#[cfg(feature = "flex")]
use crate::operation::switch::eligible;

#[cfg(feature = "flex")]
pub(crate) mod kernel;
mod masked;

pub use masked::masked_softmax;

/// Additive attention (Bahdanau, Cho, Bengio 2015): the context, and the weights that it is made by.
///
/// The weights are softmax(v·tanh(mapped + query) + b) over time, the context is the encoder's outputs by
/// these weights. `mapped` `[batch, time, hidden]` is the map of the `encoder`'s outputs
/// `[batch, time, features]`, `query` `[batch, 1, hidden]` (or `[1, 1, hidden]` for all) who asks, `v`
/// `[1, hidden]` and its bias `[1]` make a score of them. With a `mask` `[batch, time]` only the places that
/// it names have a weight; where it names none, all weights and the context are zero. Gives the context
/// `[batch, 1, features]` and the weights `[batch, time, 1]`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::additive_attention;
///
/// let device = Device::default();
/// let (mapped, query) = (Tensor::zeros([2, 5, 4], &device), Tensor::zeros([2, 1, 4], &device));
/// let (v, encoder) = (Tensor::ones([1, 4], &device), Tensor::ones([2, 5, 3], &device));
/// let (context, weights) = additive_attention(mapped, query, v, None, encoder, None);
/// assert_eq!((context.dims(), weights.dims()), ([2, 1, 3], [2, 5, 1]));
/// ```
///
/// # Panics
/// If shapes don't fit.
pub fn additive_attention(
    mapped: Tensor<3>,
    query: Tensor<3>,
    v: Tensor<2>,
    bias: Option<Tensor<1>>,
    encoder: Tensor<3>,
    mask: Option<Tensor<2, Bool>>,
) -> (Tensor<3>, Tensor<3>) {
    expect("additive_attention", [&mapped, &query, &encoder], &v, bias.as_ref(), mask.as_ref());
    #[cfg(feature = "flex")]
    if takes(&mapped, &query, &v, bias.as_ref(), &encoder)
        && let Ok(mask) = mask.as_ref().map(|mask| mask.to_data().try_to_vec::<bool>()).transpose()
    {
        let ([batch, time, hidden], [_, _, features]) = (mapped.dims(), encoder.dims());
        let operation = kernel::AdditiveAttention { batch, time, hidden, features, mask };
        let inputs =
            [mapped.into_dispatch(), query.into_dispatch(), v.into_dispatch(), encoder.into_dispatch()];
        let [packed] = match bias {
            Some(bias) => {
                let [mapped, query, v, encoder] = inputs;
                fused(operation, [mapped, query, v, encoder, bias.into_dispatch()])
            }
            None => fused(operation, inputs),
        };
        let packed = Tensor::<2>::from_dispatch(packed);
        let context = packed.clone().narrow(1, 0, features).unsqueeze_dim(1);
        return (context, packed.narrow(1, features, time).unsqueeze_dim(2));
    }
    let [batch, time, features] = encoder.dims();
    if time == 0 {
        // As where a mask names nothing. Burn's reshapes take a size of 0 for that which the tensor has
        // there.
        let options = (&encoder.device(), encoder.dtype());
        return (Tensor::zeros([batch, 1, features], options), Tensor::zeros([batch, 0, 1], options));
    }
    let scores = plain(tanh(mapped + query), v, bias).swap_dims(1, 2);
    let mask = match mask {
        Some(mask) => mask.unsqueeze_dim::<3>(1),
        None => Tensor::full([batch, 1, time], true, &scores.device()),
    };
    let weights = masked_softmax(scores, mask);
    (weights.clone().matmul(encoder), weights.swap_dims(1, 2))
}

/// Panics unless the shapes fit.
#[track_caller]
fn expect(
    operation: &str,
    [mapped, query, encoder]: [&Tensor<3>; 3],
    v: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    mask: Option<&Tensor<2, Bool>>,
) {
    let ([batch, time, hidden], [_, _, features]) = (mapped.dims(), encoder.dims());
    expect_shape(operation, "an encoder", encoder.dims(), [batch, time, features]);
    // One query may ask for all sequences.
    let one = query.dims() == [1, 1, hidden];
    expect_shape(operation, "a query", query.dims(), [if one { 1 } else { batch }, 1, hidden]);
    expect_shape(operation, "v", v.dims(), [1, hidden]);
    bias.inspect(|bias| expect_shape(operation, "a bias", bias.dims(), [1]));
    mask.inspect(|mask| expect_shape(operation, "a mask", mask.dims(), [batch, time]));
}

#[cfg(feature = "flex")]
fn takes(
    mapped: &Tensor<3>,
    query: &Tensor<3>,
    v: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    encoder: &Tensor<3>,
) -> bool {
    let mut tensors: Vec<_> =
        [mapped, query, encoder].iter().map(|tensor| (tensor.device(), tensor.dtype())).collect();
    tensors.push((v.device(), v.dtype()));
    tensors.extend(bias.map(|bias| (bias.device(), bias.dtype())));
    eligible(&tensors, || {
        // The other shapes fit.
        let ([batch, time, hidden], [_, _, features]) = (mapped.dims(), encoder.dims());
        query.dims() == [batch, 1, hidden] && [batch, time, hidden, features].iter().all(|&size| size > 0)
    })
}
