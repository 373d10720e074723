//! Predictions: of all batches in order, by the model that evaluations judge.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use burn::tensor::{Device, Int, Tensor};
use firebox_data::tensors::OnDevice;
use firebox_data::{Loader, Scalar, Stack};
use firebox_models::init;
use firebox_models::layers::{Linear, LinearConfig};
use firebox_train::metrics::{Average, Predictions, Score};
use firebox_train::optimizer::AdamConfig;
use firebox_train::tasks::Classification;
use firebox_train::{Error, ErrorKind, Learner, RunDir, Trainer};

type Points = OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>>;

/// 50 points in batches of 8, each with its number in the place of a class; it is cut to the classes' range
/// for training.
fn points(device: &Device, workers: usize, classes: i64) -> Points {
    let numbers = (0..50).collect::<Vec<i64>>();
    let builder = Loader::builder(numbers).batch_size(8).workers(workers);
    let loader = builder.build((Stack::new([2]), Scalar::new()), move |number, _, (point, class)| {
        point.copy_from_slice(&[number as f32 / 25.0 - 1.0, (number % 7) as f32 / 7.0]);
        *class = number % classes;
        Ok(())
    });
    loader.unwrap().on_device(device).unwrap()
}

/// A task that was trained, so that its average differs from its model.
fn trained() -> (tempfile::TempDir, Trainer, Classification<Linear, Tensor<2>>) {
    let device = Device::default();
    let training = device.clone().autodiff();
    let model = init(1, &training, |device| LinearConfig::new(2, 3).init(device)).unwrap();
    let mut task =
        Classification::new(Learner::new(model, AdamConfig::new().init().unwrap()).with_ema(0.99).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path().join("run")).unwrap();
    let mut trainer = Trainer::new(&run, &device).epochs(2).schedule(0.1);
    trainer.fit(&mut task, &points(&training, 0, 3), &points(&device, 0, 3)).unwrap();
    (folder, trainer, task)
}

#[test]
fn predictions_come_in_the_order_of_the_samples_and_are_those_of_an_evaluation() {
    let _alone = draws();
    let (_folder, mut trainer, task) = trained();
    let device = Device::default();
    let mut judged = Predictions::default();
    trainer.evaluate(&points(&device, 0, 3), "test", task.predictor(&mut judged)).unwrap();
    for workers in [0, 3] {
        let predict = |(inputs, numbers): (Tensor<2>, Tensor<1, Int>)| {
            let numbers = numbers.try_into_vec_as::<i64>().unwrap();
            Ok((numbers, task.probabilities(inputs)?))
        };
        let predicted = trainer.predict(&points(&device, workers, i64::MAX), predict).unwrap();
        assert_eq!(
            predicted.iter().map(|(numbers, _)| numbers.len()).collect::<Vec<_>>(),
            [8, 8, 8, 8, 8, 8, 2]
        );
        let numbers: Vec<_> = predicted.iter().flat_map(|(numbers, _)| numbers.clone()).collect();
        assert!(numbers.into_iter().eq(0..50), "another order");
        let probabilities: Vec<_> =
            predicted.into_iter().flat_map(|(_, probabilities)| probabilities).collect();
        for sample in 0..50 {
            assert_eq!(&probabilities[3 * sample..][..3], judged.probabilities(sample), "sample {sample}");
        }
    }
}

#[test]
fn an_error_of_a_prediction_ends_them() {
    let _alone = draws();
    let (_folder, trainer, _) = trained();
    let mut batches = 0;
    let error = trainer.predict(&points(&Device::default(), 0, 3), |_| {
        batches += 1;
        if batches < 3 { Ok(()) } else { Err(Error::new(ErrorKind::Task, "no answer")) }
    });
    let text = "data to predict, batch 2, samples 16, 17, 18, 19, 20, 21, 22, 23: no answer";
    assert_eq!((error.unwrap_err().to_string().as_str(), batches), (text, 3));
}

#[test]
fn a_sample_that_a_model_gives_nan_for_is_taken_for_no_class() {
    let _alone = draws();
    let (_folder, _trainer, task) = trained();
    let device = Device::default();
    let inputs = |rows: [[f32; 2]; 4]| Tensor::<2>::from_data(rows, &device);
    let batch = |number: f32| inputs([[1.0, 0.5], [number, 0.5], [-1.0, 0.5], [0.0, 0.1]]);
    let classes = Tensor::<1, Int>::from_data([0, 0, 2, 1], &device);
    let mut whole = Predictions::default();
    let metrics = task.predictor(&mut whole)((batch(1.0), classes.clone())).unwrap();
    let mut spoilt = Predictions::default();
    let worse = task.predictor(&mut spoilt)((batch(f32::NAN), classes.clone())).unwrap();
    let taken = |predictions: &Predictions| [0, 1, 2, 3].map(|sample| predictions.predicted(sample));
    let [first, second, third, fourth] = taken(&whole);
    assert_eq!((first, second.is_some()), (second, true));
    assert_eq!(taken(&spoilt), [first, None, third, fourth]);
    // Right or wrong, the counts are those of the accuracy.
    for (predictions, metrics) in [(&whole, &metrics), (&spoilt, &worse)] {
        let confusion = predictions.confusion().unwrap();
        let right: usize = (0..3).map(|class| confusion.get(class, class)).sum();
        assert_eq!(metrics.value("accuracy"), Some(right as f64 / 4.0));
        let recall = confusion.score(Score::Recall, Average::Micro).unwrap();
        assert_eq!(metrics.value("accuracy"), recall.value());
    }
    let confusion = spoilt.confusion().unwrap();
    assert_eq!([0, 1, 2].map(|class| confusion.undecided(class)), [1, 0, 0]);
    assert!(spoilt.probabilities(1).iter().all(|probability| probability.is_nan()));
    assert_eq!((spoilt.likeliest(1).len(), spoilt.predicted(4)), (3, None));
    let best = spoilt.likeliest(0);
    assert_eq!(Some(best[0].0), first);
    assert!(best.is_sorted_by(|a, b| a.1 >= b.1));

    // What somebody has changed since is no longer the model's.
    spoilt.classes[0] = 3;
    let error = spoilt.confusion().unwrap_err();
    assert_eq!(error.to_string(), "confusion: expected a class below 3, got 3");
    spoilt.classes.pop();
    let error = spoilt.confusion().unwrap_err();
    assert_eq!(error.to_string(), "predictions: expected a class for each of 4 samples, got 3");
}
