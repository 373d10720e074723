//! Messages to a worker process and back.

use std::fmt;
use std::iter::zip;
use std::marker::PhantomData;
use std::ops::Range;
use std::time::{Duration, Instant};

use firebox_workers::Packed;
use firebox_workers::sync::region::Region;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::retold::Retold;
use crate::elements::shared::crossing;
use crate::loader::fault::SampleFailure;
use crate::loader::report::{Stint, WorkerTime};
use crate::loader::source::{Along, RecordStart, SentRecord};
use crate::loader::work::{BatchTask, BuiltBatch};
use crate::sync::Arc;

/// A whole batch to make, or one sample apart from its batch.
#[derive(Serialize, Deserialize)]
pub(in crate::loader) struct BatchOrder {
    pub(super) task: BatchTask,
    /// The position of the batch's first sample.
    pub(super) start: usize,
    pub(super) width: Option<usize>,
    /// Positions whose samples have cost a worker its life or its time, and are not tried again.
    pub(super) late: Vec<(usize, Retold)>,
    /// First failures of samples that earlier attempts have made.
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
    /// The data that a batch of records takes beside its numbers.
    #[serde(with = "along_as_data")]
    pub(super) along: Along,
}

/// A worker's reply to an order.
///
/// It goes to the parent with its elements handed over: the worker drops it then.
pub(in crate::loader) struct BatchReply<B> {
    pub(super) built: Option<Box<BuiltBatch<B>>>,
    pub(super) samples: usize,
    pub(super) took: Duration,
    /// The regions that the batch is in; once it came, those that may be used for another one.
    pub(super) regions: Vec<Region>,
    /// Where records begin, of those that were asked for.
    pub(super) starts: Vec<RecordStart>,
}

/// The number of values that a reply is written as.
const VALUES: usize = 5;

impl<B: Serialize> Serialize for BatchReply<B> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let BatchReply { built, samples, took, regions, starts } = self;
        let mut reply = to.serialize_tuple(VALUES)?;
        reply.serialize_element(regions)?;
        let (written, counts) = crossing(regions, || reply.serialize_element(built));
        written?;
        // Where somebody here has kept a part, another batch must not be made.
        let free: Vec<bool> =
            zip(regions, counts).map(|(region, handed_over)| region.parts() == handed_over).collect();
        reply.serialize_element(&free)?;
        reply.serialize_element(&(samples, took))?;
        reply.serialize_element(starts)?;
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
                let starts = parts.next_element()?.ok_or_else(|| ended(4))?;
                let regions = zip(regions, free).filter(|(_, free)| *free).map(|(region, _)| region);
                Ok(BatchReply { built, samples, took, regions: regions.collect(), starts })
            }
        }

        from.deserialize_tuple(VALUES, Parts(PhantomData))
    }
}

/// The fields of [`Along`].
#[derive(Serialize, Deserialize)]
struct AlongFields<R> {
    records: Option<Vec<R>>,
    starts: Vec<RecordStart>,
    wanted: Vec<(usize, u64)>,
}

/// Bytes that are written in one piece.
struct Bytes<'b>(&'b [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

/// [`Along`] as data: what serde is to write and read it by.
mod along_as_data {
    use super::*;

    pub(super) fn serialize<S: Serializer>(along: &Along, to: S) -> Result<S::Ok, S::Error> {
        let Along { records, starts, wanted } = along;
        let records = records.as_ref().map(|records| {
            let written = records.iter().map(|SentRecord { record, reread }| {
                let record = record.as_ref().map(|record| Bytes(record));
                (record.map_err(|error| Retold(error.clone())), reread)
            });
            written.collect::<Vec<_>>()
        });
        AlongFields { records, starts: starts.clone(), wanted: wanted.clone() }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Along, D::Error> {
        type Sent = (Result<Packed<u8>, Retold>, Option<SampleFailure>);
        let AlongFields { records, starts, wanted } = <AlongFields<Sent> as Deserialize>::deserialize(from)?;
        let sent = |(record, reread): Sent| {
            let record = record.map(|Packed(bytes)| Arc::new(bytes)).map_err(|Retold(error)| error);
            SentRecord { record, reread }
        };
        let records = records.map(|records| records.into_iter().map(sent).collect());
        Ok(Along { records, starts, wanted })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytemuck::Pod;
    use firebox_workers::testing::{read, write};

    use super::*;
    use crate::Collate;
    use crate::collate::Slots;
    use crate::collate::pad::{Pad, Padded};
    use crate::collate::{Scalar, Stack, Stacked};
    use crate::elements::BufferPool;
    use crate::elements::Elements;
    use crate::elements::shared::SharedMemory;
    use crate::error::{Error, ErrorKind};
    use crate::loader::fault::Action;

    type Layout = (Stack<f32, 2>, Scalar<u8>, Pad<i64>, Scalar<bool>);
    type Batch = (Stacked<f32, 2>, Elements<u8>, Padded<i64>, Elements<bool>);

    /// Who sends what nobody should.
    struct Random(u64);

    impl Random {
        fn below(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % below
        }

        fn mutate(&mut self, bytes: &mut Vec<u8>) {
            for _ in 0..=self.below(3) {
                if bytes.is_empty() {
                    return;
                }
                let at = self.below(bytes.len());
                match self.below(8) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, self.below(256) as u8),
                    // A number as large as can be, or nearly.
                    2 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xFF),
                    3 => bytes[at] ^= 1 << self.below(8),
                    _ => bytes[at] = self.below(256) as u8,
                }
            }
        }
    }

    /// A batch in a region, as a worker makes it.
    fn batch(memory: &Arc<SharedMemory>) -> Batch {
        let layout: Layout = (Stack::new([2, 3]), Scalar::new(), Pad::with(0), Scalar::new());
        let mut buffer = layout.open(4.into(), &BufferPool::default().within(Arc::clone(memory)));
        for number in 0..4_u8 {
            let mut slots = layout.slots(&mut buffer);
            let slot: (&mut [f32], &mut u8, &mut Vec<i64>, &mut bool) =
                Slots::<Layout>::get(&mut slots, usize::from(number)).unwrap();
            let (pixels, label, sequence, flag) = slot;
            pixels.fill(f32::from(number));
            *label = number;
            sequence.extend(0..i64::from(number));
            *flag = number == 2;
        }
        layout.close(buffer, &[]).unwrap()
    }

    /// A failure, so that there are texts and kinds to be wrong.
    fn reply(batch: Batch, regions: Vec<Region>) -> BatchReply<Batch> {
        let error = Error::new(ErrorKind::Dataset, "the data set failed").at_index(7).caused_by("no ink");
        let failures = vec![SampleFailure::new(error, Action::Skipped)];
        let stints = vec![Stint {
            begun: Instant::now(),
            took: Duration::from_millis(3),
            busy: WorkerTime::default(),
            queued: Duration::ZERO,
        }];
        let built = BuiltBatch { batch: Ok(Some(batch)), bytes: 100, samples: 4, failures, stints };
        let starts = vec![RecordStart { shard: 1, record: 64, offset: 512 }];
        let took = Duration::from_millis(5);
        BatchReply { built: Some(Box::new(built)), samples: 4, took, regions, starts }
    }

    /// Reads all that a batch says it has.
    fn touch(batch: &Batch) {
        fn sum<T: Pod>(elements: &Elements<T>) -> u64 {
            bytemuck::cast_slice::<T, u8>(elements).iter().map(|&byte| u64::from(byte)).sum()
        }
        let (Stacked { values, samples, shape }, labels, padded, flags) = batch;
        assert_eq!(shape.iter().product::<usize>() * samples, values.len());
        assert_eq!(padded.lengths.len() * padded.longest, padded.values.len());
        assert!(padded.lengths.iter().all(|&length| length <= padded.longest));
        let flags = flags.iter().filter(|&&flag| flag).count();
        std::hint::black_box((sum(values), sum(labels), sum(&padded.values), flags));
    }

    /// The most memory that this process has ever mapped, in KiB.
    fn peak() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Ten thousand replies of a worker that writes what it likes: each is a batch that holds together, or an
    /// error.
    #[test]
    fn mutated_replies_are_read_or_refused() {
        let memory = Arc::new(SharedMemory::new(None, 1 << 16));
        let made = batch(&memory);
        let regions = memory.list();
        let (good, files) = write(&reply(made, regions.clone())).unwrap();
        drop(memory);
        let copies = || files.iter().map(|file| file.try_clone().unwrap()).collect();
        assert_eq!((files.len(), regions[0].parts()), (1, 0), "the worker has dropped what it handed over");
        let back: BatchReply<Batch> = read(&good, copies()).unwrap();
        let built = back.built.unwrap();
        let whole = built.batch.as_ref().unwrap().as_ref().unwrap();
        touch(whole);
        assert_eq!((&whole.1[..], &whole.2.lengths[..]), (&[0, 1, 2, 3][..], &[0, 1, 2, 3][..]));
        assert_eq!((regions[0].parts(), back.regions.len(), back.starts[0].offset), (3, 1, 512));
        drop((built, back.regions));

        let mut random = Random(23);
        let (mut taken, mut refused, before) = (0, 0, peak());
        for _ in 0..10_000 {
            let mut bytes = good.clone();
            random.mutate(&mut bytes);
            let mut files: Vec<_> = copies();
            match random.below(20) {
                0 => files.clear(),
                // No region, whatever it is.
                1 => files[0] = std::fs::File::open("/dev/null").unwrap().into(),
                _ => {}
            }
            match read::<BatchReply<Batch>>(&bytes, files) {
                Ok(BatchReply { built, regions, .. }) => {
                    taken += 1;
                    let Some(built) = built else { continue };
                    if let Ok(Some(batch)) = &built.batch {
                        touch(batch);
                    }
                    built.failures.iter().for_each(|failure| drop(failure.to_string()));
                    // What comes for another batch is free, or it would not be used.
                    assert!(regions.len() <= 1);
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
            assert_eq!(regions[0].parts(), 0, "parts go with the batch that had them");
        }
        assert!(taken > 1000 && refused > 1000, "{taken} taken, {refused} refused");
        let more = peak().saturating_sub(before);
        assert!(more < 256 << 10, "{more} KiB");
    }
}
