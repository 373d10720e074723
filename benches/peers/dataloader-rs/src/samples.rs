//! The samples that both loaders load: pictures of the size of CIFAR-10's, in memory.

use std::sync::LazyLock;

use firebox_data::BoxError;
use firebox_data::collate::Blank;

/// The number of samples.
pub(crate) const COUNT: usize = 10_000;
/// The elements of a sample.
pub(crate) const ELEMENTS: usize = 3 * 32 * 32;

/// The item of a data set.
pub(crate) trait Sample: Send + Sized + 'static {
    /// The item of an index.
    fn get(index: usize) -> Self;

    /// Writes its elements into a slot of firebox's batch.
    fn fill(&self, slot: Blank<'_, f32>) -> Result<(), BoxError>;

    /// Adds its elements to the peer's batch.
    fn append(&self, batch: &mut Vec<f32>);
}

/// A picture in memory, borrowed: to get one costs nothing, and the arithmetic is done on the way into the
/// batch.
pub(crate) type Borrowed = &'static [u8; ELEMENTS];

impl Sample for Borrowed {
    fn get(index: usize) -> Self {
        &PICTURES[index]
    }

    fn fill(&self, mut slot: Blank<'_, f32>) -> Result<(), BoxError> {
        slot.fill(self.iter().map(normalized))
    }

    fn append(&self, batch: &mut Vec<f32>) {
        batch.extend(self.iter().map(normalized));
    }
}

/// A sample that the data set has made, as one that decodes a file does; the batch has a copy.
pub(crate) type Made = Vec<f32>;

impl Sample for Made {
    fn get(index: usize) -> Self {
        PICTURES[index].iter().map(normalized).collect()
    }

    fn fill(&self, mut slot: Blank<'_, f32>) -> Result<(), BoxError> {
        slot.copy_from_slice(self)
    }

    fn append(&self, batch: &mut Vec<f32>) {
        batch.extend_from_slice(self);
    }
}

static PICTURES: LazyLock<Vec<[u8; ELEMENTS]>> = LazyLock::new(|| {
    let pixel = |place: usize| ((place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
    (0..COUNT).map(|number| std::array::from_fn(|element| pixel(number * ELEMENTS + element))).collect()
});

/// The arithmetic of both: what torchvision calls `ToTensor` and `Normalize`.
fn normalized(pixel: &u8) -> f32 {
    (f32::from(*pixel) / 255.0 - 0.473) / 0.251
}
