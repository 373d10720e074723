//! The last stage, which writes into the batch.

use crate::collate::{Collate, SlotOf};
use crate::error::BoxError;
use firebox_core::SampleRng;

/// The last stage: it writes into a slot of the layout `C`, so that no sample is copied twice.
///
/// The closure of [`LoaderBuilder::build`](crate::loader::LoaderBuilder::build) is one; a type of one's own
/// goes into [`build_with`](crate::loader::LoaderBuilder::build_with):
///
/// ```
/// use firebox_data::{BoxError, Loader, SampleRng, Stack};
/// use firebox_data::transform::Write;
///
/// /// Pixels from 0 to 1.
/// struct Normalized;
///
/// impl Write<Vec<u8>, Stack<f32, 1>> for Normalized {
///     fn write(&self, pixels: Vec<u8>, _: &mut SampleRng, slot: &mut [f32]) -> Result<(), BoxError> {
///         Ok(std::iter::zip(slot, pixels).for_each(|(to, pixel)| *to = f32::from(pixel) / 255.0))
///     }
/// }
///
/// let loader = Loader::builder(vec![vec![0u8, 255]; 4]).build_with(Stack::<f32, 1>::new([2]), Normalized)?;
/// assert_eq!(loader.epoch(0).next().unwrap()?.values, [0.0, 1.0]);
/// # Ok::<(), firebox_data::Error>(())
/// ```
pub trait Write<In, C: Collate>: Send + Sync + 'static {
    /// Writes the item, with the random numbers of this stage of the sample.
    ///
    /// # Errors
    /// Whatever stands in the way: it becomes an error of the sample.
    fn write(&self, item: In, rng: &mut SampleRng, slot: SlotOf<'_, C>) -> Result<(), BoxError>;
}

impl<In, C, F> Write<In, C> for F
where
    C: Collate,
    F: for<'a> Fn(In, &mut SampleRng, SlotOf<'a, C>) -> Result<(), BoxError> + Send + Sync + 'static,
{
    fn write(&self, item: In, rng: &mut SampleRng, slot: SlotOf<'_, C>) -> Result<(), BoxError> {
        self(item, rng, slot)
    }
}
