//! Command lines of training programs: what they refuse, and what a run that goes on keeps.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod groups;
mod settings;
