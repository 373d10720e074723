//! From a data set to batches: exactly once, in one order, from any number of threads.
//!
//! The center is the [`Loader`]. It takes any [`Dataset`], an order (a [`Sampler`](sampler::Sampler)), a
//! layout of batches (a [`Collate`]) and a transform that writes an item into its slot:
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
//!   replaced, as [`OnError`] says; I/O errors can be tried again ([`Retry`](loader::Retry)). Each such
//!   [`SampleFailure`](loader::SampleFailure) is in the epoch's [report](loader::EpochReport).
//! * **Bounded.** So many batches, or bytes, are made ahead; a consumer that stops pulling stops the workers.
//!
//! `loader/README.md` in the sources explains how, and why it cannot deadlock.
//!
//! # How it is put together
//!
//! A [`Sampler`](sampler::Sampler) says which index stands at which position of which epoch: a function,
//! computed and not stored, so that any position is reached at once. A
//! [`BatchSampler`](sampler::BatchSampler) cuts positions into batches. A layout, a [`Collate`], is one
//! buffer a batch and one slot a sample. Items go through [stages](Transform), of which the last one
//! [writes](transform::Write) into the slot; closures are stages. Workers take [tasks](loader::BatchTask),
//! which are plain data: runs of a batch's samples, as long as about 200 microseconds of work; several of
//! them write into one buffer. Batches are delivered in order, or [as they
//! complete](loader::LoaderBuilder::as_completed). Dropped batches give their memory back
//! ([`Elements`](elements::Elements)) to the loader's [`BufferPool`](elements::BufferPool).
//!
//! Data without random access are [`Shards`], such as the [`Lines`](formats::Lines) of files;
//! [`Loader::stream`] makes a loader of them with the same settings, the same stages and the same promises.
//!
//! A `Recipe` makes a loader from settings that are data, so that worker processes can make its batches: the
//! same ones, whatever becomes of a process, in memory that they share with this one.
//!
//! # Modules
//!
//! | module | has |
//! |---|---|
//! | [`dataset`] | [`Dataset`], [`Shards`]; data sets made of others: `Map`, `Cache`, `Subset`, … |
//! | [`sampler`] | orders: `Shuffled`, `Weighted`, …; batches of them: `FixedSize`, `Bucketed`, … |
//! | [`transform`] | stages between an item and its slot |
//! | [`collate`] | layouts: [`Stack`], [`Scalar`], [`Pad`], `Ragged`, `StackWhole`, and one's own |
//! | [`elements`] | the memory of batches, which comes back |
//! | [`loader`] | the loader's settings, epochs, states, policies and reports |
//! | [`batches`] | the trait by which a trainer takes any source of batches |
//! | [`formats`] | `Lines`, `text`, `idx`, Fashion-MNIST, CMUdict |
//! | [`seed`] | generators and seeds |
//! | [`error`] | [`Error`] and its kinds |
//!
//! With the feature `burn`, the module `tensors` makes a loader one of tensors (`Loader::on_device`) and one
//! of Burn's own (`Loader::into_burn`); Burn's data sets go in by `FromBurn` and come out by `IntoBurn`.
//! Nothing else in this crate knows a tensor framework.

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

pub use collate::{Collate, Pad, Scalar, Stack};
pub use dataset::{Dataset, Shards};
pub use error::{BoxError, Error, ErrorKind};
#[cfg(feature = "processes")]
pub use loader::Recipe;
pub use loader::{Loader, LoaderState, OnError};
pub use seed::SampleRng;
pub use transform::Transform;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
