//! What optimisers do to parameters.

mod adam;
mod norm;
#[cfg(feature = "flex")]
mod operations;
#[cfg(feature = "flex")]
mod pass;
mod sgd;

pub use adam::{AdamMoments, AdamStep, adam};
pub use norm::Norm;
pub use sgd::{SgdStep, sgd};
