//! Which batches an epoch has, one after the other.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::loader::stint::Stint;

/// What comes next in an epoch.
pub(super) enum Planned {
    /// A batch, by its number and its positions.
    Batch(usize, Range<usize>),
    /// What it is will be known after [`Plan::wait`].
    Later,
    /// Nothing.
    End,
}

/// The batches of an epoch, in their order.
pub(super) trait Plan {
    fn next(&mut self) -> Planned;

    /// Waits until the next batch is known, or the end.
    fn wait(&mut self) {}

    /// What workers have read for the plan, since this was last asked.
    fn reading(&mut self) -> Vec<Stint> {
        Vec::new()
    }

    /// Hears that a batch is with the consumer.
    fn delivered(&mut self, batch: usize) {
        let _ = batch;
    }
}

/// The batches of data with random access: all are known from the beginning.
pub(super) struct Known<'l> {
    pub(super) rest: Range<usize>,
    /// Batches of the rest that were delivered before a resume.
    pub(super) delivered: BTreeSet<usize>,
    pub(super) positions: Box<dyn Fn(usize) -> Range<usize> + 'l>,
}

impl Plan for Known<'_> {
    fn next(&mut self) -> Planned {
        match self.rest.by_ref().find(|batch| !self.delivered.contains(batch)) {
            Some(batch) => Planned::Batch(batch, (self.positions)(batch)),
            None => Planned::End,
        }
    }
}
