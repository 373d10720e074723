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

mod allocator;
mod attention;
mod compute_threads;
mod convolution;
mod cross_entropy;
#[cfg(feature = "flex")]
mod fused;
#[cfg(feature = "flex")]
mod layout;
mod linear;
#[cfg(feature = "flex")]
mod math;
#[cfg(feature = "flex")]
mod matrix;
#[cfg(feature = "flex")]
mod memory;
mod optimizer;
#[cfg(feature = "flex")]
mod product;
mod recurrent;
mod simd;
mod switch;
#[cfg(feature = "flex")]
mod tasks;

pub use attention::{additive_attention, masked_softmax};
pub use compute_threads::start_compute_threads;
pub use convolution::{ConvBlockOutput, ConvBlockSettings, conv_block, conv_relu};
pub use cross_entropy::cross_entropy;
pub use linear::{Activation, linear};
pub use optimizer::{AdamMoments, AdamStep, Norm, SgdStep, adam, sgd};
pub use recurrent::{Cell, CellState, RecurrentWeights, Sequence, recurrent};
pub use simd::{Instructions, instructions, limit_instructions};
pub use switch::{enabled, fallbacks, set_enabled};
