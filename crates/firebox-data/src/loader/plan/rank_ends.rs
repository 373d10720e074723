//! When ranks end that can't know it of each other.

use std::panic::{AssertUnwindSafe, catch_unwind};

use firebox_core::panic_message;

use crate::error::{BoxError, Error, ErrorKind, check};
use crate::sampler::{Ranks, UnevenRanks};
use crate::sync::Arc;

/// A sum over all ranks, as a library of collective communication has it.
pub(in crate::loader) type SumOverRanks = dyn Fn(usize) -> Result<usize, BoxError> + Send + Sync;

/// How ranks end together whose numbers of batches nobody knows before: they tell each other before each
/// step.
///
/// What a rank says is a number, and what all hear is the sum. In the sum are, as digits to the base of the
/// ranks and one: how many have a batch, how many are gone, and, as the rest, the sum of the numbers of those
/// that are gone.
pub(in crate::loader) struct RankEnds {
    sum: Arc<SumOverRanks>,
    ranks: Ranks,
    uneven: UnevenRanks,
}

/// A rank's word about its next step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::loader) enum Turn {
    HasBatch,
    /// It has no more, and goes on if others do.
    HasNone,
    /// It takes no more steps, whatever others do.
    Gone,
}

impl RankEnds {
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if there are more ranks than a sum can tell apart.
    pub(in crate::loader) fn new(
        sum: Arc<SumOverRanks>,
        ranks: Ranks,
        uneven: UnevenRanks,
    ) -> Result<Self, Error> {
        let world = ranks.world();
        check(most(world).is_some(), "sum over ranks", "fewer ranks than can be told by a sum", world)?;
        Ok(RankEnds { sum, ranks, uneven })
    }

    /// This rank's part in the agreements of an epoch.
    pub(in crate::loader) fn of_epoch(&self, epoch: u64) -> Agreement<'_> {
        Agreement { ends: self, epoch, is_running: false }
    }

    /// The number that says it.
    fn number(&self, turn: Turn) -> usize {
        let base = self.ranks.world() + 1;
        match turn {
            Turn::HasBatch => 1,
            Turn::HasNone => 0,
            Turn::Gone => base + base * base * self.ranks.rank(),
        }
    }

    /// Tells whether all ranks take another step, of which this one has a batch or has none.
    fn go_on(&self, epoch: u64, turn: Turn) -> Result<bool, Error> {
        let (world, own) = (self.ranks.world(), self.number(turn));
        let sum = (self.sum)(own).map_err(|source| {
            Error::new(ErrorKind::Ranks, "the ranks could not tell each other whether they go on")
                .caused_by(source)
        })?;
        let base = world + 1;
        let (having, gone, rest) = (sum % base, sum / base % base, sum / base / base);
        let possible = gone < world
            && (own..=world - gone).contains(&having)
            && (least(gone)..=gone * (world - 1)).contains(&rest);
        check(possible, "sum over ranks", format_args!("{:?}", own..=world), sum)?;
        match gone {
            0 => Ok(match self.uneven {
                UnevenRanks::Trim => having == world,
                UnevenRanks::Pad => having > 0,
            }),
            _ => {
                let who = if gone == 1 { format!("rank {rest}") } else { format!("{gone} ranks") };
                let text = format!(
                    "epoch {epoch}: expected all {world} ranks to go on, got {who} gone: the epoch ended there by an \
                     error, or was dropped"
                );
                Err(Error::new(ErrorKind::Ranks, text))
            }
        }
    }
}

/// The least sum of so many different ranks.
fn least(gone: usize) -> usize {
    gone * gone.saturating_sub(1) / 2
}

/// The sum if all of so many ranks are gone; `None` if it can't be counted.
fn most(world: usize) -> Option<usize> {
    let base = world.checked_add(1)?;
    let ranks = world.checked_mul(world.saturating_sub(1))? / 2;
    base.checked_mul(base)?.checked_mul(ranks)?.checked_add(base.checked_mul(world)?)
}

/// One rank's part in the agreements of an epoch.
///
/// From the first batch that is asked for it speaks as often as each other rank's does, until one of them has
/// said that the epoch is over for it: all hear that, and it is over for all. Dropped before, it says so
/// itself. Hence nobody waits for a rank that is gone.
pub(in crate::loader) struct Agreement<'l> {
    ends: &'l RankEnds,
    epoch: u64,
    /// True if the other ranks will ask once more.
    is_running: bool,
}

impl Agreement<'_> {
    /// True if this rank takes another step. One that is gone has what it ends with, and takes that.
    pub(in crate::loader) fn go_on(&mut self, turn: Turn) -> Result<bool, Error> {
        if turn == Turn::Gone {
            self.leave();
            return Ok(true);
        }
        // If the sum fails, or panics, there is nobody to be told.
        self.is_running = false;
        self.is_running = self.ends.go_on(self.epoch, turn)?;
        Ok(self.is_running)
    }

    /// Tells the other ranks that this one is gone. What they say makes no difference to it.
    fn leave(&mut self) {
        self.is_running = false;
        let told = catch_unwind(AssertUnwindSafe(|| (self.ends.sum)(self.ends.number(Turn::Gone))));
        if let Err(payload) = told {
            panic_message(payload);
        }
    }
}

impl Drop for Agreement<'_> {
    fn drop(&mut self) {
        if self.is_running {
            self.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_tells_who_is_gone() {
        for world in 2..=6 {
            let ends = |rank| {
                let ranks = Ranks::new(rank, world).unwrap();
                RankEnds::new(Arc::new(Ok), ranks, UnevenRanks::Pad).unwrap()
            };
            // Every way in which ranks can speak, as a number to the base of 3.
            for all in 0..3usize.pow(world as u32) {
                let turn = |rank| match all / 3usize.pow(rank as u32) % 3 {
                    0 => Turn::HasNone,
                    1 => Turn::HasBatch,
                    _ => Turn::Gone,
                };
                let sum: usize = (0..world).map(|rank| ends(rank).number(turn(rank))).sum();
                assert!(sum <= most(world).unwrap());
                let gone: Vec<usize> = (0..world).filter(|&rank| turn(rank) == Turn::Gone).collect();
                let having = (0..world).filter(|&rank| turn(rank) == Turn::HasBatch).count();
                for rank in (0..world).filter(|rank| !gone.contains(rank)) {
                    for (uneven, expected) in
                        [(UnevenRanks::Pad, having > 0), (UnevenRanks::Trim, having == world)]
                    {
                        let heard = RankEnds { sum: Arc::new(move |_| Ok(sum)), uneven, ..ends(rank) };
                        let went = heard.go_on(3, turn(rank));
                        let who = match gone[..] {
                            [] => {
                                assert_eq!(went.unwrap(), expected);
                                continue;
                            }
                            [one] => format!("got rank {one} gone"),
                            _ => format!("got {} ranks gone", gone.len()),
                        };
                        let error = went.unwrap_err();
                        assert_eq!(*error.kind(), ErrorKind::Ranks);
                        assert!(error.to_string().contains(&who), "{error}: expected {who}");
                    }
                }
            }
        }
        assert_eq!(most(usize::MAX), None);
        assert!(RankEnds::new(Arc::new(Ok), Ranks::new(0, 1 << 20).unwrap(), UnevenRanks::Pad).is_err());
        assert!(RankEnds::new(Arc::new(Ok), Ranks::new(0, 50_000).unwrap(), UnevenRanks::Pad).is_ok());
    }
}
