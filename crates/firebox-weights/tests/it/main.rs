//! State dictionaries: from files, into files, out of modules and into them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod damage;
// With a backend of Burn's, which a workspace's build has: `--features burn,burn/flex` alone.
#[cfg(feature = "burn")]
mod modules;
mod pt_files;
mod pytorch;
mod safetensors;
