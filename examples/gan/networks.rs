//! The two networks that learn from each other, of linear maps or of convolutions.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebox::data::BoxError;
use firebox::models::gan::{
    DcganConfig, DcganDiscriminator, DcganGenerator, Discriminator, DiscriminatorConfig, Generator,
    GeneratorConfig, Logits,
};
use firebox::prelude::*;
use firebox::train::tasks::Adversarial;

use crate::Recipe;

/// The help for `--ema`.
pub(crate) const EMA: &str =
    "The decay of the moving average of the generator, which makes the samples; 0 for none";

/// Networks of linear maps, for flat images.
pub(crate) fn mlp(
    recipe: &Recipe,
    device: &Device,
) -> Result<Adversarial<Generator, Discriminator, 2>, BoxError> {
    let (seed, config) = (recipe.common.seed(), GeneratorConfig::new(recipe.latent, 784));
    let generator = init(seed, device, |device| config.init(device))?;
    let config = DiscriminatorConfig::new(784);
    let discriminator = init(seed.wrapping_add(1), device, |device| config.init(device))?;
    task(recipe, generator, discriminator)
}

/// Networks of convolutions.
pub(crate) fn dcgan(
    recipe: &Recipe,
    device: &Device,
) -> Result<Adversarial<DcganGenerator, DcganDiscriminator, 4>, BoxError> {
    let (seed, config) = (recipe.common.seed(), DcganConfig::new().with_latent(recipe.latent));
    let generator = init(seed, device, |device| config.init_generator(device))?;
    let discriminator = init(seed.wrapping_add(1), device, |device| config.init_discriminator(device))?;
    task(recipe, generator, discriminator)
}

/// Two networks, each with the optimizer that trains it.
fn task<G, D, const R: usize>(
    recipe: &Recipe,
    generator: G,
    discriminator: D,
) -> Result<Adversarial<G, D, R>, BoxError>
where
    G: Module + Forward<Tensor<2>, Output = Tensor<R>>,
    D: Module + Logits<Tensor<R>>,
{
    let adam = || AdamConfig::new().with_betas([0.5, 0.999]).init();
    let mut learner = recipe.common.learner;
    learner.ema = learner.ema.filter(|decay| *decay > 0.0);
    let generator = learner.learner(generator, adam()?)?;
    // The discriminator makes no samples.
    learner.ema = None;
    let discriminator = learner.learner(discriminator, adam()?)?;
    Ok(Adversarial::new(generator, discriminator, recipe.latent)
        .with_loss(recipe.loss)
        .with_label_smoothing(recipe.label_smoothing)?
        .with_critic_steps(recipe.critic_steps)?)
}
