//! Fused kernels for the CPU with hand-written gradients, for Burn's backend flex.
//!
//! Each operation is a function of Burn's tensors with two bodies: plain Burn operations, which every backend runs and
//! whose gradients Burn derives, and a kernel of this crate, which flex runs in their place. Both compute the same, up to
//! the rounding of sums; a caller need not know which one ran. [`set_enabled`] turns the kernels off, and so does
//! `FIREBOX_KERNELS=off` in the environment. What a kernel can't do, such as another number type than `f32`, goes to the
//! plain operations, and [`fallbacks`] counts it.
//!
//! What there is: [`linear`], a linear map and its activation; [`additive_attention`], between its two maps;
//! [`cross_entropy`]; [`conv_block`] and [`conv_relu`], convolution, batch normalisation, ReLU and pooling; and [`adam`], the
//! step of an optimiser. The blocks of `firebox-models` and the tasks and optimisers of `firebox-train` use them without
//! being asked.
//!
//! Results don't depend on the number of threads: work is cut into chunks by the shapes alone, and partial sums are put
//! together in the order of the chunks. Rows of a recurrent layer have no sums in common, and there may be as many blocks
//! of them as threads.

mod activation;
mod adam;
mod attention;
mod cell;
mod compute_threads;
#[cfg(feature = "flex")]
mod conv_block;
mod convolution;
mod cross_entropy;
#[cfg(feature = "flex")]
mod fused;
#[cfg(feature = "flex")]
mod gates;
#[cfg(feature = "flex")]
mod geometry;
#[cfg(feature = "flex")]
mod gru;
#[cfg(feature = "flex")]
mod layout;
mod linear;
#[cfg(feature = "flex")]
mod lstm;
#[cfg(feature = "flex")]
mod math;
#[cfg(feature = "flex")]
mod matrix;
#[cfg(feature = "flex")]
mod memory;
#[cfg(feature = "flex")]
mod moments;
mod norm;
#[cfg(feature = "flex")]
mod optimizer_ops;
#[cfg(feature = "flex")]
mod pass;
#[cfg(feature = "flex")]
mod product;
#[cfg(feature = "flex")]
mod recurrence;
#[cfg(feature = "flex")]
mod recurrence_backward;
#[cfg(feature = "flex")]
mod recurrence_forward;
#[cfg(feature = "flex")]
mod recurrence_weights;
mod recurrent;
#[cfg(feature = "flex")]
mod rnn;
mod sequence;
mod sgd;
mod simd;
mod switch;
#[cfg(feature = "flex")]
mod tasks;
#[cfg(feature = "flex")]
mod weight;

pub use activation::Activation;
pub use adam::{AdamMoments, AdamStep, adam};
pub use attention::{additive_attention, masked_softmax};
pub use cell::{Cell, CellState};
pub use compute_threads::start_compute_threads;
pub use convolution::{ConvBlockOutput, ConvBlockSettings, conv_block, conv_relu};
pub use cross_entropy::cross_entropy;
pub use linear::linear;
pub use norm::Norm;
pub use recurrent::{RecurrentWeights, recurrent};
pub use sequence::Sequence;
pub use sgd::{SgdStep, sgd};
pub use simd::{Instructions, instructions, limit_instructions};
pub use switch::{enabled, fallbacks, set_enabled};
