//! Adversaries: generators of samples, and discriminators that judge them.

pub(crate) mod dcgan;
pub(crate) mod discriminator;
pub(crate) mod generator;
pub(crate) mod logits;

pub use dcgan::{DcganConfig, DcganDiscriminator, DcganGenerator};
pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use generator::{Generator, GeneratorConfig};
pub use logits::Logits;
