//! Seeds and generators, as stages and samplers draw from them.

pub use firebox_core::{Purpose, SampleRng, StageKey, derive_seed};
