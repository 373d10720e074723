//! Burn's modules: their tensors by path, out of them and into them.

mod apply;
mod collect;
mod convert;
pub mod paths;
mod ties;
mod weights;

pub use apply::Partial;
pub use ties::Ties;
pub use weights::Weights;
