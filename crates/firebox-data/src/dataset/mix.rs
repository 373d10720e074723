//! Several data sets in a fixed proportion.

use std::error::Error as StdError;
use std::sync::Arc;

use burn_dataset::Dataset;

use super::origin::{Origin, Part, known, origin_of};
use crate::error::{Error, check};

/// Items of several data sets in exact proportions: a pattern as long as the sum of the weights, in which each data
/// set has as many places as its weight, spread evenly, is repeated for as long as is asked. A data set that is
/// through begins again.
///
/// With weights 2 and 1: first, second, first, first, second, first, ….
///
/// The loader's error of an item names its part, and the index in it.
pub struct Mix<D> {
    parts: Vec<D>,
    order: Arc<Order>,
    origin: Origin,
}

/// Which item of which part stands where.
struct Order {
    weights: Vec<usize>,
    lengths: Vec<usize>,
    /// For each place of the pattern its data set, and how many places of that come before it.
    pattern: Vec<(usize, usize)>,
    len: usize,
}

impl Order {
    fn split(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        let (part, before) = self.pattern[index % self.pattern.len()];
        let seen = index / self.pattern.len() * self.weights[part] + before;
        Some((part, seen % self.lengths[part]))
    }
}

impl<D: 'static> Part for Mix<D> {
    fn origin(&self) -> Origin {
        self.origin.clone()
    }
}

impl<D: 'static> Mix<D> {
    /// `len` items of the data sets, by their weights.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if there is no data set, one is empty, a weight is 0, or the weights sum to more than
    /// 65,536.
    pub fn new<I, E>(parts: Vec<(D, usize)>, len: usize) -> Result<Self, Error>
    where
        D: Dataset<I, E>,
        E: StdError + Send + Sync + 'static,
    {
        for (place, (part, weight)) in parts.iter().enumerate() {
            let expected = format_args!("items and a weight above 0 of part {place}");
            let got = format_args!("{} items and weight {weight}", part.len());
            check(!part.is_empty() && *weight > 0, "mix", expected, got)?;
        }
        let (parts, weights): (Vec<D>, Vec<usize>) = parts.into_iter().unzip();
        let period = weights.iter().fold(0usize, |sum, &weight| sum.saturating_add(weight));
        check((1..=1 << 16).contains(&period), "mix", "weights that sum to 1 to 65,536", period)?;
        let mut given = vec![0; parts.len()];
        let pattern = (1..=period).map(|place| {
            // Whoever is furthest behind its share of the places so far comes next; the first of equals.
            let behind = |part: &usize| (weights[*part] * place) as i64 - (given[*part] * period) as i64;
            let next = (0..parts.len()).rev().max_by_key(behind).unwrap_or(0);
            given[next] += 1;
            (next, given[next] - 1)
        });
        let pattern = pattern.collect();
        known::<Self>();
        let lengths = parts.iter().map(|part| part.len()).collect();
        let order = Arc::new(Order { weights, lengths, pattern, len });
        let own = Arc::clone(&order);
        let origins = parts.iter().map(origin_of).collect();
        let origin = Origin::of_sources(origins, move |index| own.split(index));
        Ok(Mix { parts, order, origin })
    }
}

impl<D> Mix<D> {
    /// The data set of an item, and the index in it.
    ///
    /// # Panics
    /// If there is no such item, as [`Dataset::get`] does.
    pub fn origin<I, E>(&self, index: usize) -> (usize, usize)
    where
        D: Dataset<I, E>,
        E: StdError + Send + Sync + 'static,
    {
        match self.order.split(index) {
            Some(origin) => origin,
            None => panic!("index {index} of a mix of {}", self.order.len),
        }
    }
}

impl<D, I, E> Dataset<I, E> for Mix<D>
where
    D: Dataset<I, E>,
    E: StdError + Send + Sync + 'static,
{
    fn get(&self, index: usize) -> Result<I, E> {
        let (part, index) = self.origin(index);
        self.parts[part].get(index)
    }

    fn len(&self) -> usize {
        self.order.len
    }
}
