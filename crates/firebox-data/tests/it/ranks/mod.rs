//! Epochs that several ranks share.

mod global_positions;
mod items;
mod shards;
