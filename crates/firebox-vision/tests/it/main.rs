//! Files into images into batches.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod damage;
mod decoding;
mod files;
mod folders;
mod loading;
mod random;
mod transforms;
