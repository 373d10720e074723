//! How samples become a batch: one buffer, one slot a sample.

pub(crate) mod pad;
mod stack_whole;

pub use pad::{Pad, Padded, Sequences};
pub use stack_whole::{Blank, Blanks, StackWhole};

use std::marker::PhantomData;

use crate::elements::BufferPool;
use crate::elements::Elements;
use crate::error::BoxError;

/// The layout of a batch.
///
/// A batch is opened once, for a known number of samples, and gives each sample a slot to be written into:
/// no sample is copied twice. The slots are handed out in runs, so that several workers fill one batch. When
/// the last slot is written, the batch is closed.
///
/// Ready layouts: [`Stack`] for arrays of one shape, [`StackWhole`] for such that
/// are written whole, [`Scalar`] for single values, [`Pad`] for sequences,
/// [`Ragged`] for anything, and tuples of layouts, whose slots are tuples of slots.
///
/// # A layout of your own
/// ```
/// use firebox_data::collate::{BatchShape, Values};
/// use firebox_data::elements::BufferPool;
/// use firebox_data::{BoxError, Collate, Loader};
///
/// /// Batches that are sorted.
/// struct Sorted;
///
/// impl Collate for Sorted {
///     type Buffer = Vec<i64>;
///     type Slot<'a> = &'a mut i64;
///     type Slots<'a> = Values<'a, i64>;
///     type Batch = Vec<i64>;
///
///     fn open(&self, shape: BatchShape, _: &BufferPool) -> Vec<i64> {
///         vec![0; shape.samples]
///     }
///
///     fn slots<'a>(&self, buffer: &'a mut Vec<i64>) -> Values<'a, i64> {
///         Values::new(buffer)
///     }
///
///     fn clear(&self, slot: &mut &mut i64) {
///         **slot = 0;
///     }
///
///     fn close(&self, mut buffer: Vec<i64>, holes: &[usize]) -> Result<Vec<i64>, BoxError> {
///         holes.iter().rev().for_each(|hole| drop(buffer.remove(*hole)));
///         buffer.sort_unstable();
///         Ok(buffer)
///     }
///
///     fn bytes(&self, batch: &Vec<i64>) -> usize {
///         size_of_val(&**batch)
///     }
/// }
///
/// let builder = Loader::builder(vec![3, 1, 2]).batch_size(3);
/// let loader = builder.build(Sorted, |number, _, slot| Ok(*slot = number))?;
/// assert_eq!(loader.epoch(0).next().unwrap()?, [1, 2, 3]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub trait Collate: Sized + Send + Sync + 'static {
    /// The batch while it is being written.
    type Buffer: Send + 'static;
    /// Where one sample goes.
    type Slot<'a>;
    /// The slots of a run of samples.
    type Slots<'a>: Slots<Self>;
    /// The finished batch.
    type Batch: Send + 'static;

    /// A buffer for a batch of this shape, over memory of the loader's. It may hold anything: each slot is
    /// [cleared](Self::clear) before it is written. A panic, such as for want of memory, is the error of the
    /// batch.
    fn open(&self, shape: BatchShape, memory: &BufferPool) -> Self::Buffer;

    /// All slots of a buffer, in the order of the samples.
    fn slots<'a>(&self, buffer: &'a mut Self::Buffer) -> Self::Slots<'a>;

    /// Makes a slot empty, so that nothing of an earlier batch, or of a try that failed, is left in it.
    fn clear(&self, slot: &mut Self::Slot<'_>);

    /// Makes the written buffer a batch, without the samples in `holes`: their places in the batch, rising,
    /// of slots that nothing good was written to.
    ///
    /// # Errors
    /// Whatever stands in the way.
    fn close(&self, buffer: Self::Buffer, holes: &[usize]) -> Result<Self::Batch, BoxError>;

    /// Tells whether a batch is as wide as its longest sample, so that all ranks must know the
    /// [width](BatchShape::width) of a batch that is dealt to them.
    fn pads(&self) -> bool {
        false
    }

    /// The memory that a batch takes, in bytes: what a budget of the loader counts.
    fn bytes(&self, batch: &Self::Batch) -> usize;

    /// The memory that a batch of so many samples takes, in bytes, if that follows from their number;
    /// `usize::MAX` for more than can be counted.
    fn fixed_bytes(&self, samples: usize) -> Option<usize> {
        let _ = samples;
        None
    }
}

/// The size of a batch, as far as it is known before a sample is written.
///
/// ```
/// use firebox_data::collate::BatchShape;
///
/// let shape = BatchShape::from(4).with_width(Some(20));
/// assert_eq!((shape.samples, shape.width), (4, Some(20)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchShape {
    /// The number of samples.
    pub samples: usize,
    /// The length of the longest sample, if it is known and this is a part of a batch.
    ///
    /// Several ranks each have some samples of a global batch. A layout that pads gives all of them the width
    /// of the global batch, so that shapes agree between ranks. See
    /// [`BatchSampler::width`](crate::sampler::BatchSampler::width).
    pub width: Option<usize>,
}

impl BatchShape {
    /// The shape with a width that is known.
    pub fn with_width(self, width: Option<usize>) -> Self {
        BatchShape { width, ..self }
    }
}

/// So many samples of unknown width.
impl From<usize> for BatchShape {
    fn from(samples: usize) -> Self {
        BatchShape { samples, width: None }
    }
}

/// The slots of a run of samples in the layout `C`. They can be cut into shorter runs, which are written
/// independently.
///
/// ```
/// use firebox_data::Scalar;
/// use firebox_data::collate::{Slots, Values};
///
/// let mut numbers = [1, 2, 3];
/// let (mut first, mut rest) = Slots::<Scalar<i32>>::split_at(Values::new(&mut numbers), 1);
/// *Slots::<Scalar<i32>>::get(&mut first, 0).unwrap() = 10;
/// *Slots::<Scalar<i32>>::get(&mut rest, 1).unwrap() = 30;
/// assert_eq!(numbers, [10, 2, 30]);
/// ```
pub trait Slots<C: Collate>: Send + Sized {
    /// The slot of the run's sample `sample`, counted from 0; the same one whenever it is asked for. `None`
    /// behind the last.
    fn get(&mut self, sample: usize) -> Option<C::Slot<'_>>;

    /// Cuts after `samples` slots.
    fn split_at(self, samples: usize) -> (Self, Self);
}

/// The slot of one sample in the layout `C`.
pub type SlotOf<'a, C> = <C as Collate>::Slot<'a>;

/// A batch of arrays with one shape, in one piece of memory.
///
/// ```
/// use firebox_data::collate::Stacked;
/// use firebox_data::{Loader, Stack};
///
/// let loader = Loader::builder(vec![1u8, 2]).batch_size(2).build(Stack::new([1, 2]), |number, _, row| {
///     row.fill(number);
///     Ok(())
/// })?;
/// let batch: Stacked<u8, 2> = loader.epoch(0).next().unwrap()?;
/// assert_eq!((&*batch.values, batch.samples, batch.shape), (&[1, 1, 2, 2][..], 2, [1, 2]));
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Stacked<T, const R: usize> {
    /// The samples' elements, sample after sample, each in row-major order.
    pub values: Elements<T>,
    /// The number of samples.
    pub samples: usize,
    /// The shape of each sample.
    pub shape: [usize; R],
}

/// Stacks arrays of one shape: rank `R` a sample, slot `&mut [T]` of zeros (`T`'s default), batch
/// [`Stacked`].
///
/// ```
/// use firebox_data::{Loader, Stack};
///
/// let images = vec![[0u8, 255], [51, 102]];
/// let loader = Loader::builder(images).batch_size(2).build(Stack::new([1, 1, 2]), |image, _, pixels| {
///     for (to, from) in pixels.iter_mut().zip(image) {
///         *to = f32::from(from) / 255.0;
///     }
///     Ok(())
/// })?;
/// assert_eq!(*loader.epoch(0).next().unwrap()?.values, [0.0, 1.0, 0.2, 0.4]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stack<T, const R: usize> {
    shape: [usize; R],
    element: PhantomData<fn() -> T>,
}

impl<T, const R: usize> Stack<T, R> {
    /// For samples of this shape, such as `[channels, height, width]`.
    pub fn new(shape: [usize; R]) -> Self {
        Stack { shape, element: PhantomData }
    }

    /// Elements of a sample. More than can be counted are as many as can: no memory has them.
    fn elements(&self) -> usize {
        product(&self.shape).unwrap_or(usize::MAX)
    }
}

/// The number of elements of a shape; `None` if it can't be counted.
pub(crate) fn product(shape: &[usize]) -> Option<usize> {
    match shape.contains(&0) {
        true => Some(0),
        false => shape.iter().try_fold(1usize, |product, &dimension| product.checked_mul(dimension)),
    }
}

/// Takes the parts of `length` elements at the places `holes`, which rise, out of a batch's elements: in one
/// pass, however many there are.
pub(crate) fn without<T>(values: &mut Vec<T>, length: usize, holes: &[usize]) {
    let kept = move_out(values, length, holes);
    values.truncate(kept);
}

/// Moves the parts at the places `holes` behind the others, and says how many elements the others have.
fn move_out<T>(values: &mut [T], length: usize, holes: &[usize]) -> usize {
    let (Some(&first), true) = (holes.first(), length > 0) else { return values.len() };
    // Those before the first hole stay where they are.
    let mut place = first * length;
    let mut holes = holes.iter().map(|hole| hole * length..(hole + 1) * length).peekable();
    let mut kept = place;
    while place < values.len() {
        match holes.next_if(|hole| hole.start <= place) {
            Some(hole) => place = hole.end,
            None => {
                let end = holes.peek().map_or(values.len(), |hole| hole.start);
                (place..end).for_each(|from| {
                    values.swap(kept, from);
                    kept += 1;
                });
                place = end;
            }
        }
    }
    kept
}

impl<T: Clone + Default + Send + 'static, const R: usize> Collate for Stack<T, R> {
    type Buffer = Stacked<T, R>;
    type Slot<'a> = &'a mut [T];
    type Slots<'a> = Rows<'a, T>;
    type Batch = Stacked<T, R>;

    fn open(&self, BatchShape { samples, .. }: BatchShape, memory: &BufferPool) -> Stacked<T, R> {
        Stacked { values: memory.elements(samples, self.elements()), samples, shape: self.shape }
    }

    fn slots<'a>(&self, buffer: &'a mut Stacked<T, R>) -> Rows<'a, T> {
        Rows { samples: buffer.samples, elements: self.elements(), values: &mut buffer.values }
    }

    fn clear(&self, slot: &mut &mut [T]) {
        slot.fill(T::default());
    }

    fn close(&self, mut buffer: Stacked<T, R>, holes: &[usize]) -> Result<Stacked<T, R>, BoxError> {
        buffer.values.keep(|values| move_out(values, self.elements(), holes));
        buffer.samples -= holes.len();
        Ok(buffer)
    }

    fn bytes(&self, batch: &Stacked<T, R>) -> usize {
        size_of_val(&*batch.values)
    }

    fn fixed_bytes(&self, samples: usize) -> Option<usize> {
        Some(samples.saturating_mul(self.elements()).saturating_mul(size_of::<T>()))
    }
}

/// The slots of a [`Stack`].
#[derive(Debug)]
pub struct Rows<'a, T> {
    /// The elements of `samples` samples, `elements` each, which may be 0.
    values: &'a mut [T],
    samples: usize,
    elements: usize,
}

impl<T: Clone + Default + Send + 'static, const R: usize> Slots<Stack<T, R>> for Rows<'_, T> {
    fn get(&mut self, sample: usize) -> Option<&mut [T]> {
        let elements = self.elements;
        (sample < self.samples).then(|| &mut self.values[sample * elements..(sample + 1) * elements])
    }

    fn split_at(self, samples: usize) -> (Self, Self) {
        let elements = self.elements;
        let (left, right) = self.values.split_at_mut(samples * elements);
        (
            Rows { values: left, samples, elements },
            Rows { values: right, samples: self.samples - samples, elements },
        )
    }
}

/// One value a sample, such as a label: slot `&mut T`, batch [`Elements`].
///
/// ```
/// use firebox_data::{Loader, Scalar};
///
/// let loader = Loader::builder(vec![7, 8]).batch_size(2).build(Scalar::new(), |class, _, slot| {
///     *slot = class;
///     Ok(())
/// })?;
/// assert_eq!(*loader.epoch(0).next().unwrap()?, [7, 8]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scalar<T>(PhantomData<fn() -> T>);

impl<T> Scalar<T> {
    /// For values of type `T`.
    pub fn new() -> Self {
        Scalar(PhantomData)
    }
}

impl<T> Default for Scalar<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Default + Send + 'static> Collate for Scalar<T> {
    type Buffer = Elements<T>;
    type Slot<'a> = &'a mut T;
    type Slots<'a> = Values<'a, T>;
    type Batch = Elements<T>;

    fn open(&self, BatchShape { samples, .. }: BatchShape, memory: &BufferPool) -> Elements<T> {
        memory.elements(samples, 1)
    }

    fn slots<'a>(&self, buffer: &'a mut Elements<T>) -> Values<'a, T> {
        Values::new(buffer)
    }

    fn clear(&self, slot: &mut &mut T) {
        **slot = T::default();
    }

    fn close(&self, mut buffer: Elements<T>, holes: &[usize]) -> Result<Elements<T>, BoxError> {
        buffer.keep(|values| move_out(values, 1, holes));
        Ok(buffer)
    }

    fn bytes(&self, batch: &Elements<T>) -> usize {
        size_of_val(&**batch)
    }

    fn fixed_bytes(&self, samples: usize) -> Option<usize> {
        Some(samples.saturating_mul(size_of::<T>()))
    }
}

/// Collects samples of any type, then makes them a batch by a function: for batches whose size is known only
/// when all samples are, such as graphs. Slot `&mut Option<S>`; every slot must be filled.
///
/// ```
/// use firebox_data::Loader;
/// use firebox_data::collate::Ragged;
///
/// // A batch is one text of all lines.
/// let layout = Ragged::new(|lines: Vec<&str>| Ok(lines.join("\n")));
/// let loader = Loader::builder(vec!["fire", "box"])
///     .batch_size(2)
///     .build(layout, |line, _, slot| Ok(*slot = Some(line)))?;
/// assert_eq!(loader.epoch(0).next().unwrap()?, "fire\nbox");
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub struct Ragged<S, B, F> {
    batch: F,
    bytes: fn(&B) -> usize,
    sample: PhantomData<fn() -> S>,
}

impl<S, B, F> Ragged<S, B, F>
where
    F: Fn(Vec<S>) -> Result<B, BoxError>,
{
    /// Batches made by `batch` from the samples in their order.
    pub fn new(batch: F) -> Self {
        Ragged { batch, bytes: |_| size_of::<B>(), sample: PhantomData }
    }

    /// Says how much memory a batch takes, for [a budget of the
    /// loader](crate::loader::LoaderBuilder::prefetch_bytes). Without it, what a batch has on the heap is not
    /// counted.
    pub fn measured(mut self, bytes: fn(&B) -> usize) -> Self {
        self.bytes = bytes;
        self
    }
}

impl<S, B, F> Collate for Ragged<S, B, F>
where
    S: Send + 'static,
    B: Send + 'static,
    F: Fn(Vec<S>) -> Result<B, BoxError> + Send + Sync + 'static,
{
    /// The slots, and where their memory goes back to.
    type Buffer = (Vec<Option<S>>, BufferPool);
    type Slot<'a> = &'a mut Option<S>;
    type Slots<'a> = Values<'a, Option<S>>;
    type Batch = B;

    fn open(&self, BatchShape { samples, .. }: BatchShape, memory: &BufferPool) -> Self::Buffer {
        let mut slots: Vec<Option<S>> = memory.take(|_| true).unwrap_or_default();
        slots.resize_with(samples, || None);
        (slots, memory.clone())
    }

    fn slots<'a>(&self, (slots, _): &'a mut Self::Buffer) -> Values<'a, Option<S>> {
        Values::new(slots)
    }

    fn clear(&self, slot: &mut &mut Option<S>) {
        **slot = None;
    }

    fn close(&self, (mut slots, memory): Self::Buffer, holes: &[usize]) -> Result<B, BoxError> {
        let mut samples = Vec::with_capacity(slots.len());
        for (slot, sample) in slots.drain(..).enumerate() {
            if holes.binary_search(&slot).is_err() {
                samples
                    .push(sample.ok_or_else(|| format!("nothing was written to slot {slot} of the batch"))?);
            }
        }
        memory.keep(slots);
        (self.batch)(samples)
    }

    fn bytes(&self, batch: &B) -> usize {
        (self.bytes)(batch)
    }
}

/// The slots of a layout with one value a sample.
#[derive(Debug)]
pub struct Values<'a, T>(&'a mut [T]);

impl<'a, T> Values<'a, T> {
    /// Slots that are these values.
    pub fn new(values: &'a mut [T]) -> Self {
        Values(values)
    }
}

impl<C, T> Slots<C> for Values<'_, T>
where
    T: Send + 'static,
    C: for<'a> Collate<Slot<'a> = &'a mut T>,
{
    fn get(&mut self, sample: usize) -> Option<&mut T> {
        self.0.get_mut(sample)
    }

    fn split_at(self, samples: usize) -> (Self, Self) {
        let (left, right) = self.0.split_at_mut(samples);
        (Values(left), Values(right))
    }
}

/// The empty layout stores nothing: its batch is the number of samples.
impl Collate for () {
    type Buffer = usize;
    type Slot<'a> = ();
    type Slots<'a> = Nothing;
    type Batch = usize;

    fn open(&self, BatchShape { samples, .. }: BatchShape, _: &BufferPool) -> usize {
        samples
    }

    fn slots(&self, samples: &mut usize) -> Nothing {
        Nothing(*samples)
    }

    fn clear(&self, (): &mut ()) {}

    fn close(&self, samples: usize, holes: &[usize]) -> Result<usize, BoxError> {
        Ok(samples - holes.len())
    }

    fn bytes(&self, _: &usize) -> usize {
        0
    }

    fn fixed_bytes(&self, _: usize) -> Option<usize> {
        Some(0)
    }
}

/// The slots of the empty layout.
#[derive(Debug)]
pub struct Nothing(usize);

impl Slots<()> for Nothing {
    fn get(&mut self, sample: usize) -> Option<()> {
        (sample < self.0).then_some(())
    }

    fn split_at(self, samples: usize) -> (Self, Self) {
        (Nothing(samples), Nothing(self.0 - samples))
    }
}

macro_rules! tuples {
    ($(($($layout:ident $slots:ident $at:tt),+))+) => {$(
        impl<$($layout: Collate),+> Collate for ($($layout,)+) {
            type Buffer = ($($layout::Buffer,)+);
            type Slot<'a> = ($($layout::Slot<'a>,)+);
            type Slots<'a> = ($($layout::Slots<'a>,)+);
            type Batch = ($($layout::Batch,)+);

            fn open(&self, shape: BatchShape, memory: &BufferPool) -> Self::Buffer {
                ($(self.$at.open(shape, memory),)+)
            }

            fn slots<'a>(&self, buffer: &'a mut Self::Buffer) -> Self::Slots<'a> {
                ($(self.$at.slots(&mut buffer.$at),)+)
            }

            fn clear(&self, slot: &mut Self::Slot<'_>) {
                $(self.$at.clear(&mut slot.$at);)+
            }

            fn close(&self, buffer: Self::Buffer, holes: &[usize]) -> Result<Self::Batch, BoxError> {
                Ok(($(self.$at.close(buffer.$at, holes)?,)+))
            }

            fn pads(&self) -> bool {
                [$(self.$at.pads()),+].contains(&true)
            }

            fn bytes(&self, batch: &Self::Batch) -> usize {
                [$(self.$at.bytes(&batch.$at)),+].into_iter().fold(0, usize::saturating_add)
            }

            fn fixed_bytes(&self, samples: usize) -> Option<usize> {
                [$(self.$at.fixed_bytes(samples)),+].into_iter().try_fold(0usize, |all, bytes| {
                    Some(all.saturating_add(bytes?))
                })
            }
        }

        impl<$($layout: Collate, $slots: Slots<$layout>),+> Slots<($($layout,)+)> for ($($slots,)+) {
            fn get(&mut self, sample: usize) -> Option<($($layout::Slot<'_>,)+)> {
                Some(($(self.$at.get(sample)?,)+))
            }

            fn split_at(self, samples: usize) -> (Self, Self) {
                let halves = ($(self.$at.split_at(samples),)+);
                (($(halves.$at.0,)+), ($(halves.$at.1,)+))
            }
        }
    )+};
}

tuples! {
    (A SA 0, B SB 1)
    (A SA 0, B SB 1, C SC 2)
    (A SA 0, B SB 1, C SC 2, D SD 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (Stack<u8, 2>, Scalar<i64>);

    fn write(slots: &mut <Pair as Collate>::Slots<'_>, from: u8) {
        let mut place = 0;
        while let Some((row, label)) = Slots::<Pair>::get(slots, place) {
            let value = from + place as u8;
            row.fill(value);
            *label = i64::from(value);
            place += 1;
        }
    }

    fn slot<'s, C: Collate>(_: &C, slots: &'s mut C::Slots<'_>, sample: usize) -> Option<C::Slot<'s>> {
        slots.get(sample)
    }

    #[test]
    fn runs_of_slots_fill_one_buffer() {
        let layout: Pair = (Stack::new([1, 2]), Scalar::new());
        for cut in 0..=5 {
            let mut buffer = layout.open(5.into(), &BufferPool::default());
            let (mut left, mut right) = Slots::<Pair>::split_at(layout.slots(&mut buffer), cut);
            write(&mut right, cut as u8);
            write(&mut left, 0);
            let (rows, labels) = layout.close(buffer, &[]).unwrap();
            assert_eq!(rows.values, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
            assert_eq!((rows.samples, rows.shape), (5, [1, 2]));
            assert_eq!(labels, [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn holes_make_a_shorter_batch() {
        let ragged = Ragged::new(|samples: Vec<u8>| Ok(samples));
        let layout = (Stack::<u8, 2>::new([1, 2]), Scalar::<i64>::new(), ragged, ());
        for holes in [&[][..], &[0], &[1, 2], &[0, 3], &[0, 1, 2, 3]] {
            let mut buffer = layout.open(4.into(), &BufferPool::default());
            let mut slots = layout.slots(&mut buffer);
            for place in 0..4 {
                let (row, label, sample, ()) = slot(&layout, &mut slots, usize::from(place)).unwrap();
                if !holes.contains(&usize::from(place)) {
                    (*label, *sample) = (i64::from(place), Some(place));
                    row.fill(place);
                }
            }
            let left: Vec<u8> = (0..4).filter(|place| !holes.contains(&usize::from(*place))).collect();
            let (rows, labels, samples, count) = layout.close(buffer, holes).unwrap();
            assert_eq!(rows.values, left.iter().flat_map(|&place| [place; 2]).collect::<Vec<_>>());
            assert_eq!((rows.samples, count), (left.len(), left.len()));
            assert!(labels.iter().copied().eq(left.iter().copied().map(i64::from)));
            assert_eq!(samples, left);
        }
    }

    #[test]
    fn memory_of_values_and_of_collected_samples_is_used_again() {
        let memory = BufferPool::default();
        let layout = (Scalar::<i64>::new(), Ragged::new(|samples: Vec<String>| Ok(samples.concat())));
        let places: Vec<_> = (0..4)
            .map(|_| {
                let mut buffer = layout.open(3.into(), &memory);
                let mut slots = layout.slots(&mut buffer);
                for place in 0..3 {
                    let (value, text) = slot(&layout, &mut slots, place).unwrap();
                    (*value, *text) = (place as i64, Some(place.to_string()));
                }
                let collected = buffer.1.0.as_ptr();
                let (values, text) = layout.close(buffer, &[1]).unwrap();
                assert_eq!((&values[..], &*text), (&[0, 2][..], "02"));
                (values.as_ptr(), collected)
            })
            .collect();
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
        // No sample of a batch is kept.
        assert_eq!(memory.take::<Vec<Option<String>>>(|_| true), Some(Vec::new()));
    }

    #[test]
    fn samples_of_size_zero_have_slots_too() {
        let layout = Stack::<f32, 2>::new([3, 0]);
        let mut buffer = layout.open(2.into(), &BufferPool::default());
        let mut slots = layout.slots(&mut buffer);
        assert_eq!(Slots::<Stack<f32, 2>>::get(&mut slots, 0).map(|slot| slot.len()), Some(0));
        assert!(Slots::<Stack<f32, 2>>::get(&mut slots, 1).is_some());
        assert!(Slots::<Stack<f32, 2>>::get(&mut slots, 2).is_none());
    }

    #[test]
    fn a_ragged_batch_has_no_hole() {
        let layout = Ragged::new(|samples: Vec<String>| Ok(samples.concat()));
        let mut buffer = layout.open(2.into(), &BufferPool::default());
        buffer.0[0] = Some("a".into());
        assert!(layout.close(buffer, &[]).unwrap_err().to_string().contains("slot 1"));
        let buffer = (vec![Some("a".to_owned()), Some("b".to_owned())], BufferPool::default());
        assert_eq!(layout.close(buffer, &[]).unwrap(), "ab");
    }

    #[test]
    fn any_holes_are_taken_out() {
        for length in [1, 3] {
            for samples in 0..8usize {
                for mask in 0..1u32 << samples {
                    let holes: Vec<usize> = (0..samples).filter(|sample| mask >> sample & 1 == 1).collect();
                    let mut values: Vec<usize> = (0..samples * length).collect();
                    without(&mut values, length, &holes);
                    let expected = (0..samples * length).filter(|value| !holes.contains(&(value / length)));
                    assert!(values.iter().copied().eq(expected), "{holes:?} of {samples}");
                }
            }
        }
        let mut empty: Vec<u8> = Vec::new();
        without(&mut empty, 0, &[0, 5]);
        let many = 1 << 17;
        let mut values: Vec<u32> = (0..many).collect();
        // One after the other, this would take minutes.
        without(&mut values, 1, &(0..many as usize).step_by(2).collect::<Vec<_>>());
        assert!(values.iter().copied().eq((1..many).step_by(2)));
    }

    #[test]
    fn sizes_that_cannot_be_counted_are_no_overflow() {
        assert_eq!(product(&[]), Some(1));
        assert_eq!(product(&[usize::MAX, 1]), Some(usize::MAX));
        assert_eq!(product(&[usize::MAX, 2]), None);
        for zero in [[0, usize::MAX, usize::MAX], [usize::MAX, usize::MAX, 0]] {
            assert_eq!(product(&zero), Some(0));
            let layout = Stack::<f32, 3>::new(zero);
            let mut buffer = layout.open(3.into(), &BufferPool::default());
            assert!(slot(&layout, &mut layout.slots(&mut buffer), 2).is_some_and(|slot| slot.is_empty()));
            assert_eq!(layout.close(buffer, &[1]).unwrap().samples, 2);
        }
        let huge = || Stack::<f32, 2>::new([usize::MAX, 2]);
        assert_eq!(huge().fixed_bytes(1), Some(usize::MAX));
        assert_eq!(
            (huge(), Scalar::<i64>::new()).fixed_bytes(2),
            Some(usize::MAX),
            "and a few more are as many"
        );
        let ragged = Ragged::<u8, _, _>::new(Ok);
        assert_eq!((huge(), ragged).fixed_bytes(2), None);
        assert_eq!(huge().close(huge().open(0.into(), &BufferPool::default()), &[]).unwrap().values.len(), 0);
        for (samples, shape, said) in [
            (1, [usize::MAX, 2], "more bytes than can be counted"),
            (2, [usize::MAX, 1], "more bytes than can be counted"),
            (usize::MAX, [2, 2], "more bytes than can be counted"),
            (1, [1 << 45, 1], "140737488355328 bytes"),
        ] {
            let layout = Stack::<f32, 2>::new(shape);
            let panic =
                std::panic::catch_unwind(|| layout.open(samples.into(), &BufferPool::default())).unwrap_err();
            let text = panic.downcast_ref::<String>().unwrap();
            assert!(
                text.starts_with(&format!("no memory for {samples} samples of ")) && text.ends_with(said),
                "{text}"
            );
        }
    }
}
