//! An LSTM that attends, over whole sequences.

use burn::tensor::{Bool, Tensor};

use crate::attention::additive_attention;
#[cfg(feature = "flex")]
use crate::operation::fused::fused;
use crate::operation::shape::expect_shape;
#[cfg(feature = "flex")]
use crate::operation::switch::eligible;
use crate::recurrent::{Cell, CellState, RecurrentWeights, Sequence, recurrent};

#[cfg(feature = "flex")]
mod kernel;

/// The sequences that an LSTM attends to, by [`additive_attention`].
///
/// The page of [`attentive_lstm`] has an example.
#[derive(Clone, Debug)]
pub struct Attended {
    /// The map of the encoder's outputs, `[batch, places, hidden]`.
    pub mapped: Tensor<3>,
    /// The encoder's outputs, `[batch, places, features]`.
    pub encoder: Tensor<3>,
    /// The map to a score, `[1, hidden]`.
    pub v: Tensor<2>,
    /// Its bias, `[1]`.
    pub bias: Option<Tensor<1>>,
    /// The places that may have a weight, `[batch, places]`.
    pub mask: Option<Tensor<2, Bool>>,
}

const OPERATION: &str = "attentive_lstm";

impl Attended {
    /// Panics unless the shapes fit a batch that begins with this state.
    #[track_caller]
    fn expect(&self, batch: usize, first: &CellState) {
        let ([_, places, features], [_, hidden]) = (self.encoder.dims(), first.hidden.dims());
        expect_shape(OPERATION, "an encoder", self.encoder.dims(), [batch, places, features]);
        expect_shape(OPERATION, "mapped", self.mapped.dims(), [batch, places, hidden]);
        expect_shape(OPERATION, "v", self.v.dims(), [1, hidden]);
        self.bias.as_ref().inspect(|bias| expect_shape(OPERATION, "a bias", bias.dims(), [1]));
        self.mask.as_ref().inspect(|mask| expect_shape(OPERATION, "a mask", mask.dims(), [batch, places]));
    }
}

/// An LSTM whose state asks, before each step, where to look (Bahdanau, Cho, Bengio 2015): it reads the input
/// of the step, `[batch, time, inputs]`, and beside it the context that its state h before the step attends
/// to. Gives h after each step, and beside it that context: `[batch, time, hidden + features]`.
///
/// `weight_ih` is `[4·hidden, inputs + features]`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::attentive_lstm::{Attended, attentive_lstm};
/// use firebox_kernels::recurrent::{CellState, RecurrentWeights};
///
/// let device = Device::default();
/// let attended = Attended {
///     mapped: Tensor::ones([2, 5, 4], &device),
///     encoder: Tensor::ones([2, 5, 3], &device),
///     v: Tensor::ones([1, 4], &device),
///     bias: None,
///     mask: None,
/// };
/// let weights = RecurrentWeights {
///     weight_ih: Tensor::ones([16, 6 + 3], &device),
///     weight_hh: Tensor::ones([16, 4], &device),
///     bias_ih: Tensor::zeros([16], &device),
///     bias_hh: Tensor::zeros([16], &device),
/// };
/// let first = CellState { hidden: Tensor::zeros([2, 4], &device), cell: None };
/// let output = attentive_lstm(Tensor::ones([2, 7, 6], &device), attended, weights, first);
/// assert_eq!(output.dims(), [2, 7, 4 + 3]);
/// ```
///
/// # Panics
/// If shapes don't fit, or there is no step.
pub fn attentive_lstm(
    input: Tensor<3>,
    attended: Attended,
    weights: RecurrentWeights,
    first: CellState,
) -> Tensor<3> {
    let ([batch, time, inputs], [_, _, features]) = (input.dims(), attended.encoder.dims());
    assert!(time > 0, "attentive_lstm: expected at least one step, got none");
    weights.expect(OPERATION, Cell::Lstm, batch, inputs + features, &first);
    attended.expect(batch, &first);
    let cell = first.cell.unwrap_or_else(|| first.hidden.zeros_like());
    let first = CellState { hidden: first.hidden, cell: Some(cell.clone()) };
    #[cfg(feature = "flex")]
    if takes(&input, &attended, &weights, [&first.hidden, &cell])
        && let Ok(mask) = attended.mask.as_ref().map(|mask| mask.to_data().try_to_vec::<bool>()).transpose()
    {
        let ([batch, _, inputs], [_, places, features]) = (input.dims(), attended.encoder.dims());
        let [_, hidden] = first.hidden.dims();
        let operation = kernel::AttentiveLstm { batch, time, inputs, places, hidden, features, mask };
        let tensors = [
            input.into_dispatch(),
            attended.mapped.into_dispatch(),
            attended.v.into_dispatch(),
            attended.encoder.into_dispatch(),
            weights.weight_ih.into_dispatch(),
            weights.weight_hh.into_dispatch(),
            weights.bias_ih.into_dispatch(),
            weights.bias_hh.into_dispatch(),
            Tensor::cat(vec![first.hidden, cell], 0).into_dispatch(),
        ];
        let [output] = match attended.bias {
            Some(bias) => {
                let [input, mapped, v, encoder, weight_ih, weight_hh, bias_ih, bias_hh, first] = tensors;
                let bias = bias.into_dispatch();
                let tensors =
                    [input, mapped, v, encoder, weight_ih, weight_hh, bias_ih, bias_hh, first, bias];
                fused(operation, tensors)
            }
            None => fused(operation, tensors),
        };
        return Tensor::from_dispatch(output);
    }
    step_by_step(input, attended, weights, first)
}

#[cfg(feature = "flex")]
fn takes(input: &Tensor<3>, attended: &Attended, weights: &RecurrentWeights, first: [&Tensor<2>; 2]) -> bool {
    let Attended { mapped, encoder, v, bias, .. } = attended;
    let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh } = weights;
    let mut tensors: Vec<_> =
        [input, mapped, encoder].iter().map(|tensor| (tensor.device(), tensor.dtype())).collect();
    let matrices = [v, weight_ih, weight_hh, first[0], first[1]];
    tensors.extend(matrices.iter().map(|tensor| (tensor.device(), tensor.dtype())));
    let vectors = [Some(bias_ih), Some(bias_hh), bias.as_ref()];
    tensors.extend(vectors.iter().flatten().map(|tensor| (tensor.device(), tensor.dtype())));
    eligible(&tensors, || {
        // The shapes fit.
        let ([batch, time, inputs], [_, places, features]) = (input.dims(), encoder.dims());
        let [_, hidden] = weight_hh.dims();
        [batch, time, inputs, places, features, hidden].iter().all(|&size| size > 0)
    })
}

/// The same by the operations for each step.
fn step_by_step(
    input: Tensor<3>,
    attended: Attended,
    weights: RecurrentWeights,
    mut state: CellState,
) -> Tensor<3> {
    let Attended { mapped, encoder, v, bias, mask } = attended;
    let mut outputs: Vec<Tensor<2>> = Vec::new();
    for step in Sequence::Whole(input).steps() {
        let query = state.hidden.clone().unsqueeze_dim(1);
        let (context, _) =
            additive_attention(mapped.clone(), query, v.clone(), bias.clone(), encoder.clone(), mask.clone());
        let context: Tensor<2> = context.squeeze_dim(1);
        let input = Sequence::Steps(vec![Tensor::cat(vec![step, context.clone()], 1)]);
        (_, state) = recurrent(Cell::Lstm, input, weights.clone(), state, None, false);
        outputs.push(Tensor::cat(vec![state.hidden.clone(), context], 1));
    }
    Tensor::stack(outputs, 1)
}
