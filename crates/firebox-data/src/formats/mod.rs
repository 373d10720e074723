//! Files that are read as data: texts, lines, images, and two data sets in particular.

pub mod cmudict;
pub mod fashion_mnist;
pub(crate) mod gzip;
pub mod idx;
pub(crate) mod lines;
pub mod text;
pub(crate) mod text_file;

pub use lines::Lines;
