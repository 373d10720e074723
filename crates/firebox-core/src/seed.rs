//! Seeds from seeds: every random decision has a stream of its own.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;

use rand_core::{SeedableRng, TryRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// The purpose of a stream of random numbers.
///
/// The numbers are part of the format: they never change.
///
/// ```
/// use firebox_core::{Purpose, derive_seed};
///
/// // Two decisions that follow from one seed have nothing in common.
/// assert_ne!(derive_seed(7, Purpose::Split, 0, 0), derive_seed(7, Purpose::Order, 0, 0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u64)]
pub enum Purpose {
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
    /// The transform of one record of a shard.
    Shard = 8,
    /// One batch of an evaluation.
    Evaluation = 9,
}

/// A seed for a purpose at the place (a, b), such as an epoch and an index.
///
/// A fixed function, the same in every release: SplitMix64 over the words, before and after each, so that the
/// places (1, 2) and (2, 1) have nothing in common.
///
/// ```
/// use firebox_core::{Purpose, derive_seed};
///
/// let of_epoch = |epoch| derive_seed(42, Purpose::Split, epoch, 0);
/// assert_eq!(of_epoch(1), of_epoch(1));
/// assert_ne!(of_epoch(1), of_epoch(2));
/// ```
#[inline]
pub fn derive_seed(seed: u64, purpose: Purpose, a: u64, b: u64) -> u64 {
    [purpose as u64, a, b].into_iter().fold(seed, absorb)
}

/// A number that differs, with all likelihood, between different sequences of words.
///
/// It tells tables apart in a description. It is no defence against somebody who wants two to be alike.
///
/// ```
/// use firebox_core::seed::fingerprint;
///
/// assert_eq!(fingerprint([1, 2]), fingerprint(1..3));
/// assert_ne!(fingerprint([1, 2]), fingerprint([2, 1]));
/// ```
pub fn fingerprint(words: impl IntoIterator<Item = u64>) -> u64 {
    words.into_iter().fold(0, absorb)
}

#[inline]
const fn absorb(hash: u64, word: u64) -> u64 {
    mix(mix(hash) ^ word)
}

/// SplitMix64: an increment and its finalizer (Steele, Lea, Flood 2014; constants by D. Stafford).
#[inline]
pub const fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The name of one stage between an item and its slot, and its number among equal names.
///
/// Each stage of a sample has random numbers of its own, which follow from its key. The number counts stages
/// of the same name from the end, so that a stage put in front of the others, or one of another name
/// anywhere, changes nothing that they draw. Keys are part of a loader's saved settings.
///
/// ```
/// use firebox_core::{SampleRng, StageKey};
///
/// // What the stage that writes draws for position 3 of epoch 0.
/// let mut rng = SampleRng::new(42, 0, 3, &StageKey::WRITE);
/// let mut same = SampleRng::new(42, 0, 3, &StageKey::new("write", 0));
/// assert_eq!(rng.bits(), same.bits());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageKey {
    name: Cow<'static, str>,
    number: u32,
    /// Derived from both, once a loader.
    word: u64,
}

impl StageKey {
    /// The key of a sample's last stage, which writes into the slot.
    pub const WRITE: StageKey =
        StageKey { name: Cow::Borrowed("write"), number: 0, word: StageKey::word("write", 0) };

    /// The key of the stage with this name that has `number` others of the name after it.
    pub fn new(name: impl Into<Cow<'static, str>>, number: u32) -> Self {
        let name = name.into();
        StageKey { word: Self::word(&name, number), name, number }
    }

    /// The length goes first, so that no name and number run into each other.
    const fn word(name: &str, number: u32) -> u64 {
        let (name, mut at) = (name.as_bytes(), 0);
        let mut word = absorb(0, name.len() as u64);
        while at < name.len() {
            word = absorb(word, name[at] as u64);
            at += 1;
        }
        absorb(word, number as u64)
    }
}

impl fmt::Display for StageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.number)
    }
}

/// The random numbers of one stage of one sample.
///
/// ```
/// use firebox_core::{SampleRng, StageKey};
///
/// // Where to crop a picture, and whether to flip it.
/// let mut rng = SampleRng::new(42, 0, 3, &StageKey::new("crop", 0));
/// let (left, flip) = (rng.below(8), rng.chance(0.5));
/// let mut again = SampleRng::new(42, 0, 3, &StageKey::new("crop", 0));
/// assert_eq!((again.below(8), again.chance(0.5)), (left, flip));
/// ```
///
/// They depend on (seed, epoch, global position, stage) alone, never on the worker, so that an augmented
/// batch has the same bytes with any number of workers; and a sample that comes twice in an epoch is
/// augmented twice. Those of a record of a stream follow from its shard and number instead of a position. The
/// generator is xoshiro256++ and fixed by golden tests; it also feeds everything that takes a `rand_core`
/// generator.
#[derive(Clone, Debug)]
pub struct SampleRng(Xoshiro256PlusPlus);

impl SampleRng {
    /// The generator of a stage for the sample at a global position of an epoch.
    ///
    /// That is the position in the order of all ranks.
    pub fn new(seed: u64, epoch: u64, position: u64, stage: &StageKey) -> Self {
        PositionSeeds::new(seed, epoch).at(position).stage(stage)
    }

    /// The generator of a seed, for what belongs to no sample: see [`derive_seed`].
    #[inline]
    pub fn from_seed(seed: u64) -> Self {
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
    #[inline]
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
    #[inline]
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// A uniform number in [0, 1), a multiple of 2⁻⁵³.
    #[inline]
    pub fn uniform_f64(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// `true` with the given probability.
    #[inline]
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }
}

/// The seeds of an epoch's samples of a data set.
///
/// What they have in common is derived once an epoch.
///
/// ```
/// use firebox_core::{SampleRng, StageKey};
/// use firebox_core::seed::PositionSeeds;
///
/// let mut rng = PositionSeeds::new(42, 0).at(3).stage(&StageKey::WRITE);
/// assert_eq!(rng.bits(), SampleRng::new(42, 0, 3, &StageKey::WRITE).bits());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PositionSeeds(u64);

impl PositionSeeds {
    /// Of an epoch under a seed.
    pub fn new(seed: u64, epoch: u64) -> Self {
        PositionSeeds([Purpose::Sample as u64, epoch].into_iter().fold(seed, absorb))
    }

    /// Of the sample at a global position.
    #[inline]
    pub fn at(self, position: u64) -> SampleSeed {
        SampleSeed(absorb(self.0, position))
    }
}

/// The seeds of an epoch's records of shards, whose positions nobody may know.
///
/// ```
/// use firebox_core::StageKey;
/// use firebox_core::seed::RecordSeeds;
///
/// let seeds = RecordSeeds::new(42, 0);
/// let draw = |repeat| seeds.at(1, 7, repeat).stage(&StageKey::WRITE).bits();
/// assert_ne!(draw(0), draw(1), "a record that comes twice is augmented twice");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RecordSeeds(u64);

impl RecordSeeds {
    /// Of an epoch under a seed.
    pub fn new(seed: u64, epoch: u64) -> Self {
        RecordSeeds([Purpose::Shard as u64, epoch].into_iter().fold(seed, absorb))
    }

    /// Of a record that comes for the `repeat`th time in the epoch, from 0.
    #[inline]
    pub fn at(self, shard: u64, record: u64, repeat: u64) -> SampleSeed {
        SampleSeed([shard, record, repeat].into_iter().fold(self.0, absorb))
    }
}

/// The seed of one sample, which its stages' generators follow from.
///
/// ```
/// use firebox_core::StageKey;
/// use firebox_core::seed::PositionSeeds;
///
/// let sample = PositionSeeds::new(42, 0).at(3);
/// let [mut crop, mut flip] = ["crop", "flip"].map(|name| sample.stage(&StageKey::new(name, 0)));
/// assert_ne!(crop.bits(), flip.bits(), "each stage has numbers of its own");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SampleSeed(u64);

impl SampleSeed {
    /// The generator of one of its stages.
    #[inline]
    pub fn stage(self, stage: &StageKey) -> SampleRng {
        SampleRng::from_seed(absorb(self.0, stage.word))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_uniform;

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
        let mut rng = SampleRng::new(1, 2, 3, &StageKey::WRITE);
        for n in [1u64, 2, 3, 10, 1000] {
            let mut counts = vec![0f64; n as usize];
            let draws = 1000 * n;
            (0..draws).for_each(|_| counts[rng.below(n) as usize] += 1.0);
            assert_uniform(&counts, &format!("numbers below {n}"));
        }
    }

    /// The derivation is part of the format: what was begun with one release goes on with the next.
    #[test]
    fn samples_records_and_stages_have_these_numbers() {
        let bits = |mut rng: SampleRng| rng.bits();
        let position =
            |seed, epoch, position, stage: &StageKey| bits(SampleRng::new(seed, epoch, position, stage));
        let write = &StageKey::WRITE;
        assert_eq!(write.word, GOLDEN_WRITE);
        assert_eq!(
            [(42, 0, 0), (42, 1, 0), (42, 0, 1), (43, 0, 0), (1, u64::MAX, u64::MAX)]
                .map(|(seed, epoch, at)| position(seed, epoch, at, write)),
            GOLDEN_POSITIONS
        );
        let stages = [StageKey::new("write", 1), StageKey::new("crop", 0), StageKey::new("", 0)];
        assert_eq!(stages.map(|stage| position(42, 0, 0, &stage)), GOLDEN_STAGES);
        let records = RecordSeeds::new(42, 1);
        assert_eq!(
            [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
                .map(|(shard, record, repeat)| bits(records.at(shard, record, repeat).stage(write))),
            GOLDEN_RECORDS
        );
    }

    const GOLDEN_WRITE: u64 = 6488150775471146108;
    const GOLDEN_POSITIONS: [u64; 5] = [
        16970010682006601489,
        1952215390268073980,
        13441588003619365450,
        1957596816507024032,
        14838048445508776937,
    ];
    const GOLDEN_STAGES: [u64; 3] = [4678351168943762668, 2394156324809037040, 741989578636185861];
    const GOLDEN_RECORDS: [u64; 4] =
        [5632362966543717838, 3555941240890036657, 9644331534994661612, 593124327220955850];

    #[test]
    fn a_stage_s_key_is_its_name_and_number() {
        assert_eq!(StageKey::new("write", 0), StageKey::WRITE);
        assert_eq!(StageKey::WRITE.to_string(), "write 0");
        let keys = [("a", 0), ("a", 1), ("b", 0), ("aa", 0), ("", 0), ("a\0", 0), ("a\x01", 0)];
        let words: std::collections::HashSet<_> =
            keys.iter().map(|&(name, number)| StageKey::new(name, number).word).collect();
        assert_eq!(words.len(), keys.len());
    }

    #[test]
    fn purposes_places_and_seeds_differ() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..4 {
            for purpose in [
                Purpose::Sample,
                Purpose::Order,
                Purpose::Split,
                Purpose::Init,
                Purpose::Step,
                Purpose::Draw,
                Purpose::Substitute,
            ] {
                for a in 0..10 {
                    for b in 0..10 {
                        assert!(seen.insert(derive_seed(seed, purpose, a, b)));
                    }
                }
            }
        }
    }
}
