//! The usual stages for ImageNet.

use super::{CenterCrop, Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop, Resize};
use crate::error::{Error, check};

/// The stages to train on photos: a random resized crop and a flip, then ImageNet's normalization.
///
/// ```
/// use firebox_data::Loader;
/// use firebox_vision::transforms::imagenet_train;
/// use firebox_vision::{ColorMode, Image};
///
/// let photos = vec![(Image::filled(60, 80, ColorMode::Rgb, 124)?, 3i64)];
/// let (augment, normalize) = imagenet_train(32)?;
/// let loader = Loader::builder(photos)
///     .transform(augment)
///     .build_with(normalize.labeled_layout(), normalize)?;
/// assert_eq!(loader.epoch(0).next().unwrap()?.0.shape, [3, 32, 32]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
///
/// # Errors
/// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the size is 0.
pub fn imagenet_train(size: usize) -> Result<(Compose, Normalize), Error> {
    let stages =
        Compose::new().then(RandomResizedCrop::new(size).build()?).then(RandomHorizontalFlip::new().build()?);
    Ok((stages, Normalize::imagenet(size).build()?))
}

/// The stages to evaluate on photos: the middle 7/8 of the shorter side, then ImageNet's normalization.
///
/// For 224 they are torchvision's: the shorter side becomes 256, and 224 of it are cut out.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::imagenet_eval;
/// use firebox_vision::{ColorMode, Image};
///
/// let (stages, _) = imagenet_eval(224)?;
/// let photo = Image::filled(375, 500, ColorMode::Rgb, 124)?;
/// assert_eq!(stages.apply(photo, &mut SampleRng::from_seed(0))?.width(), 224);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
///
/// # Errors
/// [`ErrorKind::OutOfRange`](crate::ErrorKind::OutOfRange) if the size is 0.
pub fn imagenet_eval(size: usize) -> Result<(Compose, Normalize), Error> {
    check(size > 0, "size", "at least 1", size)?;
    // 256 of 224.
    let shorter = size.saturating_mul(8) / 7;
    let stages =
        Compose::new().then(Resize::shorter_side(shorter).build()?).then(CenterCrop::new(size).build()?);
    Ok((stages, Normalize::imagenet(size).build()?))
}
