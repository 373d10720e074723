//! The place of an item in files.

use std::fmt;
use std::path::{Path, PathBuf};

/// The place that an item is read from: a file, a shard, a byte in it.
///
/// ```
/// use firebox_data::dataset::Location;
///
/// let location = Location::file("pictures/3.tar").in_shard(3).at_offset(512);
/// assert_eq!(location.to_string(), "pictures/3.tar, shard 3, byte 512");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Location {
    /// The file.
    pub path: Option<PathBuf>,
    /// The number of the shard.
    pub shard: Option<usize>,
    /// The byte at which it begins.
    pub offset: Option<u64>,
}

impl Location {
    /// A place in a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Location { path: Some(path.into()), ..Location::default() }
    }

    /// A place in a shard.
    pub fn shard(shard: usize) -> Self {
        Location::default().in_shard(shard)
    }

    /// The same place, with the number of its shard.
    pub fn in_shard(self, shard: usize) -> Self {
        Location { shard: Some(shard), ..self }
    }

    /// The same place, with the byte at which it begins.
    pub fn at_offset(self, offset: u64) -> Self {
        Location { offset: Some(offset), ..self }
    }

    /// The file.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.as_ref().map(|path| path.display().to_string());
        let shard = self.shard.map(|shard| format!("shard {shard}"));
        let offset = self.offset.map(|offset| format!("byte {offset}"));
        let known: Vec<String> = [path, shard, offset].into_iter().flatten().collect();
        f.write_str(&known.join(", "))
    }
}
