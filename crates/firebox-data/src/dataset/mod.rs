//! Data sets: what they are, and those made of others.

#[cfg(feature = "burn")]
mod burn_adapter;
mod combined;
mod described;
mod fingerprint;
mod function;
mod lineage;
mod location;
pub(crate) mod many;
mod pointer;
#[cfg(feature = "processes")]
mod sealed;
mod shards;
mod slice;
mod windows;

#[cfg(feature = "burn")]
pub use burn_adapter::{FromBurn, IntoBurn};
pub use combined::{Cache, Concat, Filter, Map, Mix, Subset, random_split};
pub use described::Described;
pub use fingerprint::Fingerprint;
#[cfg(feature = "processes")]
pub(crate) use fingerprint::FingerprintFields;
pub use function::{FromFn, from_fn};
pub use lineage::Lineage;
pub use location::Location;
pub use shards::{Records, Shards};
pub use windows::Windows;

use crate::error::BoxError;

/// A data set: items that can be read in any order, each by its index.
///
/// A `Vec`, a slice in an `Arc` and a function of the index ([`from_fn`]) are data sets; so is what an `Arc`
/// or a `Box` of one holds, `Box<dyn Dataset<Item = T>>` included. [`Map`], [`Filter`], [`Concat`], [`Mix`],
/// [`Cache`], [`Subset`] and [`random_split`] make data sets of data sets. Whatever wraps another one
/// forwards all of its methods.
///
/// # Read files on demand
/// ```
/// use std::path::PathBuf;
/// use firebox_data::{BoxError, Dataset};
/// use firebox_data::dataset::{Fingerprint, Location};
///
/// struct Recordings(Vec<PathBuf>);
///
/// impl Dataset for Recordings {
///     type Item = Vec<u8>;
///
///     fn len(&self) -> usize {
///         self.0.len()
///     }
///
///     fn get(&self, index: usize) -> Result<Vec<u8>, BoxError> {
///         Ok(std::fs::read(&self.0[index])?)
///     }
///
///     fn locate(&self, index: usize) -> Option<Location> {
///         (index < self.len()).then(|| Location::file(&self.0[index]))
///     }
/// }
///
/// let recordings = Recordings(vec!["/no/such/file.wav".into()]);
/// assert!(recordings.get(0).is_err());
/// assert_eq!(recordings.locate(0).unwrap().to_string(), "/no/such/file.wav");
/// ```
///
/// # Read many items in one request
/// ```
/// use firebox_data::{BoxError, Dataset};
///
/// /// Rows of a table that answers slowly, whatever it is asked for.
/// struct Remote;
/// # impl Remote {
/// #     fn select(&self, rows: &[usize]) -> Vec<String> {
/// #         rows.iter().map(ToString::to_string).collect()
/// #     }
/// # }
///
/// impl Dataset for Remote {
///     type Item = String;
///
///     fn len(&self) -> usize {
///         1000
///     }
///
///     fn get(&self, index: usize) -> Result<String, BoxError> {
///         Ok(self.select(&[index]).remove(0))
///     }
///
///     fn get_many(&self, indices: &[usize]) -> Vec<Result<String, BoxError>> {
///         self.select(indices).into_iter().map(Ok).collect()
///     }
///
///     fn reads_many(&self) -> bool {
///         true
///     }
/// }
/// # assert_eq!(Remote.get_many(&[3, 1])[1].as_deref().unwrap(), "1");
/// ```
///
/// # Get an element of a vector
/// Where the trait is in scope, `vec.get(index)` is the data set's; that of the slice is
/// `vec[..].get(index)`:
/// ```
/// use firebox_data::Dataset;
///
/// let vec = vec![7];
/// assert!(vec.get(1).is_err() && vec[..].get(1).is_none());
/// ```
pub trait Dataset: Send + Sync + 'static {
    /// The type of its items: any type of one's own.
    type Item: Send + 'static;

    /// The number of items. It doesn't change while the data set is in use.
    fn len(&self) -> usize;

    /// Tells whether there is no item.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item `index`, below [`len`](Self::len).
    ///
    /// # Errors
    /// If it can't be read; any error will do. An [`Error`](crate::Error) with a path has the loader's name
    /// the file.
    fn get(&self, index: usize) -> Result<Self::Item, BoxError>;

    /// The items with these indices, one answer for each, in their order.
    fn get_many(&self, indices: &[usize]) -> Vec<Result<Self::Item, BoxError>> {
        indices.iter().map(|index| self.get(*index)).collect()
    }

    /// Tells whether [`get_many`](Self::get_many) is better than one [`get`](Self::get) after the other.
    ///
    /// Such are remote and columnar sources. A loader then reads all items of a task with one call, unless a
    /// [time limit](crate::loader::LoaderBuilder::timeout) asks for each of them by itself.
    fn reads_many(&self) -> bool {
        false
    }

    /// The place of an item in the files that it is read from, for messages about it.
    fn locate(&self, index: usize) -> Option<Location> {
        let _ = index;
        None
    }

    /// The data set in a few words, by which a resume notices that it is another one.
    ///
    /// By default they are its length and type, and the names and sizes of the files where items
    /// [lie](Self::locate): of up to 256 items, from the first to the last.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_type::<Self>(self.len()).with_located(self)
    }

    /// The whole that the items were cut from, by which overlapping parts are found.
    ///
    /// By default the data set is a whole of its own.
    fn lineage(&self) -> Lineage {
        Lineage::whole()
    }
}
