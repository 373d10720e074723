//! What all models have in common.

use crate::error::Error;

/// A model that maps an input to an output.
///
/// It lets a training task take any model with the right input and output, whatever it is made of.
pub trait Forward<Input> {
    /// What the model computes.
    type Output;

    /// Computes the output; the model's page says which shapes.
    ///
    /// An input that does not fit is a panic that names the layer, what it wants and what came: the error of
    /// [`check_input`](Self::check_input).
    fn forward(&self, input: Input) -> Self::Output;

    /// Looks whether an input's shape fits, without computing anything.
    ///
    /// A task calls it with its first batch, so that a layout that is not the model's is an error and no panic. Nothing
    /// is read from the device. A model of one's own need not have it: then everything fits until
    /// [`forward`](Self::forward) says otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) names the layer, what it wants and what came.
    fn check_input(&self, input: &Input) -> Result<(), Error> {
        let _ = input;
        Ok(())
    }

    /// Looks whether all tokens of an input are in the vocabulary, if the model reads tokens.
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
