//! Fused kernels for the CPU with hand-written gradients, for Burn's backend flex.
//!
//! Each operation is a function of Burn's tensors with two bodies: plain Burn operations, which every backend runs and
//! whose gradients Burn derives, and a kernel of this crate, which flex runs in their place. Both compute the same, up to
//! the rounding of sums; a caller need not know which one ran. [`set_enabled`] turns the kernels off, and so does
//! `FIREBOX_KERNELS=off` in the environment. What a kernel can't do, such as another number type than `f32`, goes to the
//! plain operations, and [`fallbacks`] counts it.
//!
//! | operation | is |
//! |---|---|
//! | [`conv_block`], [`conv_relu`] | convolution, batch normalisation, ReLU, 2×2 max pooling; and what of it inference needs |
//! | [`recurrent`] | one direction of an RNN, LSTM or GRU over whole sequences |
//! | [`linear`] | a linear map and its activation |
//! | [`additive_attention`] | between its two maps: scores, masked softmax, context |
//! | [`attentive_lstm`] | an LSTM that attends to other sequences at each step, over whole sequences |
//! | [`cross_entropy`] | softmax and the mean of the negative logarithms |
//! | [`adam`], [`sgd`], [`Norm`] | an optimiser's step in one pass over a parameter; the norm of all gradients |
//!
//! The blocks of `firebox-models` and the tasks and optimisers of `firebox-train` use them without being asked.
//!
//! # How an operation is made
//!
//! `fused.rs` makes one of Burn's operations, with its gradient, of a type with two functions on slices, `forward` and
//! `backward` (`Fused`). So a kernel knows nothing of graphs and devices, and the rest of the crate nothing of slices.
//!
//! # Products
//!
//! Nearly all time goes to products of matrices, and there are two ways to them. Those of matrices that are used once are
//! gemm's (`matrix.rs`), always on one thread: which part of a result a thread computes is decided here. But gemm, like
//! every library that we know of, takes matrices with strides and packs them at each call. Where the same weight meets
//! the rows of every step of a sequence, packing takes as long as the product; and the windows of an image are no matrix
//! with strides, so that they would have to be copied out first. `product.rs` is for these two: its left factor is packed
//! once for a whole pass, and its right one is read at `row(n) + column(k)`, whatever these functions are. On one core of a
//! Zen 4 it reaches 106 GFLOP/s for a step of an LSTM, where gemm reaches 44, and as much for a convolution, which is what
//! the core can do.
//!
//! Convolutions of 3×3 with a step of 1 take Winograd's tiles of 2×2 outputs (`winograd.rs`), which need 16 products where the
//! windows need 36: if channels and filters are multiples of 16, nothing is dilated, the padding is at most 2, and there are
//! images enough to make it pay. Its sums round by the largest value of a tile instead of their own; so images, gradients and
//! weights with values of 65,536 or more, or none of a number, go by their windows.
//!
//! Vector instructions are chosen at run time (`simd.rs`, on pulp): AVX-512, AVX2, NEON, or what every CPU has;
//! [`instructions`] tells which. Passes over elements are plain loops that are compiled for each of them where the compiler
//! makes vectors of that, and else pulp's vectors.
//!
//! # The same bits
//!
//! Results don't depend on the number of threads: work is cut into chunks by the shapes alone, and partial sums are put
//! together in the order of the chunks. Where rows have no sums in common, as those of a recurrent layer, there may be as
//! many blocks of them as threads. Among CPUs with other vector instructions the last bits differ.
//!
//! # Memory
//!
//! Large tensors that a kernel makes come from memory that an earlier one has left (`memory.rs`), and the backward passes
//! compute again what is cheap, such as the windows of images or the tangents of attention. Of 15 kinds of
//! training steps that were measured 14 take less memory than with the plain operations, and one as much.

mod allocator;
mod attention;
mod attentive_lstm;
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
mod shape;
mod simd;
mod switch;
#[cfg(feature = "flex")]
mod tasks;

pub use attention::{additive_attention, masked_softmax};
pub use attentive_lstm::{Attended, attentive_lstm};
pub use compute_threads::start_compute_threads;
pub use convolution::{ConvBlockOutput, ConvBlockSettings, conv_block, conv_relu};
pub use cross_entropy::{ClassError, check_classes, cross_entropy, try_cross_entropy};
pub use linear::{Activation, linear};
pub use optimizer::{AdamMoments, AdamStep, Norm, SgdStep, adam, sgd};
pub use recurrent::{Cell, CellState, RecurrentWeights, Sequence, recurrent};
pub use simd::{Instructions, instructions, limit_instructions};
pub use switch::{enabled, fallbacks, set_enabled};
