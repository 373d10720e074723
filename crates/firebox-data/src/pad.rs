//! Batches of sequences, padded to the longest.

use crate::collate::{Collate, Slots, Values, without};
use crate::elements::{Elements, Shelf};
use crate::error::BoxError;

/// A batch of sequences, each padded at its end to the length of the longest.
#[derive(Clone, Debug, PartialEq)]
pub struct Padded<T> {
    /// `[samples, longest]`, in row-major order.
    pub values: Elements<T>,
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
    /// Memory of batches that were dropped.
    shelf: Shelf<Vec<T>>,
    /// Sequences of batches that were closed, still allocated.
    sequences: Shelf<Vec<Vec<T>>>,
}

impl<T> Pad<T> {
    /// Pads with this value.
    pub fn with(padding: T) -> Self {
        Pad { padding, shelf: Shelf::default(), sequences: Shelf::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> Collate for Pad<T> {
    type Buffer = Vec<Vec<T>>;
    type Slot<'a> = &'a mut Vec<T>;
    type Slots<'a> = Values<'a, Vec<T>>;
    type Batch = Padded<T>;

    fn open(&self, samples: usize) -> Vec<Vec<T>> {
        let mut buffer = self.sequences.take().unwrap_or_default();
        buffer.resize_with(samples, Vec::new);
        buffer
    }

    fn slots<'a>(&self, buffer: &'a mut Vec<Vec<T>>) -> Values<'a, Vec<T>> {
        Values::new(buffer)
    }

    fn clear(&self, slot: &mut &mut Vec<T>) {
        slot.clear();
    }

    fn close(&self, mut buffer: Vec<Vec<T>>, holes: &[usize]) -> Result<Padded<T>, BoxError> {
        without(&mut buffer, 1, holes);
        let lengths: Vec<usize> = buffer.iter().map(Vec::len).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut values = self.shelf.take().unwrap_or_default();
        values.clear();
        let samples = buffer.len();
        let room = longest.checked_mul(samples).filter(|&all| values.try_reserve_exact(all).is_ok());
        if room.is_none() {
            return Err(format!(
                "no memory for {samples} sequences padded to the longest, of {longest} values"
            )
            .into());
        }
        for sequence in &mut buffer {
            let end = values.len() + longest;
            values.append(sequence);
            values.resize(end, self.padding.clone());
        }
        self.sequences.put(buffer);
        Ok(Padded { values: Elements::from_shelf(values, &self.shelf), lengths, longest })
    }

    fn bytes(&self, batch: &Padded<T>) -> usize {
        size_of_val(&*batch.values) + size_of_val(&*batch.lengths)
    }
}

impl<T: Clone + Send + Sync + 'static> Slots<Pad<T>> for Values<'_, Vec<T>> {
    fn get(&mut self, sample: usize) -> Option<&mut Vec<T>> {
        self.0.get_mut(sample)
    }

    fn split_at(self, samples: usize) -> (Self, Self) {
        self.cut(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_padded_to_the_longest() {
        let layout = Pad::with(-1);
        let fill = |sequences: &[&[i64]], holes: &[usize]| {
            let mut buffer = layout.open(sequences.len());
            for (slot, sequence) in buffer.iter_mut().zip(sequences) {
                layout.clear(&mut &mut *slot);
                slot.extend(*sequence);
            }
            layout.close(buffer, holes).unwrap()
        };
        let batch = fill(&[&[1, 2], &[], &[3, 4, 5]], &[]);
        assert_eq!(batch.values, [1, 2, -1, -1, -1, -1, 3, 4, 5]);
        assert_eq!((batch.lengths.as_slice(), batch.longest), (&[2, 0, 3][..], 3));
        assert_eq!(batch.mask(), [true, true, false, false, false, false, true, true, true]);
        let batch = fill(&[&[1, 2], &[], &[3, 4, 5]], &[2]);
        assert_eq!((&*batch.values, batch.longest), (&[1, 2, -1, -1][..], 2));
        let batch = fill(&[], &[]);
        assert_eq!((batch.values.len(), batch.longest, batch.mask().len()), (0, 0, 0));
    }

    #[test]
    fn batches_without_values_are_batches() {
        let layout = Pad::with(f32::NAN);
        for samples in [0, 1, 3] {
            let batch = layout.close(layout.open(samples), &[]).unwrap();
            assert_eq!((batch.values.len(), batch.lengths.len(), batch.longest), (0, samples, 0));
            assert!(batch.mask().is_empty());
        }
        let mut buffer = layout.open(3);
        buffer[1].push(7.0);
        let batch = layout.close(buffer, &[0]).unwrap();
        assert!(batch.values[0] == 7.0 && batch.values[1].is_nan());
        assert_eq!(batch.lengths, [1, 0]);
        let all = layout.close(layout.open(2), &[0, 1]).unwrap();
        assert_eq!((all.lengths.len(), all.longest), (0, 0));
    }
}
