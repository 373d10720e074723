//! From a data set to batches: exactly once, in one order, from any number of threads.
//!
//! The centre is the [`Loader`]. It takes any [`Dataset`], an order (a [`Sampler`]), a layout
//! of batches (a [`Collate`]) and a transform that writes an item into its slot:
//!
//! ```
//! use firebox_data::collate::Stacked;
//! use firebox_data::elements::Elements;
//! use firebox_data::{Loader, Scalar, Stack};
//!
//! let images = vec![([7u8; 4], 1i64); 10];
//! let loader = Loader::builder(images)
//!     .shuffle(true)
//!     .seed(42)
//!     .batch_size(4)
//!     .build((Stack::new([1, 2, 2]), Scalar::new()), |(pixels, class), rng, (image, label)| {
//!         let flip = rng.chance(0.5);
//!         for (to, from) in std::iter::zip(&mut *image, pixels) {
//!             *to = f32::from(from) / 255.0;
//!         }
//!         if flip {
//!             image.reverse();
//!         }
//!         *label = class;
//!         Ok(())
//!     })?;
//!
//! for epoch in 0..3 {
//!     for batch in loader.epoch(epoch) {
//!         let (images, labels): (Stacked<f32, 3>, Elements<i64>) = batch?;
//!         assert_eq!(images.samples, labels.len());
//!     }
//! }
//! # Ok::<(), firebox_data::Error>(())
//! ```
//!
//! # What it guarantees
//!
//! * **Exactly once.** Each position of an epoch is delivered once, or the epoch ends in an [`Error`] that
//!   names the sample. An epoch is never short in silence.
//! * **One order.** Batches and every random decision in them follow from (seed, epoch, position). They are
//!   the same bytes with no worker and with sixteen, before and after a resume; and where ranks share an
//!   order, a sample is augmented on four as it is on one.
//! * **Resume anywhere.** A [`LoaderState`] is a few numbers. [`Loader::resume`] goes on after the last
//!   delivered batch, without making the earlier ones again, and with another number of workers if need be;
//!   [`Loader::epochs`] with the epochs after it, too.
//! * **Loud, and alive.** A sample that cannot be made, or takes too long, ends the epoch, is skipped or
//!   replaced, as [`OnError`] says; I/O errors can be tried again ([`Retry`]). Each such [`SampleFailure`] is
//!   in the epoch's [report](EpochReport).
//! * **Bounded.** So many batches, or bytes, are made ahead; a consumer that stops pulling stops the workers.
//!
//! `loader/README.md` in the sources explains how, and why it cannot deadlock.
//!
//! # How it is put together
//!
//! A [`Sampler`] says which index stands at which position of which epoch: a function, computed and not
//! stored, so that any position is reached at once. A [`BatchSampler`] cuts positions into batches. A layout,
//! a [`Collate`], is one buffer a batch and one slot a sample. Items go through [stages](Transform), of which
//! the last one [writes](Write) into the slot; closures are stages. Workers take [`BatchTask`]s, which are
//! plain data: runs of a batch's samples, as long as about 200 microseconds of work; several of them write
//! into one buffer. Batches are delivered in order, or [as they complete](LoaderBuilder::as_completed).
//! Dropped batches give their memory back ([`Elements`]) to the loader's [`BufferPool`].
//!
//! Data without random access are [`Shards`], such as the [`Lines`] of files; [`Loader::stream`] makes a
//! loader of them with the same settings, the same stages and the same promises.
//!
//! A [`Recipe`] makes a loader from settings that are data, so that worker processes can make its batches:
//! the same ones, whatever becomes of a process, in memory that they share with this one.
//!
//! # What else is here
//!
//! A [`Dataset`] is anything with items by index. Data sets made of data sets: [`Map`], [`Filter`],
//! [`Concat`], [`Mix`], [`Cache`], [`Subset`], [`random_split`]. A long text is read in [`Windows`], by
//! batches whose rows go on where the batch before has left them ([`ContiguousBatches`]); [`read_text`] reads
//! it, and a [`Vocabulary`] makes numbers of its characters. [`idx`] reads the files of MNIST and its
//! relatives, [`fashion_mnist`] one of them in particular, [`cmudict`] a dictionary of pronunciations.
//! [`Batches`] is what a trainer asks of a source of batches. With the feature `burn`, `Loader::on_device`
//! makes a loader one of tensors, and `Loader::into_burn` one of Burn's own; Burn's data sets go in by
//! `FromBurn` and come out by `IntoBurn`. Nothing else in this crate knows a tensor framework.

pub mod batches;
pub mod collate;
pub mod dataset;
pub mod elements;
pub mod error;
pub mod formats;
pub mod loader;
pub mod sampler;
pub mod seed;
mod sync;
#[cfg(feature = "burn")]
pub mod tensors;
pub mod transform;

pub use batches::{BatchStream, Batches, Delivered, Overlap, SampleSet};
pub use collate::{
    BatchShape, Blank, Blanks, Collate, Nothing, Pad, Padded, Ragged, Rows, Scalar, Sequences, SlotOf, Slots,
    Stack, StackWhole, Stacked, Values,
};
pub use dataset::{
    Cache, Concat, Dataset, Described, Filter, Fingerprint, FromFn, Lineage, Location, Map, Mix, Records,
    Shards, Subset, Windows, from_fn, random_split,
};
#[cfg(feature = "burn")]
pub use dataset::{FromBurn, IntoBurn};
pub use elements::{BufferPool, Elements, Loan};
pub use error::{BoxError, Error, ErrorKind, OutOfRange};
pub use formats::text::{Vocabulary, read_text};
pub use formats::{Lines, cmudict, fashion_mnist, idx};
#[cfg(feature = "processes")]
pub use loader::Recipe;
pub use loader::{
    Action, BatchTask, Bottleneck, Data, Epoch, EpochReport, Epochs, FailureBudget, Indexed, Loader,
    LoaderBuilder, LoaderState, OnError, Repeatable, Retry, SampleFailure, SampleId, Stage, Start,
    StreamState, Streamed, TimeSlice, Timeline, WithStates, WorkerTime,
};
pub use sampler::{
    BatchSampler, Bucketed, Chained, ContiguousBatches, Distributed, FixedSize, Permutation, Ranks, Sampler,
    Sequential, Shuffled, SubsetSampler, UnevenRanks, Weighted, WeightedWithoutReplacement,
};
pub use seed::{Purpose, SampleRng, StageKey, derive_seed};
#[cfg(feature = "burn")]
pub use tensors::{BurnLoader, IntoTensors, OnDevice, SequenceBatch};
pub use transform::{Chain, Keyed, Staged, Transform, Write};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
