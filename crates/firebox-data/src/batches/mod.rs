//! Sources of batches, as a trainer uses them.

mod sample_set;

pub use crate::loader::Delivered;
pub use sample_set::{Overlap, SampleSet};

use std::task::Poll;
use std::time::Duration;

use crate::collate::Collate;
use crate::dataset::Lineage;
use crate::error::Error;
use crate::loader::{Epoch, EpochReport, Loader, LoaderState};

/// A source of batches, epoch after epoch: a [`Loader`], or something that wraps one.
///
/// ```
/// use firebox_data::batches::Batches;
/// use firebox_data::{Error, Loader};
///
/// /// Counts samples of any source of batches.
/// fn samples<B: Batches>(source: &B) -> Result<usize, Error> {
///     let mut stream = source.epoch(0);
///     while let Some(batch) = stream.next() {
///         batch?;
///     }
///     Ok(stream.delivered().samples)
/// }
///
/// let loader = Loader::builder(vec![0; 10]).batch_size(4).build((), |_, _, ()| Ok(()))?;
/// assert_eq!(samples(&loader)?, 10);
/// assert_eq!(loader.steps(3), 9);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub trait Batches {
    /// The type of its batches.
    type Batch;

    /// The number of batches in an epoch.
    fn batches(&self, epoch: u64) -> usize;

    /// The number of samples in an epoch.
    fn samples(&self, epoch: u64) -> usize;

    /// The number of batches in the first `epochs` epochs: the steps of a run over them.
    ///
    /// 10,000 epochs are counted; those behind them are taken to have as many as the last of these. At most
    /// `usize::MAX`.
    fn steps(&self, epochs: u64) -> usize {
        self.steps_by(epochs, usize::MAX, &|batches| batches)
    }

    /// The [`steps`](Self::steps) of a run that takes so many in an epoch of so many batches, and `most` in
    /// all.
    fn steps_by(&self, epochs: u64, most: usize, of_epoch: &dyn Fn(usize) -> usize) -> usize {
        // Nobody trains for so many epochs of different lengths; some ask for as many as there are numbers.
        const COUNTED: u64 = 10_000;
        let counted = epochs.min(COUNTED);
        let (mut sum, mut last) = (0usize, 0);
        for epoch in 0..counted {
            last = of_epoch(self.batches(epoch));
            sum = sum.saturating_add(last);
            if sum >= most {
                return most;
            }
        }
        let more = usize::try_from(epochs - counted).unwrap_or(usize::MAX);
        sum.saturating_add(last.saturating_mul(more)).min(most)
    }

    /// The position before the first batch of an epoch.
    fn state(&self, epoch: u64) -> LoaderState;

    /// Tells whether [`resume`](Self::resume) would take a state.
    ///
    /// # Errors
    /// If the state belongs to another source.
    fn check(&self, state: &LoaderState) -> Result<(), Error>;

    /// The indices of the samples of a batch, in their order, if they are known: of data with random access.
    fn indices(&self, _epoch: u64, _batch: usize) -> Option<Vec<usize>> {
        None
    }

    /// Where the items come from that [`indices`](Self::indices) names, if that is known.
    fn lineage(&self) -> Option<&Lineage> {
        None
    }

    /// Why an epoch has no batch, in words: how many samples there are, how large a batch is, and whether a
    /// short batch was dropped. `None` if it has one, or nobody knows.
    fn why_empty(&self, _epoch: u64) -> Option<String> {
        None
    }

    /// The device that the batches' tensors are on, if it is known.
    #[cfg(feature = "burn")]
    fn device(&self) -> Option<&burn::tensor::Device> {
        None
    }

    /// All batches of an epoch; the same ones whenever it is asked for.
    fn epoch(&self, epoch: u64) -> Box<dyn BatchStream<Self::Batch> + '_>;

    /// The rest of the epoch in which `state` was taken.
    ///
    /// # Errors
    /// If the state belongs to another source.
    fn resume(&self, state: &LoaderState) -> Result<Box<dyn BatchStream<Self::Batch> + '_>, Error>;
}

/// The batches of one epoch, in order. It ends after the last one, or after the first error.
pub trait BatchStream<B>: Iterator<Item = Result<B, Error>> {
    /// Returns what [`next`](Iterator::next) would, if it is there already: it never waits.
    ///
    /// What comes to be only because `next` waits for it, as everything does without workers, is not there
    /// before.
    fn try_next(&mut self) -> Poll<Option<Result<B, Error>>>;

    /// Counts of what this iterator has delivered so far.
    fn delivered(&self) -> Delivered;

    /// The position behind the batches delivered.
    fn state(&self) -> LoaderState;

    /// How long `next` has kept its caller waiting so far.
    fn waited(&self) -> Duration;

    /// The report of the epoch so far, and where the time went.
    fn report(&self) -> EpochReport;
}

/// A loader whose batches nobody has counted has none for a trainer, which is told [why](Batches::why_empty).
impl<C: Collate> Batches for Loader<C> {
    type Batch = C::Batch;

    fn batches(&self, epoch: u64) -> usize {
        self.batches(epoch).unwrap_or(0)
    }

    fn samples(&self, epoch: u64) -> usize {
        self.samples(epoch).unwrap_or(0)
    }

    fn state(&self, epoch: u64) -> LoaderState {
        self.state(epoch)
    }

    fn check(&self, state: &LoaderState) -> Result<(), Error> {
        self.check(state)
    }

    fn indices(&self, epoch: u64, batch: usize) -> Option<Vec<usize>> {
        self.indices(epoch, batch)
    }

    fn lineage(&self) -> Option<&Lineage> {
        self.lineage()
    }

    fn why_empty(&self, epoch: u64) -> Option<String> {
        self.why_empty(epoch)
    }

    fn epoch(&self, epoch: u64) -> Box<dyn BatchStream<C::Batch> + '_> {
        Box::new(self.epoch(epoch))
    }

    fn resume(&self, state: &LoaderState) -> Result<Box<dyn BatchStream<C::Batch> + '_>, Error> {
        Ok(Box::new(self.resume(state)?))
    }
}

impl<C: Collate> BatchStream<C::Batch> for Epoch<'_, C> {
    fn try_next(&mut self) -> Poll<Option<Result<C::Batch, Error>>> {
        self.try_next()
    }

    fn delivered(&self) -> Delivered {
        self.delivered()
    }

    fn state(&self) -> LoaderState {
        self.state()
    }

    fn waited(&self) -> Duration {
        self.waited()
    }

    fn report(&self) -> EpochReport {
        self.report().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scalar;
    use crate::sampler::{FixedSize, Shuffled};

    #[test]
    fn steps_are_counted_over_epochs_up_to_a_most() {
        let order = FixedSize::new(Shuffled::new(25, 1), 10, false).unwrap();
        let builder = Loader::builder((0..25).collect::<Vec<u32>>()).batch_sampler(order).workers(0);
        let loader = builder.build(Scalar::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        });
        let loader = loader.unwrap();
        assert_eq!([0, 1, 4, 20_000].map(|epochs| Batches::steps(&loader, epochs)), [0, 3, 12, 60_000]);
        assert_eq!(Batches::steps(&loader, u64::MAX), usize::MAX);
        let two_a_step = |batches: usize| batches.div_ceil(2);
        for (epochs, most, steps) in
            [(4, usize::MAX, 8), (4, 8, 8), (4, 7, 7), (u64::MAX, 50_001, 50_001), (3, 0, 0)]
        {
            assert_eq!(loader.steps_by(epochs, most, &two_a_step), steps, "{epochs} epochs, at most {most}");
        }
    }
}
