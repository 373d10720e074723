//! Data without random access.

use std::error::Error;

use crate::dataset::Fingerprint;

/// The records of one shard, from some place on: what [`Shards::open`] returns.
type Opened<R, E> = Result<Box<dyn Records<R, E>>, E>;

/// Data that can only be read from the beginning on: records in shards, such as files.
///
/// A shard always has the same records in the same order. Many small shards spread better over readers and
/// ranks than few large ones.
///
/// ```
/// use std::convert::Infallible;
///
/// use firebox_data::dataset::Records;
/// use firebox_data::{Loader, Scalar, Shards};
///
/// /// Three shards of numbers, as a sensor might send them.
/// struct Numbers;
///
/// struct Reader(std::ops::Range<u64>);
///
/// impl Iterator for Reader {
///     type Item = Result<u64, Infallible>;
///
///     fn next(&mut self) -> Option<Self::Item> {
///         self.0.next().map(Ok)
///     }
/// }
///
/// impl Records<u64, Infallible> for Reader {}
///
/// impl Shards for Numbers {
///     type Record = u64;
///     type Error = Infallible;
///
///     fn shards(&self) -> usize {
///         3
///     }
///
///     fn open(
///         &self,
///         shard: usize,
///         _offset: u64,
///     ) -> Result<Box<dyn Records<u64, Infallible>>, Infallible> {
///         Ok(Box::new(Reader(10 * shard as u64..10 * shard as u64 + 4)))
///     }
///
///     fn describe(&self) -> String {
///         "three shards of numbers".to_owned()
///     }
/// }
///
/// let builder = Loader::stream(Numbers).batch_size(6);
/// let loader = builder.build(Scalar::new(), |number, _, slot| Ok(*slot = number))?;
/// let batches: Vec<_> = loader.epoch(0).collect::<Result<_, _>>()?;
/// assert_eq!(*batches[0], [0, 1, 2, 3, 10, 11]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub trait Shards: Send + Sync + 'static {
    /// The type of a shard's records.
    type Record: Send + Sync + 'static;
    /// Why a shard or a record cannot be read.
    type Error: Error + Send + Sync + 'static;

    /// The number of shards.
    fn shards(&self) -> usize;

    /// Opens a shard at a byte offset that [`Records::offset`] told, or at 0: at its beginning.
    ///
    /// # Errors
    /// If it can't be opened.
    fn open(&self, shard: usize, offset: u64) -> Opened<Self::Record, Self::Error>;

    /// The number of records in a shard, if it is known without reading it. A shard that turns out to have
    /// another number is an error.
    fn records(&self, shard: usize) -> Option<u64> {
        let _ = shard;
        None
    }

    /// Tells whether shards can be opened at what their [`Records::offset`] tells. Default: no.
    ///
    /// If so, and if all of them know their [`records`](Self::records), they are dealt to several ranks by
    /// record; whole otherwise, so that each is read by one rank only. See
    /// [`LoaderBuilder::rank`](crate::loader::LoaderBuilder::rank).
    fn is_seekable(&self) -> bool {
        false
    }

    /// Where a record begins, if that is known without reading those before it: an offset that
    /// [`open`](Self::open) takes.
    ///
    /// A worker that wants this one record, or those after one that hung, opens the shard there; otherwise at
    /// its beginning, or where it knows another one before it. Worker processes want some records of each
    /// shard, and have to read those before them if this is not known.
    fn offset_of(&self, shard: usize, record: u64) -> Option<u64> {
        let _ = (shard, record);
        None
    }

    /// The data in words, for a saved position to be compared with.
    fn describe(&self) -> String;

    /// The data in a few words, by which a resume notices that they are others.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::uncounted(self.describe())
    }
}

/// Reads the records of a shard, one after the other.
///
/// An error stands for one record: the next call goes on behind it, or ends the shard if that is impossible.
pub trait Records<R, E>: Iterator<Item = Result<R, E>> + Send {
    /// Where the next record begins, as a byte offset that [`Shards::open`] takes; `None` if the shard can be
    /// opened at its beginning only.
    fn offset(&self) -> Option<u64> {
        None
    }
}
