//! What all models have in common.

/// A model that maps an input to an output.
///
/// It lets a training task take any model with the right input and output, whatever it is made of.
pub trait Forward<Input> {
    /// What the model computes.
    type Output;

    /// Computes the output; the model's page says which shapes.
    fn forward(&self, input: Input) -> Self::Output;
}
