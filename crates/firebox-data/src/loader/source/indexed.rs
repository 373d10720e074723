//! A data set as a source: items by their index, in an order that is known from the beginning.

use std::ops::Range;

use firebox_workers::Pool;

use crate::collate::{Collate, SlotOf};
use crate::dataset::many::answers;
use crate::dataset::{Dataset, Fingerprint, Lineage, Location};
use crate::error::{BoxError, Error, ErrorKind};
use crate::loader::LoaderState;
use crate::loader::builder::Settings;
use crate::loader::plan::{Known, Plan, PlannedBatch, SamplePlan, Scratch};
use crate::loader::report::counted;
use crate::loader::slice::{Cuts, SliceOrder};
use crate::loader::source::{Data, Items, RunItems, Source, SourceOf, Steps};
use crate::loader::work::{BatchTask, Failure, ReadLimits, SampleId, Stages};
use crate::sampler::{BatchSampler, FixedSize};
use crate::sampler::{Ranks, Sampler, Sequential, Shuffled};
use crate::sync::Arc;
use firebox_core::seed::SampleSeed;

/// Data with random access: a data set, in an order.
pub struct Indexed<D> {
    pub(in crate::loader) dataset: D,
    pub(in crate::loader) sampler: Option<Box<dyn Sampler>>,
    pub(in crate::loader) batches: Option<Box<dyn BatchSampler>>,
    pub(in crate::loader) shuffle: bool,
}

impl<D: Dataset> Data for Indexed<D> {
    type Item = D::Item;

    fn source<C, P>(self, settings: &Settings, steps: P) -> Result<SourceOf<C>, Error>
    where
        C: Collate,
        P: Steps<Self::Item, C>,
    {
        let Indexed { dataset, sampler, batches, shuffle } = self;
        let (len, seed) = (dataset.len(), settings.seed);
        let order = match (&batches, &sampler) {
            (Some(_), _) => SliceOrder::Batches,
            (None, Some(sampler)) => SliceOrder::Sampler { positions: sampler.len() },
            (None, None) => SliceOrder::Plain { shuffle },
        };
        let batches: Arc<dyn BatchSampler> = match batches {
            Some(batches) => batches.into(),
            None => {
                let order = sampler.unwrap_or_else(|| match shuffle {
                    true => Box::new(Shuffled::new(len, seed)),
                    false => Box::new(Sequential::new(len)),
                });
                Arc::new(FixedSize::new(order, settings.batch_size, settings.drop_last)?)
            }
        };
        batches.check(len)?;
        let (ranks, shared) = (settings.ranks()?, batches.ranks());
        if !ranks.is_alone() && !shared.is_alone() {
            let text = format!(
                "rank: expected an order of all ranks to deal to {}, got the share of rank {} of {}",
                ranks.world(),
                shared.rank(),
                shared.world()
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        batches.check_ranks(ranks)?;
        let cuts = Cuts {
            range: 0..len,
            len,
            order,
            size: settings.batch_size.max(1),
            drop_last: settings.drop_last,
            seed,
            whole: Arc::clone(&batches),
        };
        Ok(SourceOf(Arc::new(IndexedSource {
            samples: SamplePlan { batches, ranks },
            cuts,
            lineage: dataset.lineage(),
            fingerprint: dataset.fingerprint(),
            items: Arc::new(DatasetItems {
                reads_many: dataset.reads_many() && !settings.has_time_limit(),
                dataset,
                steps,
            }),
        })))
    }
}

/// A data set, an order of its items cut into batches, and what is done with them.
pub(in crate::loader) struct IndexedSource<C> {
    pub(in crate::loader) samples: SamplePlan,
    /// How parts of it are cut.
    pub(in crate::loader) cuts: Cuts,
    pub(in crate::loader) lineage: Lineage,
    fingerprint: Fingerprint,
    items: Arc<dyn DatasetOf<C>>,
}

impl<C: Collate> IndexedSource<C> {
    /// The items of a range only, counted as this one's are.
    pub(in crate::loader) fn slice(&self, items: Range<usize>) -> Result<Self, Error> {
        let cuts = self.cuts.part(items)?;
        Ok(IndexedSource {
            samples: SamplePlan { batches: cuts.batches()?, ranks: self.samples.ranks },
            cuts,
            lineage: self.lineage.clone(),
            fingerprint: self.fingerprint.clone(),
            items: Arc::clone(&self.items),
        })
    }

    /// The items of any epoch.
    pub(in crate::loader) fn items(&self) -> Arc<dyn Items<C>> {
        Arc::clone(&self.items) as _
    }
}

impl<C: Collate> Source<C> for IndexedSource<C> {
    fn batches(&self, epoch: u64) -> Option<usize> {
        Some(self.samples.batches(epoch))
    }

    fn samples(&self, epoch: u64) -> Option<usize> {
        Some(self.samples.samples(epoch))
    }

    fn why_empty(&self, epoch: u64) -> Option<String> {
        if self.samples.batches(epoch) > 0 {
            return None;
        }
        let Cuts { range, len, size, .. } = &self.cuts;
        let left_out = self.samples.left_out(epoch);
        Some(if *len == 0 {
            format!("0 samples in the data set, batch size {size}")
        } else if range.is_empty() {
            format!("0 samples in the slice {range:?} of a data set of {len}")
        } else if left_out == 0 {
            format!("0 samples of a data set of {len}, by the order: {}", self.samples.describe())
        } else {
            format!(
                "{}, batch size {size}: drop_last leaves out the only batch, which is short",
                counted(left_out, "sample")
            )
        })
    }

    fn describe_order(&self) -> String {
        format!("{} of a data set of {}", self.samples.describe(), self.cuts.len)
    }

    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn differences(&self, state: &LoaderState) -> Vec<String> {
        let (epoch, faults) = (state.epoch, state.faults);
        let mut differences: Vec<String> =
            state.overrun(Some(self.samples.batches(epoch))).into_iter().collect();
        let samples = self.samples.most_samples(epoch);
        if faults > samples {
            differences.push(format!("faults: saved {faults}, epoch {epoch} here has {samples} samples"));
        }
        differences
    }

    fn open<'l>(
        &self,
        _: &'l Pool,
        _: &ReadLimits,
        state: &LoaderState,
    ) -> (Box<dyn Plan + 'l>, Arc<dyn Items<C>>) {
        let epoch = state.epoch;
        let plan = Known {
            epoch,
            rest: state.batch..self.samples.batches(epoch),
            delivered: state.delivered_ahead(),
            samples: self.samples.clone(),
            scratch: Scratch::default(),
        };
        (Box::new(plan), self.items())
    }

    fn alone(&self, _: &ReadLimits) -> Result<Arc<dyn Items<C>>, Error> {
        Ok(self.items())
    }

    fn planned(&self, epoch: u64, batch: usize) -> PlannedBatch {
        self.samples.batch(epoch, batch, &mut Scratch::default())
    }

    fn place(&self, epoch: u64, batch: usize) -> (usize, Option<usize>) {
        (self.samples.positions(epoch, batch).start, self.samples.width(epoch, batch))
    }

    fn ranks(&self) -> Ranks {
        self.samples.dealt_to()
    }

    fn knows_width(&self) -> bool {
        self.samples.knows_width()
    }

    fn substitutes(&self, epoch: u64, batch: usize) -> Range<usize> {
        self.samples.substitutes(epoch, batch)
    }

    fn sample(&self, epoch: u64, position: usize) -> Option<SampleId> {
        self.samples.sample(epoch, position)
    }

    fn name(&self, error: Error, sample: SampleId, _: usize) -> Error {
        let Some(index) = sample.index() else { return error };
        let location = self.items.locate(index).unwrap_or_default();
        let error = match location.path() {
            Some(path) => error.at_path(path),
            None => error,
        };
        let place = Location { path: None, ..location }.to_string();
        let words = [self.describe(index), Some(place).filter(|place| !place.is_empty())];
        let words: Vec<String> = words.into_iter().flatten().collect();
        let words = (!words.is_empty()).then(|| words.join(", "));
        error.at_index(index).at_row(self.lineage.row(index)).at_place(words)
    }

    fn describe(&self, index: usize) -> Option<String> {
        self.lineage.describe(index)
    }

    fn indexed(&self) -> Option<&IndexedSource<C>> {
        Some(self)
    }
}

/// Items whose type is known in here only, so that it is no part of the loader's type.
trait DatasetOf<C: Collate>: Items<C> {
    fn locate(&self, index: usize) -> Option<Location>;
}

/// A data set with what is done with its items.
struct DatasetItems<D, P> {
    dataset: D,
    steps: P,
    /// True if the items of a run are read with one call. A time limit is a sample's: then each is read by
    /// itself.
    reads_many: bool,
}

impl<D: Dataset, P> DatasetItems<D, P> {
    fn get(&self, index: usize) -> Result<D::Item, BoxError> {
        let len = self.dataset.len();
        match index < len {
            true => self.dataset.get(index),
            false => Err(format!("the sampler gave index {index} of a data set of {len}").into()),
        }
    }
}

impl<C, D, P> DatasetOf<C> for DatasetItems<D, P>
where
    C: Collate,
    D: Dataset,
    P: Steps<D::Item, C>,
{
    fn locate(&self, index: usize) -> Option<Location> {
        // An index that the data set doesn't have is nowhere.
        (index < self.dataset.len()).then(|| self.dataset.locate(index)).flatten()
    }
}

impl<C, D, P> Items<C> for DatasetItems<D, P>
where
    C: Collate,
    D: Dataset,
    P: Steps<D::Item, C>,
{
    fn run<'r>(&'r self, task: &'r BatchTask) -> Box<dyn RunItems<C> + 'r> {
        Box::new(RunOfDataset { items: self, task, together: Vec::new() })
    }
}

/// The items of one run.
struct RunOfDataset<'r, D: Dataset, P> {
    items: &'r DatasetItems<D, P>,
    task: &'r BatchTask,
    /// Items read together and not asked for yet, by the place in the run.
    together: Vec<Option<Result<D::Item, BoxError>>>,
}

impl<C, D, P> RunItems<C> for RunOfDataset<'_, D, P>
where
    C: Collate,
    D: Dataset,
    P: Steps<D::Item, C>,
{
    fn reads_together(&self) -> bool {
        self.items.reads_many && self.task.samples.len() > 1
    }

    fn read_together(&mut self, _: &dyn Fn(usize) -> bool, stages: &mut Stages<'_>) -> Result<(), Failure> {
        let (dataset, samples) = (&self.items.dataset, &self.task.samples);
        let len = dataset.len();
        let indices: Vec<usize> = samples.iter().filter_map(|sample| sample.index()).collect();
        if indices.len() == samples.len() && indices.iter().all(|&index| index < len) {
            let read = stages.read(|| answers(dataset, &indices))?;
            self.together = read.into_iter().map(Some).collect();
        }
        Ok(())
    }

    fn write(
        &mut self,
        (place, sample): (usize, SampleId),
        seed: SampleSeed,
        slot: SlotOf<'_, C>,
        stages: &mut Stages<'_>,
    ) -> Result<(), Failure> {
        let failed = |source| Failure::new(ErrorKind::Dataset, source);
        let SampleId::Item { index, .. } = sample else {
            return Err(Failure::last(
                ErrorKind::Dataset,
                "expected an item of a data set, got a record of a shard",
            ));
        };
        let together = match self.together.get_mut(place) {
            Some(together) if self.task.samples.as_slice().get(place) == Some(&sample) => together.take(),
            _ => None,
        };
        let items = self.items;
        let item = match together {
            Some(item) => item,
            None => stages.read(|| items.get(index))?,
        };
        let item = item.map_err(failed)?;
        stages.transform(|| items.steps.run(item, seed, slot))?
    }
}
