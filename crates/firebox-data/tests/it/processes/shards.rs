//! Recipes for the tests: streams of each kind, with records that go wrong in each way.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use firebox_data::dataset::Records;
use firebox_data::loader::Retry;
use firebox_data::{Error, ErrorKind, Loader, OnError, Pad, Recipe, SampleRng, Scalar, Shards};
use firebox_workers::Packed;
use serde::{Deserialize, Serialize};

use super::recipes::{Fault, Plan, Policy};

/// The things known of the shards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Known {
    /// How many records they have, and where each begins.
    All,
    /// How many they have; where one begins the reader tells that stands before it.
    Counts,
    /// How many they have, and they are read from their beginning on.
    CountsForward,
    /// Nothing.
    Nothing,
}

/// How reading a record goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ReadFault {
    Error,
    /// The first time that anybody reads it.
    Once,
    Panic,
    Abort,
    /// The first time that anybody reads it, its process ends.
    AbortOnce,
    Hang,
    /// The shard ends here.
    End,
}

/// Shards of numbers: shard s has `lengths[s]` of them, which are 100 s and up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// The plan for the numbers, and for how it goes wrong.
    pub(crate) plan: Plan,
    pub(crate) lengths: Vec<u64>,
    /// The lengths that they claim.
    pub(crate) said: Option<Vec<u64>>,
    pub(crate) known: Known,
    pub(crate) window: Option<usize>,
    pub(crate) lanes: usize,
    pub(crate) repeats: usize,
    pub(crate) faults: Vec<(u32, ReadFault)>,
    /// Numbers with which the first worker that gets them aborts.
    pub(crate) killers: Vec<u32>,
    pub(crate) retries: bool,
    pub(crate) sends: bool,
    /// Where it is noted what was done once, and who has opened which shard.
    pub(crate) folder: Option<PathBuf>,
}

impl Stream {
    pub(crate) fn new(known: Known) -> Self {
        Stream {
            plan: Plan { batch_size: 7, ..Plan::default() },
            lengths: vec![40, 1, 0, 33, 16, 17, 60, 2],
            said: None,
            known,
            window: None,
            lanes: 1,
            repeats: 1,
            faults: Vec::new(),
            killers: Vec::new(),
            retries: false,
            sends: true,
            folder: None,
        }
    }

    pub(crate) fn shuffled(self) -> Self {
        Stream { window: Some(50), lanes: 3, ..self }
    }

    /// Tells whether this is the first time, anywhere.
    fn is_first(&self, what: &str) -> bool {
        let folder = self.folder.as_ref().expect("a folder for what is done once");
        OpenOptions::new().write(true).create_new(true).open(folder.join(what)).is_ok()
    }

    /// Each opening of a shard: the process, and the shard.
    pub(crate) fn openings(&self) -> Vec<(u32, usize)> {
        let text = std::fs::read_to_string(self.folder.as_ref().unwrap().join("openings")).unwrap();
        let line = |line: &str| {
            let (process, shard) = line.split_once(' ').unwrap();
            (process.parse().unwrap(), shard.parse().unwrap())
        };
        text.lines().map(line).collect()
    }

    fn seekable(&self) -> bool {
        matches!(self.known, Known::All | Known::Counts)
    }
}

/// A number, and bytes that go with it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    number: u32,
    payload: Packed<u8>,
}

struct Reader {
    stream: Stream,
    shard: usize,
    record: u64,
}

impl Iterator for Reader {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.record == self.stream.lengths[self.shard] {
            return None;
        }
        let number = 100 * self.shard as u32 + self.record as u32;
        let fault = self.stream.faults.iter().find(|(faulty, _)| *faulty == number).map(|(_, fault)| *fault);
        if fault == Some(ReadFault::End) {
            return None;
        }
        self.record += 1;
        let bad = || {
            let cause = std::io::Error::other("sector");
            Some(Err(Error::new(ErrorKind::Io, format!("bad record {number}")).caused_by(cause)))
        };
        match fault {
            Some(ReadFault::Error) => return bad(),
            Some(ReadFault::Once) if self.stream.is_first(&format!("read {number}")) => return bad(),
            Some(ReadFault::Panic) => panic!("no {number}"),
            Some(ReadFault::Abort) => std::process::abort(),
            Some(ReadFault::AbortOnce) if self.stream.is_first(&format!("abort {number}")) => {
                std::process::abort()
            }
            Some(ReadFault::Hang) => loop {
                sleep(Duration::from_secs(1));
            },
            _ => {}
        }
        Some(Ok(Record { number, payload: Packed(vec![number as u8; 3000]) }))
    }
}

impl Records<Record, Error> for Reader {
    fn offset(&self) -> Option<u64> {
        self.stream.seekable().then_some(8 * self.record)
    }
}

impl Shards for Stream {
    type Record = Record;
    type Error = Error;

    fn shards(&self) -> usize {
        self.lengths.len()
    }

    fn open(&self, shard: usize, offset: u64) -> Result<Box<dyn Records<Record, Error>>, Error> {
        assert!(self.seekable() || offset == 0);
        if let Some(folder) = &self.folder {
            let mut file =
                OpenOptions::new().append(true).create(true).open(folder.join("openings")).unwrap();
            // In one call, so that lines stay whole.
            file.write_all(format!("{} {shard}\n", std::process::id()).as_bytes()).unwrap();
        }
        Ok(Box::new(Reader { stream: self.clone(), shard, record: offset / 8 }))
    }

    fn records(&self, shard: usize) -> Option<u64> {
        let said = self.said.as_ref().unwrap_or(&self.lengths);
        (self.known != Known::Nothing).then(|| said[shard])
    }

    fn is_seekable(&self) -> bool {
        self.seekable()
    }

    fn offset_of(&self, _: usize, record: u64) -> Option<u64> {
        (self.known == Known::All).then_some(8 * record)
    }

    fn describe(&self) -> String {
        "numbers".to_owned()
    }
}

pub(crate) type Layout = (Scalar<u64>, Pad<i64>);

impl Recipe for Stream {
    type Layout = Layout;

    fn loader(&self) -> Result<Loader<Layout>, Error> {
        let Plan { batch_size, threads, rank, policy, timeout, .. } = self.plan.clone();
        let at_most = firebox_data::loader::FailureBudget::Count(10);
        let on_error = match policy {
            Policy::Fail => OnError::Fail,
            Policy::Skip => OnError::Skip { at_most },
            Policy::Replace => OnError::Replace { at_most },
        };
        let mut builder =
            Loader::stream(self.clone()).interleave(self.lanes).repeat(self.repeats).batch_size(batch_size);
        builder = builder.seed(17).on_error(on_error);
        if let Some(window) = self.window {
            builder = builder.shuffle_window(window);
        }
        if let Some(threads) = threads {
            builder = builder.workers(threads);
        }
        if let Some((rank, world)) = rank {
            builder = builder.rank(rank, world);
        }
        if let Some(limit) = timeout {
            builder = builder.timeout(limit);
        }
        if self.retries {
            builder = builder.retry(Retry::io(2, Duration::ZERO));
        }
        if self.sends {
            builder = builder.send_records();
        }
        let this = self.clone();
        let draw = move |record: Record, rng: &mut SampleRng| {
            assert!(record.payload.len() == 3000 && record.payload.iter().all(|&b| b == record.number as u8));
            if this.killers.contains(&record.number) && this.is_first(&format!("kill {}", record.number)) {
                std::process::abort();
            }
            this.plan.draw(record.number, rng)
        };
        builder.map(draw).build(
            (Scalar::new(), Pad::with(0).to(20)),
            |(number, drawn), _, (slot, sequence)| {
                *slot = 1000 * u64::from(number) + drawn;
                sequence.extend((0..number % 7).map(|place| i64::from(place) + drawn as i64));
                Ok(())
            },
        )
    }
}

/// A stage's fault, for a plan.
pub(crate) fn faulty(policy: Policy, faults: Vec<(u32, Fault)>) -> Plan {
    Plan { batch_size: 7, policy, faults, ..Plan::default() }
}
