//! Data sets made of data sets.

mod cache;
mod concat;
mod filter;
mod map;
mod mix;
mod subset;

pub use cache::Cache;
pub use concat::Concat;
pub use filter::Filter;
pub use map::Map;
pub use mix::Mix;
pub use subset::{Subset, random_split};
