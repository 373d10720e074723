//! Data sets made of data sets.

mod cache;
mod concat;
mod filter;
mod lines;
mod map;
mod mix;
mod origin;
mod shards;
mod subset;

pub use cache::Cache;
pub use concat::Concat;
pub use filter::Filter;
pub use lines::Lines;
pub use map::Map;
pub use mix::Mix;
pub use origin::Origin;
pub(crate) use origin::origin_of;
pub use shards::{Records, Shards};
pub use subset::{Subset, random_split};
