//! Products, transpositions and functions on slices.

pub(crate) mod layout;
pub(crate) mod math;
pub(crate) mod matrix;
pub(crate) mod product;
pub(crate) mod scratch;
