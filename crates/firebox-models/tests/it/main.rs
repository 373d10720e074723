//! Blocks and models: their configs, their first numbers, their gradients, what they are given and what they
//! keep.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod blocks;
mod common;
mod gradients;
mod initialization;
mod inputs;
mod weights;
