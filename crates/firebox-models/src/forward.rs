//! The interface of all models.

use crate::error::Error;

/// A model that maps an input to an output.
///
/// It lets a training task take any model with the right input and output, whatever it is made of.
///
/// ```
/// use burn::module::Module;
/// use burn::tensor::activation::relu;
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::{Linear, LinearConfig};
/// use firebox_models::{Error, Forward};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     hidden: Linear,
///     out: Linear,
/// }
///
/// impl Forward<Tensor<2>> for Net {
///     type Output = Tensor<2>;
///
///     fn forward(&self, input: Tensor<2>) -> Tensor<2> {
///         self.out.forward(relu(self.hidden.forward(input)))
///     }
///
///     fn check_input(&self, input: &Tensor<2>) -> Result<(), Error> {
///         self.hidden.check_input(input)
///     }
/// }
///
/// let device = Device::default();
/// let linear = |from, to| LinearConfig::new(from, to).init(&device);
/// let net = Net { hidden: linear(4, 8)?, out: linear(8, 2)? };
/// assert_eq!(net.forward(Tensor::zeros([3, 4], &device)).dims(), [3, 2]);
/// let error = net.check_input(&Tensor::zeros([3, 5], &device)).unwrap_err();
/// assert_eq!(error.to_string(), "Linear: expected [.., 4], got [3, 5] (weight [8, 4])");
/// # Ok::<(), firebox_models::Error>(())
/// ```
pub trait Forward<Input> {
    /// The type of what the model computes.
    type Output;

    /// Computes the output; the model's page says which shapes.
    ///
    /// An input that does not fit is a panic that names the layer, what it wants and what came: the error of
    /// [`check_input`](Self::check_input).
    fn forward(&self, input: Input) -> Self::Output;

    /// Looks whether an input's shape fits, without computing anything.
    ///
    /// A task calls it with its first batch, so that a layout that is not the model's is an error and no
    /// panic. Nothing is read from the device. A model of one's own need not have it: then everything fits
    /// until [`forward`](Self::forward) says otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) names the layer, what it wants and what came.
    fn check_input(&self, input: &Input) -> Result<(), Error> {
        let _ = input;
        Ok(())
    }

    /// Looks whether all tokens of an input are in the model's vocabulary.
    ///
    /// The tokens are read once. Elsewhere than on the CPU that is a transfer, and waits for the device.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) names the first token that is not, and its place.
    fn check_tokens(&self, input: &Input) -> Result<(), Error> {
        let _ = input;
        Ok(())
    }
}
