//! Predictions: of all batches in order, by the model that evaluations judge.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use burn::tensor::{Device, Int, Tensor};
use burn_dataset::InMemDataset;
use firebox_data::{Loader, OnDevice, Scalar, Stack};
use firebox_models::{Linear, LinearConfig, init};
use firebox_train::{Adam, Classification, Error, ErrorKind, Predictions, RunDir, Trainer};

type Points = OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>>;

/// 50 points in batches of 8, each with its number in the place of a class; it is cut to the classes' range for training.
fn points(device: &Device, workers: usize, classes: i64) -> Points {
    let numbers = InMemDataset::new((0..50).collect::<Vec<i64>>());
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
    let mut task = Classification::new(model, Adam::new().init().unwrap()).with_ema(0.99).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path().join("run")).unwrap();
    let mut trainer = Trainer::new(&run, &device).epochs(2).schedule(0.1);
    trainer.fit(&mut task, &points(&training, 0, 3), &points(&device, 0, 3)).unwrap();
    (folder, trainer, task)
}

#[test]
fn predictions_come_in_the_order_of_the_samples_and_are_those_of_an_evaluation() {
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
    let (_folder, trainer, _) = trained();
    let mut batches = 0;
    let error = trainer.predict(&points(&Device::default(), 0, 3), |_| {
        batches += 1;
        if batches < 3 { Ok(()) } else { Err(Error::new(ErrorKind::Task, "no answer")) }
    });
    let text = "data to predict, batch 2, samples 16, 17, 18, 19, 20, 21, 22, 23: no answer";
    assert_eq!((error.unwrap_err().to_string().as_str(), batches), (text, 3));
}
