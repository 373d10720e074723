//! One rank's share of an order.

use crate::error::{Error, check};
use crate::sampler::{Ranks, Sampler, check_position};

/// The rule for positions that can't be shared evenly. All ranks have equally many in any case.
///
/// ```
/// use firebox_data::sampler::{Distributed, Sampler, Sequential, UnevenRanks};
///
/// let share = |uneven| Distributed::new(Sequential::new(5), 1, 2, uneven).map(|share| share.len());
/// assert_eq!((share(UnevenRanks::Pad)?, share(UnevenRanks::Trim)?), (3, 2));
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnevenRanks {
    /// The first positions come once more, so that every index is seen.
    Pad,
    /// The last positions are left out, so that no index is seen twice.
    Trim,
}

/// The share of one process among several: rank r of w has the positions r, r + w, r + 2w, … of an order that
/// all of them know. Together the ranks have every position, but for what [`UnevenRanks`] says.
///
/// Its global positions are those of the whole order, so that a sample draws the same random numbers on one
/// rank as on four. A position that comes once more to fill the last round draws others than the first time.
///
/// It is PyTorch's `DistributedSampler`: the batch size is that of each rank, and a batch of all ranks
/// together is `world` times as large. The loader's own [`rank`](crate::loader::LoaderBuilder::rank) cuts the
/// batches of the whole job instead: there, no position comes twice and none is left out.
///
/// ```
/// use firebox_data::sampler::{Distributed, Sampler, Sequential, UnevenRanks};
///
/// let second = Distributed::new(Sequential::new(6), 1, 2, UnevenRanks::Pad)?;
/// let share: Vec<usize> = (0..second.len()).map(|position| second.index(0, position)).collect();
/// assert_eq!(share, [1, 3, 5]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct Distributed<S> {
    order: S,
    /// Those that share `order`.
    sharing: Ranks,
    /// All ranks, if `order` is one rank's share itself: the devices of all machines.
    ranks: Ranks,
    len: usize,
    uneven: UnevenRanks,
}

impl<S: Sampler> Distributed<S> {
    /// The share of `rank` (from 0) among `world` processes. `order` must be the same in all of them.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if `rank` is not below `world`, or the order
    /// is so long that its last round can't be counted.
    pub fn new(order: S, rank: usize, world: usize, uneven: UnevenRanks) -> Result<Self, Error> {
        let sharing = Ranks::new(rank, world)?;
        let most = format_args!("at most {} positions for {world} ranks", usize::MAX - world);
        check(order.len().checked_add(world).is_some(), "distributed", most, order.len())?;
        let outer = order.ranks();
        let ranks = sharing.within(outer).ok_or_else(|| {
            let most = usize::MAX / outer.world();
            Error::out_of_range(
                "distributed",
                format_args!("at most {most} ranks in each of {}", outer.world()),
                world,
            )
        })?;
        let len = match uneven {
            UnevenRanks::Pad => order.len().div_ceil(world),
            UnevenRanks::Trim => order.len() / world,
        };
        Ok(Distributed { order, sharing, ranks, len, uneven })
    }

    /// The position in the order that a rank has at one of its own, and how often that has come before on
    /// whatever rank: only padding begins again.
    fn in_order(&self, rank: usize, position: usize) -> (usize, usize) {
        check_position(position, self.len);
        // No overflow: below the order's length, rounded up to whole rounds, which `new` has looked at.
        let unwrapped = position * self.sharing.world() + rank;
        (unwrapped % self.order.len(), unwrapped / self.order.len())
    }

    /// A global position of the order, in the `lap`th time that the order comes.
    fn in_lap(&self, lap: usize, global: u64) -> u64 {
        (lap as u64).wrapping_mul(self.order.global_len()).wrapping_add(global)
    }
}

impl<S: Sampler> Sampler for Distributed<S> {
    fn len(&self) -> usize {
        self.len
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        let (position, _) = self.in_order(self.sharing.rank(), position);
        self.order.index(epoch, position)
    }

    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        let (position, lap) = self.in_order(self.sharing.rank(), position);
        self.in_lap(lap, self.order.global_position(epoch, position))
    }

    fn global_len(&self) -> u64 {
        // That of the laps which any rank makes.
        let laps = (self.len * self.sharing.world()).div_ceil(self.order.len().max(1)).max(1);
        self.order.global_len().saturating_mul(laps as u64)
    }

    fn ranks(&self) -> Ranks {
        self.ranks
    }

    fn on_rank(&self, rank: usize, epoch: u64, position: usize) -> (usize, u64) {
        let world = self.sharing.world();
        let (position, lap) = self.in_order(rank % world, position);
        let (index, global) = self.order.on_rank(rank / world, epoch, position);
        (index, self.in_lap(lap, global))
    }

    fn describe(&self) -> String {
        let uneven = match self.uneven {
            UnevenRanks::Pad => "padded",
            UnevenRanks::Trim => "trimmed",
        };
        format!("share of {} ranks ({uneven}) of {}", self.sharing.world(), self.order.describe())
    }
}
