//! The ranks of a job, and which part of a batch each of them has.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, check};

/// The processes that train one model together, and which of them this is.
///
/// Batches are planned for all of them, as *global batches*, and then dealt: each rank has a run of every
/// one. So all ranks have the same number of batches, whatever sampler and batch sampler there are, and none
/// waits for a step that another one doesn't take.
///
/// ```
/// use firebox_data::sampler::Ranks;
///
/// let second = Ranks::new(1, 3)?;
/// // Ten samples: 3, 4 and 3 of them, since the longer run goes round with the batch's number.
/// assert_eq!(second.run(1, 20..30), 23..27);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(usize, usize)", into = "(usize, usize)")]
pub struct Ranks {
    rank: usize,
    world: usize,
}

impl Ranks {
    /// One process that has everything.
    pub const ALONE: Ranks = Ranks { rank: 0, world: 1 };

    /// Rank `rank` (from 0) of `world`.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if `rank` is not below `world`.
    pub fn new(rank: usize, world: usize) -> Result<Self, Error> {
        check(rank < world, "rank", format_args!("a number below the world's size {world}"), rank)?;
        Ok(Ranks { rank, world })
    }

    /// Which of them this is, from 0.
    pub fn rank(self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn world(self) -> usize {
        self.world
    }

    /// Tells whether there is no other.
    pub fn is_alone(self) -> bool {
        self.world == 1
    }

    /// This rank's part of a global batch, by the batch's number and its positions.
    ///
    /// The runs of all ranks, one after the other, are the batch. Their lengths differ by one at most, and
    /// some are empty if there are more ranks than samples. Which ranks have the longer ones goes round with
    /// the number, so that no rank has more to do in the long run.
    pub fn run(self, batch: usize, positions: Range<usize>) -> Range<usize> {
        let (samples, first) = (positions.len(), batch % self.world);
        let (length, longer) = (samples / self.world, samples % self.world);
        // The `longer` ranks from `first` on, beginning again at 0, have one more. Those of them before this
        // one:
        let wrapped = longer.saturating_sub(self.world - first);
        let before = self.rank.min(wrapped) + self.rank.saturating_sub(first).min(longer - wrapped);
        let start = positions.start + self.rank * length + before;
        start..start + length + usize::from(self.is_longer(first, longer))
    }

    /// Tells whether this is one of `longer` ranks from `first` on.
    fn is_longer(self, first: usize, longer: usize) -> bool {
        let place = match self.rank.checked_sub(first) {
            Some(place) => place,
            None => self.rank + (self.world - first),
        };
        place < longer
    }

    /// How many of so many samples, in batches of one size but for the last, are this rank's.
    pub(crate) fn samples_of(self, samples: usize, size: usize) -> usize {
        let full = samples / size;
        self.of_batches(full, size) + self.run(full, 0..samples % size).len()
    }

    /// The samples of this rank in the first batches, of one size.
    pub(super) fn of_batches(self, count: usize, size: usize) -> usize {
        let (length, longer) = (size / self.world, size % self.world);
        // In `world` batches each rank has a longer run `longer` times. Of the rest it has one in those whose
        // first longer run is its own or one of the `longer - 1` before, which begin again at the last rank.
        let (rounds, rest) = (count / self.world, count % self.world);
        let end = self.rank + 1;
        let wrapped = longer.saturating_sub(end);
        let more = end.min(rest).saturating_sub(end.saturating_sub(longer))
            + rest.saturating_sub(self.world - wrapped);
        count * length + rounds * longer + more
    }

    /// Its place among all ranks if `outer` is what the share has come to that it shares; `None` if they are
    /// more than can be counted.
    pub(super) fn within(self, outer: Ranks) -> Option<Ranks> {
        let world = outer.world.checked_mul(self.world)?;
        Some(Ranks { rank: outer.rank * self.world + self.rank, world })
    }
}

impl TryFrom<(usize, usize)> for Ranks {
    type Error = Error;

    fn try_from((rank, world): (usize, usize)) -> Result<Self, Error> {
        Ranks::new(rank, world)
    }
}

impl From<Ranks> for (usize, usize) {
    fn from(ranks: Ranks) -> Self {
        (ranks.rank, ranks.world)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(world: usize) -> impl Iterator<Item = Ranks> {
        (0..world).map(move |rank| Ranks { rank, world })
    }

    #[test]
    fn runs_in_a_row_are_the_batch_and_differ_by_one_at_most() {
        for world in 1..=7 {
            for samples in 0..=30 {
                for batch in (0..2 * world).chain([usize::MAX - 1, usize::MAX]) {
                    let runs: Vec<_> = ranks(world).map(|rank| rank.run(batch, 100..100 + samples)).collect();
                    let starts: Vec<_> = runs.iter().map(|run| run.start).chain([100 + samples]).collect();
                    let ends: Vec<_> = [100].into_iter().chain(runs.iter().map(|run| run.end)).collect();
                    assert_eq!(starts, ends, "{samples} samples for {world} ranks, batch {batch}");
                    let lengths: Vec<_> = runs.iter().map(Range::len).collect();
                    let (least, most) = (samples / world, samples.div_ceil(world));
                    assert!(lengths.iter().all(|&length| length == least || length == most), "{lengths:?}");
                }
            }
        }
    }

    #[test]
    fn the_longer_runs_go_round() {
        for world in 1..=7 {
            for samples in 0..=30 {
                // In as many batches as there are ranks each has as much, from any batch on.
                for from in 0..world {
                    let all = |rank: Ranks| -> usize {
                        (from..from + world).map(|batch| rank.run(batch, 0..samples).len()).sum()
                    };
                    assert!(ranks(world).all(|rank| all(rank) == samples), "{samples}, {world}");
                }
            }
        }
    }

    #[test]
    fn the_largest_numbers_are_exact() {
        const MOST: usize = usize::MAX;
        let last = Ranks { rank: MOST - 1, world: MOST };
        assert_eq!(last.run(MOST - 1, 7..8), 7..8);
        assert_eq!(last.run(MOST - 2, 7..9), 8..9);
        assert!(last.run(0, 0..MOST - 1).is_empty());
        assert_eq!(last.run(0, 0..MOST), MOST - 1..MOST);
        let middle = Ranks { rank: 3, world: MOST };
        assert_eq!(middle.run(3, MOST - 1..MOST), MOST - 1..MOST);
        assert_eq!(Ranks { rank: 1, world: 2 }.run(MOST, 0..MOST), MOST / 2..MOST);
        assert_eq!(Ranks { rank: 1, world: 2 }.of_batches(MOST / 3, 3), MOST / 3 + MOST / 6);
        assert_eq!(last.of_batches(MOST - 1, 1), 0);
        assert_eq!(middle.of_batches(MOST - 1, 1), 1);
        assert!(Ranks::new(0, 0).is_err());
        assert_eq!(
            Ranks::new(4, 4).unwrap_err().to_string(),
            "rank: expected a number below the world's size 4, got 4"
        );
    }

    #[test]
    fn batches_of_one_size_are_summed_as_they_are_counted() {
        for world in 1..=5 {
            for rank in ranks(world) {
                for size in 1..=11 {
                    let mut counted = 0;
                    for batches in 0..=2 * world {
                        assert_eq!(rank.of_batches(batches, size), counted);
                        counted += rank.run(batches, 0..size).len();
                    }
                }
            }
        }
    }
}
