//! Steps of optimisers, and the norm of gradients.

mod adam;
mod adam_step;
mod norm;
#[cfg(feature = "flex")]
mod operations;
#[cfg(feature = "flex")]
mod pass;
mod sgd;
mod sgd_step;

pub use adam::{AdamMoments, adam};
pub use adam_step::AdamStep;
pub use norm::Norm;
pub use sgd::sgd;
pub use sgd_step::SgdStep;
