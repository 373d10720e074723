//! How a kernel becomes one of Burn's operations.

#[cfg(feature = "flex")]
pub(crate) mod fused;
pub(crate) mod shape;
pub(crate) mod switch;
