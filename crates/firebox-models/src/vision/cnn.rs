//! A small convolutional classifier.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};

use crate::error::{Error, OfPart, check, check_product, fitting, input_error};
use crate::forward::Forward;
use crate::layers::conv_block::{ConvBlock, ConvBlockConfig};
use crate::layers::linear::{Linear, LinearConfig};
use crate::layers::linear_block::{LinearBlock, LinearBlockConfig};
use crate::layers::pooling::MaxPoolingConfig;

/// Settings of [`Cnn`].
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::vision::CnnConfig;
///
/// let config = CnnConfig::new(10).with_channels(1).with_size([32, 32]).with_dropout(0.25);
/// assert!(config.init(&Device::default()).is_ok());
/// let error = config.with_dropout(1.0).init(&Device::default()).unwrap_err();
/// assert_eq!(error.to_string(), "CnnConfig.dropout: expected 0 ≤ p < 1, got 1");
/// ```
#[derive(Config, Debug)]
pub struct CnnConfig {
    /// The number of classes; at least 1.
    pub classes: usize,
    /// Channels of the images; at least 1.
    #[config(default = 3)]
    pub channels: usize,
    /// Height and width of the images; at least 4, so that two poolings leave something.
    #[config(default = "[28, 28]")]
    pub size: [usize; 2],
    /// The share of features dropped before the last layer in training; from 0, below 1.
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// A small network of two convolution blocks, a linear block and a linear map to the classes.
///
/// The blocks are [`ConvBlock`]s of 3×3 with 2×2 max pooling, to 32 and then 64 channels; the [`LinearBlock`]
/// gives 128 features, some of which are dropped in training. All of it is public: a struct or a
/// [`Sequential`](crate::layers::Sequential) of one's own is as fast.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::vision::CnnConfig;
/// use firebox_models::{Forward, init};
///
/// let device = Device::default();
/// let cnn = init(42, &device, |device| CnnConfig::new(10).with_channels(1).init(device))?;
/// assert_eq!(cnn.forward(Tensor::zeros([2, 1, 28, 28], &device)).dims(), [2, 10]);
/// # Ok::<(), firebox_models::Error>(())
/// ```
///
/// State: `conv1.…`, `conv2.…` as in [`ConvBlock`], `fc1.linear.…`, `fc2.weight`, `fc2.bias`.
#[derive(Module, Debug)]
pub struct Cnn {
    conv1: ConvBlock,
    conv2: ConvBlock,
    fc1: LinearBlock,
    dropout: Dropout,
    fc2: Linear,
    /// Height and width that it was made for.
    #[module(skip)]
    size: [usize; 2],
}

impl CnnConfig {
    /// The model with PyTorch's initialisation.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) for a value out of its range.
    pub fn init(&self, device: &Device) -> Result<Cnn, Error> {
        let Self { classes, channels, size: [height, width], dropout } = *self;
        check(classes > 0, "CnnConfig.classes", "at least 1", classes)?;
        check(channels > 0, "CnnConfig.channels", "at least 1", channels)?;
        let size = format!("[{height}, {width}]");
        check(height >= 4 && width >= 4, "CnnConfig.size", "a height and width of at least 4", &size)?;
        let fits = check_product("CnnConfig", 64 * 128, &[("size", height / 4), ("size", width / 4)]).is_ok();
        check(fits, "CnnConfig.size", "a height and width whose tensors fit into memory", &size)?;
        check_product("CnnConfig", 32 * 9, &[("channels", channels)])?;
        check_product("CnnConfig", 128, &[("classes", classes)])?;
        check((0.0..1.0).contains(&dropout), "CnnConfig.dropout", "0 ≤ p < 1", dropout)?;
        let block = |from, to| {
            ConvBlockConfig::new(from, to, 3).with_padding(1).with_pooling(MaxPoolingConfig::new(2))
        };
        Ok(Cnn {
            // Channels side by side for the next block, which likes that best; and as the map to features
            // likes it.
            conv1: block(channels, 32).with_channels_last(true).init(device)?,
            conv2: block(32, 64).init(device)?,
            fc1: LinearBlockConfig::new(64 * (height / 4) * (width / 4), 128).init(device)?,
            dropout: DropoutConfig::new(dropout).init(),
            fc2: LinearConfig::new(128, classes).init(device)?,
            size: self.size,
        })
    }
}

impl Cnn {
    /// Images `[batch, channels, height, width]` to the 128 features that the classes are told by,
    /// `[batch, 128]`.
    ///
    /// None of them is below 0. In them, images are compared by what they show.
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        fitting(self.check_input(&images));
        let x = self.conv2.forward(self.conv1.forward(images));
        self.fc1.forward(x.flatten::<2>(1, 3))
    }

    /// The rest of the way: [`features`](Self::features) `[batch, 128]` to logits `[batch, classes]`.
    pub fn classify(&self, features: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(self.dropout.forward(features))
    }
}

impl Forward<Tensor<4>> for Cnn {
    type Output = Tensor<2>;

    /// Images `[batch, channels, height, width]` to logits `[batch, classes]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.classify(self.features(images))
    }

    fn check_input(&self, images: &Tensor<4>) -> Result<(), Error> {
        let (trains, [height, width]) = (images.device().is_autodiff(), self.size);
        let note = format!(", from images {:?}; the model is for {height}×{width}", images.dims());
        let mut shape = images.dims();
        for (place, block) in [("Cnn.conv1", &self.conv1), ("Cnn.conv2", &self.conv2)] {
            let trains = trains && block.bn.training.is_enabled();
            shape = block.output_shape(shape, trains).map_err(|error| {
                let error = error.in_layer(place);
                // Of channels the note would say nothing.
                match shape[1] == block.conv.weight.dims()[1] {
                    true => error.with_note(&note),
                    false => error,
                }
            })?;
        }
        let ([_, features], [_, channels, rows, columns]) = (self.fc1.linear.sizes(), shape);
        if [rows, columns] == [height / 4, width / 4] {
            return Ok(());
        }
        let got = match channels * rows * columns {
            // As many, in another order.
            same if same == features => format!("{same} of {rows}×{columns} maps"),
            other => other.to_string(),
        };
        Err(input_error("Cnn.fc1", format!("{features} features"), got).with_note(note))
    }
}
