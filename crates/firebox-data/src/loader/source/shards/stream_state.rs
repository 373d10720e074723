//! The position of a stream.

use serde::{Deserialize, Serialize};

use crate::loader::source::shards::cursor::Cursor;

/// Where a stream stands: a part of [`LoaderState`](crate::LoaderState).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamState {
    /// The window of the next record.
    pub(super) window: u64,
    /// Where that window begins.
    pub(super) cursor: Cursor,
    /// Whose shards that is about, if shards are dealt to ranks whole. Another rank reads its own from their
    /// beginning.
    #[serde(default, skip_serializing_if = "is_first")]
    pub(super) rank: usize,
}

fn is_first(rank: &usize) -> bool {
    *rank == 0
}
