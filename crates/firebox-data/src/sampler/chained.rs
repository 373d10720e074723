//! One sampler after the other.

use crate::sampler::{Sampler, check_position};

/// All positions of one sampler, then all of the next, and so on. The samplers are of one data set.
pub struct Chained {
    parts: Vec<Box<dyn Sampler>>,
    /// The position at which each part ends.
    ends: Vec<usize>,
}

impl Chained {
    /// The samplers in their order.
    pub fn new(parts: Vec<Box<dyn Sampler>>) -> Self {
        let ends = parts.iter().scan(0, |end, part| {
            *end += part.len();
            Some(*end)
        });
        Chained { ends: ends.collect(), parts }
    }
}

impl Sampler for Chained {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        check_position(position, self.len());
        let part = self.ends.partition_point(|&end| end <= position);
        let start = part.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.parts[part].index(epoch, position - start)
    }

    fn describe(&self) -> String {
        let parts: Vec<_> = self.parts.iter().map(|part| part.describe()).collect();
        format!("chained({})", parts.join(", "))
    }
}
