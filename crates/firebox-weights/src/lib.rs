//! Weights of models by name, from and to the files of PyTorch and safetensors.
//!
//! A [`StateDict`] is what PyTorch calls one: [`RawTensor`]s by name. It is read of a `.pt` file
//! ([`StateDict::read_pytorch`]) or a safetensors file ([`StateDict::read`]), and written as the latter.
//!
//! ```no_run
//! use firebox_weights::StateDict;
//!
//! let weights = StateDict::read_pytorch("model.pt")?;
//! let bias = weights.get("fc.bias").expect("a model with a layer fc").to_vec::<f32>()?;
//! weights.write("model.safetensors")?;
//! # Ok::<(), firebox_weights::Error>(())
//! ```
//!
//! # Files from anywhere
//!
//! A `.pt` file has a program for Python's unpickler in it, which can do anything. Here it is taken apart as
//! data, and nothing is run: a Python name is either one of the few that a dict of tensors needs, or is kept
//! as a name, so that it can be told. Each field of either format is read, passed over for a reason, or
//! refused by name. Memory is bounded by the file's own size: tensors take at most eight times its bytes and
//! 64 KiB.
//!
//! # Burn
//!
//! Without the feature `burn` there is no framework in this crate. With it a dictionary is made of a module
//! (`StateDict::of`) and applied to one (`StateDict::apply`), and [`RawTensor`]s and Burn's `TensorData`
//! become each other without a copy. `Weights` loads and saves modules in one call, `Ties` keeps parameters
//! one that stand in several places, and `paths` has visitors that are told each tensor's path.

#![forbid(unsafe_code)]

mod dtype;
mod element;
mod error;
#[cfg(feature = "burn")]
mod module;
mod pytorch;
mod raw_tensor;
mod safetensors;
mod state_dict;

pub use dtype::DType;
pub use element::Element;
pub use error::{Error, ErrorKind};
#[cfg(feature = "burn")]
pub use module::{Partial, Ties, Weights, paths};
pub use raw_tensor::RawTensor;
pub use state_dict::StateDict;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
