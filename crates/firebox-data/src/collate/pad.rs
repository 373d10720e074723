//! Batches of sequences, padded to one width.

use std::iter::zip;

use crate::collate::{BatchShape, Collate, Values, without};
use crate::elements::BufferPool;
use crate::elements::Elements;
use crate::error::BoxError;

/// A batch of sequences, each padded at its end to the length of the longest.
///
/// ```
/// use firebox_data::collate::Padded;
/// use firebox_data::{Loader, Pad};
///
/// let loader = Loader::builder(vec!["box", "a"])
///     .batch_size(2)
///     .build(Pad::with(b'.'), |word, _, letters| Ok(letters.extend(word.bytes())))?;
/// let batch: Padded<u8> = loader.epoch(0).next().unwrap()?;
/// assert_eq!((&*batch.values, &*batch.lengths, batch.longest), (&b"boxa.."[..], &[3, 1][..], 3));
/// assert_eq!(batch.mask(), [true, true, true, true, false, false]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
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
/// If a batch is dealt to several ranks, all of them pad to its width, which must be
/// [known](crate::sampler::BatchSampler::width) or [set](Self::to). A sequence that is longer than a known
/// width all the same is not cut: that rank's part of the batch is wider then.
///
/// ```
/// use firebox_data::{Loader, Pad};
///
/// let words = vec!["fire", "box"];
/// let loader = Loader::builder(words).batch_size(2).build(Pad::with(b' ').to(5), |word, _, letters| {
///     letters.extend(word.bytes());
///     Ok(())
/// })?;
/// let batch = loader.epoch(0).next().unwrap()?;
/// assert_eq!(&*batch.values, b"fire box  ");
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pad<T> {
    padding: T,
    /// The width of every batch, if it is set.
    width: Option<usize>,
}

impl<T> Pad<T> {
    /// Pads with this value.
    pub fn with(padding: T) -> Self {
        Pad { padding, width: None }
    }

    /// Gives every batch this width, on any number of ranks. A sequence that is longer is an error of its
    /// batch.
    pub fn to(mut self, width: usize) -> Self {
        self.width = Some(width);
        self
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
        Sequences { sequences, width: self.width.or(width).unwrap_or(0), memory: memory.clone() }
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
        if let Some(width) = self.width
            && let Some(row) = lengths.iter().position(|&length| length > width)
        {
            let text =
                format!("row {row}: expected a sequence of at most {width} values, got {}", lengths[row]);
            return Err(text.into());
        }
        let longest = lengths.iter().copied().fold(width, usize::max);
        let samples = sequences.len();
        if let Some(mut values) = longest.checked_mul(samples).and_then(|all| memory.shared::<T>(all)) {
            for (row, sequence) in zip(values.chunks_exact_mut(longest), &sequences) {
                let (sequence_of_row, padding) = row.split_at_mut(sequence.len());
                sequence_of_row.clone_from_slice(sequence);
                padding.fill(self.padding.clone());
            }
            memory.keep(sequences);
            return Ok(Padded { values, lengths, longest });
        }
        let mut values: Vec<T> = memory.take(|_| true).unwrap_or_default();
        values.clear();
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

    fn pads(&self) -> bool {
        self.width.is_none()
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
    fn a_width_that_is_set_is_that_of_every_batch() {
        let memory = BufferPool::default();
        let layout = Pad::with(0).to(3);
        let fill = |width, sequences: &[&[u8]], holes: &[usize]| {
            let mut buffer = layout.open(BatchShape::from(sequences.len()).with_width(width), &memory);
            for (slot, sequence) in buffer.sequences.iter_mut().zip(sequences) {
                slot.extend(*sequence);
            }
            layout.close(buffer, holes)
        };
        for width in [None, Some(1), Some(9)] {
            assert_eq!(&*fill(width, &[&[1], &[2, 2]], &[]).unwrap().values, &[1, 0, 0, 2, 2, 0]);
            assert_eq!(fill(width, &[], &[]).unwrap().longest, 3);
        }
        let text = "row 1: expected a sequence of at most 3 values, got 4";
        assert_eq!(fill(None, &[&[1], &[2; 4]], &[]).unwrap_err().to_string(), text);
        assert_eq!(fill(None, &[&[1], &[2; 4]], &[1]).unwrap().longest, 3, "a sample that is left out");
        let both = (Pad::with(0u8), layout.clone());
        assert!(Pad::with(0u8).pads() && !layout.pads() && both.pads() && !(layout.clone(), layout).pads());
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
