//! Indices drawn with weights.

use firebox_core::seed::fingerprint;
use firebox_core::{Purpose, SampleRng, derive_seed};

use crate::error::{Error, check};
use crate::sampler::per_epoch::PerEpoch;
use crate::sampler::{Sampler, check_position};

/// Each position draws an index for itself, with a probability proportional to its weight: an index can come
/// several times in an epoch, or not at all. Each time its transform has other random numbers, for they
/// follow from the position: a rare sample that is drawn often is augmented anew each time.
///
/// Any position is drawn at once, from one alias table (Walker 1977, Vose 1991) of 16 bytes an item.
///
/// ```
/// use firebox_data::sampler::{Sampler, Weighted};
///
/// let order = Weighted::new(&[0.0, 1.0, 3.0], 1000, 42)?;
/// let ones = (0..1000).filter(|&position| order.index(0, position) == 1).count();
/// assert!((200..300).contains(&ones), "about a quarter, got {ones}");
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct Weighted {
    /// For each index the probability of keeping it, and the index to take instead.
    table: Vec<(f64, usize)>,
    len: usize,
    seed: u64,
    weights: u64,
}

impl Weighted {
    /// `len` draws an epoch.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if a weight is negative or not finite, or none
    /// is above 0 although draws are asked for.
    pub fn new(weights: &[f64], len: usize, seed: u64) -> Result<Self, Error> {
        let largest = checked_largest(weights)?;
        check(largest > 0.0 || len == 0, "weights", "one above 0", "none")?;
        // Divided by the largest first, for the sum of finite weights need not be finite.
        let sum: f64 = weights.iter().map(|weight| weight / largest).sum();
        let share = |weight: &f64| weight / largest / sum * weights.len() as f64;
        let mut table: Vec<_> = weights.iter().map(share).zip(0..).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..table.len()).partition(|&index| table[index].0 < 1.0);
        while let (Some(&poor), Some(&rich)) = (small.last(), large.last()) {
            small.pop();
            table[poor].1 = rich;
            table[rich].0 -= 1.0 - table[poor].0;
            if table[rich].0 < 1.0 {
                large.pop();
                small.push(rich);
            }
        }
        // What rounding has left over keeps its own index; but an index without weight is never kept.
        let heaviest = (0..weights.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
        for index in small.into_iter().chain(large) {
            table[index] = match weights[index] > 0.0 {
                true => (1.0, index),
                false => (0.0, heaviest.unwrap_or(index)),
            };
        }
        let weights = fingerprint(weights.iter().map(|weight| weight.to_bits()));
        Ok(Weighted { table, len, seed, weights })
    }
}

impl Sampler for Weighted {
    fn len(&self) -> usize {
        self.len
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        check_position(position, self.len);
        let mut rng = SampleRng::from_seed(derive_seed(self.seed, Purpose::Draw, epoch, position as u64));
        let index = rng.below(self.table.len() as u64) as usize;
        let (keep, instead) = self.table[index];
        if rng.uniform_f64() < keep { index } else { instead }
    }

    fn describe(&self) -> String {
        format!("weighted(len {}, weights {:016x}, seed {})", self.len, self.weights, self.seed)
    }
}

/// By it, the longest time of the smallest weight is finite: 37 · 2⁻²⁰⁰ / 2⁻¹⁰⁷⁴ < 2⁸⁸⁰.
const TINY: f64 = 1.0 / (1u128 << 100) as f64 / (1u128 << 100) as f64;

/// Draws without putting back: every epoch has each index with a weight above 0 once, those with larger
/// weights rather early; with a `len`, only so many of them (Efraimidis, Spirakis 2006).
///
/// The order of an epoch is a plan, made from (seed, epoch) when it is first needed: 4 bytes an item while it
/// is in use, 16 while it is made. The table of weights is 8 bytes an item.
///
/// ```
/// use firebox_data::sampler::{Sampler, WeightedWithoutReplacement};
///
/// let order = WeightedWithoutReplacement::new(vec![1.0, 0.0, 5.0, 1.0], 3, 42)?;
/// let mut indices: Vec<usize> = (0..3).map(|position| order.index(0, position)).collect();
/// indices.sort();
/// assert_eq!(indices, [0, 2, 3]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct WeightedWithoutReplacement {
    weights: Vec<f64>,
    /// How many weights are above 0.
    drawable: usize,
    len: usize,
    seed: u64,
    fingerprint: u64,
    plans: PerEpoch<Box<[u32]>>,
}

impl WeightedWithoutReplacement {
    /// The first `len` draws of an epoch.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if a weight is negative or not finite, fewer
    /// than `len` are above 0, or there are 2³² of them or more.
    pub fn new(weights: Vec<f64>, len: usize, seed: u64) -> Result<Self, Error> {
        checked_largest(&weights)?;
        let drawable = weights.iter().filter(|&&weight| weight > 0.0).count();
        let expected = format_args!("at least {len} above 0 and fewer than 2³² in all");
        let enough = len <= drawable && u32::try_from(weights.len()).is_ok();
        check(enough, "weights", expected, format_args!("{drawable} of {}", weights.len()))?;
        let fingerprint = fingerprint(weights.iter().map(|weight| weight.to_bits()));
        Ok(WeightedWithoutReplacement { weights, drawable, len, seed, fingerprint, plans: PerEpoch::new() })
    }

    fn draw(&self, epoch: u64) -> Box<[u32]> {
        let base = derive_seed(self.seed, Purpose::Draw, epoch, 0);
        // An exponential variable of rate w comes first with a probability proportional to w.
        let time = |(index, &weight): (usize, &f64)| {
            let bits = firebox_core::seed::mix(base ^ firebox_core::seed::mix(index as u64));
            let uniform = ((bits >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64);
            // The bits of floats above 0 are ordered as the floats are; in halves, they and the index take 12
            // bytes.
            let time = -uniform.ln() / weight + 0.0;
            let bits = match time.is_finite() {
                true => time.to_bits(),
                // Of so small a weight that its time is none: behind all others, in the order of a smaller
                // unit's.
                false => f64::INFINITY.to_bits() + ((-uniform.ln() * TINY / weight).to_bits() >> 12),
            };
            ((bits >> 32) as u32, bits as u32, index as u32)
        };
        let drawable = self.weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
        let mut times: Vec<(u32, u32, u32)> = Vec::with_capacity(self.drawable);
        times.extend(drawable.map(time));
        if self.len < times.len() {
            times.select_nth_unstable(self.len);
            times.truncate(self.len);
        }
        times.sort_unstable();
        times.into_iter().map(|(_, _, index)| index).collect::<Vec<_>>().into()
    }
}

impl Sampler for WeightedWithoutReplacement {
    fn len(&self) -> usize {
        self.len
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        self.plans.get(epoch, || self.draw(epoch))[position] as usize
    }

    fn describe(&self) -> String {
        format!("weighted once(len {}, weights {:016x}, seed {})", self.len, self.fingerprint, self.seed)
    }
}

/// The largest of some weights, 0 if there are none.
fn checked_largest(weights: &[f64]) -> Result<f64, Error> {
    for (index, weight) in weights.iter().enumerate() {
        let sound = weight.is_finite() && *weight >= 0.0;
        check(sound, format_args!("weight {index}"), "a number of at least 0", weight)?;
    }
    Ok(weights.iter().copied().fold(0.0, f64::max))
}
