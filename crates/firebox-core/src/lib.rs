//! The base of the crates of firebox: errors of one shape, seeds and generators, files that are replaced
//! whole.
//!
//! # Errors
//!
//! An [`Error`] is opaque and as small as a pointer. It has a kind, which is the crate's own, and its place:
//! an index, a path, a worker, a step. Its text is the chain of messages, in one line.
//!
//! ```
//! use std::fmt;
//!
//! use firebox_core::{Kind, OutOfRange, check};
//!
//! /// The kinds of errors of a crate.
//! #[derive(Clone, Debug, PartialEq)]
//! #[non_exhaustive]
//! enum ErrorKind {
//!     /// A line is not what it should be.
//!     Format,
//!     /// A setting has a value that it cannot have.
//!     OutOfRange(OutOfRange),
//! }
//!
//! impl Kind for ErrorKind {
//!     const COUNTED: &'static str = "line";
//!
//!     fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         match self {
//!             ErrorKind::OutOfRange(setting) => write!(f, "{setting}"),
//!             ErrorKind::Format => Ok(()),
//!         }
//!     }
//! }
//!
//! impl From<OutOfRange> for ErrorKind {
//!     fn from(setting: OutOfRange) -> Self {
//!         ErrorKind::OutOfRange(setting)
//!     }
//! }
//!
//! type Error = firebox_core::Error<ErrorKind>;
//!
//! fn number(index: usize, line: &str) -> Result<u32, Error> {
//!     let wrong = |cause| Error::new(ErrorKind::Format, "not a number").at_index(index).caused_by(cause);
//!     line.parse().map_err(wrong)
//! }
//!
//! let error = number(7, "fire").unwrap_err();
//! assert_eq!(error.to_string(), "line 7: not a number: invalid digit found in string");
//! assert_eq!((error.kind(), error.index()), (&ErrorKind::Format, Some(7)));
//!
//! let size = 0;
//! let error: Error = check(size > 0, "batch size", "at least 1", size).unwrap_err();
//! assert_eq!(error.to_string(), "batch size: expected at least 1, got 0");
//! assert!(matches!(error.kind(), ErrorKind::OutOfRange(setting) if setting.field == "batch size"));
//! ```
//!
//! # Seeds
//!
//! Every random decision has a stream of numbers of its own, which follows from one seed and the decision's
//! [`Purpose`] and place, so that nothing depends on who decided first.
//!
//! ```
//! use firebox_core::{Purpose, SampleRng, derive_seed};
//!
//! let draw = || SampleRng::from_seed(derive_seed(42, Purpose::Split, 0, 0)).below(10);
//! assert_eq!(draw(), draw());
//! ```
//!
//! # Features
//!
//! `files`: [`files`], whose functions leave a file whole or absent, also after a loss of power.
//! `testing`: what tests of several crates have in common.
//! `fault-injection`: `files::fault`, with which tests have any of those functions fail.

#![forbid(unsafe_code)]

pub mod error;
#[cfg(feature = "files")]
pub mod files;
mod panic;
pub mod seed;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{BoxError, Error, Kind, OutOfRange, chain, check, path_in};
pub use panic::panic_message;
pub use seed::{Purpose, SampleRng, StageKey, derive_seed};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
