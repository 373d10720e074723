//! The operations on the backend flex, and their gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Flex, backend_extension};
use burn::tensor::{Shape as Dims, TensorData};

use crate::columns::Geometry;
use crate::conv_block::{self, Parameters, Shape, Statistics};

/// The operations as autodiff sees them.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait KernelOps: Backend {
    /// See [`conv_block`](crate::conv_block()). The second output has the convolution's output without its bias, the third
    /// mean and biased variance of it, `[2, filters]`; both are no part of the graph.
    #[allow(clippy::too_many_arguments, reason = "an extension's arguments are plain")]
    fn conv_block(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        stride: [usize; 2],
        padding: [usize; 2],
        epsilon: f64,
        pool: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// What an operation needs besides its tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    stride: [usize; 2],
    padding: [usize; 2],
    epsilon: f64,
    pool: bool,
}

/// The tensors of a conv block on a backend, for both passes.
#[derive(Clone, Debug)]
pub(crate) struct ConvBlockTensors<B: Backend> {
    images: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
}

/// The gradients of a conv block's inputs.
pub(crate) struct ConvBlockGradients<B: Backend> {
    images: Option<FloatTensor<B>>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
}

/// A backend that has the operations and their gradients.
pub(crate) trait Kernels: Backend {
    fn conv_block_forward(
        tensors: &ConvBlockTensors<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    fn conv_block_backward(
        tensors: &ConvBlockTensors<Self>,
        settings: Settings,
        inner: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        wants_images: bool,
    ) -> ConvBlockGradients<Self>;
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or_else(|| unreachable!("a contiguous tensor of f32"))
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, Dims::from(shape)))
}

fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    std::array::from_fn(|axis| tensor.layout().shape()[axis])
}

fn shape_of(tensors: &ConvBlockTensors<Flex>, settings: Settings) -> Shape {
    let [batch, channels, height, width] = dims(&tensors.images);
    let [filters, _, kernel_height, kernel_width] = dims(&tensors.weight);
    let Settings { stride, padding, pool, .. } = settings;
    let geometry =
        Geometry { channels, height, width, kernel: [kernel_height, kernel_width], stride, padding };
    Shape { batch, filters, geometry, pool }
}

fn parameters(tensors: &ConvBlockTensors<Flex>, epsilon: f64) -> Parameters<'_> {
    Parameters {
        weight: values(&tensors.weight),
        bias: values(&tensors.bias),
        gamma: values(&tensors.gamma),
        beta: values(&tensors.beta),
        epsilon,
    }
}

impl Kernels for Flex {
    fn conv_block_forward(
        tensors: &ConvBlockTensors<Flex>,
        settings: Settings,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let shape = shape_of(tensors, settings);
        let parameters = parameters(tensors, settings.epsilon);
        let (inner, statistics) = conv_block::convolve(&shape, values(&tensors.images), parameters.weight);
        let output = conv_block::activate(&shape, &inner, &statistics, &parameters);
        let [height, width] = shape.out();
        let [inner_height, inner_width] = shape.geometry.out();
        let narrow: Vec<f32> =
            statistics.mean.iter().chain(&statistics.variance).map(|&x| x as f32).collect();
        (
            tensor(output, [shape.batch, shape.filters, height, width]),
            tensor(inner, [shape.batch, shape.filters, inner_height, inner_width]),
            tensor(narrow, [2, shape.filters]),
        )
    }

    fn conv_block_backward(
        tensors: &ConvBlockTensors<Flex>,
        settings: Settings,
        inner: FlexTensor,
        statistics: FlexTensor,
        gradient: FlexTensor,
        wants_images: bool,
    ) -> ConvBlockGradients<Flex> {
        let shape = shape_of(tensors, settings);
        let parameters = parameters(tensors, settings.epsilon);
        let wide: Vec<f64> = values(&statistics).iter().map(|&x| f64::from(x)).collect();
        let (mean, variance) = wide.split_at(shape.filters);
        let statistics = Statistics { mean: mean.to_vec(), variance: variance.to_vec() };
        let gradient = gradient.to_contiguous();
        let gradients = conv_block::backward(
            &shape,
            values(&tensors.images),
            values(&inner),
            &statistics,
            &parameters,
            values(&gradient),
            wants_images,
        );
        let filters = [shape.filters];
        ConvBlockGradients {
            images: gradients.images.map(|images| tensor(images, dims::<4>(&tensors.images))),
            weight: tensor(gradients.weight, dims::<4>(&tensors.weight)),
            // The bias moves all values of a filter alike, which the normalisation takes away.
            bias: tensor(vec![0.0; shape.filters], filters),
            gamma: tensor(gradients.gamma, filters),
            beta: tensor(gradients.beta, filters),
        }
    }
}

impl KernelOps for Flex {
    fn conv_block(
        images: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        stride: [usize; 2],
        padding: [usize; 2],
        epsilon: f64,
        pool: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [images, weight, bias, gamma, beta] =
            [images, weight, bias, gamma, beta].map(|tensor| tensor.to_contiguous());
        let tensors = ConvBlockTensors { images, weight, bias, gamma, beta };
        Flex::conv_block_forward(&tensors, Settings { stride, padding, epsilon, pool })
    }
}

#[derive(Debug)]
struct ConvBlockBackward;

/// What the backward pass keeps.
#[derive(Clone, Debug)]
struct ConvBlockState<B: Backend> {
    tensors: ConvBlockTensors<B>,
    settings: Settings,
    inner: FloatTensor<B>,
    statistics: FloatTensor<B>,
}

impl<B: Kernels> Backward<B, 5> for ConvBlockBackward {
    type State = ConvBlockState<B>;

    fn backward(self, ops: Ops<Self::State, 5>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ConvBlockState { tensors, settings, inner, statistics } = ops.state;
        let [images, weight, bias, gamma, beta] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let computed =
            B::conv_block_backward(&tensors, settings, inner, statistics, gradient, images.is_some());
        if let (Some(node), Some(gradient)) = (images, computed.images) {
            grads.register::<B>(node.id, gradient);
        }
        for (node, gradient) in
            [(weight, computed.weight), (bias, computed.bias), (gamma, computed.gamma), (beta, computed.beta)]
        {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Kernels, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
    fn conv_block(
        images: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        stride: [usize; 2],
        padding: [usize; 2],
        epsilon: f64,
        pool: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let settings = Settings { stride, padding, epsilon, pool };
        let nodes = [images.node(), weight.node(), bias.node(), gamma.node(), beta.node()];
        let [images, weight, bias, gamma, beta] =
            [images, weight, bias, gamma, beta].map(|tensor| tensor.into_primitive());
        let tensors = ConvBlockTensors::<B> { images, weight, bias, gamma, beta };
        let (output, inner, statistics) = B::conv_block_forward(&tensors, settings);
        let [inner_out, statistics_out] = [inner.clone(), statistics.clone()].map(Self::from_inner);
        let output = match ConvBlockBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(ConvBlockState { tensors, settings, inner, statistics }, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(output),
        };
        (output, inner_out, statistics_out)
    }
}
