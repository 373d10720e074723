//! The kernels against the plain operations that they stand for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod attention;
mod attentive_lstm;
mod common;
mod conv_block;
mod cross_entropy;
mod linear;
mod optimizers;
mod pooling;
mod properties;
mod recurrent;
mod shapes;
mod switch;
