//! A keyed permutation of 0..n that is computed, not stored.

use std::iter::zip;
use std::ops::Range;

use firebox_core::SampleRng;
use firebox_core::seed::mix;

/// Below this many items the permutation is a shuffled table: there a Feistel network's halves have so few
/// bits that not all orders would occur, and a table of a few kilobytes costs nothing.
const TABLE_BELOW: usize = 4096;

/// Half-rounds of the network. Four give a pseudo-random permutation for an ideal round function (Luby and
/// Rackoff 1988); twice as many leave room for ours being a hash.
const ROUNDS: u64 = 8;

/// Values that go through the network together.
const LANES: usize = 4;

/// A permutation of `0..n` that depends on a key.
///
/// For n of at least 4,096 it takes no memory: an alternating Feistel network over the smallest power of two
/// that holds n, walked until the value is below n, which takes two steps at most on average. Below, it is a
/// Fisher–Yates table. Which permutation belongs to a key is part of the format and never changes.
///
/// ```
/// use firebox_data::sampler::Permutation;
///
/// // A trillion items, and no table.
/// let order = Permutation::new(1_000_000_000_000, 42);
/// assert!(order.apply(0) < 1_000_000_000_000);
/// assert_ne!(order.apply(0), order.apply(1));
/// ```
#[derive(Clone, Debug)]
pub struct Permutation(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Table(Box<[u16]>),
    Feistel(Feistel),
}

impl Permutation {
    /// The permutation of `0..n` for a key.
    pub fn new(n: usize, key: u64) -> Self {
        if n >= TABLE_BELOW {
            return Permutation(Kind::Feistel(Feistel::new(n, key)));
        }
        let mut table: Box<[u16]> = (0..n as u16).collect();
        let mut rng = SampleRng::from_seed(key);
        for last in (1..n).rev() {
            table.swap(last, rng.below(last as u64 + 1) as usize);
        }
        Permutation(Kind::Table(table))
    }

    /// Where `position` is mapped to.
    ///
    /// # Panics
    /// If `position` is not below n.
    #[inline]
    pub fn apply(&self, position: usize) -> usize {
        match &self.0 {
            Kind::Table(table) => usize::from(table[position]),
            Kind::Feistel(feistel) => feistel.apply(position),
        }
    }

    /// Appends where some positions are mapped to.
    ///
    /// # Panics
    /// If the last is not below n.
    pub(crate) fn apply_all(&self, positions: Range<usize>, to: &mut Vec<usize>) {
        match &self.0 {
            Kind::Table(table) => to.extend(table[positions].iter().copied().map(usize::from)),
            Kind::Feistel(feistel) => feistel.apply_all(positions, to),
        }
    }

    /// Tells whether making this permutation costs time and memory in n, so that it is worth keeping.
    pub(crate) fn is_stored(n: usize) -> bool {
        n < TABLE_BELOW
    }
}

#[derive(Clone, Debug)]
struct Feistel {
    n: u64,
    key: u64,
    /// The lower half's width; the upper half has as many bits or one more.
    low_bits: u32,
    low_mask: u64,
    high_mask: u64,
}

impl Feistel {
    fn new(n: usize, key: u64) -> Self {
        let n = n as u64;
        let bits = u64::BITS - (n - 1).leading_zeros();
        let low_bits = bits / 2;
        Feistel { n, key, low_bits, low_mask: (1 << low_bits) - 1, high_mask: (1 << (bits - low_bits)) - 1 }
    }

    #[inline]
    fn apply(&self, position: usize) -> usize {
        let mut value = position as u64;
        assert!(value < self.n, "position {position} of a permutation of {}", self.n);
        // The network permutes the power of two, so the walk from a value below n meets one below n
        // again: at the latest that value itself, at the end of its cycle.
        loop {
            [value] = self.network([value]);
            if value < self.n {
                return value as usize;
            }
        }
    }

    /// Walks many values side by side: the rounds of one are a chain in which each waits for the one before,
    /// those of several are independent.
    fn apply_all(&self, positions: Range<usize>, to: &mut Vec<usize>) {
        const SIDE_BY_SIDE: usize = 64;
        assert!(positions.end as u64 <= self.n, "position {} of a permutation of {}", positions.end, self.n);
        to.reserve(positions.len());
        let (mut values, mut walking) = ([0; SIDE_BY_SIDE], [0; SIDE_BY_SIDE]);
        let mut start = positions.start;
        while start < positions.end {
            let count = SIDE_BY_SIDE.min(positions.end - start);
            let mut left = count;
            for place in 0..count {
                (values[place], walking[place]) = ((start + place) as u64, place);
            }
            while left > 0 {
                let mut still = 0;
                for at in (0..left).step_by(LANES) {
                    let lanes = LANES.min(left - at);
                    // Lanes without a walker go along, and nobody looks at them.
                    let mut walk = [0; LANES];
                    for lane in 0..lanes {
                        walk[lane] = values[walking[at + lane]];
                    }
                    walk = self.network(walk);
                    for lane in 0..lanes {
                        let place = walking[at + lane];
                        values[place] = walk[lane];
                        walking[still] = place;
                        // Without a branch: which values walk on is as random as the permutation.
                        still += usize::from(walk[lane] >= self.n);
                    }
                }
                left = still;
            }
            to.extend(values[..count].iter().map(|&value| value as usize));
            start += count;
        }
    }

    #[inline]
    fn network<const LANES: usize>(&self, values: [u64; LANES]) -> [u64; LANES] {
        let (mut low, mut high) =
            (values.map(|value| value & self.low_mask), values.map(|value| value >> self.low_bits));
        for round in 0..ROUNDS / 2 {
            // Each half-round changes one half by a function of the other, which is undone by itself.
            for (low, high) in zip(&low, &mut high) {
                *high ^= mix(low ^ self.key.wrapping_add(2 * round)) & self.high_mask;
            }
            for (low, high) in zip(&mut low, &high) {
                *low ^= mix(high ^ self.key.wrapping_add(2 * round + 1)) & self.low_mask;
            }
        }
        std::array::from_fn(|lane| high[lane] << self.low_bits | low[lane])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use firebox_core::testing::assert_uniform;

    use super::*;

    fn order(n: usize, key: u64) -> Vec<usize> {
        let permutation = Permutation::new(n, key);
        (0..n).map(|position| permutation.apply(position)).collect()
    }

    #[test]
    fn every_index_occurs_once() {
        for n in (0..70).chain([4095, 4096, 4097, 8191, 8192, 8193, 60_000, 1 << 17]) {
            let mut order = order(n, 7);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..n), "n {n}");
        }
    }

    #[test]
    fn of_few_items_every_order_occurs_equally_often() {
        for (n, orders) in [(2, 2), (3, 6), (4, 24), (5, 120)] {
            let mut counts = HashMap::new();
            let draws = 2000 * orders;
            (0..draws).for_each(|key| *counts.entry(order(n, key)).or_insert(0f64) += 1.0);
            assert_eq!(counts.len() as u64, orders);
            let counts: Vec<f64> = counts.into_values().collect();
            assert_uniform(&counts, &format!("orders of {n}"));
        }
    }

    /// Positions, and pairs of neighbouring positions, fall evenly into a grid of cells.
    #[test]
    fn of_many_items_positions_and_pairs_are_uniform() {
        const CELLS: usize = 16;
        for n in [4096, 5000, 60_000] {
            let mut one = vec![0f64; CELLS * CELLS];
            let mut two = vec![0f64; CELLS * CELLS];
            let keys = 40;
            for key in 0..keys {
                let cell: Vec<usize> = order(n, mix(key)).iter().map(|index| index * CELLS / n).collect();
                for (position, &at) in cell.iter().enumerate() {
                    one[position * CELLS / n * CELLS + at] += 1.0;
                }
                for pair in cell.windows(2) {
                    two[pair[0] * CELLS + pair[1]] += 1.0;
                }
            }
            for (name, counts) in [("positions", one), ("pairs", two)] {
                assert_uniform(&counts, &format!("{name} of {n}"));
            }
        }
    }

    #[test]
    fn a_trillion_items_take_no_time() {
        let n = 1_000_000_000_000;
        let permutation = Permutation::new(n, 1);
        let mut seen: Vec<usize> = (0..10_000).map(|position| permutation.apply(n / 2 + position)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10_000);
        assert!(seen.iter().all(|&index| index < n));
    }
}
