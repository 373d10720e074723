//! What a classification measures besides its accuracy, and what decides which checkpoint is the best.

use burn::tensor::{Device, Int, Tensor};
use firebox_models::init;
use firebox_models::layers::{Linear, LinearConfig};
use firebox_train::metrics::{Average, Confusion, Metrics, Quantity, Score, auroc, class_score};
use firebox_train::optimizer::SgdConfig;
use firebox_train::task::Goal;
use firebox_train::tasks::{ClassMetric, Classification};
use firebox_train::{ErrorKind, Learner, StepContext, Task, values_of};

use crate::common::draws;

type Task2 = Classification<Linear, Tensor<2>>;

fn task() -> Task2 {
    let device = Device::default().autodiff();
    let model = init(1, &device, |device| LinearConfig::new(2, 2).init(device)).unwrap();
    Classification::new(Learner::new(model, SgdConfig::new().init().unwrap()))
}

fn batch(device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    let inputs = [[1.0, 0.5], [-1.0, 0.25], [0.5, -2.0], [0.0, 1.0], [2.0, 2.0], [-0.5, -0.5]];
    (Tensor::from_data(inputs, device), Tensor::from_data([0, 1, 0, 1, 1, 0], device))
}

fn evaluated(task: &Task2) -> Metrics {
    (task.evaluator())(batch(&Device::default())).unwrap()
}

#[test]
fn metrics_that_are_added_are_measured_where_they_are_asked_for() {
    let _alone = draws();
    let mut task = task()
        .with_metric(ClassMetric::auroc().in_evaluations_only())
        .unwrap()
        .with_metric("f1".parse().unwrap())
        .unwrap()
        .with_metric(ClassMetric::recall(Average::Class(1)).named("sensitivity"))
        .unwrap()
        .with_metric(ClassMetric::new("samples_twice", |_, classes| {
            Ok(Quantity::mean(2.0 * classes.dims()[0] as f64, 1.0))
        }))
        .unwrap();
    let names = |metrics: &Metrics| metrics.values().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let metrics = evaluated(&task);
    assert_eq!(names(&metrics), ["accuracy", "auroc", "f1", "loss", "samples_twice", "sensitivity"]);
    assert_eq!(metrics.value("samples_twice"), Some(12.0));
    // By the same logits, otherwise.
    let device = Device::default();
    let (inputs, classes) = batch(&device);
    let logits = task.probabilities(inputs.clone()).unwrap();
    let rows = Tensor::<1>::from_data(&logits[..], &device).reshape([6, 2]);
    let mut confusion = Confusion::new(2);
    for (row, class) in logits.chunks(2).zip([0, 1, 0, 1, 1, 0]) {
        confusion.count(class, usize::from(row[1] > row[0])).unwrap();
    }
    let score = |score, average| confusion.score(score, average).unwrap().value();
    assert_eq!(metrics.value("f1"), score(Score::F1, Average::Macro));
    assert_eq!(metrics.value("sensitivity"), score(Score::Recall, Average::Class(1)));
    assert_eq!(metrics.value("auroc"), auroc(&rows, &classes).unwrap().value());
    let metrics = task.train_step(batch(&device.autodiff()), &StepContext::new(0, 0, 0.1)).unwrap();
    assert_eq!(names(&metrics), ["accuracy", "f1", "loss", "samples_twice", "sensitivity"]);
}

#[test]
fn another_metric_can_decide_which_checkpoint_is_the_best() {
    let _alone = draws();
    assert_eq!(Task::monitor(&task()), ("accuracy", Goal::Maximize));
    let by_loss = task().monitor("loss", Goal::Minimize).unwrap();
    assert_eq!(Task::monitor(&by_loss), ("loss", Goal::Minimize));
    let error = task().monitor("auroc", Goal::Maximize).map(drop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    assert_eq!(error.to_string(), "monitored metric: expected one of loss, accuracy, got auroc");
    let task = task().with_metric(ClassMetric::auroc()).unwrap().monitor("auroc", Goal::Maximize).unwrap();
    assert_eq!(Task::monitor(&task), ("auroc", Goal::Maximize));
}

#[test]
fn a_name_stands_for_one_metric() {
    let _alone = draws();
    for name in ["loss", "accuracy", "f1"] {
        let task = task().with_metric(ClassMetric::f1(Average::Micro)).unwrap();
        let error = task.with_metric(ClassMetric::auroc().named(name)).map(drop).unwrap_err();
        let text = format!("metric: expected a name that is none of loss, accuracy, f1, got {name}");
        assert_eq!(error.to_string(), text);
    }
    for name in ["auc", "top_", "top_0", "top_x", ""] {
        let error = name.parse::<ClassMetric>().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{name}: {error}");
    }
    for name in ["auroc", "f1", "precision", "recall", "top_3"] {
        assert_eq!(name.parse::<ClassMetric>().unwrap().name(), name);
    }
}

#[test]
fn an_error_of_a_metric_names_it() {
    let _alone = draws();
    let task = task().with_metric(ClassMetric::top_k(3)).unwrap();
    let error = (task.evaluator())(batch(&Device::default())).unwrap_err();
    assert_eq!(error.to_string(), "top_3: top_k: expected a number from 1 to 2 classes, got 3");
}

#[test]
fn scores_of_logits_are_checked_before_they_are_counted() {
    let device = Device::default();
    let logits = Tensor::<2>::from_data([[1.0, 0.0], [f32::NAN, 0.0], [0.0, 2.0]], &device);
    let classes = |classes: [i64; 3]| Tensor::<1, Int>::from_data(classes, &device);
    let recall = class_score(&logits, &classes([0, 1, 1]), Score::Recall, Average::Micro).unwrap();
    // What is taken for no class is no hit.
    assert_eq!(recall.value(), Some(2.0 / 3.0));
    assert!(auroc(&logits, &classes([0, 1, 1])).unwrap().value().unwrap().is_nan());
    for (bad, text) in [
        (2, "row 1: expected a class from 0 to 1, got 2"),
        (-1, "row 1: expected a class from 0 to 1, got -1"),
    ] {
        let error = auroc(&logits, &classes([0, bad, 1])).unwrap_err();
        assert_eq!(error.to_string(), format!("auroc: {text}"));
        let error = class_score(&logits, &classes([0, bad, 1]), Score::F1, Average::Macro).unwrap_err();
        assert_eq!(error.to_string(), format!("class_score: {text}"));
    }
    let two = Tensor::<1, Int>::from_data([0, 1], &device);
    assert_eq!(
        auroc(&logits, &two).unwrap_err().to_string(),
        "auroc: expected classes of shape [3], got [2]"
    );
    let three = Tensor::<2>::zeros([3, 3], &device);
    let error = auroc(&three, &classes([0, 1, 1])).unwrap_err();
    assert_eq!(error.to_string(), "auroc: expected logits of 2 classes, got 3");
    // Of one class alone there is none, and no samples are no error.
    assert_eq!(auroc(&three.clone().slice([0..3, 0..2]), &classes([1, 1, 1])).unwrap().value(), None);
    let none = Tensor::<1, Int>::from_data(burn::tensor::TensorData::new(Vec::<i64>::new(), [0]), &device);
    assert!(!auroc(&three.slice([0..0, 0..2]), &none).unwrap().is_counted());
}

#[test]
fn values_are_read_row_by_row_from_a_tracked_tensor_too() {
    let device = Device::default().autodiff();
    let tensor = Tensor::<2>::from_data([[1.0, 2.0], [3.0, f32::NEG_INFINITY]], &device).require_grad();
    assert_eq!(values_of(&tensor).unwrap(), [1.0, 2.0, 3.0, f32::NEG_INFINITY]);
}
