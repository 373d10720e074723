//! Ways from logits to tokens: the best sequence of a search, or a token drawn.

pub(crate) mod beam;
pub(crate) mod finite;
pub(crate) mod sampling;

pub use beam::{Beam, Hypothesis};
pub use sampling::Sampling;
