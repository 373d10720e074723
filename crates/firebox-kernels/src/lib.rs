//! Fused kernels for the CPU with hand-written gradients, for Burn's backend flex.
//!
//! Each operation is a function of Burn's tensors with two bodies: plain Burn operations, which every backend
//! runs and whose gradients Burn derives, and a kernel of this crate, which flex runs in their place. Both
//! compute the same, up to the rounding of sums; a caller need not know which one ran. [`set_enabled`] turns
//! the kernels off, and so does `FIREBOX_KERNELS=off` in the environment. What a kernel can't do, such as
//! another number type than `f32`, goes to the plain operations, and [`fallbacks`] counts it.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use firebox_kernels::linear;
//! use firebox_kernels::linear::Activation;
//!
//! let device = Device::default();
//! let (input, weight) = (Tensor::<2>::ones([4, 3], &device), Tensor::<2>::ones([2, 3], &device));
//! let output = linear(input, weight, None, Activation::Relu);
//! assert_eq!(output.into_data().try_to_vec::<f32>().unwrap(), [3.0; 8]);
//! ```
//!
//! | module | operations |
//! |---|---|
//! | [`convolution`] | convolution, batch normalisation, ReLU, 2×2 max pooling in one |
//! | [`pooling`] | the maximum or the mean of windows |
//! | [`mod@recurrent`] | one direction of an RNN, LSTM or GRU over whole sequences |
//! | [`mod@linear`] | a linear map and its activation |
//! | [`attention`] | between additive attention's two maps: scores, masked softmax, context |
//! | [`mod@attentive_lstm`] | an LSTM that attends to other sequences at each step, over whole sequences |
//! | [`mod@cross_entropy`] | softmax and the mean of the negative logarithms |
//! | [`optimizer`] | an optimiser's step in one pass over a parameter; the norm of all gradients |
//! | [`machine`] | vector instructions and threads |
//!
//! The blocks of `firebox-models` and the tasks and optimisers of `firebox-train` use them without being
//! asked.
//!
//! # How an operation is made
//!
//! `operation/fused.rs` makes one of Burn's operations, with its gradient, of a type with two functions on
//! slices, `forward` and `backward` (`Fused`). So a kernel knows nothing of graphs and devices, and the rest
//! of the crate nothing of slices.
//!
//! # Products
//!
//! Nearly all time goes to products of matrices, and there are two ways to them. Those of matrices that are
//! used once are gemm's (`algebra/matrix.rs`), always on one thread: which part of a result a thread computes
//! is decided here. But gemm, like every library that we know of, takes matrices with strides and packs them
//! at each call. Where the same weight meets the rows of every step of a sequence, packing takes as long as
//! the product; and the windows of an image are no matrix with strides, so that they would have to be copied
//! out first. `algebra/product.rs` is for these two: its left factor is packed once for a whole pass, and its
//! right one is read at `row(n) + column(k)`, whatever these functions are. On one core of a Zen 4 it reaches
//! 106 GFLOP/s for a step of an LSTM, where gemm reaches 44, and as much for a convolution, which is what the
//! core can do.
//!
//! Convolutions of 3×3 with a step of 1 take Winograd's tiles of 2×2 outputs (`winograd.rs`), which need 16
//! products where the windows need 36: if channels and filters are multiples of 16, nothing is dilated, the
//! padding is at most 2, and there are images enough to make it pay. Its sums round by the largest value of a
//! tile instead of their own; so images, gradients and weights with values of 65,536 or more, or NaN, go by
//! their windows.
//!
//! Vector instructions are chosen at run time (`machine/simd.rs`, on pulp): AVX-512, AVX2, NEON, or what
//! every CPU has; [`machine::instructions`] tells which. Passes over elements are plain loops that are
//! compiled for each of them where the compiler makes vectors of that, and else pulp's vectors.
//!
//! # The same bits
//!
//! Results don't depend on the number of threads: work is cut into chunks by the shapes alone, and partial
//! sums are put together in the order of the chunks. Where rows have no sums in common, as those of a
//! recurrent layer, there may be as many blocks of them as threads. Among CPUs with other vector instructions
//! the last bits differ.
//!
//! # Memory
//!
//! Large tensors that a kernel makes come from memory that an earlier one has left (`machine/memory.rs`), and
//! the backward passes compute again what is cheap, such as the windows of images or the tangents of
//! attention. Of 15 kinds of training steps that were measured 14 take less memory than with the plain
//! operations, and one as much.

#[cfg(feature = "flex")]
mod algebra;
pub mod attention;
pub mod attentive_lstm;
pub mod convolution;
pub mod cross_entropy;
pub mod linear;
pub mod machine;
mod operation;
pub mod optimizer;
pub mod pooling;
pub mod recurrent;

pub use attention::additive_attention;
pub use attentive_lstm::attentive_lstm;
pub use convolution::{conv_block, conv_relu};
pub use cross_entropy::cross_entropy;
pub use linear::linear;
pub use machine::start_compute_threads;
pub use operation::switch::{enabled, fallbacks, set_enabled};
pub use optimizer::{adam, sgd};
pub use pooling::{avg_pool2d, max_pool2d};
pub use recurrent::recurrent;

/// The optimization level that the crate was compiled with, as Cargo writes it.
#[doc(hidden)]
pub const OPT_LEVEL: &str = env!("FIREBOX_OPT_LEVEL");

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
