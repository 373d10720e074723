//! How an operation on slices becomes one of Burn's, with its gradient.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, BackendTensor, Dispatch, DispatchAutodiffContext, DispatchTensor,
    DispatchTensorKind, ExtensionType, Flex, backend_extension,
};
use burn::tensor::{DType, Shape, TensorData};

use crate::machine::memory::lend;

/// How the elements of a tensor lie. Only tensors of four dimensions, such as images, have the second order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As the shape says: the last dimension's side by side.
    Contiguous,
    /// Of `[batch, channels, height, width]` the channels side by side.
    ChannelsLast,
}

/// An operation on `N` inputs of `f32`, whose elements lie in order, with a gradient of its own. The
/// operation itself holds the sizes.
pub(crate) trait Fused<const N: usize>: Clone + Debug + Send + Sync + 'static {
    /// The forward pass's results that the backward pass needs, besides the inputs.
    type SavedForBackward: Clone + Debug + Send + Sync + 'static;

    /// Hands the output to the backward pass.
    const KEEPS_OUTPUT: bool;

    /// An input that the operation takes in any [`Order`], as it then does the output's gradient. The input's
    /// own gradient has the order of the input.
    const ANY_ORDER: Option<usize> = None;

    /// Takes note of that input's order.
    fn set_order(&mut self, _order: Order) {}

    /// The outputs, and what is saved. Where nothing is `tracked` there will be no backward pass.
    fn forward(&self, inputs: [&[f32]; N], tracked: bool) -> Computed<Self::SavedForBackward>;

    /// The gradients of those inputs that are wanted.
    fn backward(&self, pass: Pass<'_, Self::SavedForBackward, N>) -> [Option<Vec<f32>>; N];
}

/// The results of a forward pass.
pub(crate) struct Computed<K> {
    /// The output that has a gradient.
    pub(crate) output: Array,
    /// Outputs that have none.
    pub(crate) beside: Vec<Array>,
    pub(crate) saved: K,
}

/// Elements, their shape, and how they lie.
pub(crate) struct Array {
    values: Vec<f32>,
    shape: Vec<usize>,
    order: Order,
}

/// The inputs of a backward pass.
pub(crate) struct Pass<'a, K, const N: usize> {
    pub(crate) inputs: [&'a [f32]; N],
    /// Empty unless [`Fused::KEEPS_OUTPUT`].
    pub(crate) output: &'a [f32],
    pub(crate) saved: K,
    /// The output's gradient.
    pub(crate) gradient: &'a [f32],
    pub(crate) order: Order,
    pub(crate) wanted: [bool; N],
}

impl Array {
    pub(crate) fn new(values: Vec<f32>, shape: impl Into<Vec<usize>>) -> Self {
        let shape = shape.into();
        debug_assert_eq!(values.len(), shape.iter().product::<usize>());
        Array { values, shape, order: Order::Contiguous }
    }

    pub(crate) fn with_order(self, order: Order) -> Self {
        Array { order, ..self }
    }

    fn tensor(self) -> FlexTensor {
        tensor(self.values, Shape::from(self.shape), self.order)
    }
}

fn tensor(values: Vec<f32>, shape: Shape, order: Order) -> FlexTensor {
    let tensor = |shape| FlexTensor::from_data(TensorData::from_bytes(lend(values), shape, DType::F32));
    match order {
        Order::Contiguous => tensor(shape),
        Order::ChannelsLast => {
            tensor(Shape::from([shape[0], shape[2], shape[3], shape[1]])).permute(&[0, 3, 1, 2])
        }
    }
}

fn order(tensor: &FlexTensor) -> Option<Order> {
    if tensor.is_contiguous() {
        return Some(Order::Contiguous);
    }
    let channels_last = tensor.layout().num_dims() == 4 && tensor.permute(&[0, 2, 3, 1]).is_contiguous();
    channels_last.then_some(Order::ChannelsLast)
}

/// The tensor in its order or, unless it may have any, in the order of its shape.
fn in_order(tensor: FlexTensor, any: bool) -> (FlexTensor, Order) {
    match order(&tensor) {
        Some(order) if any || order == Order::Contiguous => (tensor, order),
        _ => (tensor.to_contiguous(), Order::Contiguous),
    }
}

/// Runs an operation on tensors of flex: its output, and those beside it, which are no part of the graph.
pub(crate) fn fused<O: Fused<N>, const N: usize, const OUTPUTS: usize>(
    operation: O,
    inputs: [DispatchTensor; N],
) -> [DispatchTensor; OUTPUTS] {
    sized(Dispatch::fused::<O, N>(operation, Tensors(inputs.into())).0)
}

#[backend_extension(Flex, Autodiff)]
trait FusedOps: Backend {
    fn fused<O: Fused<N>, const N: usize>(
        operation: O,
        #[extension_type] inputs: Tensors<Self>,
    ) -> Tensors<Self>;
}

/// Any number of tensors on one backend. Burn's macro knows structs of tensors only, not lists.
struct Tensors<B: Backend>(Vec<FloatTensor<B>>);

impl<B: Backend> ExtensionType<B> for Tensors<B> {
    type Target = Tensors<Dispatch>;

    fn map_to_dispatch<F>(self, map_kind: F, autodiff: DispatchAutodiffContext) -> Tensors<Dispatch>
    where
        F: Fn(BackendTensor<B>) -> DispatchTensorKind,
    {
        let tensor = |tensor| DispatchTensor { kind: map_kind(BackendTensor::Float(tensor)), autodiff };
        Tensors(self.0.into_iter().map(tensor).collect())
    }

    fn map_from_dispatch<F>(target: Tensors<Dispatch>, unwrap_kind: F) -> Self
    where
        F: Fn(DispatchTensor) -> BackendTensor<B>,
    {
        Tensors(target.0.into_iter().map(|tensor| unwrap_kind(tensor).float()).collect())
    }

    fn routing_tensor(target: &Tensors<Dispatch>) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn routing_float_tensor(target: &Tensors<Dispatch>) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn autodiff_context(target: &Tensors<Dispatch>) -> DispatchAutodiffContext {
        let contexts = target.0.iter().map(|tensor| tensor.autodiff);
        contexts.fold(DispatchAutodiffContext::Disabled, DispatchAutodiffContext::merge)
    }
}

impl FusedOps for Flex {
    fn fused<O: Fused<N>, const N: usize>(mut operation: O, inputs: Tensors<Flex>) -> Tensors<Flex> {
        let inputs = Flex::arrange(&mut operation, sized(inputs.0));
        let (output, beside, _) = Flex::run(&operation, &inputs, false);
        Tensors(std::iter::once(output).chain(beside).collect())
    }
}

fn sized<T, const N: usize>(inputs: Vec<T>) -> [T; N] {
    inputs.try_into().unwrap_or_else(|inputs: Vec<T>| unreachable!("{N} tensors, not {}", inputs.len()))
}

/// A backend that has both passes on its own tensors.
trait Runs: Backend {
    fn arrange<O: Fused<N>, const N: usize>(
        operation: &mut O,
        inputs: [FloatTensor<Self>; N],
    ) -> [FloatTensor<Self>; N];

    fn run<O: Fused<N>, const N: usize>(
        operation: &O,
        inputs: &[FloatTensor<Self>; N],
        tracked: bool,
    ) -> (FloatTensor<Self>, Vec<FloatTensor<Self>>, O::SavedForBackward);

    fn run_backward<O: Fused<N>, const N: usize>(
        state: State<Self, O, N>,
        gradient: FloatTensor<Self>,
        wanted: [bool; N],
    ) -> [Option<FloatTensor<Self>>; N];
}

/// The elements of a tensor of `f32` that has an order.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    let layout = tensor.layout();
    &tensor.storage::<f32>()[layout.start_offset()..][..layout.num_elements()]
}

impl Runs for Flex {
    fn arrange<O: Fused<N>, const N: usize>(operation: &mut O, inputs: [FlexTensor; N]) -> [FlexTensor; N] {
        let mut number = 0;
        inputs.map(|tensor| {
            let any = O::ANY_ORDER == Some(number);
            let (tensor, order) = in_order(tensor, any);
            if any {
                operation.set_order(order);
            }
            number += 1;
            tensor
        })
    }

    fn run<O: Fused<N>, const N: usize>(
        operation: &O,
        inputs: &[FlexTensor; N],
        tracked: bool,
    ) -> (FlexTensor, Vec<FlexTensor>, O::SavedForBackward) {
        let Computed { output, beside, saved } = operation.forward(inputs.each_ref().map(values), tracked);
        (output.tensor(), beside.into_iter().map(Array::tensor).collect(), saved)
    }

    fn run_backward<O: Fused<N>, const N: usize>(
        state: State<Flex, O, N>,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N] {
        let State { operation, inputs, output, saved } = state;
        let (gradient, gradient_order) = in_order(gradient, O::ANY_ORDER.is_some());
        let output = output.map(|tensor| tensor.to_contiguous());
        let mut gradients = operation.backward(Pass {
            inputs: inputs.each_ref().map(values),
            output: output.as_ref().map_or(&[], values),
            saved,
            gradient: values(&gradient),
            order: gradient_order,
            wanted,
        });
        std::array::from_fn(|input| {
            let shape = inputs[input].layout().shape().clone();
            let order = order(&inputs[input]).unwrap_or(Order::Contiguous);
            gradients[input].take().map(|values| tensor(values, shape, order))
        })
    }
}

/// The values that wait for the backward pass.
#[derive(Clone, Debug)]
struct State<B: Backend, O: Fused<N>, const N: usize> {
    operation: O,
    inputs: [FloatTensor<B>; N],
    output: Option<FloatTensor<B>>,
    saved: O::SavedForBackward,
}

#[derive(Debug)]
struct Node<O>(PhantomData<O>);

impl<B: Runs, O: Fused<N>, const N: usize> Backward<B, N> for Node<O> {
    type State = State<B, O, N>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = B::run_backward(ops.state, gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: Runs, C: CheckpointStrategy> FusedOps for Autodiff<B, C> {
    fn fused<O: Fused<N>, const N: usize>(mut operation: O, inputs: Tensors<Self>) -> Tensors<Self> {
        let inputs: [FloatTensor<Self>; N] = sized(inputs.0);
        let nodes = inputs.each_ref().map(|tensor| tensor.node());
        let inputs = B::arrange(&mut operation, inputs.map(|tensor| tensor.into_primitive()));
        let (output, beside) = match Node::<O>(PhantomData).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (output, beside, saved) = B::run(&operation, &inputs, true);
                let keeps = O::KEEPS_OUTPUT.then(|| output.clone());
                (prep.finish(State { operation, inputs, output: keeps, saved }, output), beside)
            }
            OpsKind::UnTracked(prep) => {
                let (output, beside, _) = B::run(&operation, &inputs, false);
                (prep.finish(output), beside)
            }
        };
        Tensors(std::iter::once(output).chain(beside.into_iter().map(Self::from_inner)).collect())
    }
}
