//! Layers one after the other, with PyTorch's names.

use std::any::Any;
use std::fmt;

use burn::module::{
    Content, DisplaySettings, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::nn::{Dropout, Relu};
use burn::tensor::{Device, Tensor};

use crate::error::{Error, OfPart};
use crate::forward::Forward;
use crate::layers::batch_norm::BatchNorm2d;
use crate::layers::conv_block::ConvBlock;
use crate::layers::pooling::MaxPooling;

/// Layers one after the other, as `torch.nn.Sequential`: a tuple of 2 to 10 of them.
///
/// Each layer takes what the one before it gives; types see to it. A layer is anything with [`Forward`],
/// another `Sequential` too. The paths of tensors begin with the layer's number, as PyTorch's keys do.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::{
///     ConvBlock, ConvBlockConfig, Flatten, Linear, LinearConfig, MaxPooling, MaxPoolingConfig, Sequential,
/// };
/// use firebox_models::{Error, Forward};
/// use firebox_weights::StateDict;
///
/// type Net = Sequential<(ConvBlock, MaxPooling, ConvBlock, MaxPooling, Flatten, Linear)>;
///
/// fn net(device: &Device) -> Result<Net, Error> {
///     Ok(Sequential::new((
///         ConvBlockConfig::new(1, 16, 3).with_padding(1).init(device)?,
///         MaxPoolingConfig::new(2).init()?,
///         ConvBlockConfig::new(16, 32, 3).with_padding(1).init(device)?,
///         MaxPoolingConfig::new(2).init()?,
///         Flatten::new(),
///         LinearConfig::new(32 * 7 * 7, 10).init(device)?,
///     )))
/// }
///
/// let device = Device::default();
/// let net = net(&device)?;
/// assert_eq!(net.forward(Tensor::zeros([2, 1, 28, 28], &device)).dims(), [2, 10]);
/// assert!(StateDict::of(&net).iter().any(|(key, _)| key == "2.conv.weight"));
/// # Ok::<(), Error>(())
/// ```
///
/// # Speed
/// A [`MaxPooling`] after a [`ConvBlock`] becomes a part of it, and a block before another one leaves its
/// output in memory as that likes it. So this is as fast as blocks that are told so, and gives the same
/// numbers.
#[derive(Clone, Debug)]
pub struct Sequential<L> {
    /// The layers, a tuple.
    pub layers: L,
}

impl<L> Sequential<L> {
    /// The layers of a tuple, the first one first.
    pub fn new(layers: L) -> Self {
        Sequential { layers }
    }
}

/// A tuple of layers. Nobody else can implement it.
#[allow(unreachable_pub, reason = "a bound of a public type that has no name outside")]
pub trait Layers: Module {
    /// The parameters of all layers: a tuple's own number has buffers, too, a module's has none.
    fn parameters(&self) -> usize;
}

impl<L: Layers> Module for Sequential<L> {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.layers.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        Sequential { layers: self.layers.fork(device) }
    }

    fn to_device(self, device: &Device) -> Self {
        Sequential { layers: self.layers.to_device(device) }
    }

    fn train(self) -> Self {
        Sequential { layers: self.layers.train() }
    }

    fn valid(&self) -> Self {
        Sequential { layers: self.layers.valid() }
    }

    fn materialize(self) -> Self {
        Sequential { layers: self.layers.materialize() }
    }

    fn num_params(&self) -> usize {
        self.layers.parameters()
    }

    // The tuple's own paths: its numbers, and nothing before them.
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.layers.visit(visitor);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Sequential { layers: self.layers.map(mapper) }
    }
}

impl<L: Layers + ModuleDisplayDefault> ModuleDisplayDefault for Sequential<L> {
    fn content(&self, content: Content) -> Option<Content> {
        self.layers.content(content).map(|content| content.set_top_level_type("Sequential"))
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl<L: Layers + ModuleDisplayDefault> ModuleDisplay for Sequential<L> {}

impl<L: Layers + ModuleDisplayDefault> fmt::Display for Sequential<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(DisplaySettings::default()))
    }
}

/// The layers of a forward pass that are still to run.
struct Chain<'a> {
    layers: &'a [&'a dyn Any],
    /// Passes over the next one, pooling that the block before it has done.
    pooled: bool,
}

impl Chain<'_> {
    /// Runs the next layer, with what it can take over from those after it.
    fn run<X: 'static, L: Forward<X>>(&mut self, layer: &L, input: X) -> L::Output
    where
        L::Output: 'static,
    {
        let after = self.layers.get(1..).unwrap_or_default();
        let block = self.layers.first().and_then(|layer| layer.downcast_ref::<ConvBlock>());
        self.layers = after;
        if std::mem::take(&mut self.pooled) {
            return same(input);
        }
        let Some(block) = block else { return layer.forward(input) };
        let pooling = after.first().and_then(|next| next.downcast_ref::<MaxPooling>());
        let pooling = pooling.filter(|_| block.pooling.is_none());
        self.pooled = pooling.is_some();
        let next = after.get(usize::from(self.pooled));
        let before_block = next.is_some_and(|next| next.is::<ConvBlock>());
        same(block.forward_before(same::<X, Tensor<4>>(input), pooling, before_block))
    }
}

/// The value, whose type has two names.
fn same<X: 'static, Y: 'static>(value: X) -> Y {
    let mut value = Some(value);
    let place: &mut dyn Any = &mut value;
    let value = place.downcast_mut::<Option<Y>>().and_then(Option::take);
    value.unwrap_or_else(|| unreachable!("blocks and poolings map images to images"))
}

/// [`Forward`] for a tuple of layers: each with its number, its input and its output.
macro_rules! forward {
    ($($layer:ident $number:tt $input:ident $output:ident),+; $first:ident $last:ident) => {
        impl<$($layer: Module),+> Layers for ($($layer,)+) {
            fn parameters(&self) -> usize {
                0 $(+ self.$number.num_params())+
            }
        }

        impl<$($layer,)+ $first, $($output),+> Forward<$first> for Sequential<($($layer,)+)>
        where
            $($layer: Forward<$input, Output = $output> + 'static,)+
            $first: 'static,
            $($output: 'static,)+
        {
            type Output = $last;

            /// The layers' outputs in turn; the last one's is the result.
            fn forward(&self, input: $first) -> $last {
                let layers = [$(&self.layers.$number as &dyn Any),+];
                let mut chain = Chain { layers: &layers, pooled: false };
                let value = input;
                $(let value = chain.run(&self.layers.$number, value);)+
                value
            }

            /// Checks that an input fits the first layer.
            fn check_input(&self, input: &$first) -> Result<(), Error> {
                self.layers.0.check_input(input).map_err(|error| error.in_layer("Sequential.0"))
            }

            fn check_tokens(&self, input: &$first) -> Result<(), Error> {
                self.layers.0.check_tokens(input)
            }
        }
    };
}

forward!(A 0 X0 X1, B 1 X1 X2; X0 X2);
forward!(A 0 X0 X1, B 1 X1 X2, C 2 X2 X3; X0 X3);
forward!(A 0 X0 X1, B 1 X1 X2, C 2 X2 X3, D 3 X3 X4; X0 X4);
forward!(A 0 X0 X1, B 1 X1 X2, C 2 X2 X3, D 3 X3 X4, E 4 X4 X5; X0 X5);
forward!(A 0 X0 X1, B 1 X1 X2, C 2 X2 X3, D 3 X3 X4, E 4 X4 X5, F 5 X5 X6; X0 X6);
forward!(A 0 X0 X1, B 1 X1 X2, C 2 X2 X3, D 3 X3 X4, E 4 X4 X5, F 5 X5 X6, G 6 X6 X7; X0 X7);
forward!(A 0 X0 X1, B 1 X1 X2, C 2 X2 X3, D 3 X3 X4, E 4 X4 X5, F 5 X5 X6, G 6 X6 X7, H 7 X7 X8; X0 X8);
forward!(
    A 0 X0 X1, B 1 X1 X2, C 2 X2 X3, D 3 X3 X4, E 4 X4 X5,
    F 5 X5 X6, G 6 X6 X7, H 7 X7 X8, I 8 X8 X9; X0 X9
);
forward!(
    A 0 X0 X1, B 1 X1 X2, C 2 X2 X3, D 3 X3 X4, E 4 X4 X5,
    F 5 X5 X6, G 6 X6 X7, H 7 X7 X8, I 8 X8 X9, J 9 X9 X10; X0 X10
);

/// All dimensions but the first become one, as `torch.nn.Flatten`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::Forward;
/// use firebox_models::layers::Flatten;
///
/// let maps = Tensor::<4>::zeros([2, 3, 4, 5], &Device::default());
/// assert_eq!(Flatten::new().forward(maps).dims(), [2, 60]);
/// ```
#[derive(Module, Debug, Default)]
pub struct Flatten {}

impl Flatten {
    /// The layer, which has no parameters.
    pub fn new() -> Self {
        Flatten {}
    }
}

impl<const D: usize> Forward<Tensor<D>> for Flatten {
    type Output = Tensor<2>;

    /// `[batch, …]` to `[batch, features]`.
    fn forward(&self, input: Tensor<D>) -> Tensor<2> {
        let batch = input.dims()[0];
        let features = input.dims()[1..].iter().product();
        // For Burn a size of 0 in a reshape is that which the tensor has there.
        match batch * features {
            0 => Tensor::zeros([batch, features], (&input.device(), input.dtype())),
            _ => input.reshape([batch, features]),
        }
    }
}

impl Forward<Tensor<4>> for BatchNorm2d {
    type Output = Tensor<4>;

    /// `[batch, channels, height, width]` to the same shape.
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        BatchNorm2d::forward(self, input)
    }

    fn check_input(&self, input: &Tensor<4>) -> Result<(), Error> {
        BatchNorm2d::check_input(self, input)
    }
}

impl<const D: usize> Forward<Tensor<D>> for Dropout {
    type Output = Tensor<D>;

    /// The same shape, with values dropped on an autodiff device.
    fn forward(&self, input: Tensor<D>) -> Tensor<D> {
        Dropout::forward(self, input)
    }
}

impl<const D: usize> Forward<Tensor<D>> for Relu {
    type Output = Tensor<D>;

    /// The same shape, with zeros for what is below zero.
    fn forward(&self, input: Tensor<D>) -> Tensor<D> {
        Relu::forward(self, input)
    }
}

/// A struct of layers whose paths are their places in a `torch.nn.Sequential`, in which activations take a
/// place, too.
macro_rules! sequential {
    ($(#[$doc:meta])* $name:ident { $($place:literal $field:ident: $layer:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $(pub(crate) $field: $layer),+
        }

        impl burn::module::Module for $name {
            fn collect_devices(&self, devices: Vec<burn::tensor::Device>) -> Vec<burn::tensor::Device> {
                $(let devices = self.$field.collect_devices(devices);)+
                devices
            }

            fn fork(self, device: &burn::tensor::Device) -> Self {
                $name { $($field: self.$field.fork(device)),+ }
            }

            fn to_device(self, device: &burn::tensor::Device) -> Self {
                $name { $($field: self.$field.to_device(device)),+ }
            }

            fn train(self) -> Self {
                $name { $($field: self.$field.train()),+ }
            }

            fn valid(&self) -> Self {
                $name { $($field: self.$field.valid()),+ }
            }

            fn materialize(self) -> Self {
                $name { $($field: self.$field.materialize()),+ }
            }

            fn num_params(&self) -> usize {
                0 $(+ self.$field.num_params())+
            }

            fn visit<V: burn::module::ModuleVisitor>(&self, visitor: &mut V) {
                $(
                    visitor.enter_module($place, "Sequential");
                    self.$field.visit(visitor);
                    visitor.exit_module($place, "Sequential");
                )+
            }

            fn map<M: burn::module::ModuleMapper>(self, mapper: &mut M) -> Self {
                $(
                    mapper.enter_module($place, "Sequential");
                    let $field = self.$field.map(mapper);
                    mapper.exit_module($place, "Sequential");
                )+
                $name { $($field),+ }
            }
        }

        impl burn::module::ModuleDisplayDefault for $name {
            fn content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
                content.set_top_level_type("Sequential")$(.add($place, &self.$field))+.optional()
            }

            fn num_params(&self) -> usize {
                burn::module::Module::num_params(self)
            }
        }

        impl burn::module::ModuleDisplay for $name {}
    };
}

pub(crate) use sequential;
