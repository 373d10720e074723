//! Generative adversarial networks: a generator and a discriminator that learn from each other.

mod judge;
mod loss;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use firebox_models::Forward;
use firebox_models::gan::Logits;
use firebox_models::layers::batch_norms;

pub use judge::Judge;
pub use loss::AdversarialLoss;

use crate::error::{Error, ErrorKind, check};
use crate::learner::Learner;
use crate::metrics::Metrics;
use crate::readout::floats;
use crate::task::{Goal, StepContext, Task, TaskState};
use crate::tasks::batch::{self, is_empty, refused};

/// Trains a generator against a discriminator.
///
/// The generator maps noise `[batch, latent]` to samples of rank `R`, the discriminator tells them from real
/// ones. Its batches are real samples.
///
/// Both are a [`Learner`] of their own, with an optimizer of its own; clipping, a moving average and factors
/// of the learning rate are set there. Evaluations and [`samples`](Self::samples) are of the generator's
/// moving average if it has one.
///
/// # A step
///
/// Noise is drawn from the normal distribution by Burn's generator, which the trainer seeds before each
/// batch. The discriminator learns from the real samples and as many generated ones, through which no
/// gradient goes; then the generator from what the discriminator, as it is now, thinks of these same samples.
/// Its gradient goes through a copy of the discriminator that does not learn: neither model's step changes
/// anything of the other. Both models are in training mode, and real and generated samples go through the
/// discriminator apart, as two batches.
///
/// With [`with_critic_steps(n)`](Self::with_critic_steps) the generator learns in every n-th step only,
/// counted over the whole run, by the noise of that step.
///
/// With gradient accumulation a step is that of one large batch: the discriminator moves along the mean of
/// all its batches' gradients, and then the generator along the mean of its own, for which the samples of the
/// earlier batches are generated again from their noise, against the discriminator that has moved. Only what
/// batch normalisation computes over a batch stays with the batches.
///
/// A batch whose loss or gradients are not finite is refused with [`ErrorKind::NotFinite`]. If those of the
/// discriminator are, neither model has learned from it; if those of the generator are, the discriminator
/// has. A batch whose samples have another shape than the generator's is refused with [`ErrorKind::Task`]
/// before anything was learned. Of a batch without samples nothing is learned, and nothing measured; with the
/// step's other batches both models move all the same.
///
/// # Metrics
///
/// `loss_discriminator`, `loss_generator` (none in a step in which it does not learn), and `output_real` and
/// `output_fake`, the mean of what the discriminator says, before it learns, of real and of generated
/// samples: a probability with the non-saturating loss, else a number around which the loss is made.
/// Evaluations measure what a [`Judge`] says. Without one they measure the same as training, on samples that
/// are not learned from, and the best checkpoint is the one whose discriminator has the largest loss there;
/// but every checkpoint has another discriminator, so that this says little.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::gan::{DiscriminatorConfig, GeneratorConfig};
/// use firebox_train::optimizer::AdamConfig;
/// use firebox_train::tasks::{Adversarial, AdversarialLoss};
/// use firebox_train::{Learner, StepContext, Task};
///
/// let device = Device::default().autodiff();
/// let adam = || AdamConfig::new().with_betas([0.5, 0.999]).init();
/// let generator = Learner::new(GeneratorConfig::new(8, 4).init(&device)?, adam()?);
/// let discriminator = Learner::new(DiscriminatorConfig::new(4).init(&device)?, adam()?);
/// let mut task = Adversarial::new(generator, discriminator, 8).with_loss(AdversarialLoss::Hinge);
/// let metrics = task.train_step(Tensor::zeros([2, 4], &device), &StepContext::new(0, 0, 1e-4))?;
/// assert!(metrics.value("loss_generator").is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Adversarial<G, D, const R: usize> {
    generator: Learner<G>,
    discriminator: Learner<D>,
    latent: usize,
    loss: AdversarialLoss,
    /// The answer that the discriminator should give for real samples.
    target: f64,
    critic_steps: usize,
    judge: Option<Box<dyn Judge<R>>>,
    /// The noise of a step's earlier batches, whose samples the generator has yet to learn from.
    waiting: Vec<Tensor<2>>,
}

impl<G, D, const R: usize> Adversarial<G, D, R>
where
    G: Module + Forward<Tensor<2>, Output = Tensor<R>>,
    D: Module + Logits<Tensor<R>>,
{
    /// A task of two learners, whose models must be on an autodiff device.
    ///
    /// `latent` is the number of the generator's inputs.
    pub fn new(generator: Learner<G>, discriminator: Learner<D>, latent: usize) -> Self {
        Adversarial {
            generator,
            discriminator,
            latent,
            loss: AdversarialLoss::default(),
            target: 1.0,
            critic_steps: 1,
            judge: None,
            waiting: Vec::new(),
        }
    }

    /// Another loss than the non-saturating one. The hinge loss has no labels: a step or an evaluation with
    /// it and label smoothing is an error.
    pub fn with_loss(mut self, loss: AdversarialLoss) -> Self {
        self.loss = loss;
        self
    }

    /// One-sided label smoothing (Salimans et al. 2016): of real samples the discriminator should say 1 −
    /// `smoothing`; what it should say of generated ones stays 0.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] unless `smoothing` is from 0, below 1, or if it is above 0 and the loss is
    /// the hinge loss, which has no labels.
    pub fn with_label_smoothing(mut self, smoothing: f64) -> Result<Self, Error> {
        let limits = "a number from 0, below 1";
        check((0.0..1.0).contains(&smoothing), "label smoothing", limits, smoothing)?;
        let without = self.loss == AdversarialLoss::Hinge && smoothing > 0.0;
        check(!without, "label smoothing", "0 with the hinge loss, which has no labels", smoothing)?;
        self.target = 1.0 - smoothing;
        Ok(self)
    }

    /// Lets the discriminator learn so many steps for each one of the generator.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] unless it is at least 1.
    pub fn with_critic_steps(mut self, steps: usize) -> Result<Self, Error> {
        check(steps > 0, "critic steps", "at least 1", steps)?;
        self.critic_steps = steps;
        Ok(self)
    }

    /// Lets a judge say in evaluations how good samples are.
    ///
    /// Its metric then decides which checkpoint is the best.
    pub fn with_judge(mut self, judge: impl Judge<R> + 'static) -> Self {
        self.judge = Some(Box::new(judge));
        self
    }

    /// The generator as it is now.
    pub fn generator(&self) -> &G {
        self.generator.model()
    }

    /// The discriminator as it is now.
    pub fn discriminator(&self) -> &D {
        self.discriminator.model()
    }

    /// The generator that evaluations judge, on a device without autodiff.
    ///
    /// It is the generator's moving average if there is one, else the generator.
    pub fn averaged_generator(&self) -> G {
        self.generator.averaged()
    }

    /// Samples from noise `[batch, latent]` on a device without autodiff, by
    /// [`averaged_generator`](Self::averaged_generator).
    ///
    /// # Panics
    /// If the noise doesn't fit the generator.
    pub fn samples(&self, noise: Tensor<2>) -> Tensor<R> {
        self.averaged_generator().forward(noise)
    }

    /// The generator of a saved state, in the form of `like`.
    ///
    /// It is its [moving average](Self::averaged_generator) if there was one. Callbacks use it, which see a
    /// run's [states](crate::event::Event::Saving) and not its task.
    ///
    /// # Errors
    /// [`ErrorKind::Checkpoint`] if it is the state of something else.
    pub fn generator_of(state: &TaskState, like: G) -> Result<G, Error> {
        let (average, generator) = (format!("{GENERATOR}.ema"), state.get(GENERATOR)?);
        // Only the moving average is asked for: what is to be made later, such as optimizers' states, is left
        // to others.
        let (name, part) = match state.get(&average) {
            Ok(part) => (average.as_str(), part),
            Err(_) => (GENERATOR, generator),
        };
        part.apply(like).map_err(|error| Error::new(ErrorKind::Checkpoint, name).caused_by(error))
    }

    fn noise(&self, samples: usize, device: &Device) -> Tensor<2> {
        normal([samples, self.latent], device)
    }

    /// As many samples as there are real ones, with the noise that they are made from.
    fn beside(&self, generator: &G, real: &Tensor<R>) -> Result<(Tensor<2>, Tensor<R>), Error> {
        let expected = real.dims();
        check(self.latent > 0, "Adversarial.latent", "at least 1", self.latent)?;
        let without = self.loss == AdversarialLoss::Hinge && self.target != 1.0;
        let smoothing = 1.0 - self.target;
        check(!without, "label smoothing", "0 with the hinge loss, which has no labels", smoothing)?;
        self.discriminator().check_samples(real).map_err(refused)?;
        let noise = self.noise(expected[0], &real.device());
        generator.check_input(&noise).map_err(refused)?;
        let fake = generator.forward(noise.clone());
        let got = fake.dims();
        batch::check(got == expected, || {
            format!("the generator's samples: expected the real ones' shape {expected:?}, got {got:?}")
        })?;
        Ok((noise, fake))
    }

    /// Lets the generator learn from what `critic` thinks of samples: its loss.
    fn teach(&mut self, critic: &D, fake: Tensor<R>, context: &StepContext) -> Result<f64, Error> {
        let samples = fake.dims()[0] as f64;
        let loss = self.loss.of_generator(critic.logits(fake));
        let value = mean(loss.clone().detach())?;
        self.generator.learn(loss, samples, context)?;
        Ok(value)
    }

    /// The discriminator's answers for real and generated samples, and its loss by them.
    fn opinion(&self, real: Tensor<2>, fake: Tensor<2>) -> Result<(Metrics, Tensor<1>), Error> {
        let loss = self.loss.of_discriminator(real.clone(), fake.clone(), self.target);
        let outputs = |logits: Tensor<2>| mean(self.loss.output(logits.detach()));
        let metrics = Metrics::of(real.dims()[0])
            .with_mean("output_real", outputs(real)?)
            .with_mean("output_fake", outputs(fake)?)
            .with_mean("loss_discriminator", mean(loss.clone().detach())?);
        Ok((metrics, loss))
    }
}

const GENERATOR: &str = "generator";
const DISCRIMINATOR: &str = "discriminator";

fn normal(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn mean<const D: usize>(values: Tensor<D>) -> Result<f64, Error> {
    let values = floats(values)?;
    Ok(values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64)
}

impl<G, D, const R: usize> Task for Adversarial<G, D, R>
where
    G: Module + Forward<Tensor<2>, Output = Tensor<R>>,
    D: Module + Logits<Tensor<R>>,
{
    type Batch = Tensor<R>;

    fn train_step(&mut self, real: Self::Batch, context: &StepContext) -> Result<Metrics, Error> {
        let (metrics, learned, own) = if is_empty(&real.dims()) {
            (Metrics::default(), self.discriminator.learn_nothing(context), None)
        } else {
            let (noise, fake) = self.beside(self.generator(), &real)?;
            let samples = real.dims()[0];
            let judge = self.discriminator();
            let (metrics, loss) = self.opinion(judge.logits(real), judge.logits(fake.clone().detach()))?;
            (metrics, self.discriminator.learn(loss, samples as f64, context), Some((noise, fake)))
        };
        if !context.is_optimizer_step {
            learned?;
            self.waiting.extend(own.map(|(noise, _)| noise));
            return Ok(metrics);
        }

        // If the generator doesn't learn in this step, its last norm is of another one.
        self.generator.forget_norm();
        let earlier = std::mem::take(&mut self.waiting);
        if context.step % self.critic_steps != self.critic_steps - 1 {
            return learned.map(|()| metrics);
        }
        // What the discriminator refused the generator doesn't learn from, but from the step's other batches
        // it does.
        let again = earlier.into_iter().map(|noise| (noise, None));
        let own = own.filter(|_| learned.is_ok()).map(|(noise, fake)| (noise, Some(fake)));
        let todo: Vec<_> = again.chain(own).collect();
        let critic = self.discriminator().clone().no_grad();
        let (mut sum, mut weight, count) = (0.0, 0.0, todo.len());
        // The step ends with its last batch, whatever the others come to: nothing of it is left for the next
        // one.
        let mut failed = learned.err();
        for (index, (noise, made)) in todo.into_iter().enumerate() {
            let samples = noise.dims()[0] as f64;
            let fake = made.unwrap_or_else(|| self.generator().forward(noise));
            let context = if index + 1 == count { *context } else { context.without_update() };
            match self.teach(&critic, fake, &context) {
                Ok(loss) => (sum, weight) = (sum + samples * loss, weight + samples),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            None if weight == 0.0 => Ok(metrics),
            None => Ok(metrics.with_weighted_mean("loss_generator", sum / weight, weight)),
            Some(error) => Err(error),
        }
    }

    fn device(&self) -> Option<Device> {
        let (generator, discriminator) = (self.generator.device(), self.discriminator.device());
        // Where one of them would not learn is what somebody should know.
        discriminator.filter(|device| !device.is_autodiff()).or(generator)
    }

    fn gradient_norm(&self) -> Option<f64> {
        let (generator, discriminator) = (self.generator.gradient_norm(), self.discriminator.gradient_norm());
        match (generator, discriminator) {
            (Some(generator), Some(discriminator)) => Some(generator.hypot(discriminator)),
            (one, other) => one.or(other),
        }
    }

    fn batch_norms(&self) -> Vec<String> {
        let of = |name, paths: Vec<String>| paths.into_iter().map(move |path| format!("{name}.{path}"));
        let generator = of(GENERATOR, batch_norms(self.generator()));
        generator.chain(of(DISCRIMINATOR, batch_norms(self.discriminator()))).collect()
    }

    /// Compares each batch with as many samples. Their noise is the same in every evaluation by the trainer,
    /// which seeds Burn's generator before each batch.
    fn evaluator(&self) -> impl FnMut(Self::Batch) -> Result<Metrics, Error> {
        let (generator, discriminator) = (self.averaged_generator(), self.discriminator().valid());
        move |real| {
            if is_empty(&real.dims()) {
                return Ok(Metrics::default());
            }
            let (_, fake) = self.beside(&generator, &real)?;
            if let Some(judge) = &self.judge {
                return judge.judge(real, fake);
            }
            let (real, fake) = (discriminator.logits(real), discriminator.logits(fake));
            let generator_loss = mean(self.loss.of_generator(fake.clone()))?;
            Ok(self.opinion(real, fake)?.0.with_mean("loss_generator", generator_loss))
        }
    }

    fn monitor(&self) -> (&str, Goal) {
        match &self.judge {
            Some(judge) => judge.monitor(),
            None => ("loss_discriminator", Goal::Maximize),
        }
    }

    fn state(&self) -> Result<TaskState, Error> {
        let mut state = TaskState::default();
        self.generator.save(GENERATOR, &mut state)?;
        self.discriminator.save(DISCRIMINATOR, &mut state)?;
        Ok(state)
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        self.generator.load(GENERATOR, state)?;
        self.discriminator.load(DISCRIMINATOR, state)?;
        self.waiting.clear();
        Ok(())
    }
}
