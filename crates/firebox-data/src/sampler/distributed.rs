//! One rank's share of an order.

use crate::error::{Error, check};
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
///
/// Its global positions are those of the whole order, so that a sample draws the same random numbers on one rank as on
/// four. A position that comes once more to fill the last round draws others than the first time.
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
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if
    /// `rank` is not below `world`, or the order is so long that its last round can't be
    /// counted.
    pub fn new(order: S, rank: usize, world: usize, uneven: Uneven) -> Result<Self, Error> {
        check(rank < world, "rank", format_args!("a number below the world's size {world}"), rank)?;
        let most = format_args!("at most {} positions for {world} ranks", usize::MAX - world);
        check(order.len().checked_add(world).is_some(), "distributed", most, order.len())?;
        let len = match uneven {
            Uneven::Pad => order.len().div_ceil(world),
            Uneven::Trim => order.len() / world,
        };
        Ok(Distributed { order, rank, world, len, uneven })
    }

    /// A position in the order, and how often it has come before on whatever rank: only padding begins again.
    fn in_order(&self, position: usize) -> (usize, usize) {
        check_position(position, self.len);
        // No overflow: below the order's length, rounded up to whole rounds, which `new` has looked at.
        let unwrapped = position * self.world + self.rank;
        (unwrapped % self.order.len(), unwrapped / self.order.len())
    }
}

impl<S: Sampler> Sampler for Distributed<S> {
    fn len(&self) -> usize {
        self.len
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        let (position, _) = self.in_order(position);
        self.order.index(epoch, position)
    }

    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        let (position, lap) = self.in_order(position);
        (lap as u64)
            .wrapping_mul(self.order.global_len())
            .wrapping_add(self.order.global_position(epoch, position))
    }

    fn global_len(&self) -> u64 {
        // That of the laps which any rank makes.
        let laps = (self.len * self.world).div_ceil(self.order.len().max(1)).max(1);
        self.order.global_len().saturating_mul(laps as u64)
    }

    fn describe(&self) -> String {
        let uneven = match self.uneven {
            Uneven::Pad => "padded",
            Uneven::Trim => "trimmed",
        };
        format!("rank {} of {} ({uneven}) of {}", self.rank, self.world, self.order.describe())
    }
}
