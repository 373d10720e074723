//! Several stages as one.

use std::collections::HashMap;
use std::fmt;

use firebox_core::seed::fingerprint;
use firebox_core::{BoxError, Purpose, SampleRng, derive_seed};
use firebox_data::Transform;

use crate::image::Image;

/// Stages of images, one after the other, as one stage.
///
/// Each has random numbers of its own, which follow from the composition's and from the stage's name and its
/// number among equal names, counted from the end: one that is put in front changes nothing that others draw.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::{CenterCrop, Compose, Resize};
/// use firebox_vision::{ColorMode, Image};
///
/// let stages = Compose::new().then(Resize::shorter_side(4).build()?).then(CenterCrop::new(4).build()?);
/// let image = Image::filled(8, 20, ColorMode::Gray, 5)?;
/// assert_eq!(stages.apply(image, &mut SampleRng::from_seed(0))?.pixels(), [5; 16]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Default)]
pub struct Compose {
    stages: Vec<Box<dyn Transform<Image, Out = Image>>>,
}

impl Compose {
    /// No stage yet.
    pub fn new() -> Self {
        Compose::default()
    }

    /// Adds a stage.
    pub fn then(mut self, stage: impl Transform<Image, Out = Image>) -> Self {
        self.stages.push(Box::new(stage));
        self
    }

    fn transform(&self, mut image: Image, rng: &mut SampleRng) -> Result<Image, BoxError> {
        let seed = rng.bits();
        for (stage, (name, number)) in self.stages.iter().zip(self.keys()) {
            let seed = derive_seed(seed, Purpose::Sample, name, number);
            image = stage.apply(image, &mut SampleRng::from_seed(seed))?;
        }
        Ok(image)
    }

    /// A hash of each stage's name, and its number among equal ones.
    fn keys(&self) -> Vec<(u64, u64)> {
        let mut counts = HashMap::new();
        let keys = self.stages.iter().rev().map(|stage| {
            let name = fingerprint(stage.name().bytes().map(u64::from));
            let count = counts.entry(name).or_insert(0);
            *count += 1;
            (name, *count - 1)
        });
        let mut keys: Vec<_> = keys.collect();
        keys.reverse();
        keys
    }
}

impl fmt::Debug for Compose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stages.iter().map(|stage| stage.name())).finish()
    }
}

super::stage!(Compose);
