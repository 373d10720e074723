//! Which batches an epoch has, and which samples they have.

pub(super) mod rank_ends;

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use firebox_core::panic_message;

use crate::error::Error;
use crate::loader::report::Stint;
use crate::loader::work::{SampleId, not_made};
use crate::sampler::BatchSampler;
use crate::sampler::Ranks;
use crate::sync::Arc;

/// The next thing in an epoch.
pub(super) enum Planned {
    Batch(PlannedBatch),
    /// Something that will be known after [`Plan::wait`].
    Later,
    /// Nothing.
    End,
}

/// A batch, before it is made.
pub(super) struct PlannedBatch {
    pub(super) batch: usize,
    /// The position of its first sample.
    pub(super) start: usize,
    pub(super) samples: Vec<SampleId>,
    /// The length of the longest sample, if it is known and this is a part of a batch.
    pub(super) width: Option<usize>,
    /// Why there are no more of them: the batch fails, though its samples may fail before.
    pub(super) error: Option<Error>,
}

/// The batches of an epoch, in their order.
pub(super) trait Plan {
    fn next(&mut self) -> Planned;

    /// A batch that was planned before and is not delivered yet.
    fn again(&mut self, batch: usize) -> PlannedBatch;

    /// Waits until the next batch is known, or the end.
    fn wait(&mut self) {}

    /// The stints in which workers have read for the plan, since this was last asked.
    fn reading(&mut self) -> Vec<Stint> {
        Vec::new()
    }

    /// Hears that a batch is with the consumer.
    fn delivered(&mut self, batch: usize) {
        let _ = batch;
    }
}

/// The samples of a data set's epochs: the one place where the order is asked.
#[derive(Clone)]
pub(super) struct SamplePlan {
    /// Of all ranks.
    pub(super) batches: Arc<dyn BatchSampler>,
    /// Those that each batch is dealt to.
    pub(super) ranks: Ranks,
}

impl SamplePlan {
    pub(super) fn batches(&self, epoch: u64) -> usize {
        self.batches.batches(epoch)
    }

    /// The number of samples in this rank's part of the batches.
    pub(super) fn samples(&self, epoch: u64) -> usize {
        self.ranks.samples(&*self.batches, epoch)
    }

    /// At least as many samples as any rank has.
    pub(super) fn most_samples(&self, epoch: u64) -> usize {
        self.batches.samples(epoch).saturating_mul(self.batches.ranks().world())
    }

    pub(super) fn left_out(&self, epoch: u64) -> usize {
        self.batches.left_out(epoch)
    }

    pub(super) fn describe(&self) -> String {
        self.batches.describe()
    }

    /// The ranks that have a part of each batch, dealt here or by the order.
    pub(super) fn dealt_to(&self) -> Ranks {
        if self.ranks.is_alone() { self.batches.ranks() } else { self.ranks }
    }

    /// Tells whether the widths of batches are known. They are of all or of none, so that one tells.
    pub(super) fn knows_width(&self) -> bool {
        let known = || self.batches.batches(0) == 0 || self.batches.width(0, 0).is_some();
        // An order that panics does so again where a batch is planned, and is named there.
        catch_unwind(AssertUnwindSafe(known)).unwrap_or_else(|payload| {
            panic_message(payload);
            true
        })
    }

    /// The positions of this rank's part of a batch.
    pub(super) fn positions(&self, epoch: u64, batch: usize) -> Range<usize> {
        self.ranks.run(batch, self.batches.positions(epoch, batch))
    }

    /// The width of a batch of which this is a part, if it is known.
    pub(super) fn width(&self, epoch: u64, batch: usize) -> Option<usize> {
        // A batch of one's own is as wide as its longest sample.
        (!self.dealt_to().is_alone()).then(|| self.batches.width(epoch, batch)).flatten()
    }

    /// Where a sample of a batch may have a substitute from: the batch, of all ranks, or the epoch if the
    /// batch has no other sample.
    pub(super) fn substitutes(&self, epoch: u64, batch: usize) -> Range<usize> {
        let whole = self.batches.positions(epoch, batch);
        if whole.len() == 1 { 0..self.batches.samples(epoch) } else { whole }
    }

    /// The data set indices of a batch.
    pub(super) fn indices(&self, epoch: u64, batch: usize) -> Vec<usize> {
        let mut indices = Vec::new();
        self.batches.indices(epoch, self.positions(epoch, batch), &mut indices);
        indices
    }

    /// The sample at a position; `None` if the order panics.
    pub(super) fn sample(&self, epoch: u64, position: usize) -> Option<SampleId> {
        self.ask(epoch, position).ok()
    }

    fn ask(&self, epoch: u64, position: usize) -> Result<SampleId, String> {
        let ask = || SampleId::Item {
            index: self.batches.index(epoch, position),
            position: self.batches.global_position(epoch, position),
        };
        catch_unwind(AssertUnwindSafe(ask)).map_err(panic_message)
    }

    /// The samples of a batch. `scratch` is memory to be used again.
    pub(super) fn batch(&self, epoch: u64, batch: usize, scratch: &mut Scratch) -> PlannedBatch {
        let failed = |start, samples, panic: String| {
            let error = Some(not_made(batch as u64, epoch, &panic));
            PlannedBatch { batch, start, samples, width: None, error }
        };
        let shape = AssertUnwindSafe(|| (self.positions(epoch, batch), self.width(epoch, batch)));
        let (positions, width) = match catch_unwind(shape) {
            Ok(shape) => shape,
            Err(payload) => return failed(0, Vec::new(), panic_message(payload)),
        };
        let start = positions.start;
        let Scratch { indices, global } = scratch;
        indices.clear();
        global.clear();
        let asked = catch_unwind(AssertUnwindSafe(|| {
            self.batches.indices(epoch, positions.clone(), indices);
            self.batches.global_positions(epoch, positions.clone(), global);
        }));
        if asked.is_ok() && indices.len() == positions.len() && global.len() == positions.len() {
            let samples = indices.iter().zip(&*global);
            let samples = samples.map(|(&index, &position)| SampleId::Item { index, position }).collect();
            return PlannedBatch { batch, start, samples, width, error: None };
        }
        // One by one, so that what comes before the panic is made.
        let mut samples = Vec::new();
        for position in positions {
            match self.ask(epoch, position) {
                Ok(sample) => samples.push(sample),
                Err(panic) => return failed(start, samples, panic),
            }
        }
        PlannedBatch { batch, start, samples, width, error: None }
    }
}

/// Memory for what the order gives.
#[derive(Default)]
pub(super) struct Scratch {
    indices: Vec<usize>,
    global: Vec<u64>,
}

/// The batches of data with random access: all are known from the beginning.
pub(super) struct Known {
    pub(super) epoch: u64,
    pub(super) rest: Range<usize>,
    /// Batches of the rest that were delivered before a resume.
    pub(super) delivered: BTreeSet<usize>,
    pub(super) samples: SamplePlan,
    pub(super) scratch: Scratch,
}

impl Plan for Known {
    fn next(&mut self) -> Planned {
        match self.rest.by_ref().find(|batch| !self.delivered.contains(batch)) {
            Some(batch) => Planned::Batch(self.again(batch)),
            None => Planned::End,
        }
    }

    fn again(&mut self, batch: usize) -> PlannedBatch {
        self.samples.batch(self.epoch, batch, &mut self.scratch)
    }
}
