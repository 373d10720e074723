//! firebox's loader with candle: the batches of a [`firebox_data::Loader`] as candle tensors.
//!
//! The loader knows no framework: a batch is a `Vec`, or a slice that owns its memory. So most of what candle
//! needs is one call, [`Tensor::from_vec`](candle_core::Tensor::from_vec), which copies nothing.
//! [`InputTensor`] also gives the memory back to the loader, which makes later batches in it.
//!
//! `examples/training.rs` trains a small classifier with two workers, stops in the middle of an epoch, and
//! goes on.

mod input_tensor;

pub use input_tensor::InputTensor;
