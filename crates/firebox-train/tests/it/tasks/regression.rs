//! A regression finds the map that its targets come from.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use firebox_models::{Forward, init};
use firebox_train::metrics::Metrics;
use firebox_train::optimizer::{AdamConfig, SgdConfig};
use firebox_train::task::Goal;
use firebox_train::tasks::Regression;
use firebox_train::{ErrorKind, Learner, StepContext, Task};

#[derive(Module, Debug)]
struct Map {
    linear: Linear,
}

impl Forward<Tensor<2>> for Map {
    type Output = Tensor<2>;

    fn forward(&self, points: Tensor<2>) -> Tensor<2> {
        self.linear.forward(points)
    }
}

fn task() -> Regression<Map, Tensor<2>> {
    Regression::new(learner())
}

fn learner() -> Learner<Map> {
    let device = Device::default().autodiff();
    let model = init(1, &device, |device| {
        Ok::<_, firebox_models::Error>(Map { linear: LinearConfig::new(3, 2).init(device) })
    });
    Learner::new(model.unwrap(), AdamConfig::new().init().unwrap())
}

/// y = (2a − b + 1, c/2 − 3) of points that fill a cube.
fn batch(from: usize, to: usize, device: &Device) -> (Tensor<2>, Tensor<2>) {
    let (mut points, mut targets) = (Vec::new(), Vec::new());
    for number in from..to {
        let [a, b, c] =
            [0.618_034, 0.754_878, 0.569_84].map(|step: f32| (number as f32 * step).fract() * 2.0 - 1.0);
        points.extend([a, b, c]);
        targets.extend([2.0 * a - b + 1.0, c / 2.0 - 3.0]);
    }
    let tensor = |values, width| Tensor::from_data(TensorData::new(values, [to - from, width]), device);
    (tensor(points, 3), tensor(targets, 2))
}

#[test]
fn it_learns_a_linear_map() {
    let _alone = draws();
    let (device, training) = (Device::default(), Device::default().autodiff());
    let mut task = Regression::new(learner().with_clip_norm(10.0).unwrap());
    assert_eq!(task.monitor(), ("loss", Goal::Minimize));
    let judge = |task: &Regression<Map, Tensor<2>>, cuts: &[usize]| {
        let mut evaluator = task.evaluator();
        let mut all = Metrics::default();
        for cut in cuts.windows(2) {
            all.add(&evaluator(batch(cut[0], cut[1], &device)).unwrap()).unwrap();
        }
        all
    };
    let before = judge(&task, &[0, 100]);
    assert!(before.value("r2").unwrap() < 0.5, "{before:?}");
    for step in 0..600 {
        let from = step * 32 % 640;
        let metrics =
            task.train_step(batch(from, from + 32, &training), &StepContext::new(0, step, 0.03)).unwrap();
        assert_eq!(metrics.samples(), 32);
    }
    let (whole, cut) = (judge(&task, &[0, 100]), judge(&task, &[0, 1, 60, 100]));
    assert!(whole.value("r2").unwrap() > 0.9999 && whole.value("loss").unwrap() < 1e-4, "{whole:?}");
    assert!(whole.value("mae").unwrap() < 1e-2);
    for (name, value) in whole.values() {
        assert!((cut.value(name).unwrap() - value).abs() < 1e-9, "{name}");
    }
    let weights = task.model().linear.weight.val().into_data();
    weights.assert_approx_eq::<f32>(
        &TensorData::from([[2.0, 0.0], [-1.0, 0.0], [0.0, 0.5]]),
        burn::tensor::Tolerance::absolute(1e-2),
    );
    // A state goes to another task.
    let mut other = self::task();
    other.load(&task.state().unwrap()).unwrap();
    let points = batch(0, 3, &device).0;
    assert_eq!(other.predictions(points.clone()).unwrap(), task.predictions(points).unwrap());
}

#[test]
fn targets_of_another_shape_are_refused() {
    let _alone = draws();
    let mut task = task();
    let (points, targets) = batch(0, 4, &Device::default().autodiff());
    let error = task.train_step((points, targets.narrow(1, 0, 1)), &StepContext::new(0, 0, 0.1)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Task);
    assert_eq!(
        error.to_string(),
        "targets of a regression: expected the predictions' shape [4, 2], got [4, 1]"
    );
}

#[test]
fn its_gradients_are_clipped_by_value_and_parts_of_it_have_rates_of_their_own() {
    let _alone = draws();
    let training = Device::default().autodiff();
    let weights = |task: &Regression<Map, Tensor<2>>| {
        let linear = &task.model().linear;
        let bias = linear.bias.as_ref().unwrap().val().try_into_vec_as::<f32>().unwrap();
        (linear.weight.val().try_into_vec_as::<f32>().unwrap(), bias)
    };
    // Where a step of SGD at a rate of 1 goes is what is left of the gradients.
    let new = || Learner::new(learner().model().clone(), SgdConfig::new().init().unwrap());
    let clipped = new().with_clip_value(1e-3).unwrap().with_lr_factor("linear.bias", 0.0).unwrap();
    let mut clipped = Regression::new(clipped);
    let (from, bias) = weights(&clipped);
    clipped.train_step(batch(0, 32, &training), &StepContext::new(0, 0, 1.0)).unwrap();
    let (to, after) = weights(&clipped);
    let moved: Vec<_> = from.iter().zip(&to).map(|(from, to)| (from - to).abs()).collect();
    assert!(moved.iter().all(|moved| (moved - 1e-3).abs() < 1e-6), "{moved:?}");
    assert_eq!(after, bias, "a rate of 0");
    // What is told is the norm of what came.
    let mut plain = Regression::new(new());
    plain.train_step(batch(0, 32, &training), &StepContext::new(0, 0, 1.0)).unwrap();
    assert!(plain.gradient_norm().unwrap() > 0.1);
    assert_eq!(clipped.gradient_norm(), plain.gradient_norm());

    let error = new().with_clip_value(0.0).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "clip value: expected a number above 0, got 0");
    let error = new().with_lr_factor("linear.wait", 1.0).map(drop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    assert!(
        error.to_string().ends_with("expected one of linear.weight, linear.bias, got linear.wait"),
        "{error}"
    );
}
