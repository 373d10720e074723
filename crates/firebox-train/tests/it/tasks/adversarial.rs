//! A GAN's task: its losses are PyTorch's (`fixtures/adversarial.py`), each model learns what it should and
//! nothing of the other, and its steps are counted.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use std::cell::Cell;
use std::rc::Rc;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use firebox_models::gan::{
    DcganConfig, DcganDiscriminator, DcganGenerator, Discriminator, DiscriminatorConfig, Generator,
    GeneratorConfig, Logits,
};
use firebox_models::layers::{Linear, LinearConfig};
use firebox_models::{Forward, init};
use firebox_train::metrics::Metrics;
use firebox_train::optimizer::{AdamConfig, SgdConfig};
use firebox_train::task::{Goal, TaskState};
use firebox_train::tasks::{Adversarial, AdversarialLoss, Judge};
use firebox_train::{Error, ErrorKind, Learner, StepContext, Task};
use firebox_weights::StateDict;
use serde::Deserialize;

const LATENT: usize = 3;
const FEATURES: usize = 6;

type Small = Adversarial<Generator, Discriminator, 2>;

fn models() -> (Generator, Discriminator) {
    let device = Device::default().autodiff();
    let generator = init(1, &device, |device| GeneratorConfig::new(LATENT, FEATURES).init(device)).unwrap();
    let discriminator = init(2, &device, |device| DiscriminatorConfig::new(FEATURES).init(device)).unwrap();
    (generator, discriminator)
}

fn learners() -> (Learner<Generator>, Learner<Discriminator>) {
    let adam = || AdamConfig::new().with_betas([0.5, 0.999]).init().unwrap();
    let (generator, discriminator) = models();
    (Learner::new(generator, adam()), Learner::new(discriminator, adam()))
}

fn small() -> Small {
    let (generator, discriminator) = learners();
    Adversarial::new(generator, discriminator, LATENT)
}

/// With batch normalisation on both sides.
fn convolutional() -> Adversarial<DcganGenerator, DcganDiscriminator, 4> {
    let device = Device::default().autodiff();
    let config = DcganConfig::new().with_latent(LATENT).with_size(8).with_features(4);
    let generator = init(1, &device, |device| config.init_generator(device)).unwrap();
    let discriminator = init(2, &device, |device| config.init_discriminator(device)).unwrap();
    let adam = || AdamConfig::new().init().unwrap();
    Adversarial::new(Learner::new(generator, adam()), Learner::new(discriminator, adam()), LATENT)
}

/// Samples to learn from, the same each time.
fn real<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|place| ((place * 7 % 13) as f32 / 6.5) - 0.9).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::default().autodiff())
}

/// One step, under a seed as the trainer gives it.
fn step<T: Task<Batch = Tensor<D>>, const D: usize>(
    task: &mut T,
    batch: Tensor<D>,
    context: &StepContext,
) -> Result<Metrics, Error> {
    Device::default().seed(1000 + context.step as u64);
    task.train_step(batch, context)
}

fn at(step: usize) -> StepContext {
    StepContext::new(0, step, 1e-3)
}

fn part<'a>(state: &'a TaskState, name: &str) -> &'a StateDict {
    state.get(name).unwrap()
}

#[track_caller]
fn assert_near(one: &StateDict, other: &StateDict, most: f32) {
    assert_eq!(one.iter().count(), other.iter().count());
    for (key, values) in one.iter() {
        let [values, others] = [values, other.get(key).unwrap()].map(|data| data.to_vec::<f32>().unwrap());
        for (a, b) in values.iter().zip(&others) {
            assert!((a - b).abs() <= most, "{key}: {a}, {b}");
        }
    }
}

#[derive(Deserialize)]
struct Losses {
    loss: AdversarialLoss,
    target: f64,
    real: Vec<f32>,
    fake: Vec<f32>,
    discriminator: f64,
    generator: f64,
    gradient_real: Vec<f64>,
    gradient_fake: Vec<f64>,
    gradient_generator: Vec<f64>,
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let _alone = draws();
    let cases: Vec<Losses> = serde_json::from_str(include_str!("../../fixtures/adversarial.json")).unwrap();
    let device = Device::default().autodiff();
    let values = |tensor: Tensor<2>| tensor.try_into_vec_as::<f64>().unwrap();
    let same = |got: &[f64], expected: &[f64], what: &str| {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= 2e-6 * expected.abs().max(0.1), "{what}: {got}, {expected}");
        }
    };
    for case in cases {
        let name = format!("{} with target {}", case.loss, case.target);
        let logits = |values: &[f32]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), [values.len(), 1]), &device)
                .require_grad()
        };
        let (real, fake) = (logits(&case.real), logits(&case.fake));
        let loss = case.loss.of_discriminator(real.clone(), fake.clone(), case.target);
        same(&[loss.clone().into_scalar::<f64>()], &[case.discriminator], &name);
        let gradients = loss.backward();
        same(&values(real.grad(&gradients).unwrap()), &case.gradient_real, &name);
        same(&values(fake.grad(&gradients).unwrap()), &case.gradient_fake, &name);
        let loss = case.loss.of_generator(fake.clone());
        same(&[loss.clone().into_scalar::<f64>()], &[case.generator], &name);
        same(&values(fake.grad(&loss.backward()).unwrap()), &case.gradient_generator, &name);
    }
}

/// A mean over samples of what the literature writes for one: by probabilities where it has them, from
/// logits.
type Term = fn(Tensor<2>) -> Tensor<2>;

fn probability(logits: Tensor<2>) -> Tensor<2> {
    (logits.neg().exp() + 1.0).recip()
}

#[test]
fn a_step_is_the_one_that_the_literature_writes_down() {
    let _turn = draws();
    // The discriminator's terms for real and generated samples, the generator's, and what it says to people.
    let cases: [(AdversarialLoss, f64, [Term; 4]); 5] = [
        (
            AdversarialLoss::NonSaturating,
            0.0,
            [
                |x| probability(x).log().neg(),
                |y| (probability(y).neg() + 1.0).log().neg(),
                |y| probability(y).log().neg(),
                probability,
            ],
        ),
        (
            AdversarialLoss::NonSaturating,
            0.2,
            [
                |x| {
                    let p = probability(x);
                    (p.clone().log() * 0.8 + (p.neg() + 1.0).log() * 0.2).neg()
                },
                |y| (probability(y).neg() + 1.0).log().neg(),
                |y| probability(y).log().neg(),
                probability,
            ],
        ),
        (
            AdversarialLoss::LeastSquares,
            0.0,
            [|x| (x - 1.0).square() * 0.5, |y| y.square() * 0.5, |y| (y - 1.0).square() * 0.5, |x| x],
        ),
        (
            AdversarialLoss::LeastSquares,
            0.25,
            [|x| (x - 0.75).square() * 0.5, |y| y.square() * 0.5, |y| (y - 1.0).square() * 0.5, |x| x],
        ),
        (
            AdversarialLoss::Hinge,
            0.0,
            [|x| (x.neg() + 1.0).clamp_min(0.0), |y| (y + 1.0).clamp_min(0.0), |y| y.neg(), |x| x],
        ),
    ];
    for (loss, smoothing, [of_real, of_fake, of_generator, output]) in cases {
        let mut task = small().with_loss(loss).with_label_smoothing(smoothing).unwrap();
        let (mut generator, mut discriminator) = learners();
        for number in 0..3 {
            let samples = real([8, FEATURES]);
            let metrics = step(&mut task, samples.clone(), &at(number)).unwrap();

            let device = Device::default().autodiff();
            device.seed(1000 + number as u64);
            let noise = Tensor::random([8, LATENT], Distribution::Normal(0.0, 1.0), &device);
            let fake = generator.model().forward(noise);
            let before = |samples: Tensor<2>| discriminator.model().logits(samples);
            let (on_real, on_fake) = (before(samples), before(fake.clone().detach()));
            let mean = |values: Tensor<2>| values.mean().into_scalar::<f64>();
            let (mean_real, mean_fake) = (mean(output(on_real.clone())), mean(output(on_fake.clone())));
            let of_both = of_real(on_real).mean() + of_fake(on_fake).mean();
            let of_discriminator = of_both.clone().detach().into_scalar::<f64>();
            discriminator.step(of_both, 1e-3);
            let of_it = of_generator(discriminator.model().logits(fake)).mean();
            let taught = of_it.clone().detach().into_scalar::<f64>();
            generator.step(of_it, 1e-3);
            for (name, expected) in [
                ("loss_discriminator", of_discriminator),
                ("loss_generator", taught),
                ("output_real", mean_real),
                ("output_fake", mean_fake),
            ] {
                let got = metrics.value(name).unwrap();
                assert!((got - expected).abs() < 2e-5, "{loss}, step {number}: {name}: {got}, {expected}");
            }
        }
        let state = task.state().unwrap();
        // Adam's first steps have the size of the rate whatever the gradient is: one that is nearly 0 may go
        // either way.
        assert_near(part(&state, "generator"), &StateDict::of(generator.model()), 1e-4);
        assert_near(part(&state, "discriminator"), &StateDict::of(discriminator.model()), 1e-4);
        let untrained = small().state().unwrap();
        assert_ne!(part(&state, "generator"), part(&untrained, "generator"));
    }
}

#[test]
fn neither_model_moves_in_the_step_of_the_other() {
    let _turn = draws();
    let batch = real([8, 1, 8, 8]);
    let before = convolutional().state().unwrap();
    // The discriminator's step alone: its generator has two steps to wait.
    let mut critic = convolutional().with_critic_steps(3).unwrap();
    step(&mut critic, batch.clone(), &at(0)).unwrap();
    let alone = critic.state().unwrap();
    assert_ne!(part(&alone, "discriminator"), part(&before, "discriminator"));
    for name in ["main.0.weight", "main.1.weight", "main.3.weight", "main.4.bias", "main.6.weight"] {
        let [old, new] = [&before, &alone].map(|state| part(state, "generator").get(name).unwrap());
        assert_eq!(old, new, "{name}");
    }
    assert_eq!(part(&alone, "generator.optimizer").iter().count(), 0);

    // Both steps: the discriminator is what it was without the other, its running statistics included.
    let mut both = convolutional();
    step(&mut both, batch, &at(0)).unwrap();
    let both = both.state().unwrap();
    assert_ne!(part(&both, "generator"), part(&before, "generator"));
    assert_eq!(part(&both, "discriminator"), part(&alone, "discriminator"));
    assert_eq!(part(&both, "discriminator.optimizer"), part(&alone, "discriminator.optimizer"));
}

#[test]
fn the_generator_learns_in_every_nth_step_of_the_run() {
    let _turn = draws();
    let mut task = small().with_critic_steps(3).unwrap();
    let mut whole = small().with_critic_steps(3).unwrap();
    let mut generators = vec![task.state().unwrap()];
    for number in 0..7 {
        // Half of the way in another process: nothing but the step's number counts.
        if number == 4 {
            let mut other = small().with_critic_steps(3).unwrap();
            other.load(&task.state().unwrap()).unwrap();
            task = other;
        }
        let metrics = step(&mut task, real([4, FEATURES]), &at(number)).unwrap();
        step(&mut whole, real([4, FEATURES]), &at(number)).unwrap();
        assert_eq!(task.gradient_norm(), whole.gradient_norm(), "step {number}");
        assert_eq!(metrics.value("loss_generator").is_some(), number == 2 || number == 5, "step {number}");
        assert!(metrics.value("loss_discriminator").is_some());
        generators.push(task.state().unwrap());
        let [old, new] = [&generators[number], &generators[number + 1]];
        assert_eq!(
            part(old, "generator") != part(new, "generator"),
            number == 2 || number == 5,
            "step {number}"
        );
        assert_ne!(part(old, "discriminator"), part(new, "discriminator"), "step {number}");
    }
    let counts = |name: &str| {
        let state = part(&generators[7], name);
        let times = state.iter().filter(|(key, _)| key.ends_with("time"));
        times.map(|(_, data)| data.to_f64_vec()[0] as i64).collect::<Vec<_>>()
    };
    assert_eq!(counts("generator.optimizer"), [2; 6]);
    assert_eq!(counts("discriminator.optimizer"), [7; 6]);
}

#[test]
fn a_step_of_several_batches_is_that_of_a_large_one() {
    let _turn = draws();
    // A gradient is then a difference of parameters.
    let task = || {
        let (generator, discriminator) = models();
        let sgd = || SgdConfig::new().init().unwrap();
        Adversarial::<_, _, 2>::new(
            Learner::new(generator, sgd()),
            Learner::new(discriminator, sgd()),
            LATENT,
        )
    };
    let (mut large, mut several) = (task(), task());
    let batch = real([12, FEATURES]);
    let context = StepContext::new(0, 0, 0.5);
    let whole = step(&mut large, batch.clone(), &context).unwrap();
    let mut sum = Metrics::default();
    // The same noise: drawn on from one seed, where the trainer gives each batch its own.
    Device::default().seed(1000);
    for (from, count, updates) in [(0, 5, false), (5, 4, false), (9, 3, true)] {
        let part = batch.clone().narrow(0, from, count);
        let context = if updates { context } else { context.without_update() };
        assert_eq!(several.state().is_ok(), from == 0, "a step that waits can't be saved");
        sum.add(&several.train_step(part, &context).unwrap()).unwrap();
    }
    for (name, value) in whole.values() {
        let got = sum.value(name).unwrap();
        assert!((got - value).abs() < 1e-6, "{name}: {got}, {value}");
    }
    let [large, several, before] = [&large, &several, &task()].map(|task| task.state().unwrap());
    for name in ["generator", "discriminator"] {
        assert_near(part(&several, name), part(&large, name), 1e-6);
        assert_ne!(part(&several, name), part(&before, name));
    }
}

#[test]
fn a_batch_that_is_not_finite_changes_neither_model() {
    let _turn = draws();
    let spoilt = || real([4, FEATURES]).mul_scalar(f32::NAN);
    let mut task = small();
    let before = task.state().unwrap();
    let error = step(&mut task, spoilt(), &at(0)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    assert_eq!(task.state().unwrap(), before);

    // The last of three is spoilt: what the step has learned from is the other two.
    let run = |batches: &[(Tensor<2>, bool)]| {
        let mut task = small();
        Device::default().seed(5);
        for (batch, updates) in batches {
            let context = if *updates { at(0) } else { at(0).without_update() };
            let _ = task.train_step(batch.clone(), &context);
        }
        task.state().unwrap()
    };
    let good = real([4, FEATURES]);
    let with = run(&[(good.clone(), false), (good.clone(), false), (spoilt(), true)]);
    let without = run(&[(good.clone(), false), (good, true)]);
    for name in ["generator", "discriminator"] {
        assert_near(part(&with, name), part(&without, name), 1e-6);
        assert_ne!(part(&with, name), part(&before, name));
    }
}

/// Tells a generator nothing that is finite of batches of five samples.
#[derive(Module, Debug)]
struct Moody {
    linear: Linear,
}

impl Logits<Tensor<2>> for Moody {
    fn logits(&self, samples: Tensor<2>) -> Tensor<2> {
        let teaches = !self.linear.weight.is_require_grad();
        let spoils = teaches && samples.dims()[0] == 5;
        let logits = self.linear.forward(samples);
        if spoils { logits.mul_scalar(f32::NAN) } else { logits }
    }
}

#[test]
fn a_step_is_over_although_the_generator_refused_one_of_its_batches() {
    let _turn = draws();
    let device = Device::default().autodiff();
    let linear = init(2, &device, |device| LinearConfig::new(FEATURES, 1).init(device)).unwrap();
    let adam = || AdamConfig::new().init().unwrap();
    let (generator, _) = models();
    let discriminator = Learner::new(Moody { linear }, adam());
    let mut task = Adversarial::new(Learner::new(generator, adam()), discriminator, LATENT);
    let before = task.state().unwrap();
    for samples in [4, 5] {
        step(&mut task, real([samples, FEATURES]), &at(0).without_update()).unwrap();
    }
    let error = step(&mut task, real([4, FEATURES]), &at(0)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    // Nothing waits for another batch, and both have learned from the others.
    let after = task.state().unwrap();
    for name in ["generator", "discriminator"] {
        assert_ne!(part(&after, name), part(&before, name), "{name}");
    }
}

#[test]
fn samples_are_of_the_moving_average() {
    let _turn = draws();
    let (generator, discriminator) = learners();
    let mut task: Small = Adversarial::new(generator.with_ema(0.5).unwrap(), discriminator, LATENT);
    let before = task.state().unwrap();
    step(&mut task, real([4, FEATURES]), &at(0)).unwrap();
    let state = task.state().unwrap();
    assert_eq!(&StateDict::of(&task.averaged_generator()), part(&state, "generator.ema"));
    // Half of the way that the generator went.
    for (key, average) in part(&state, "generator.ema").iter() {
        let ends = [&before, &state].map(|state| part(state, "generator").get(key).unwrap());
        let [from, to, average] = [ends[0], ends[1], average].map(|data| data.to_vec::<f32>().unwrap());
        for ((from, to), average) in from.iter().zip(&to).zip(&average) {
            assert!((average - (from + to) / 2.0).abs() < 1e-6, "{key}");
        }
    }
    let noise = Tensor::<2>::random([2, LATENT], Distribution::Normal(0.0, 1.0), &Device::default());
    let like = models().0.valid();
    let again = Small::generator_of(&state, like.clone()).unwrap();
    let of = |samples: Tensor<2>| samples.try_into_vec_as::<f32>().unwrap();
    assert_eq!(of(task.samples(noise.clone())), of(again.forward(noise.clone())));
    assert_ne!(of(task.samples(noise.clone())), of(task.generator().valid().forward(noise)));
    let error = Small::generator_of(&TaskState::default(), like).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Checkpoint);
}

/// Counts what it sees, and remembers the sum of it.
struct Counting(Rc<Cell<(usize, f64)>>);

impl Judge<2> for Counting {
    fn judge(&self, real: Tensor<2>, fake: Tensor<2>) -> Result<Metrics, Error> {
        assert!(!fake.device().is_autodiff());
        assert_eq!(real.dims(), fake.dims());
        let sum = fake.clone().sum().into_scalar::<f64>();
        let (samples, before) = self.0.get();
        self.0.set((samples + fake.dims()[0], before + sum));
        Ok(Metrics::of(fake.dims()[0]).with_sum("brightness", sum))
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("brightness", Goal::Maximize)
    }
}

#[test]
fn a_judge_sees_samples_beside_as_many_real_ones() {
    let _turn = draws();
    let seen = Rc::new(Cell::new((0, 0.0)));
    let evaluate = |task: &Small, seed: u64| {
        seen.set((0, 0.0));
        let mut judge = task.evaluator();
        for (batch, samples) in [5, 2].into_iter().enumerate() {
            Device::default().seed(seed + batch as u64);
            judge(real([samples, FEATURES]).without_autodiff()).unwrap();
        }
        seen.get()
    };
    let mut task = small().with_judge(Counting(seen.clone()));
    assert_eq!(task.monitor(), ("brightness", Goal::Maximize));
    let first = evaluate(&task, 7);
    assert_eq!(first.0, 7);
    assert_eq!(evaluate(&task, 7), first);
    assert_ne!(evaluate(&task, 70), first, "another noise");
    step(&mut task, real([4, FEATURES]), &at(0)).unwrap();
    assert_ne!(evaluate(&task, 7), first, "another generator");

    // Without a judge the losses are looked at.
    let task = small();
    assert_eq!(task.monitor(), ("loss_discriminator", Goal::Maximize));
    let metrics = task.evaluator()(real([5, FEATURES]).without_autodiff()).unwrap();
    let names: Vec<_> = metrics.values().map(|(name, _)| name).collect();
    assert_eq!(names, ["loss_discriminator", "loss_generator", "output_fake", "output_real"]);
}

#[test]
fn settings_out_of_their_range_are_refused() {
    let _alone = draws();
    for smoothing in [-0.1, 1.0, f64::NAN] {
        let error = small().with_label_smoothing(smoothing).err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    }
    let error = small().with_loss(AdversarialLoss::Hinge).with_label_smoothing(0.1).err().unwrap();
    assert_eq!(
        error.to_string(),
        "label smoothing: expected 0 with the hinge loss, which has no labels, got 0.1"
    );
    assert!(small().with_loss(AdversarialLoss::Hinge).with_label_smoothing(0.0).is_ok());
    let error = small().with_critic_steps(0).err().unwrap();
    assert_eq!(error.to_string(), "critic steps: expected at least 1, got 0");
    let error = "wasserstein".parse::<AdversarialLoss>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "adversarial loss: expected one of non-saturating, least-squares, hinge, got wasserstein"
    );
    for loss in [AdversarialLoss::NonSaturating, AdversarialLoss::LeastSquares, AdversarialLoss::Hinge] {
        assert_eq!(loss.name().parse::<AdversarialLoss>().unwrap(), loss);
        assert_eq!(serde_json::to_value(loss).unwrap(), loss.name());
    }
}
