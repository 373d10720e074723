//! Batches of sequences, padded to the longest.

use crate::collate::{Collate, Values};
use crate::error::BoxError;

/// A batch of sequences, each padded at its end to the length of the longest.
#[derive(Clone, Debug, PartialEq)]
pub struct Padded<T> {
    /// `[samples, longest]`, in row-major order.
    pub values: Vec<T>,
    /// The length of each sequence without its padding.
    pub lengths: Vec<usize>,
    /// The length that all have with it.
    pub longest: usize,
}

impl<T> Padded<T> {
    /// For each value, in the order of `values`, whether it belongs to a sequence and is no padding.
    pub fn mask(&self) -> Vec<bool> {
        let row = |&length: &usize| (0..self.longest).map(move |place| place < length);
        self.lengths.iter().flat_map(row).collect()
    }
}

/// Pads sequences to the longest of their batch: slot `&mut Vec<T>`, batch [`Padded`].
#[derive(Clone, Debug)]
pub struct Pad<T> {
    padding: T,
}

impl<T> Pad<T> {
    /// Pads with this value.
    pub fn with(padding: T) -> Self {
        Pad { padding }
    }
}

impl<T: Clone + Send + Sync + 'static> Collate for Pad<T> {
    type Buffer = Vec<Vec<T>>;
    type Slot<'a> = &'a mut Vec<T>;
    type Slots<'a> = Values<'a, Vec<T>>;
    type Batch = Padded<T>;

    fn open(&self, samples: usize) -> Vec<Vec<T>> {
        vec![Vec::new(); samples]
    }

    fn slots<'a>(&self, buffer: &'a mut Vec<Vec<T>>) -> Values<'a, Vec<T>> {
        Values::new(buffer)
    }

    fn clear(&self, buffer: &mut Vec<Vec<T>>, sample: usize) {
        buffer[sample].clear();
    }

    fn close(&self, mut buffer: Vec<Vec<T>>, holes: &[usize]) -> Result<Padded<T>, BoxError> {
        for &hole in holes.iter().rev() {
            buffer.remove(hole);
        }
        let lengths: Vec<usize> = buffer.iter().map(Vec::len).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut values = Vec::with_capacity(longest * buffer.len());
        for sequence in buffer {
            let end = values.len() + longest;
            values.extend(sequence);
            values.resize(end, self.padding.clone());
        }
        Ok(Padded { values, lengths, longest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collate::Slots;

    #[test]
    fn sequences_are_padded_to_the_longest() {
        let layout = Pad::with(-1);
        let fill = |sequences: &[&[i64]], holes: &[usize]| {
            let mut buffer = layout.open(sequences.len());
            let mut slots = layout.slots(&mut buffer);
            sequences.iter().for_each(|sequence| slots.take().unwrap().extend(*sequence));
            layout.close(buffer, holes).unwrap()
        };
        let batch = fill(&[&[1, 2], &[], &[3, 4, 5]], &[]);
        assert_eq!(batch.values, [1, 2, -1, -1, -1, -1, 3, 4, 5]);
        assert_eq!((batch.lengths.as_slice(), batch.longest), (&[2, 0, 3][..], 3));
        assert_eq!(batch.mask(), [true, true, false, false, false, false, true, true, true]);
        let batch = fill(&[&[1, 2], &[], &[3, 4, 5]], &[2]);
        assert_eq!((batch.values.as_slice(), batch.longest), (&[1, 2, -1, -1][..], 2));
        let batch = fill(&[], &[]);
        assert_eq!((batch.values.len(), batch.longest, batch.mask().len()), (0, 0, 0));
    }
}
