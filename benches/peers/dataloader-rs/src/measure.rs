//! The measurements of one start: epochs of all contestants in turn, for one number of workers.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use candle_core::Tensor;

use crate::ours::{Ours, Way};
use crate::peer::Peer;
use crate::samples::{COUNT, Sample};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

pub(crate) const BATCH: usize = 64;
const ROUNDS: usize = 15;
const TRIALS: usize = 5;
/// Of these each has the one that it is fastest with, in each start anew.
const PREFETCH_DEPTHS: [usize; 4] = [2, 4, 8, 16];

/// The results of one start for one number of workers.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    /// Samples a second: firebox with lent memory, firebox with memory given away, the peer.
    pub(crate) rates: [f64; 3],
    /// The peer's time by firebox's, median of the rounds: with lent memory, with memory given away.
    pub(crate) ratios: [f64; 2],
    /// Milliseconds until the first tensor: firebox, the peer.
    pub(crate) first: [f64; 2],
    /// The peer's best prefetch depth.
    pub(crate) depth: f64,
}

impl Measured {
    /// The numbers in a line, for the process that started this one.
    pub(crate) fn line(&self) -> String {
        let Measured { rates: [a, b, c], ratios: [d, e], first: [f, g], depth } = self;
        [a, b, c, d, e, f, g, depth].map(f64::to_string).join(" ")
    }

    /// The results that [`line`](Self::line) has written.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let numbers: Vec<f64> =
            line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let &[a, b, c, d, e, f, g, depth] = &numbers[..] else { return None };
        Some(Measured { rates: [a, b, c], ratios: [d, e], first: [f, g], depth })
    }
}

/// The upper median.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Somebody who loads the samples.
pub(crate) trait Contestant {
    /// Shows the tensors of the next epoch's batches, so many of them at most.
    fn batches(&mut self, most: usize, look: &mut dyn FnMut(&Tensor) -> Result<()>) -> Result<()>;
}

/// The time that an epoch takes, or its first batches: those who look at a tensor do nothing with it.
fn time(contestant: &mut dyn Contestant, most: usize) -> Result<f64> {
    let mut ended = None;
    let begun = Instant::now();
    contestant.batches(most, &mut |tensor| {
        black_box(tensor);
        if most == 1 {
            ended = Some(begun.elapsed());
        }
        Ok(())
    })?;
    // Of a first batch it is its own time, without that of ending the epoch.
    Ok(ended.unwrap_or_else(|| begun.elapsed()).as_secs_f64())
}

/// An epoch's number of samples and the sum of their elements: to see that both load the same.
#[derive(Default)]
struct Sum {
    samples: usize,
    sum: f64,
}

impl Sum {
    fn add(&mut self, tensor: &Tensor) -> candle_core::Result<()> {
        self.samples += tensor.dim(0)?;
        self.sum += tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from).sum::<f64>();
        Ok(())
    }

    fn is_like(&self, other: &Sum) -> bool {
        self.samples == COUNT
            && other.samples == COUNT
            && (self.sum - other.sum).abs() <= 1e-6 * self.sum.abs()
    }
}

/// The contents of an epoch.
fn sum(contestant: &mut dyn Contestant) -> Result<Sum> {
    let mut sum = Sum::default();
    contestant.batches(usize::MAX, &mut |tensor| Ok(sum.add(tensor)?))?;
    Ok(sum)
}

/// A contestant with the prefetch depth that it is fastest with.
fn best<C: Contestant>(make: impl Fn(usize) -> Result<C>) -> Result<(usize, C)> {
    let mut best: Option<(f64, usize, C)> = None;
    for depth in PREFETCH_DEPTHS {
        let mut contestant = make(depth)?;
        let seconds = median((0..TRIALS).map(|_| time(&mut contestant, usize::MAX)).collect::<Result<_>>()?);
        if best.as_ref().is_none_or(|(least, ..)| seconds < *least) {
            best = Some((seconds, depth, contestant));
        }
    }
    best.map(|(_, depth, contestant)| (depth, contestant)).ok_or("no prefetch depth".into())
}

/// Measures with so many workers.
pub(crate) fn measure<S: Sample>(workers: usize) -> Result<Measured> {
    let (depth, mut peer) = best(|depth| Ok(Peer::<S>::new(workers, depth)))?;
    let (_, mut lent) = best(|depth| Ours::new::<S>(workers, depth, Way::Lent))?;
    let (_, mut given) = best(|depth| Ours::new::<S>(workers, depth, Way::GivenAway))?;
    let mut contestants: [&mut dyn Contestant; 3] = [&mut lent, &mut given, &mut peer];

    let mut sums = Vec::new();
    for contestant in &mut contestants {
        sums.push(sum(*contestant)?);
    }
    if !sums.iter().all(|sum| sum.is_like(&sums[2])) {
        return Err("the loaders load different samples".into());
    }

    let (mut times, mut first) = ([vec![], vec![], vec![]], [vec![], vec![], vec![]]);
    for (seconds, most) in [(&mut times, usize::MAX), (&mut first, 1)] {
        for round in 0..ROUNDS {
            for place in (0..3).map(|place| (round + place) % 3) {
                seconds[place].push(time(contestants[place], most)?);
            }
        }
    }
    let ratio =
        |way: usize| median(std::iter::zip(&times[2], &times[way]).map(|(peer, ours)| peer / ours).collect());
    let ratios = [ratio(0), ratio(1)];
    let [first, _, peers_first] = first.map(|seconds| 1e3 * median(seconds));
    let rates = times.map(|seconds| COUNT as f64 / median(seconds));
    Ok(Measured { rates, ratios, first: [first, peers_first], depth: depth as f64 })
}
