//! Arrays that are written whole.

use std::iter::zip;

use crate::collate::{BatchShape, Collate, Rows, Slots, Stack, Stacked};
use crate::elements::BufferPool;
use crate::error::BoxError;

/// Stacks arrays of one shape that are written whole, from an iterator: rank `R` a sample, slot [`Blank`],
/// batch [`Stacked`].
///
/// What [`Stack`] does, and faster if samples are cheap: since it sees that every element is written, it need
/// not make the slot zero before.
///
/// ```
/// use firebox_data::Loader;
/// use firebox_data::collate::StackWhole;
///
/// let images = vec![[0u8, 51, 102, 255]; 10];
/// let loader = Loader::builder(images).batch_size(4).build(StackWhole::new([2, 2]), |image, _, mut pixels| {
///     pixels.fill(image.iter().map(|&pixel| f32::from(pixel) / 255.0))
/// })?;
/// assert_eq!(loader.epoch(0).next().unwrap()?.values[..4], [0.0, 0.2, 0.4, 1.0]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StackWhole<T, const R: usize>(Stack<T, R>);

impl<T, const R: usize> StackWhole<T, R> {
    /// For samples of this shape, such as `[channels, height, width]`.
    pub fn new(shape: [usize; R]) -> Self {
        StackWhole(Stack::new(shape))
    }
}

/// A slot that must be filled.
#[derive(Debug)]
pub struct Blank<'a, T> {
    values: &'a mut [T],
    filled: &'a mut bool,
}

impl<T> Blank<'_, T> {
    /// Writes all elements, in row-major order.
    ///
    /// # Errors
    /// If there are fewer values than elements, or more.
    pub fn fill(
        &mut self,
        values: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    ) -> Result<(), BoxError> {
        let values = values.into_iter();
        let mut got = values.len();
        if got == self.values.len() {
            // An iterator may be wrong about its length.
            got = 0;
            for (to, value) in zip(&mut *self.values, values) {
                *to = value;
                got += 1;
            }
        }
        self.end(got)
    }

    /// Writes all elements, in row-major order: the fastest way for those that lie in memory already.
    ///
    /// ```
    /// use firebox_data::Loader;
    /// use firebox_data::collate::StackWhole;
    ///
    /// let images = vec![vec![0f32, 0.2, 0.4, 1.0]; 10];
    /// let layout = StackWhole::new([2, 2]);
    /// let loader =
    ///     Loader::builder(images).build(layout, |image, _, mut pixels| pixels.copy_from_slice(&image))?;
    /// assert_eq!(loader.epoch(0).next().unwrap()?.values, [0.0, 0.2, 0.4, 1.0]);
    /// # Ok::<(), firebox_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are fewer values than elements, or more.
    pub fn copy_from_slice(&mut self, values: &[T]) -> Result<(), BoxError>
    where
        T: Copy,
    {
        if values.len() == self.values.len() {
            self.values.copy_from_slice(values);
        }
        self.end(values.len())
    }

    /// Notes whether the slot is filled, with so many values.
    fn end(&mut self, got: usize) -> Result<(), BoxError> {
        let expected = self.values.len();
        *self.filled = got == expected;
        match *self.filled {
            true => Ok(()),
            false => Err(format!("expected {expected} values for a slot, got {got}").into()),
        }
    }
}

impl<T: Clone + Default + Send + 'static, const R: usize> Collate for StackWhole<T, R> {
    /// With whether each slot is filled.
    type Buffer = (Stacked<T, R>, Vec<bool>);
    type Slot<'a> = Blank<'a, T>;
    type Slots<'a> = Blanks<'a, T>;
    type Batch = Stacked<T, R>;

    fn open(&self, shape: BatchShape, memory: &BufferPool) -> Self::Buffer {
        (self.0.open(shape, memory), vec![false; shape.samples])
    }

    fn slots<'a>(&self, (stacked, filled): &'a mut Self::Buffer) -> Blanks<'a, T> {
        Blanks { rows: self.0.slots(stacked), filled }
    }

    fn clear(&self, slot: &mut Blank<'_, T>) {
        *slot.filled = false;
    }

    fn close(&self, (stacked, filled): Self::Buffer, holes: &[usize]) -> Result<Stacked<T, R>, BoxError> {
        let blank = |&slot: &usize| !filled[slot] && holes.binary_search(&slot).is_err();
        match (0..filled.len()).find(blank) {
            Some(slot) => Err(format!("slot {slot} of the batch was not filled").into()),
            None => self.0.close(stacked, holes),
        }
    }

    fn bytes(&self, batch: &Stacked<T, R>) -> usize {
        self.0.bytes(batch)
    }

    fn fixed_bytes(&self, samples: usize) -> Option<usize> {
        self.0.fixed_bytes(samples)
    }
}

/// The slots of [`StackWhole`].
#[derive(Debug)]
pub struct Blanks<'a, T> {
    rows: Rows<'a, T>,
    filled: &'a mut [bool],
}

impl<T: Clone + Default + Send + 'static, const R: usize> Slots<StackWhole<T, R>> for Blanks<'_, T> {
    fn get(&mut self, sample: usize) -> Option<Blank<'_, T>> {
        let values = Slots::<Stack<T, R>>::get(&mut self.rows, sample)?;
        Some(Blank { values, filled: self.filled.get_mut(sample)? })
    }

    fn split_at(self, samples: usize) -> (Self, Self) {
        let (left, right) = Slots::<Stack<T, R>>::split_at(self.rows, samples);
        let (filled, rest) = self.filled.split_at_mut(samples);
        (Blanks { rows: left, filled }, Blanks { rows: right, filled: rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot<'s>(slots: &'s mut Blanks<'_, u8>, sample: usize) -> Blank<'s, u8> {
        Slots::<StackWhole<u8, 2>>::get(slots, sample).unwrap()
    }

    #[test]
    fn a_slot_is_filled_whole_or_missed() {
        let layout = StackWhole::<u8, 2>::new([1, 2]);
        let mut buffer = layout.open(3.into(), &BufferPool::default());
        let (mut left, mut right) = Slots::<StackWhole<u8, 2>>::split_at(layout.slots(&mut buffer), 1);
        slot(&mut left, 0).fill([1, 2]).unwrap();
        slot(&mut right, 0).fill([3, 4]).unwrap();
        for (values, got) in [(&[5][..], 1), (&[5, 6, 7], 3), (&[], 0)] {
            let error = slot(&mut right, 1).fill(values.iter().copied()).unwrap_err();
            assert_eq!(error.to_string(), format!("expected 2 values for a slot, got {got}"));
        }
        let error = layout.close(buffer.clone(), &[]).unwrap_err();
        assert_eq!(error.to_string(), "slot 2 of the batch was not filled");
        let mut slots = layout.slots(&mut buffer);
        slot(&mut slots, 2).copy_from_slice(&[5, 6]).unwrap();
        for values in [&[7][..], &[7, 8, 9], &[]] {
            let error = slot(&mut slots, 2).copy_from_slice(values).unwrap_err();
            assert_eq!(error.to_string(), format!("expected 2 values for a slot, got {}", values.len()));
        }
        assert!(layout.close(buffer.clone(), &[]).is_err(), "what failed leaves the slot unfilled");
        slot(&mut layout.slots(&mut buffer), 2).copy_from_slice(&[5, 6]).unwrap();
        assert_eq!(layout.close(buffer.clone(), &[]).unwrap().values, [1, 2, 3, 4, 5, 6]);
        assert_eq!(layout.close(buffer.clone(), &[2]).unwrap().values, [1, 2, 3, 4]);
        let mut slots = layout.slots(&mut buffer);
        layout.clear(&mut slot(&mut slots, 0));
        assert!(layout.close(buffer, &[2]).is_err(), "what an earlier try left is not a sample");
    }

    /// Says that it has two elements, and has one.
    struct Short(Option<u8>);

    impl Iterator for Short {
        type Item = u8;

        fn next(&mut self) -> Option<u8> {
            self.0.take()
        }

        fn size_hint(&self) -> (usize, Option<usize>) {
            (2, Some(2))
        }
    }

    impl ExactSizeIterator for Short {}

    #[test]
    fn a_length_is_not_taken_on_trust() {
        let layout = StackWhole::<u8, 2>::new([1, 2]);
        let mut buffer = layout.open(1.into(), &BufferPool::default());
        let error = slot(&mut layout.slots(&mut buffer), 0).fill(Short(Some(1))).unwrap_err();
        assert_eq!(error.to_string(), "expected 2 values for a slot, got 1");
        assert!(layout.close(buffer, &[]).is_err());
    }
}
