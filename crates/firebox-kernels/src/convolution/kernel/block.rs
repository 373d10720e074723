//! A convolution block's sizes, and what its forward pass leaves.

use std::ops::Range;

use super::activation::{Activation, Affine};
use super::geometry::Geometry;
use super::moments::Moments;
use crate::machine::memory::Recycled;
use crate::operation::fused::Order;

/// Into how many chunks a batch is cut, if it is that large.
const CHUNKS: usize = 16;

/// The operation on images `[batch, channels, height, width]`, a weight
/// `[filters, channels, kernel height, kernel width]` and a bias, γ and β of `[filters]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvBlock {
    pub(crate) batch: usize,
    pub(crate) filters: usize,
    pub(crate) geometry: Geometry,
    /// Adds 2×2 max pooling.
    pub(crate) pool: bool,
    pub(crate) normalisation: Normalisation,
    /// Of the images.
    pub(crate) order: Order,
    /// Of the output.
    pub(crate) output_order: Order,
}

/// The step between convolution and ReLU.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Normalisation {
    /// γ, β and the batch's own statistics, which are given beside: mean and biased variance of the
    /// convolution's output without its bias, `[2, filters]`. With what is added to the variance.
    OfBatch(f64),
    /// The bias alone, for a weight that has the normalisation in it. γ and β are not used; there is no
    /// gradient.
    Folded,
}

/// The forward pass's results that the backward pass needs.
#[derive(Clone, Debug)]
pub(crate) struct SavedForBackward {
    /// The convolution's output `[batch, places, filters]`, without its bias.
    pub(super) inner: Recycled,
    pub(super) statistics: Vec<Moments>,
    pub(super) affine: Affine,
    /// The values that the pooling has chosen, less the filter's center: `[batch, out places, filters]`.
    pub(super) peaks: Option<Recycled>,
}

impl ConvBlock {
    /// Images in a chunk; the last one may have fewer.
    pub(super) fn chunk(&self) -> usize {
        self.batch.div_ceil(CHUNKS).max(1)
    }

    pub(super) fn chunks(&self) -> usize {
        self.batch.div_ceil(self.chunk())
    }

    pub(super) fn images_of(&self, chunk: usize) -> Range<usize> {
        chunk * self.chunk()..((chunk + 1) * self.chunk()).min(self.batch)
    }

    /// The rest of the way of each image after the convolution.
    pub(super) fn activation(&self) -> Activation {
        Activation { size: self.geometry.out(), filters: self.filters, pool: self.pool }
    }

    /// Elements of the convolution's output for one image.
    pub(super) fn inner(&self) -> usize {
        self.filters * self.geometry.places()
    }

    /// Elements of the output for one image.
    pub(super) fn outer(&self) -> usize {
        let [height, width] = self.activation().out();
        self.filters * height * width
    }
}
