//! Batches of sequences, padded to one width.

use crate::buffer_pool::BufferPool;
use crate::collate::{BatchShape, Collate, Values, without};
use crate::elements::Elements;
use crate::error::BoxError;

/// A batch of sequences, each padded at its end to the length of the longest.
#[derive(Clone, Debug, PartialEq)]
pub struct Padded<T> {
    /// `[samples, longest]`, in row-major order.
    pub values: Elements<T>,
    /// The length of each sequence without its padding.
    pub lengths: Vec<usize>,
    /// The length that all have with it: of the longest, or of the longest of the global batch if this is one
    /// rank's part of it.
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
///
/// If a batch is dealt to several ranks and its width is [known](crate::BatchSampler::width), all of them pad
/// to it. A sequence that is longer all the same is not cut: that rank's part of the batch is wider then.
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

/// A batch of [`Pad`] while it is written.
#[derive(Debug)]
pub struct Sequences<T> {
    sequences: Vec<Vec<T>>,
    /// The width that they have at least.
    width: usize,
    memory: BufferPool,
}

impl<T: Clone + Send + Sync + 'static> Collate for Pad<T> {
    type Buffer = Sequences<T>;
    type Slot<'a> = &'a mut Vec<T>;
    type Slots<'a> = Values<'a, Vec<T>>;
    type Batch = Padded<T>;

    fn open(&self, BatchShape { samples, width }: BatchShape, memory: &BufferPool) -> Self::Buffer {
        let mut sequences: Vec<Vec<T>> = memory.take(|_| true).unwrap_or_default();
        sequences.resize_with(samples, Vec::new);
        Sequences { sequences, width: width.unwrap_or(0), memory: memory.clone() }
    }

    fn slots<'a>(&self, buffer: &'a mut Self::Buffer) -> Values<'a, Vec<T>> {
        Values::new(&mut buffer.sequences)
    }

    fn clear(&self, slot: &mut &mut Vec<T>) {
        slot.clear();
    }

    fn close(&self, buffer: Self::Buffer, holes: &[usize]) -> Result<Padded<T>, BoxError> {
        let Sequences { mut sequences, width, memory } = buffer;
        without(&mut sequences, 1, holes);
        let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
        let longest = lengths.iter().copied().fold(width, usize::max);
        let mut values: Vec<T> = memory.take(|_| true).unwrap_or_default();
        values.clear();
        let samples = sequences.len();
        let room = longest.checked_mul(samples).filter(|&all| values.try_reserve_exact(all).is_ok());
        if room.is_none() {
            return Err(format!(
                "no memory for {samples} sequences padded to the longest, of {longest} values"
            )
            .into());
        }
        for sequence in &mut sequences {
            let end = values.len() + longest;
            values.append(sequence);
            values.resize(end, self.padding.clone());
        }
        memory.keep(sequences);
        Ok(Padded { values: Elements::of_pool(values, &memory), lengths, longest })
    }

    fn bytes(&self, batch: &Padded<T>) -> usize {
        size_of_val(&*batch.values) + size_of_val(&*batch.lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_padded_to_the_longest() {
        let memory = BufferPool::default();
        let layout = Pad::with(-1);
        let fill = |sequences: &[&[i64]], holes: &[usize]| {
            let mut buffer = layout.open(sequences.len().into(), &memory);
            for (slot, sequence) in buffer.sequences.iter_mut().zip(sequences) {
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
        let memory = BufferPool::default();
        let layout = Pad::with(f32::NAN);
        for samples in [0, 1, 3] {
            let batch = layout.close(layout.open(samples.into(), &memory), &[]).unwrap();
            assert_eq!((batch.values.len(), batch.lengths.len(), batch.longest), (0, samples, 0));
            assert!(batch.mask().is_empty());
        }
        let mut buffer = layout.open(3.into(), &memory);
        buffer.sequences[1].push(7.0);
        let batch = layout.close(buffer, &[0]).unwrap();
        assert!(batch.values[0] == 7.0 && batch.values[1].is_nan());
        assert_eq!(batch.lengths, [1, 0]);
        let all = layout.close(layout.open(2.into(), &memory), &[0, 1]).unwrap();
        assert_eq!((all.lengths.len(), all.longest), (0, 0));
    }

    #[test]
    fn parts_of_a_batch_are_as_wide_as_the_whole() {
        let memory = BufferPool::default();
        let layout = Pad::with(0);
        let fill = |width, sequences: &[&[u8]], holes: &[usize]| {
            let mut buffer = layout.open(BatchShape::from(sequences.len()).with_width(width), &memory);
            for (slot, sequence) in buffer.sequences.iter_mut().zip(sequences) {
                slot.extend(*sequence);
            }
            layout.close(buffer, holes).unwrap()
        };
        let batch = fill(Some(3), &[&[1], &[2, 2]], &[]);
        assert_eq!((&*batch.values, batch.longest), (&[1, 0, 0, 2, 2, 0][..], 3));
        assert_eq!(batch.mask(), [true, false, false, true, true, false]);
        // A sample that was skipped makes no rank's part narrower, and neither does having none.
        let batch = fill(Some(3), &[&[1], &[2, 2, 2]], &[1]);
        assert_eq!((&*batch.values, batch.longest), (&[1, 0, 0][..], 3));
        let batch = fill(Some(3), &[], &[]);
        assert_eq!((batch.values.len(), batch.lengths.len(), batch.longest), (0, 0, 3));
        // Nothing is cut, and the width is that of one batch only.
        assert_eq!(fill(Some(1), &[&[1, 2], &[3]], &[]).longest, 2);
        assert_eq!(fill(None, &[&[1]], &[]).longest, 1);
    }
}
