//! Transforms with the names, parameters, defaults and meaning of torchvision's `transforms.v2`.
//!
//! Each is a [`Transform`](firebox_data::Transform) of an [`Image`](crate::Image), and of an image with a
//! label, which stays as it is. Settings are made by `new` and `with_…`, which can't fail; `build` checks
//! them once. Random ones draw from the generator of their stage alone, so that a loader gives the same
//! pixels with any number of workers.
//!
//! | deterministic | random |
//! |---|---|
//! | [`Resize`], [`CenterCrop`], [`Pad`], [`Grayscale`] | [`RandomCrop`], [`RandomResizedCrop`], [`RandomHorizontalFlip`], [`RandomVerticalFlip`], [`ColorJitter`], [`RandomGrayscale`] |
//!
//! [`Normalize`] is the last stage: it writes an image into its slot of the batch. [`Compose`] is several
//! stages as one, and [`imagenet_train`] and [`imagenet_eval`] are the usual ones for ImageNet.

mod center_crop;
mod color_jitter;
mod compose;
mod flip;
mod grayscale;
mod normalize;
mod pad;
mod presets;
mod random_crop;
mod random_resized_crop;
mod resample;
mod resize;
mod size;

pub use center_crop::CenterCrop;
pub use color_jitter::ColorJitter;
pub use compose::Compose;
pub use flip::{RandomHorizontalFlip, RandomVerticalFlip};
pub use grayscale::{Grayscale, RandomGrayscale};
pub use normalize::Normalize;
pub use pad::{Pad, Padding, PaddingMode};
pub use presets::{imagenet_eval, imagenet_train};
pub use random_crop::RandomCrop;
pub use random_resized_crop::RandomResizedCrop;
pub use resample::Interpolation;
pub use resize::Resize;
pub use size::Size;

/// Makes a type with a method `transform(image, rng)` a stage.
///
/// It takes images, with labels and without.
macro_rules! stage {
    ($type:ty) => {
        impl firebox_data::Transform<$crate::Image> for $type {
            type Out = $crate::Image;

            fn apply(
                &self,
                image: $crate::Image,
                rng: &mut firebox_core::SampleRng,
            ) -> Result<$crate::Image, firebox_core::BoxError> {
                #[allow(clippy::needless_question_mark, reason = "not every stage has this error")]
                Ok(self.transform(image, rng)?)
            }
        }

        impl<L> firebox_data::Transform<($crate::Image, L)> for $type {
            type Out = ($crate::Image, L);

            fn apply(
                &self,
                (image, label): ($crate::Image, L),
                rng: &mut firebox_core::SampleRng,
            ) -> Result<($crate::Image, L), firebox_core::BoxError> {
                Ok((self.transform(image, rng)?, label))
            }
        }
    };
}

use stage;

/// Checks a probability.
fn check_p(field: &str, p: f32) -> Result<(), crate::Error> {
    crate::error::check((0.0..=1.0).contains(&p), field, "a probability from 0 to 1", p)
}
