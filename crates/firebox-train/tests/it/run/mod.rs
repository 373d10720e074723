//! Runs: their folders, their events, how they stop and go on.

mod continuation;
mod guards;
mod hooks;
mod lr_finder;
mod mistakes;
mod resume;
mod run_dir;
mod settings;
mod trainer;
