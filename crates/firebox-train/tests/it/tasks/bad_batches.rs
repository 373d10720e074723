//! Batches that don't fit, and steps that can't be: an error that says what was expected, and nothing is
//! changed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use burn::module::{Module, Param};
use burn::optim::{LearningRate, Optimizer, SgdState};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use firebox_data::tensors::SequenceBatch;
use firebox_models::gan::Logits;
use firebox_models::layers::{BatchNorm2d, BatchNorm2dConfig, Linear, LinearConfig};
use firebox_models::text::{LanguageModelConfig, Seq2SeqConfig};
use firebox_models::{Forward, init};
use firebox_train::metrics::{Metrics, Predictions};
use firebox_train::optimizer::SgdConfig;
use firebox_train::task::TaskState;
use firebox_train::tasks::{
    Adversarial, AdversarialLoss, Classification, LanguageModeling, Regression, Translation,
};
use firebox_train::{Error, ErrorKind, Learner, StepContext, Task};
use firebox_weights::{RawTensor, StateDict};

fn training() -> Device {
    Device::default().autodiff()
}

fn linear(features_in: usize, features_out: usize) -> Linear {
    init(1, &training(), |device| LinearConfig::new(features_in, features_out).init(device)).unwrap()
}

fn sgd() -> burn::optim::ModuleOptimizer {
    SgdConfig::new().init().unwrap()
}

fn at(step: usize) -> StepContext {
    StepContext::new(0, step, 0.1)
}

fn floats<const D: usize>(shape: [usize; D], value: f32, device: &Device) -> Tensor<D> {
    Tensor::full(shape, value, device)
}

fn ints<const D: usize>(values: &[i64], shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// The answer of a task to a batch, in training and in an evaluation, and that it is none the worse for it.
fn refusal<T: Task>(task: &mut T, batch: impl Fn(&Device) -> T::Batch) -> String {
    let before = task.state().unwrap();
    let refused = |result: Result<Metrics, Error>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Task, "{error}");
        error.to_string()
    };
    let training_says = refused(task.train_step(batch(&training()), &at(0)));
    let evaluation_says = refused((task.evaluator())(batch(&Device::default())));
    assert_eq!(training_says, evaluation_says);
    assert_eq!(task.state().unwrap(), before);
    training_says
}

#[test]
fn a_class_that_the_model_has_no_logit_for() {
    let _alone = draws();
    let mut task = Classification::<Linear, Tensor<2>>::new(Learner::new(linear(2, 3), sgd()));
    let batch = |classes: &'static [i64], rows: usize| {
        move |device: &Device| (floats([rows, 2], 1.0, device), ints(classes, [classes.len()], device))
    };
    let cases: [(&[i64], usize, &str); 5] = [
        (&[0, 1, 2, 10], 4, "target 10 at row 3: expected a class below 3"),
        (&[0, 3], 2, "target 3 at row 1: expected a class below 3"),
        (&[-1, 0], 2, "target -1 at row 0: expected a class below 3"),
        (&[i32::MIN as i64, i32::MAX as i64], 2, "target -2147483648 at row 0: expected a class below 3"),
        (&[0, 1], 3, "classes of a batch: expected one for each of the model's 3 rows of logits, got 2"),
    ];
    for (classes, rows, text) in cases {
        assert_eq!(refusal(&mut task, batch(classes, rows)), text);
        let mut into = Predictions::default();
        let error = task.predictor(&mut into)(batch(classes, rows)(&Device::default())).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert!(into.classes.is_empty());
    }
    let narrow = |device: &Device| (floats([2, 5], 1.0, device), ints(&[0, 1], [2], device));
    assert_eq!(refusal(&mut task, narrow), "Linear: expected [.., 2], got [2, 5] (weight [3, 2])");
    task.train_step(batch(&[0, 2], 2)(&training()), &at(0)).unwrap();
}

/// Channels of one value each.
#[derive(Module, Debug)]
struct Normalized {
    bn: BatchNorm2d,
    fc: Linear,
}

impl Forward<Tensor<4>> for Normalized {
    type Output = Tensor<2>;

    fn forward(&self, maps: Tensor<4>) -> Tensor<2> {
        self.fc.forward(self.bn.forward(maps).flatten(1, 3))
    }

    fn check_input(&self, maps: &Tensor<4>) -> Result<(), firebox_models::Error> {
        self.bn.check_input(maps)
    }
}

#[test]
fn one_sample_under_batch_normalization() {
    let _alone = draws();
    let bn = init(1, &training(), |device| BatchNorm2dConfig::new(2).init(device)).unwrap();
    let mut task = Classification::new(Learner::new(Normalized { bn, fc: linear(2, 3) }, sgd()));
    assert_eq!(task.batch_norms(), ["bn"]);
    let before = task.state().unwrap();
    let batch = |rows: usize, device: &Device| {
        (floats([rows, 2, 1, 1], 1.0, device), ints(&[0, 1][..rows], [rows], device))
    };
    let error = task.train_step(batch(1, &training()), &at(0)).unwrap_err();
    let text = "BatchNorm2d: expected more than one value per channel in training, got input [1, 2, 1, 1]";
    assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Task, text));
    assert_eq!(task.state().unwrap(), before);
    task.train_step(batch(2, &training()), &at(0)).unwrap();
    let mut evaluator = task.evaluator();
    evaluator(batch(1, &Device::default())).unwrap();
}

#[test]
fn targets_of_another_shape() {
    let _alone = draws();
    let mut task = Regression::<Linear, Tensor<2>>::new(Learner::new(linear(2, 3), sgd()));
    let batch = |rows: usize, shape: [usize; 2]| {
        move |device: &Device| (floats([rows, 2], 1.0, device), floats(shape, 1.0, device))
    };
    let wrong =
        |got: &str| format!("targets of a regression: expected the predictions' shape [4, 3], got {got}");
    for (shape, got) in [([4, 1], "[4, 1]"), ([1, 3], "[1, 3]"), ([4, 0], "[4, 0]"), ([5, 3], "[5, 3]")] {
        assert_eq!(refusal(&mut task, batch(4, shape)), wrong(got));
    }
    task.train_step(batch(4, [4, 3])(&training()), &at(0)).unwrap();
}

#[test]
fn inputs_that_do_not_fit_outside_of_a_run() {
    let _alone = draws();
    let inputs = || floats([2, 4], 0.0, &Device::default());
    let classification = Classification::new(Learner::new(linear(3, 2), sgd()));
    let regression = Regression::new(Learner::new(linear(3, 2), sgd()));
    let text = "Linear: expected [.., 3], got [2, 4] (weight [2, 3])";
    for result in [classification.probabilities(inputs()), regression.predictions(inputs())] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Task, text));
    }
}

#[test]
fn a_target_that_is_no_number_is_named() {
    let _alone = draws();
    let mut task = Regression::<Linear, Tensor<2>>::new(Learner::new(linear(2, 2), sgd()));
    for (bad, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let before = task.state().unwrap();
        let targets = TensorData::from([[0.0, 1.0], [2.0, bad], [bad, 1.0]]);
        let batch = (floats([3, 2], 1.0, &training()), Tensor::from_data(targets, &training()));
        let error = task.train_step(batch, &at(0)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::NotFinite);
        let text = format!("target {said} at row 1: loss: expected a finite number, got {said}");
        assert_eq!(error.to_string(), text);
        assert_eq!(task.state().unwrap(), before);
    }
    // Where the inputs are to blame, the targets aren't.
    let batch = (floats([1, 2], f32::NAN, &training()), floats([1, 2], 1.0, &training()));
    let error = task.train_step(batch, &at(0)).unwrap_err();
    assert_eq!(error.to_string(), "loss: expected a finite number, got NaN");
}

fn sequences(values: &[i64], shape: [usize; 2], lengths: &[i64], device: &Device) -> SequenceBatch {
    SequenceBatch {
        values: ints(values, shape, device),
        lengths: ints(lengths, [lengths.len()], device),
        mask: Tensor::<2, Bool>::from_data(TensorData::new(vec![true; values.len()], shape), device),
    }
}

#[test]
fn a_token_that_a_language_model_does_not_know() {
    let _alone = draws();
    let model = init(1, &training(), |device| LanguageModelConfig::new(5, 4, 4).init(device)).unwrap();
    let mut task = LanguageModeling::new(Learner::new(model, sgd()));
    let batch = |values: &'static [i64], shape: [usize; 2], lengths: &'static [i64]| {
        move |device: &Device| sequences(values, shape, lengths, device)
    };
    type Case<'c> = (&'c [i64], [usize; 2], &'c [i64], &'c str);
    let cases: [Case<'static>; 6] = [
        (
            &[0, 1, 2, 3, 4, 5],
            [2, 3],
            &[3, 3],
            "window 1 of the batch, place 2: expected a token below 5, got 5",
        ),
        (
            &[0, 1, 2, -1, 4, 4],
            [2, 3],
            &[3, 3],
            "window 1 of the batch, place 0: expected a token below 5, got -1",
        ),
        (&[0, 1, 2], [1, 3], &[-1], "window 0 of the batch: expected a length of at most 3, got -1"),
        (&[0, 1, 2], [1, 3], &[9], "window 0 of the batch: expected a length of at most 3, got 9"),
        (
            &[0, 1, 2],
            [1, 3],
            &[2],
            "row 0 of a window: expected 3 tokens, as many as in each row and at least 2, got 2",
        ),
        (
            &[0],
            [1, 1],
            &[1],
            "row 0 of a window: expected 2 tokens, as many as in each row and at least 2, got 1",
        ),
    ];
    for (values, shape, lengths, text) in cases {
        assert_eq!(refusal(&mut task, batch(values, shape, lengths)), text);
    }
    let good = batch(&[0, 1, 2, 3, 4, 4], [2, 3], &[3, 3]);
    // There is no step behind the last one.
    for step in [usize::MAX - 1, usize::MAX, 0] {
        task.train_step(good(&training()), &at(step)).unwrap();
    }
    let mut evaluator = task.evaluator();
    evaluator(good(&Device::default())).unwrap();
}

#[test]
fn a_token_that_a_translation_does_not_know() {
    let _alone = draws();
    let model = init(1, &training(), |device| Seq2SeqConfig::new(6, 5, 4, 4).init(device)).unwrap();
    let mut task = Translation::new(Learner::new(model, sgd()));
    type Part = (&'static [i64], [usize; 2], &'static [i64]);
    let batch = |source: Part, target: Part| {
        move |device: &Device| {
            let part = |(values, shape, lengths): Part| sequences(values, shape, lengths, device);
            (part(source), part(target))
        }
    };
    let source: Part = (&[3, 4, 5, 0], [2, 2], &[2, 1]);
    let target: Part = (&[1, 3, 2, 1, 2, 0], [2, 3], &[3, 2]);
    let cases: [(Part, Part, &str); 7] = [
        (
            (&[3, 6, 5, 0], [2, 2], &[2, 1]),
            target,
            "source 0 of the batch, place 1: expected a token below 6, got 6",
        ),
        (
            (&[3, 4, 5, 9], [2, 2], &[2, 1]),
            target,
            "source 1 of the batch, place 1: expected a token below 6, got 9",
        ),
        (
            (&[3, 4, 5, 0], [2, 2], &[3, 1]),
            target,
            "source 0 of the batch: expected a length of at most 2, got 3",
        ),
        ((&[3, 4], [1, 2], &[2]), target, "translation: expected a target for each of 1 sources, got 2"),
        (
            source,
            (&[1, 5, 2, 1, 2, 0], [2, 3], &[3, 2]),
            "target 0 of the batch, place 1: expected a token below 5, got 5",
        ),
        (
            source,
            (&[1, 3, 2, 1, 2, 0], [2, 3], &[3, 4]),
            "target 1 of the batch: expected a length of at most 3, got 4",
        ),
        (
            source,
            (&[1, 3, 2, 1, 2, 0], [2, 3], &[3, 1]),
            "target 1 of the batch: expected a begin token and an end token, got 1 tokens",
        ),
    ];
    for (source, target, text) in cases {
        assert_eq!(refusal(&mut task, batch(source, target)), text);
    }
    let mut smoothed = task.with_label_smoothing(1.0).unwrap();
    let metrics = smoothed.train_step(batch(source, target)(&training()), &at(usize::MAX)).unwrap();
    assert!(metrics.value("loss").unwrap().is_finite());
}

/// A discriminator, and a generator that can be made to give another shape.
#[derive(Module, Debug)]
struct Half {
    linear: Linear,
}

impl Forward<Tensor<2>> for Half {
    type Output = Tensor<2>;

    fn forward(&self, noise: Tensor<2>) -> Tensor<2> {
        self.linear.forward(noise)
    }
}

impl Logits<Tensor<2>> for Half {
    /// Of any number of features.
    fn logits(&self, samples: Tensor<2>) -> Tensor<2> {
        self.linear.forward(samples.mean_dim(1))
    }
}

fn gan(latent: usize) -> Adversarial<Half, Half, 2> {
    let half =
        |features_in, features_out| Learner::new(Half { linear: linear(features_in, features_out) }, sgd());
    Adversarial::new(half(2, 3), half(1, 1), latent)
}

#[test]
fn samples_that_a_generator_does_not_make() {
    let _alone = draws();
    let batch = |rows: usize, features: usize| move |device: &Device| floats([rows, features], 0.5, device);
    let text = "the generator's samples: expected the real ones' shape [4, 5], got [4, 3]";
    assert_eq!(refusal(&mut gan(2), batch(4, 5)), text);
    for rows in [1, 4] {
        gan(2).train_step(batch(rows, 3)(&training()), &at(usize::MAX)).unwrap();
    }
    let mut critics = gan(2).with_critic_steps(usize::MAX).unwrap();
    critics.train_step(batch(4, 3)(&training()), &at(usize::MAX)).unwrap();
    assert!(gan(2).with_critic_steps(0).is_err());
    let config = |mut task: Adversarial<Half, Half, 2>| {
        let error = task.train_step(batch(4, 3)(&training()), &at(0)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        error.to_string()
    };
    assert_eq!(config(gan(0)), "Adversarial.latent: expected at least 1, got 0");
    // In this order neither method sees it.
    let smoothed = gan(2).with_label_smoothing(0.25).unwrap().with_loss(AdversarialLoss::Hinge);
    let text = "label smoothing: expected 0 with the hinge loss, which has no labels, got 0.25";
    assert_eq!(config(smoothed), text);
}

fn state<M: Module>(learner: &Learner<M>) -> Result<TaskState, Error> {
    let mut state = TaskState::default();
    learner.save("model", &mut state).map(|()| state)
}

fn loss(model: &Linear) -> Tensor<1> {
    model.forward(floats([3, 2], 1.0, &training())).square().mean()
}

#[test]
fn a_step_that_cannot_be() {
    let _alone = draws();
    let mut learner = Learner::new(linear(2, 3), sgd()).with_ema(0.5).unwrap().with_clip_norm(1.0).unwrap();
    let before = state(&learner).unwrap();
    let rate = |got: &str| format!("learning rate: expected a number of at least 0, got {got}");
    for (lr, got) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (-0.1, "-0.1")] {
        let one = learner.learn(loss(learner.model()), 1.0, &StepContext::new(0, 0, lr)).unwrap_err();
        let other = learner.try_step(loss(learner.model()), lr).unwrap_err();
        for error in [one, other] {
            assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
            assert_eq!(error.to_string(), rate(got));
        }
    }
    for (weight, got) in [(0.0, "0"), (f64::NAN, "NaN"), (-1.0, "-1"), (f64::INFINITY, "inf")] {
        for context in [at(0), at(0).without_update()] {
            let error = learner.learn(loss(learner.model()), weight, &context).unwrap_err();
            let text = format!("weight of a batch: expected a number above 0, got {got}");
            assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Task, text));
        }
    }
    let several = learner.model().forward(floats([1, 2], 1.0, &training())).flatten::<1>(0, 1);
    let error = learner.learn(several, 1.0, &at(0)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Task);
    let another = loss(&linear(2, 3));
    let error = learner.learn(another, 1.0, &at(0)).unwrap_err();
    let text =
        "loss: expected gradients of the learner's parameters, got none: it follows from another model's";
    assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Task, text));
    assert_eq!(state(&learner).unwrap(), before);
    // A rate of 0 is one; the moving average follows, too.
    learner.learn(loss(learner.model()), 1.0, &StepContext::new(0, 0, 0.0)).unwrap();
    assert_eq!(state(&learner).unwrap().get("model").unwrap(), before.get("model").unwrap());
}

#[test]
fn a_loss_without_gradients() {
    let _alone = draws();
    let plain = init(1, &Device::default(), |device| LinearConfig::new(2, 3).init(device)).unwrap();
    let learner_of = |model| Learner::new(model, sgd());
    let (mut plain, mut frozen) = (learner_of(plain), learner_of(linear(2, 3).no_grad()));
    let of = |learner: &Learner<Linear>, device: &Device| {
        learner.model().forward(floats([3, 2], 1.0, device)).square().mean()
    };
    let expected = "loss: expected one that has gradients, got one without";
    for (learner, device, why) in [
        (
            &mut plain,
            Device::default(),
            "the model is on a device without autodiff: make it on `device.autodiff()`",
        ),
        (&mut frozen, training(), "no parameter that it follows from is trained"),
    ] {
        let before = state(learner).unwrap();
        let one = learner.learn(of(learner, &device), 1.0, &at(0)).unwrap_err();
        let other = learner.try_step(of(learner, &device), 0.1).unwrap_err();
        for error in [one, other] {
            assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Task, format!("{expected}: {why}")));
        }
        assert_eq!(state(learner).unwrap(), before);
    }
}

#[test]
fn a_model_that_was_moved_learns() {
    let _alone = draws();
    let mut moved = Learner::new(linear(2, 3).to_device(&training()), sgd());
    let mut reference = Learner::new(linear(2, 3), sgd());
    for _ in 0..2 {
        for learner in [&mut moved, &mut reference] {
            learner.learn(loss(learner.model()), 1.0, &at(0)).unwrap();
        }
        assert_eq!(StateDict::of(moved.model()), StateDict::of(reference.model()));
    }
}

#[test]
fn a_frozen_parameter_stays() {
    let _alone = draws();
    let mut model = linear(2, 3);
    model.bias = model.bias.map(|bias| bias.set_require_grad(false));
    let before = StateDict::of(&model);
    let mut learner = Learner::new(model, sgd()).with_ema(0.5).unwrap().with_clip_norm(0.1).unwrap();
    for step in 0..2 {
        learner.learn(loss(learner.model()), 1.0, &at(step)).unwrap();
    }
    for after in [StateDict::of(learner.model()), StateDict::of(&learner.averaged())] {
        assert_eq!(after.get("bias"), before.get("bias"));
        assert_ne!(after.get("weight"), before.get("weight"));
    }
}

#[test]
fn a_mean_of_finite_losses_may_be_none() {
    let _alone = draws();
    let mut learner = Learner::new(linear(2, 3), sgd());
    let before = state(&learner).unwrap();
    let first = at(0).without_update();
    learner.learn(loss(learner.model()), 2.0, &first).unwrap();
    let bad = loss(learner.model()).mul_scalar(f32::NAN);
    let error = learner.learn(bad, 1.0, &first).unwrap_err();
    assert_eq!(error.to_string(), "loss: expected a finite number, got NaN");
    // What the other batch has added stands, and is all that the step has.
    learner.learn(loss(learner.model()), 2.0, &at(0)).unwrap();
    let mut reference = Learner::new(linear(2, 3), sgd());
    reference.learn(loss(reference.model()), 2.0, &first).unwrap();
    reference.learn(loss(reference.model()), 2.0, &at(0)).unwrap();
    assert_eq!(state(&learner).unwrap(), state(&reference).unwrap());
    assert_ne!(state(&learner).unwrap(), before);
}

/// Takes the model and doesn't come back.
#[derive(Clone)]
struct Panics;

impl Optimizer for Panics {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        _: LearningRate,
        _: Tensor<D>,
        _: Tensor<D>,
        _: Option<SgdState<D>>,
    ) -> (Tensor<D>, Option<SgdState<D>>) {
        panic!("no such step")
    }

    fn to_device<const D: usize>(state: SgdState<D>, _: &Device) -> SgdState<D> {
        state
    }
}

#[test]
fn after_a_panic_of_the_optimizer_there_are_errors() {
    let _alone = draws();
    let mut learner = Learner::new(linear(2, 3), Panics);
    let good = state(&learner).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = learner.learn(loss(learner.model()), 1.0, &at(0));
    }));
    assert!(panicked.is_err());
    let loss = || loss(&linear(2, 3));
    let text = "there is no model: the optimizer panicked with it in a step";
    for error in [
        learner.learn(loss(), 1.0, &at(1)).unwrap_err(),
        learner.try_step(loss(), 0.1).unwrap_err(),
        state(&learner).unwrap_err(),
        learner.load("model", &good).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Task, text));
    }
    assert_eq!(learner.device(), None);
}

#[test]
fn optimizers_that_cannot_be() {
    let _alone = draws();
    use firebox_train::optimizer::{AdamConfig, AdamWConfig, RmsPropConfig};
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-9] {
        let refused = [
            SgdConfig::new().with_momentum(bad).init(),
            SgdConfig::new().with_weight_decay(bad).init(),
            AdamConfig::new().with_betas([bad, 0.9]).init(),
            AdamConfig::new().with_betas([0.9, bad]).init(),
            AdamConfig::new().with_eps(bad).init(),
            AdamConfig::new().with_weight_decay(bad).init(),
            AdamWConfig::new().with_betas([bad, 0.9]).init(),
            AdamWConfig::new().with_betas([0.9, bad]).init(),
            AdamWConfig::new().with_eps(bad).init(),
            AdamWConfig::new().with_weight_decay(bad).init(),
            RmsPropConfig::new().with_alpha(bad).init(),
            RmsPropConfig::new().with_eps(bad).init(),
            RmsPropConfig::new().with_weight_decay(bad).init(),
            RmsPropConfig::new().with_momentum(bad).init(),
        ];
        for (number, refused) in refused.into_iter().enumerate() {
            let error = refused.map(drop).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{number}: {bad}: {error}");
        }
    }
    for bad in [1.0, f64::NAN, -0.1] {
        assert!(Learner::new(linear(2, 3), sgd()).with_ema(bad).is_err());
    }
    // Without ε a parameter whose gradient is 0 becomes none, as PyTorch's does; with one it stays.
    let step = |eps: f64| {
        let mut learner = Learner::new(linear(2, 3), AdamConfig::new().with_eps(eps).init().unwrap());
        let zero = loss(learner.model()).mul_scalar(0.0);
        learner.learn(zero, 1.0, &at(0)).unwrap();
        StateDict::of(learner.model()).get("bias").unwrap().to_vec::<f32>().unwrap()
    };
    assert!(step(0.0).iter().all(|value| value.is_nan()));
    assert_eq!(step(1e-8), StateDict::of(&linear(2, 3)).get("bias").unwrap().to_vec::<f32>().unwrap());
}

#[test]
fn names_that_are_no_files() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = firebox_train::checkpoint::Checkpoints::new(folder.path());
    let run = firebox_train::checkpoint::RunState::new(crate::common::numbers(4).state(0), 7);
    let save = |names: &[&str]| {
        let mut state = TaskState::default();
        names.iter().for_each(|name| state.insert(*name, StateDict::default()));
        checkpoints.save(&run, &state).map(drop)
    };
    let a_name = "a name of letters, digits, dots, dashes and underscores";
    for name in ["", "..", ".hidden", "a/b", "../escaped", "/absolute", "a\\b", "new\nline", "nul\0", "-rf"] {
        let error = save(&[name]).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Checkpoint);
        let text = format!("a part of a task's state: expected {a_name}, got {name:?}");
        assert!(error.to_string().contains(&text), "{error}");
    }
    let error = save(&["model", "Model"]).unwrap_err();
    let text = "expected a name that differs from \"Model\" in more than case, got \"model\"";
    assert!(error.to_string().contains(text), "{error}");
    save(&["model", "model.optimizer", "größe_2"]).unwrap();
}

/// A parameter of one's own that is in nobody's graph does no harm.
#[derive(Module, Debug)]
struct Unused {
    used: Param<Tensor<1>>,
    unused: Param<Tensor<1>>,
}

#[test]
fn a_parameter_that_the_loss_does_not_know_stays() {
    let _alone = draws();
    let param = || Param::from_data(TensorData::from([1f32, 2.0]), &training());
    let mut learner = Learner::new(Unused { used: param(), unused: param() }, sgd()).with_ema(0.5).unwrap();
    let loss = learner.model().used.val().square().sum();
    learner.learn(loss, 1.0, &at(0)).unwrap();
    let after = StateDict::of(learner.model());
    assert_eq!(after.get("unused").unwrap(), &RawTensor::from([1f32, 2.0]));
    assert_eq!(after.get("used").unwrap(), &RawTensor::from([0.8f32, 1.6]));
}
