//! Many tasks: their results in order or as they come, with a bound on those in flight.

pub(crate) mod chunk;
pub(crate) mod dispatch;
pub(crate) mod handle;
pub(crate) mod imap;

pub use chunk::{ChunkResult, Chunked};
pub use dispatch::Dispatch;
pub use handle::Handle;
pub use imap::{Imap, ImapUnordered};
