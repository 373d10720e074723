//! One rank's share of an order.

use crate::error::{Error, ErrorKind};
use crate::sampler::{Sampler, check_position};

/// What becomes of positions that can't be shared evenly. All ranks have equally many in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uneven {
    /// The first positions come once more, so that every index is seen.
    Pad,
    /// The last positions are left out, so that no index is seen twice.
    Trim,
}

/// The share of one process among several: rank r of w has the positions r, r + w, r + 2w, … of an order that
/// all of them know. Together the ranks have every position, but for what [`Uneven`] says.
pub struct Distributed<S> {
    order: S,
    rank: usize,
    world: usize,
    len: usize,
    uneven: Uneven,
}

impl<S: Sampler> Distributed<S> {
    /// The share of `rank` (from 0) among `world` processes. `order` must be the same in all of them.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `rank` is not below `world`.
    pub fn new(order: S, rank: usize, world: usize, uneven: Uneven) -> Result<Self, Error> {
        if rank >= world {
            let text = format!("rank: expected a number below the world's size {world}, got {rank}");
            return Err(Error::new(ErrorKind::Config, text));
        }
        let len = match uneven {
            Uneven::Pad => order.len().div_ceil(world),
            Uneven::Trim => order.len() / world,
        };
        Ok(Distributed { order, rank, world, len, uneven })
    }
}

impl<S: Sampler> Sampler for Distributed<S> {
    fn len(&self) -> usize {
        self.len
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        check_position(position, self.len);
        // Only padding reaches beyond the order's end, and begins again.
        self.order.index(epoch, (position * self.world + self.rank) % self.order.len())
    }

    fn describe(&self) -> String {
        let uneven = match self.uneven {
            Uneven::Pad => "padded",
            Uneven::Trim => "trimmed",
        };
        format!("rank {} of {} ({uneven}) of {}", self.rank, self.world, self.order.describe())
    }
}
