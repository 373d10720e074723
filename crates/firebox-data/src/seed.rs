//! Seeds from seeds: every random decision has a stream of its own.

use std::convert::Infallible;

use rand_core::{SeedableRng, TryRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// What a stream of random numbers is for. The numbers are part of the format: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum Stream {
    /// The transform of one sample.
    Sample = 1,
    /// The order of an epoch.
    Order = 2,
    /// The cut of a data set into parts.
    Split = 3,
    /// The initial parameters of a model.
    Init = 4,
    /// One training step: dropout and noise.
    Step = 5,
    /// A draw with weights.
    Draw = 6,
    /// The choice of a sample that takes another's place.
    Substitute = 7,
    /// The records of one shard.
    Shard = 8,
    /// One batch of an evaluation.
    Evaluation = 9,
}

/// A seed for `stream` at the place (a, b), such as an epoch and an index.
///
/// A fixed function, the same in every release: SplitMix64 over the words, before and after each, so that the
/// places (1, 2) and (2, 1) have nothing in common.
pub fn derive_seed(seed: u64, stream: Stream, a: u64, b: u64) -> u64 {
    [stream as u64, a, b].into_iter().fold(seed, absorb)
}

fn absorb(hash: u64, word: u64) -> u64 {
    mix(mix(hash) ^ word)
}

/// SplitMix64: an increment and its finaliser (Steele, Lea, Flood 2014; constants by D. Stafford).
#[inline]
pub(crate) fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The random numbers of one sample's transform.
///
/// They depend on (seed, epoch, index) alone, never on the worker, so that an augmented batch has the same
/// bytes with any number of workers. The stream is xoshiro256++ and fixed by golden tests; it also feeds
/// everything that takes a `rand_core` generator.
#[derive(Clone, Debug)]
pub struct SampleRng(Xoshiro256PlusPlus);

impl SampleRng {
    /// The generator of sample `index` in `epoch`.
    pub fn new(seed: u64, epoch: u64, index: usize) -> Self {
        SampleRngs::new(seed, epoch).sample(index)
    }

    pub(crate) fn from_seed(seed: u64) -> Self {
        SampleRng(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        let Ok(bits) = self.0.try_next_u64();
        bits
    }

    /// A uniform number of `0..n`, without bias (Lemire 2019).
    ///
    /// # Panics
    /// If `n` is 0: there is no such number.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a random number below 0");
        let mut product = u128::from(self.bits()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.bits()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// A uniform number in [0, 1), a multiple of 2⁻²⁴.
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// A uniform number in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// `true` with the given probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }
}

/// The generators of an epoch's samples. What their seeds have in common is derived once.
#[derive(Clone, Copy)]
pub(crate) struct SampleRngs(u64);

impl SampleRngs {
    pub(crate) fn new(seed: u64, epoch: u64) -> Self {
        SampleRngs([Stream::Sample as u64, epoch].into_iter().fold(seed, absorb))
    }

    pub(crate) fn sample(self, index: usize) -> SampleRng {
        SampleRng::from_seed(absorb(self.0, index as u64))
    }
}

impl TryRng for SampleRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

/// A chi-square test at a significance of about 1e-5, by the approximation of Wilson and Hilferty.
#[cfg(test)]
pub(crate) fn assert_uniform(counts: &[f64], what: &str) {
    let expected = counts.iter().sum::<f64>() / counts.len() as f64;
    let chi2: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    let spread = 2.0 / (9.0 * (counts.len() as f64 - 1.0).max(1.0));
    let limit = (counts.len() as f64 - 1.0) * (1.0 - spread + 4.27 * spread.sqrt()).powi(3);
    assert!(chi2 <= limit, "{what}: chi² {chi2} above {limit}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_splitmix64() {
        // The first outputs of the reference implementation seeded with 1234567.
        let mut state = 1234567u64;
        let mut next = || {
            let out = mix(state);
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            out
        };
        assert_eq!([next(), next(), next()], [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn numbers_below_n_are_uniform() {
        let mut rng = SampleRng::new(1, 2, 3);
        for n in [1u64, 2, 3, 10, 1000] {
            let mut counts = vec![0f64; n as usize];
            let draws = 1000 * n;
            (0..draws).for_each(|_| counts[rng.below(n) as usize] += 1.0);
            assert_uniform(&counts, &format!("numbers below {n}"));
        }
    }

    #[test]
    fn a_sample_has_its_derived_seed() {
        let (mut rng, mut same) =
            (SampleRng::new(1, 2, 3), SampleRng::from_seed(derive_seed(1, Stream::Sample, 2, 3)));
        assert_eq!(rng.bits(), same.bits());
    }

    #[test]
    fn streams_places_and_seeds_differ() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..4 {
            for stream in [
                Stream::Sample,
                Stream::Order,
                Stream::Split,
                Stream::Init,
                Stream::Step,
                Stream::Draw,
                Stream::Substitute,
            ] {
                for a in 0..10 {
                    for b in 0..10 {
                        assert!(seen.insert(derive_seed(seed, stream, a, b)));
                    }
                }
            }
        }
    }
}
