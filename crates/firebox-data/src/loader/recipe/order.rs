//! What goes to a worker process, and what comes back.

use std::fmt;
use std::iter::zip;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::{Duration, Instant};

use firebox_workers::sync::region::Region;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::retold::Retold;
use crate::elements::shared::crossing;
use crate::loader::fault::SampleFailure;
use crate::loader::report::{Stint, WorkerTime};
use crate::loader::work::{BatchTask, BuiltBatch};

/// A whole batch to make, or one sample apart from its batch.
#[derive(Serialize, Deserialize)]
pub(in crate::loader) struct BatchOrder {
    pub(super) task: BatchTask,
    /// The position of the batch's first sample.
    pub(super) start: usize,
    pub(super) width: Option<usize>,
    /// Positions whose samples have cost a worker its life or its time, and are not tried again.
    pub(super) late: Vec<(usize, Retold)>,
    /// What was wrong at first with samples that earlier attempts have made.
    pub(super) retried: Vec<(usize, SampleFailure)>,
    /// Why the plan has no more samples for the batch.
    pub(super) error: Option<Retold>,
    /// The part of the data set, if the loader is a slice.
    pub(super) slice: Option<Range<usize>>,
    /// The position of the one sample that is to be made apart.
    pub(super) apart: Option<usize>,
    /// Memory to make the batch in, and otherwise how much of it is expected to be enough.
    pub(super) region: Option<Region>,
    pub(super) bytes: usize,
    /// The regions that the parent has: a worker forgets the others.
    pub(super) known: Vec<u64>,
}

/// What a worker has made of an order.
///
/// It goes to the parent with its elements handed over: the worker drops it then.
pub(in crate::loader) struct BatchReply<B> {
    pub(super) built: Option<Box<BuiltBatch<B>>>,
    pub(super) samples: usize,
    pub(super) took: Duration,
    /// The regions that the batch is in; once it came, those that may be used for another one.
    pub(super) regions: Vec<Region>,
}

/// The number of values that a reply is written as.
const VALUES: usize = 4;

impl<B: Serialize> Serialize for BatchReply<B> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let BatchReply { built, samples, took, regions } = self;
        let mut reply = to.serialize_tuple(VALUES)?;
        reply.serialize_element(regions)?;
        let (written, counts) = crossing(regions, || reply.serialize_element(built));
        written?;
        // Where somebody here has kept a part, another batch must not be made.
        let free: Vec<bool> =
            zip(regions, counts).map(|(region, handed_over)| region.parts() == handed_over).collect();
        reply.serialize_element(&free)?;
        reply.serialize_element(&(samples, took))?;
        reply.end()
    }
}

impl<'de, B: DeserializeOwned> Deserialize<'de> for BatchReply<B> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Parts<B>(PhantomData<B>);

        impl<'de, B: DeserializeOwned> Visitor<'de> for Parts<B> {
            type Value = BatchReply<B>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("what a worker has made of a batch")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let ended = |part| A::Error::invalid_length(part, &"what a worker has made of a batch");
                let regions: Vec<Region> = parts.next_element()?.ok_or_else(|| ended(0))?;
                let (built, _) = crossing(&regions, || parts.next_element());
                let built = built?.ok_or_else(|| ended(1))?;
                let free: Vec<bool> = parts.next_element()?.ok_or_else(|| ended(2))?;
                let (samples, took) = parts.next_element()?.ok_or_else(|| ended(3))?;
                let regions = zip(regions, free).filter(|(_, free)| *free).map(|(region, _)| region);
                Ok(BatchReply { built, samples, took, regions: regions.collect() })
            }
        }

        from.deserialize_tuple(VALUES, Parts(PhantomData))
    }
}

/// The fields of a [`BuiltBatch`].
type BuiltFields<B> = (Result<Option<B>, Retold>, usize, usize, Vec<SampleFailure>, Vec<Stint>);

impl<B: Serialize> Serialize for BuiltBatch<B> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let BuiltBatch { batch, bytes, samples, failures, stints } = self;
        let batch = batch.as_ref().map_err(|error| Retold(error.clone()));
        (batch, bytes, samples, failures, stints).serialize(to)
    }
}

impl<'de, B: DeserializeOwned> Deserialize<'de> for BuiltBatch<B> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (batch, bytes, samples, failures, stints) = BuiltFields::deserialize(from)?;
        let batch = batch.map_err(|Retold(error)| error);
        Ok(BuiltBatch { batch, bytes, samples, failures, stints })
    }
}

/// How long ago a stint began, how long it took, and its times: clocks of processes have no common beginning.
type StintFields = (Duration, Duration, [Duration; 5], Duration);

impl Serialize for Stint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Stint { begun, took, busy, queued } = *self;
        let WorkerTime { reading, transforming, collating, uploading, computing } = busy;
        let times = [reading, transforming, collating, uploading, computing];
        (begun.elapsed(), took, times, queued).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Stint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (ago, took, times, queued) = StintFields::deserialize(from)?;
        let [reading, transforming, collating, uploading, computing] = times;
        let busy = WorkerTime { reading, transforming, collating, uploading, computing };
        let now = Instant::now();
        Ok(Stint { begun: now.checked_sub(ago).unwrap_or(now), took, busy, queued })
    }
}
