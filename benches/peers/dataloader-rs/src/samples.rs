//! The samples that both loaders load: pictures of the size of CIFAR-10's, in memory.

use std::sync::LazyLock;

/// The number of samples.
pub(crate) const COUNT: usize = 10_000;
/// The elements of a sample.
pub(crate) const ELEMENTS: usize = 3 * 32 * 32;

/// What a data set gives for an index.
pub(crate) trait Sample: Send + Sized + 'static {
    /// The item of an index.
    fn get(index: usize) -> Self;

    /// The elements that a batch has of it.
    fn values(&self) -> impl ExactSizeIterator<Item = f32>;
}

/// A picture in memory, borrowed: to get one costs nothing, and the arithmetic is done on the way into the batch.
pub(crate) type Borrowed = &'static [u8; ELEMENTS];

impl Sample for Borrowed {
    fn get(index: usize) -> Self {
        &PICTURES[index]
    }

    fn values(&self) -> impl ExactSizeIterator<Item = f32> {
        self.iter().map(normalized)
    }
}

/// A sample that the data set has made, as one that decodes a file does; the batch has a copy.
pub(crate) type Made = Vec<f32>;

impl Sample for Made {
    fn get(index: usize) -> Self {
        PICTURES[index].iter().map(normalized).collect()
    }

    fn values(&self) -> impl ExactSizeIterator<Item = f32> {
        self.iter().copied()
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
