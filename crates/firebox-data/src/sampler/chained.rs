//! One sampler after the other.

use crate::error::{Error, ErrorKind};
use crate::sampler::{Ranks, Sampler, check_position};

/// All positions of one sampler, then all of the next, and so on. The samplers are of one data set.
///
/// ```
/// use firebox_data::sampler::{Chained, Sampler, Sequential};
///
/// let twice = Chained::new(vec![Box::new(Sequential::new(3)), Box::new(Sequential::new(3))])?;
/// let order: Vec<usize> = (0..twice.len()).map(|position| twice.index(0, position)).collect();
/// assert_eq!(order, [0, 1, 2, 0, 1, 2]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct Chained {
    parts: Vec<Box<dyn Sampler>>,
    /// The position at which each part ends.
    ends: Vec<usize>,
    /// The global position at which each part ends.
    global_ends: Vec<u64>,
    /// Those that share the parts which are shared.
    ranks: Ranks,
}

impl Chained {
    /// The samplers in their order.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if they have more positions together than can be counted,
    /// [`ErrorKind::Config`] if they are shares of different ranks.
    pub fn new(parts: Vec<Box<dyn Sampler>>) -> Result<Self, Error> {
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        let Some(ends) = crate::sampler::ends(&lengths) else {
            let most = format_args!("at most {} positions in all", usize::MAX);
            return Err(Error::out_of_range("chained", most, format_args!("{lengths:?}")));
        };
        let shared = || parts.iter().map(|part| part.ranks()).filter(|ranks| !ranks.is_alone());
        let ranks = shared().next().unwrap_or(Ranks::ALONE);
        if let Some(other) = shared().find(|other| *other != ranks) {
            let [one, other] =
                [ranks, other].map(|ranks| format!("rank {} of {}", ranks.rank(), ranks.world()));
            let text = format!("chained: expected the shares of one rank, got those of {one} and {other}");
            return Err(Error::new(ErrorKind::Config, text));
        }
        let global_ends = parts.iter().scan(0u64, |end, part| {
            // They are keys, not places: to begin again behind 2⁶⁴ of them harms nobody.
            *end = end.wrapping_add(part.global_len());
            Some(*end)
        });
        Ok(Chained { ends, global_ends: global_ends.collect(), ranks, parts })
    }

    /// The part of a position, and the position in it.
    fn part(&self, position: usize) -> (usize, usize) {
        check_position(position, self.len());
        let part = self.ends.partition_point(|&end| end <= position);
        (part, position - part.checked_sub(1).map_or(0, |before| self.ends[before]))
    }

    /// The global position at which a part begins.
    fn global_start(&self, part: usize) -> u64 {
        part.checked_sub(1).map_or(0, |before| self.global_ends[before])
    }
}

impl Sampler for Chained {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn index(&self, epoch: u64, position: usize) -> usize {
        let (part, position) = self.part(position);
        self.parts[part].index(epoch, position)
    }

    fn global_position(&self, epoch: u64, position: usize) -> u64 {
        let (part, position) = self.part(position);
        self.global_start(part).wrapping_add(self.parts[part].global_position(epoch, position))
    }

    fn global_len(&self) -> u64 {
        self.global_ends.last().copied().unwrap_or(0)
    }

    fn ranks(&self) -> Ranks {
        self.ranks
    }

    fn on_rank(&self, rank: usize, epoch: u64, position: usize) -> (usize, u64) {
        let (part, position) = self.part(position);
        let (index, global) = self.parts[part].on_rank(rank, epoch, position);
        (index, self.global_start(part).wrapping_add(global))
    }

    fn describe(&self) -> String {
        let parts: Vec<_> = self.parts.iter().map(|part| part.describe()).collect();
        format!("chained({})", parts.join(", "))
    }
}
