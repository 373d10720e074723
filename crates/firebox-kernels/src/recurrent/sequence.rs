//! A batch of sequences, in the form that somebody made it in.

use burn::tensor::{DType, Device, Tensor};

use crate::operation::shape::expect_shape;

/// Sequences `[batch, time, features]`.
///
/// A kernel takes and gives them whole. Plain operations go step by step, and a slice of one tensor would
/// cost, in the backward pass, a gradient of the whole: so the steps that they made stay apart until somebody
/// needs them together.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_kernels::recurrent::Sequence;
///
/// let steps = Sequence::Steps(vec![Tensor::zeros([2, 3], &Device::default()); 5]);
/// assert_eq!(steps.dims(), [2, 5, 3]);
/// assert_eq!(steps.whole().dims(), [2, 5, 3]);
/// ```
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there are a few of them in a pass")]
pub enum Sequence {
    /// `[batch, time, features]`
    Whole(Tensor<3>),
    /// `[batch, features]` for each step; at least one.
    Steps(Vec<Tensor<2>>),
}

impl Sequence {
    /// Batch, time and features.
    ///
    /// # Panics
    /// If it is of [`Steps`](Self::Steps) and there is none.
    pub fn dims(&self) -> [usize; 3] {
        match self {
            Sequence::Whole(whole) => whole.dims(),
            Sequence::Steps(steps) => {
                let [batch, features] = first(steps).dims();
                [batch, steps.len(), features]
            }
        }
    }

    /// `[batch, time, features]`
    ///
    /// # Panics
    /// If it is of [`Steps`](Self::Steps) and there is none.
    pub fn whole(self) -> Tensor<3> {
        match self {
            Sequence::Whole(whole) => whole,
            Sequence::Steps(steps) => {
                first(&steps);
                Tensor::stack(steps, 1)
            }
        }
    }

    /// `[batch, features]` for each step.
    pub fn steps(self) -> Vec<Tensor<2>> {
        match self {
            Sequence::Whole(whole) => whole.iter_dim(1).map(|step| step.squeeze_dim(1)).collect(),
            Sequence::Steps(steps) => steps,
        }
    }

    /// Sequences with the features of both, side by side.
    ///
    /// # Panics
    /// If batch or time differ.
    pub fn beside(self, other: Sequence) -> Sequence {
        let ([batch, time, _], [other_batch, other_time, _]) = (self.dims(), other.dims());
        expect_shape("Sequence::beside", "batch and time", [other_batch, other_time], [batch, time]);
        match (self, other) {
            (Sequence::Steps(left), Sequence::Steps(right)) => {
                let both = left.into_iter().zip(right).map(|(left, right)| Tensor::cat(vec![left, right], 1));
                Sequence::Steps(both.collect())
            }
            (left, right) => Sequence::Whole(Tensor::cat(vec![left.whole(), right.whole()], 2)),
        }
    }

    /// Each element multiplied by that of `factors`, `[batch, time, features]`, which have no gradient.
    ///
    /// # Panics
    /// If they have another shape.
    pub fn scale(self, factors: Tensor<3>) -> Sequence {
        expect_shape("Sequence::scale", "factors", factors.dims(), self.dims());
        match self {
            Sequence::Whole(whole) => Sequence::Whole(whole * factors),
            Sequence::Steps(steps) => {
                let factors = factors.iter_dim(1).map(|step| step.squeeze_dim(1));
                Sequence::Steps(
                    steps.into_iter().zip(factors).map(|(step, factors)| step * factors).collect(),
                )
            }
        }
    }

    /// The device, and the type of the elements.
    ///
    /// # Panics
    /// If it is of [`Steps`](Self::Steps) and there is none.
    pub fn options(&self) -> (Device, DType) {
        match self {
            Sequence::Whole(whole) => (whole.device(), whole.dtype()),
            Sequence::Steps(steps) => (first(steps).device(), first(steps).dtype()),
        }
    }
}

fn first(steps: &[Tensor<2>]) -> &Tensor<2> {
    steps.first().unwrap_or_else(|| panic!("Sequence::Steps: expected at least one step, got none"))
}
