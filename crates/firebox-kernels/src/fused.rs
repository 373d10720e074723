//! How an operation on slices becomes one of Burn's, with its gradient.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

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
use burn::tensor::{Shape, TensorData};

use crate::memory::Recycled;

/// An operation on `N` inputs of `f32`, whose elements lie in order, with a gradient of its own. The operation itself
/// holds the sizes.
pub(crate) trait Fused<const N: usize>: Clone + Debug + Send + Sync + 'static {
    /// What the backward pass takes from the forward pass, besides the inputs.
    type Kept: Clone + Debug + Send + Sync + 'static;

    /// Whether the backward pass takes the output.
    const KEEPS_OUTPUT: bool;

    /// The outputs, and what is kept. Where nothing is `tracked` there will be no backward pass.
    fn forward(&self, inputs: [&[f32]; N], tracked: bool) -> Computed<Self::Kept>;

    /// The gradients of those inputs that are wanted.
    fn backward(&self, pass: Pass<'_, Self::Kept, N>) -> [Option<Vec<f32>>; N];
}

/// What a forward pass gives.
pub(crate) struct Computed<K> {
    /// The output that has a gradient.
    pub(crate) output: Array,
    /// Outputs that have none.
    pub(crate) beside: Vec<Array>,
    pub(crate) kept: K,
}

/// Elements in order, and their shape.
pub(crate) struct Array {
    pub(crate) values: Vec<f32>,
    pub(crate) shape: Vec<usize>,
}

/// What a backward pass has.
pub(crate) struct Pass<'a, K, const N: usize> {
    pub(crate) inputs: [&'a [f32]; N],
    /// Empty unless [`Fused::KEEPS_OUTPUT`].
    pub(crate) output: &'a [f32],
    pub(crate) kept: K,
    /// The output's gradient.
    pub(crate) gradient: &'a [f32],
    pub(crate) wanted: [bool; N],
}

impl Array {
    pub(crate) fn new<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Self {
        debug_assert_eq!(values.len(), shape.iter().product::<usize>());
        Array { values, shape: shape.to_vec() }
    }

    fn tensor(self) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(self.values, Shape::from(self.shape)))
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
    fn fused<O: Fused<N>, const N: usize>(operation: O, inputs: Tensors<Flex>) -> Tensors<Flex> {
        let inputs: [FlexTensor; N] = sized(inputs.0).map(Flex::contiguous);
        let (output, beside, _) = Flex::run(&operation, &inputs, false);
        Tensors(std::iter::once(output).chain(beside).collect())
    }
}

fn sized<T, const N: usize>(inputs: Vec<T>) -> [T; N] {
    inputs.try_into().unwrap_or_else(|inputs: Vec<T>| unreachable!("{N} tensors, not {}", inputs.len()))
}

/// A backend that has both passes on its own tensors.
trait Runs: Backend {
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    fn run<O: Fused<N>, const N: usize>(
        operation: &O,
        inputs: &[FloatTensor<Self>; N],
        tracked: bool,
    ) -> (FloatTensor<Self>, Vec<FloatTensor<Self>>, O::Kept);

    fn run_backward<O: Fused<N>, const N: usize>(
        state: State<Self, O, N>,
        gradient: FloatTensor<Self>,
        wanted: [bool; N],
    ) -> [Option<FloatTensor<Self>>; N];
}

/// The elements of a contiguous tensor.
pub(crate) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or_else(|| unreachable!("a contiguous tensor of f32"))
}

/// What nobody else holds serves the next pass.
fn recycle(tensor: FlexTensor) {
    let data = tensor.data_arc();
    drop(tensor);
    if let Some(values) = Arc::into_inner(data).and_then(|bytes| bytes.try_into_vec::<f32>().ok()) {
        drop(Recycled::from(values));
    }
}

impl Runs for Flex {
    fn contiguous(tensor: FlexTensor) -> FlexTensor {
        tensor.to_contiguous()
    }

    fn run<O: Fused<N>, const N: usize>(
        operation: &O,
        inputs: &[FlexTensor; N],
        tracked: bool,
    ) -> (FlexTensor, Vec<FlexTensor>, O::Kept) {
        let Computed { output, beside, kept } = operation.forward(inputs.each_ref().map(values), tracked);
        (output.tensor(), beside.into_iter().map(Array::tensor).collect(), kept)
    }

    fn run_backward<O: Fused<N>, const N: usize>(
        state: State<Flex, O, N>,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N] {
        let State { operation, inputs, output, kept } = state;
        let [gradient, output] = [Some(gradient), output].map(|tensor| tensor.map(Flex::contiguous));
        let mut gradients = operation.backward(Pass {
            inputs: inputs.each_ref().map(values),
            output: output.as_ref().map_or(&[], values),
            kept,
            gradient: gradient.as_ref().map_or(&[], values),
            wanted,
        });
        let gradients = std::array::from_fn(|input| {
            let shape = inputs[input].layout().shape().clone();
            gradients[input].take().map(|values| FlexTensor::from_data(TensorData::new(values, shape)))
        });
        inputs.into_iter().chain(output).chain(gradient).for_each(recycle);
        gradients
    }
}

/// What waits for the backward pass.
#[derive(Clone, Debug)]
struct State<B: Backend, O: Fused<N>, const N: usize> {
    operation: O,
    inputs: [FloatTensor<B>; N],
    output: Option<FloatTensor<B>>,
    kept: O::Kept,
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
    fn fused<O: Fused<N>, const N: usize>(operation: O, inputs: Tensors<Self>) -> Tensors<Self> {
        let inputs: [FloatTensor<Self>; N] = sized(inputs.0);
        let nodes = inputs.each_ref().map(|tensor| tensor.node());
        let inputs: [FloatTensor<B>; N] = inputs.map(|tensor| B::contiguous(tensor.into_primitive()));
        let (output, beside) = match Node::<O>(PhantomData).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (output, beside, kept) = B::run(&operation, &inputs, true);
                let keeps = O::KEEPS_OUTPUT.then(|| output.clone());
                (prep.finish(State { operation, inputs, output: keeps, kept }, output), beside)
            }
            OpsKind::UnTracked(prep) => {
                let (output, beside, _) = B::run(&operation, &inputs, false);
                (prep.finish(output), beside)
            }
        };
        Tensors(std::iter::once(output).chain(beside.into_iter().map(Self::from_inner)).collect())
    }
}
