//! The order of the data set itself.

use crate::sampler::{Sampler, check_position};

/// The indices as they are: 0, 1, 2, ….
///
/// ```
/// use firebox_data::sampler::{Sampler, Sequential};
///
/// let order = Sequential::new(10);
/// assert_eq!((order.len(), order.index(3, 7)), (10, 7));
/// ```
#[derive(Clone, Debug)]
pub struct Sequential {
    len: usize,
}

impl Sequential {
    /// The order of a data set with `len` items.
    pub fn new(len: usize) -> Self {
        Sequential { len }
    }
}

impl Sampler for Sequential {
    fn len(&self) -> usize {
        self.len
    }

    fn index(&self, _: u64, position: usize) -> usize {
        check_position(position, self.len);
        position
    }

    fn describe(&self) -> String {
        format!("sequential(len {})", self.len)
    }
}
