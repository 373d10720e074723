//! Image folders, decoding and transforms for training: files in, batches of numbers out.
//!
//! An [`ImageFolder`] is a data set of files, [`Decode`] makes [`Image`]s of them, the
//! [`transforms`] have torchvision's names, and [`Normalize`](transforms::Normalize) writes into the batch.
//! All of them are what `firebox-data` has anyway: data sets, stages, and the last stage.
//!
//! ```
//! use firebox_data::{Loader, OnError};
//! use firebox_data::loader::FailureBudget;
//! use firebox_vision::transforms::imagenet_train;
//! use firebox_vision::{Decode, ImageFolder};
//!
//! # let folder = tempfile::tempdir()?;
//! # std::fs::create_dir(folder.path().join("ant"))?;
//! # std::fs::write(folder.path().join("ant/1.jpg"), "damaged")?;
//! # let photos = folder.path();
//! let (augment, normalize) = imagenet_train(224)?;
//! let loader = Loader::builder(ImageFolder::new(photos)?)
//!     .shuffle(true)
//!     .seed(42)
//!     .batch_size(64)
//!     .on_error(OnError::Skip { at_most: FailureBudget::Count(10) })
//!     .transform(Decode::new())
//!     .transform(augment)
//!     .build_with(normalize.labeled_layout(), normalize)?;
//! let mut epoch = loader.epoch(0);
//! for batch in epoch.by_ref() {
//!     let (images, classes) = batch?;
//!     assert_eq!((images.shape, images.samples), ([3, 224, 224], classes.len()));
//! }
//! assert!(epoch.report().failures.iter().all(|failure| failure.error.path().is_some()));
//! # Ok::<(), firebox_core::BoxError>(())
//! ```
//!
//! # Damaged files
//!
//! A file's format is told by its bytes. Sizes that it states are checked before memory is taken for them,
//! and files that are cut short are errors, not gray areas. A decoder that panics has met a damaged file,
//! too: it is an error of that file, with its name.

#![forbid(unsafe_code)]

mod decode;
mod error;
mod image;
mod source;
pub mod transforms;

pub use decode::{Decode, Encoded, Format, decode};
pub use error::{Error, ErrorKind};
pub use image::{ColorMode, CropBox, Image, MAX_PIXELS};
pub use source::ImageFolder;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
