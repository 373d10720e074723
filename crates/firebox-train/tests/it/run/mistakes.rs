//! Mistakes of a newcomer, one by one: what firebox says of each.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use firebox_data::batches::{BatchStream, Batches};
use firebox_data::dataset::Subset;
use firebox_data::loader::{Indexed, LoaderBuilder};
use firebox_data::tensors::OnDevice;
use firebox_data::{BoxError, Dataset, Loader, LoaderState, Scalar, Stack};
use firebox_models::layers::{Linear, LinearConfig};
use firebox_models::vision::{Cnn, CnnConfig};
use firebox_models::{Forward, init};
use firebox_train::checkpoint::Checkpoints;
use firebox_train::event::{End, Event};
use firebox_train::metrics::Metrics;
use firebox_train::optimizer::AdamConfig;
use firebox_train::schedule::OneCycle;
use firebox_train::task::{Goal, TaskState};
use firebox_train::tasks::Classification;
use firebox_train::trainer::Outcome;
use firebox_train::{Error, ErrorKind, Learner, RunDir, StepContext, Trainer, TrainerConfig};

const CLASSES: usize = 3;
const SIZE: usize = 8;

type Layout = (Stack<f32, 3>, Scalar<i64>);
type Pictures = OnDevice<Loader<Layout>>;
type Slots<'s> = (&'s mut [f32], &'s mut i64);
type Building<D> = LoaderBuilder<Indexed<D>>;
type Task = Classification<Cnn, Tensor<4>>;

fn plain() -> Device {
    Device::default()
}

fn autodiff() -> Device {
    Device::default().autodiff()
}

fn task(device: &Device) -> Task {
    let config = CnnConfig::new(CLASSES).with_channels(1).with_size([SIZE, SIZE]);
    Classification::new(Learner::new(
        init(1, device, |device| config.init(device)).unwrap(),
        AdamConfig::new().init().unwrap(),
    ))
}

/// A sample is its number's picture; every test has its own mistake to make with it.
fn fill(number: usize, (picture, class): Slots<'_>) {
    for (place, pixel) in picture.iter_mut().enumerate() {
        *pixel = ((number * 31 + place * 7) % 17) as f32 / 17.0;
    }
    *class = (number % CLASSES) as i64;
}

fn builder<D: Dataset<Item = usize>>(data: D) -> Building<D> {
    Loader::builder(data).batch_size(4).shuffle(true).seed(3).workers(1)
}

fn numbers(samples: usize) -> Vec<usize> {
    (0..samples).collect::<Vec<_>>()
}

fn loader<D: Dataset<Item = usize>>(
    builder: Building<D>,
    device: &Device,
    transform: impl Fn(usize, Slots<'_>) -> Result<(), BoxError> + Send + Sync + 'static,
) -> Pictures {
    let layout = (Stack::new([1, SIZE, SIZE]), Scalar::new());
    builder
        .build(layout, move |number, _, slots| transform(number, slots))
        .unwrap()
        .on_device(device)
        .unwrap()
}

fn good(samples: usize, device: &Device) -> Pictures {
    loader(builder(numbers(samples)), device, |number, slots| {
        fill(number, slots);
        Ok(())
    })
}

/// The word for a run's first event.
const BEGUN: &str = "begun";

/// The files that a run leaves.
struct Ran {
    result: Result<Outcome, Error>,
    begun: bool,
    heard: Vec<String>,
    folder: tempfile::TempDir,
}

impl Ran {
    /// The error, as `{}` and as `main` prints it, which are one line; it was told to callbacks, and the
    /// last checkpoint is good.
    fn error(&self) -> String {
        let error = self.result.as_ref().unwrap_err();
        let text = error.to_string();
        assert_eq!(text, format!("{error:?}"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(self.heard.last().unwrap(), &format!("failed: {text}"));
        if self.begun {
            let checkpoints = Checkpoints::new(self.folder.path().join("run/checkpoints"));
            checkpoints.load("last").unwrap();
        }
        text
    }

    fn kind(&self) -> &ErrorKind {
        self.result.as_ref().unwrap_err().kind()
    }
}

fn run<B>(task: &mut Task, train: &B, valid: &Pictures) -> Ran
where
    B: Batches<Batch = (Tensor<4>, Tensor<1, Int>)>,
{
    run_with(TrainerConfig::new(), task, train, valid)
}

fn run_with<T, B>(config: TrainerConfig, task: &mut T, train: &B, valid: &Pictures) -> Ran
where
    T: firebox_train::Task<Batch = (Tensor<4>, Tensor<1, Int>)>,
    B: Batches<Batch = T::Batch>,
{
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path().join("run")).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&heard);
    let result = Trainer::new(&run, &plain())
        .config(config)
        .callback(move |event: &Event<'_>| {
            let text = match event {
                Event::Started { .. } => BEGUN.to_owned(),
                Event::Failed { error } => format!("failed: {error}"),
                Event::Warning(text) => format!("warning: {text}"),
                Event::Ended { end, .. } => format!("ended: {end:?}"),
                _ => return Ok(()),
            };
            hear.lock().unwrap().push(text);
            Ok(())
        })
        .fit(task, train, valid);
    let mut heard = heard.lock().unwrap().clone();
    let begun = heard.first().is_some_and(|first| first == BEGUN);
    heard.retain(|text| text != BEGUN);
    Ran { result, begun, heard, folder }
}

fn run_of(train: &Pictures, valid: &Pictures) -> Ran {
    run(&mut task(&autodiff()), train, valid)
}

/// The samples of a batch, as messages have them.
fn samples(data: &Pictures, epoch: u64, batch: usize) -> String {
    data.indices(epoch, batch).unwrap().iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

const PLAIN_TRAIN: &str = "the training loader: expected an autodiff device, got a plain one, where \
                           BatchNorm and dropout don't train: on_device(&device.autodiff())";
const PLAIN_MODEL: &str = "the model: expected an autodiff device, got a plain one, where there are no \
                           gradients: make all of it on device.autodiff()";
const AUTODIFF_VALID: &str = "the validation loader: expected a plain device, got an autodiff one, where \
                              BatchNorm and dropout train and each batch is slower: on_device(&device)";

#[test]
fn a_model_on_a_plain_device() {
    let _alone = draws();
    let ran = run(&mut task(&plain()), &good(12, &autodiff()), &good(4, &plain()));
    assert_eq!((ran.kind(), &*ran.error()), (&ErrorKind::Config, PLAIN_MODEL));
    let folder = tempfile::tempdir().unwrap();
    let trainer = Trainer::new(&RunDir::create(folder.path()).unwrap(), &plain());
    let finder = firebox_train::trainer::LrFinder::new();
    let error = trainer.find_lr(&finder, &mut task(&plain()), &good(12, &autodiff())).unwrap_err();
    assert_eq!(error.to_string(), PLAIN_MODEL);
}

/// Two maps, of which one may have been made elsewhere.
#[derive(Module, Debug)]
struct Maps {
    first: Linear,
    second: Linear,
}

impl Forward<Tensor<4>> for Maps {
    type Output = Tensor<2>;

    fn forward(&self, pictures: Tensor<4>) -> Tensor<2> {
        self.second.forward(self.first.forward(pictures.flatten(1, 3)))
    }
}

#[test]
fn a_part_of_a_model_on_a_plain_device() {
    let _alone = draws();
    for plain_part in [None, Some(0), Some(1)] {
        let linear = |part, config: LinearConfig| {
            let device = if plain_part == Some(part) { plain() } else { autodiff() };
            init(1, &device, |device| config.init(device)).unwrap()
        };
        let [first, second] =
            [linear(0, LinearConfig::new(SIZE * SIZE, 5)), linear(1, LinearConfig::new(5, CLASSES))];
        let mut task =
            Classification::new(Learner::new(Maps { first, second }, AdamConfig::new().init().unwrap()));
        let ran = run_with(TrainerConfig::new(), &mut task, &good(12, &autodiff()), &good(4, &plain()));
        match plain_part {
            None => assert_eq!(ran.result.unwrap().steps, 3),
            Some(_) => assert_eq!((ran.kind(), &*ran.error()), (&ErrorKind::Config, PLAIN_MODEL)),
        }
    }
}

#[test]
fn a_training_loader_on_a_plain_device() {
    let _alone = draws();
    let ran = run_of(&good(12, &plain()), &good(4, &plain()));
    assert_eq!((ran.kind(), &*ran.error()), (&ErrorKind::Config, PLAIN_TRAIN));
    let folder = tempfile::tempdir().unwrap();
    let trainer = Trainer::new(&RunDir::create(folder.path()).unwrap(), &plain());
    let finder = firebox_train::trainer::LrFinder::new();
    let error = trainer.find_lr(&finder, &mut task(&autodiff()), &good(12, &plain())).unwrap_err();
    assert_eq!(error.to_string(), PLAIN_TRAIN);
}

/// Batches of one's own, which don't tell where they are.
struct Silent(Pictures);

impl Batches for Silent {
    type Batch = <Pictures as Batches>::Batch;

    fn batches(&self, epoch: u64) -> usize {
        Batches::batches(&self.0, epoch)
    }

    fn samples(&self, epoch: u64) -> usize {
        Batches::samples(&self.0, epoch)
    }

    fn state(&self, epoch: u64) -> LoaderState {
        self.0.state(epoch)
    }

    fn check(&self, state: &LoaderState) -> Result<(), firebox_data::Error> {
        self.0.check(state)
    }

    fn epoch(&self, epoch: u64) -> Box<dyn BatchStream<Self::Batch> + '_> {
        self.0.epoch(epoch)
    }

    fn resume(
        &self,
        state: &LoaderState,
    ) -> Result<Box<dyn BatchStream<Self::Batch> + '_>, firebox_data::Error> {
        self.0.resume(state)
    }
}

#[test]
fn batches_of_ones_own_on_a_plain_device() {
    let _alone = draws();
    for (device, told) in [(plain(), true), (autodiff(), false)] {
        let mut task = task(&autodiff());
        let ran = run(&mut task, &Silent(good(12, &device)), &good(4, &plain()));
        let warnings = ran.result.unwrap().warnings;
        // Whatever was learned and loaded, the model is where it was.
        for _ in 0..2 {
            assert!(firebox_train::Task::device(&task).unwrap().is_autodiff());
            let state = firebox_train::Task::state(&task).unwrap();
            firebox_train::Task::load(&mut task, &state).unwrap();
        }
        // What comes behind the first one's weights is on the model's device again.
        let text = "the first step has not moved model.conv1.bn.num_batches_tracked: unless these BatchNorms are \
                    to stay as they are, the training data are not on an autodiff device, where they and dropout \
                    train";
        assert_eq!(warnings, if told { vec![text] } else { vec![] });
    }
}

#[test]
fn a_validation_loader_on_the_autodiff_device() {
    let _alone = draws();
    let ran = run_of(&good(12, &autodiff()), &good(4, &autodiff()));
    assert_eq!((ran.kind(), &*ran.error()), (&ErrorKind::Config, AUTODIFF_VALID));
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(&RunDir::create(folder.path()).unwrap(), &plain());
    let task = task(&autodiff());
    let error = trainer.evaluate(&good(4, &autodiff()), "test", firebox_train::Task::evaluator(&task));
    assert!(error.unwrap_err().to_string().starts_with("the test loader: expected a plain device, got an"));
    let error = trainer.predict(&good(4, &autodiff()), |_| Ok(())).unwrap_err();
    assert!(error.to_string().starts_with("the prediction loader: expected a plain device"), "{error}");
}

#[test]
fn training_and_validation_swapped() {
    let _alone = draws();
    let ran = run_of(&good(4, &plain()), &good(12, &autodiff()));
    assert_eq!(ran.error(), PLAIN_TRAIN);
}

#[test]
fn a_layout_of_another_shape() {
    let _alone = draws();
    let pictures = |samples, device: &Device| {
        let layout = (Stack::new([1, 12, 12]), Scalar::new());
        let loader = builder(numbers(samples)).build(layout, |number, _, slots| {
            fill(number, slots);
            Ok(())
        });
        loader.unwrap().on_device(device).unwrap()
    };
    let (train, valid) = (pictures(12, &autodiff()), pictures(4, &plain()));
    let ran = run_of(&train, &valid);
    let text = ran.error();
    let place = format!("step 1, epoch 1, batch 0, samples {}: ", samples(&train, 0, 0));
    assert!(text.starts_with(&place), "{text}");
    // 64 channels of 3×3, where 2×2 are wanted.
    let layer = "Cnn.fc1: expected 256 features, got 576, from images [4, 1, 12, 12]; the model is for 8×8";
    assert!(text.ends_with(layer) && *ran.kind() == ErrorKind::Task, "{text}");
    let ran = run_of(&good(12, &autodiff()), &valid);
    let text = ran.error();
    let place =
        format!("after step 3, epoch 1, validation data, batch 0, samples {}: ", samples(&valid, 0, 0));
    assert_eq!(text, format!("{place}{layer}"));
    // Outside of a run.
    let error = task(&autodiff()).probabilities(Tensor::zeros([4, 1, 12, 12], &plain())).unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (&ErrorKind::Task, layer));
}

#[test]
fn a_slot_written_past_its_end() {
    let _alone = draws();
    let broken = loader(builder(numbers(12)), &autodiff(), |number, slots| {
        if number == 7 {
            slots.0[100_000] = 1.0;
        }
        fill(number, slots);
        Ok(())
    });
    let ran = run_of(&broken, &good(4, &plain()));
    let text = "training data: sample 7: panicked: index out of bounds: the len is 64 but the index is \
                100000 (worker 0)";
    assert_eq!((ran.kind(), &*ran.error()), (&ErrorKind::Data, text));
    assert!(ran.begun);
}

#[test]
fn a_label_that_is_no_class() {
    let _alone = draws();
    for label in [10, 3, -1] {
        let labelled = |samples, device: &Device| {
            loader(builder(numbers(samples)), device, move |number, (picture, class)| {
                fill(number, (picture, class));
                if number == 2 {
                    *class = label;
                }
                Ok(())
            })
        };
        let train = labelled(12, &autodiff());
        let batch = (0..3).find(|batch| train.indices(0, *batch).unwrap().contains(&2)).unwrap();
        let ran = run_of(&train, &good(4, &plain()));
        let text = ran.error();
        let place =
            format!("step {}, epoch 1, batch {batch}, samples {}: ", batch + 1, samples(&train, 0, batch));
        assert!(text.starts_with(&place), "{text}");
        assert!(text.contains(&format!("target {label} ")), "{text}");
        // In an evaluation.
        let valid = labelled(4, &plain());
        let ran = run_of(&good(12, &autodiff()), &valid);
        let text = ran.error();
        let place =
            format!("after step 3, epoch 1, validation data, batch 0, samples {}: ", samples(&valid, 0, 0));
        assert!(text.starts_with(&place) && text.contains(&format!("target {label} ")), "{text}");
    }
}

#[test]
fn a_run_goes_on_once_its_labels_are_right() {
    let _alone = draws();
    let labelled = |wrong: bool| {
        loader(builder(numbers(12)), &autodiff(), move |number, (picture, class)| {
            fill(number, (picture, class));
            if wrong && number == 2 {
                *class = 10;
            }
            Ok(())
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let fit = |name: &str, resume: bool, wrong: bool| {
        let path = folder.path().join(name);
        let run = match resume {
            true => RunDir::open(&path).unwrap().resume().unwrap(),
            false => RunDir::create(&path).unwrap(),
        };
        let mut config = TrainerConfig::new();
        (config.max_epochs, config.save_steps) = (2, Some(1));
        let mut task = task(&autodiff());
        let trainer = Trainer::new(&run, &plain()).config(config).resume(resume);
        let mut trainer = trainer;
        let result = trainer.fit(&mut task, &labelled(wrong), &good(4, &plain()));
        result.map(|outcome| (outcome.end, firebox_train::Task::state(&task).unwrap()))
    };
    let expected = fit("whole", false, false).unwrap();
    fit("broken", false, true).unwrap_err();
    assert_eq!(fit("broken", true, false).unwrap(), expected);
}

#[test]
fn a_transform_that_returns_an_error() {
    let _alone = draws();
    let broken = |samples, device: &Device| {
        loader(builder(numbers(samples)), device, |number, slots| match number {
            2 => Err("the picture is cut off".into()),
            _ => {
                fill(number, slots);
                Ok(())
            }
        })
    };
    let ran = run_of(&broken(12, &autodiff()), &good(4, &plain()));
    let text = "training data: sample 2: the transform failed: the picture is cut off (worker 0)";
    assert_eq!((ran.kind(), &*ran.error()), (&ErrorKind::Data, text));
    assert!(ran.begun);
    // Of which of the two loaders.
    let ran = run_of(&good(12, &autodiff()), &broken(4, &plain()));
    let text = "validation data: sample 2: the transform failed: the picture is cut off (worker 0)";
    assert_eq!(ran.error(), text);
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(&RunDir::create(folder.path()).unwrap(), &plain());
    let task = task(&autodiff());
    let judge = firebox_train::Task::evaluator(&task);
    let error = trainer.evaluate(&broken(4, &plain()), "test", judge).unwrap_err();
    assert_eq!(error.to_string(), text.replace("validation", "test"));
    let error = trainer.predict(&broken(4, &plain()), |_| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), text.replace("validation data", "data to predict"));
}

/// Every second number, from the last one on: sample 2 is row 7.
fn part() -> Subset<Vec<usize>> {
    Subset::new(numbers(12), vec![11, 9, 7, 5, 3, 1]).unwrap()
}

#[test]
fn a_bad_sample_of_a_part_of_the_data() {
    let _alone = draws();
    let broken = loader(builder(part()), &autodiff(), |number, slots| match number {
        7 => Err("unexpected end of file".into()),
        _ => {
            fill(number, slots);
            Ok(())
        }
    });
    let ran = run_of(&broken, &good(4, &plain()));
    let text = ran.error();
    let expected = "training data: sample 2 (row 7 of the whole data set): the transform failed: unexpected \
                    end of file (worker 0)";
    assert_eq!(text, expected);
    // A number that is none, too: the rows of the batch in the whole are named.
    let broken = loader(builder(part()), &autodiff(), |number, slots| {
        fill(number, (&mut *slots.0, &mut *slots.1));
        if number == 7 {
            slots.0[0] = f32::NAN;
        }
        Ok(())
    });
    let ran = run_of(&broken, &good(4, &plain()));
    let text = ran.error();
    let rows = |batch| {
        let rows = broken.indices(0, batch).unwrap().into_iter().map(|sample| (11 - 2 * sample).to_string());
        rows.collect::<Vec<_>>().join(", ")
    };
    let batch = (0..2).find(|batch| broken.indices(0, *batch).unwrap().contains(&2)).unwrap();
    let place = format!(
        "step {}, epoch 1, batch {batch}, samples {} (rows {} of the whole data set): ",
        batch + 1,
        samples(&broken, 0, batch),
        rows(batch)
    );
    assert_eq!(ran.kind(), &ErrorKind::NotFinite);
    assert!(text.starts_with(&place), "{text}, expected {place}");
}

#[test]
fn a_transform_that_panics() {
    let _alone = draws();
    let broken = loader(builder(numbers(12)), &autodiff(), |number, slots| {
        assert!(number != 7, "no such pixel");
        fill(number, slots);
        Ok(())
    });
    let ran = run_of(&broken, &good(4, &plain()));
    assert_eq!(ran.error(), "training data: sample 7: panicked: no such pixel (worker 0)");
}

#[test]
fn numbers_in_the_training_data_that_are_none() {
    let _alone = draws();
    let bad = |samples, device: &Device| {
        loader(builder(numbers(samples)), device, |number, slots| {
            fill(number, (&mut *slots.0, &mut *slots.1));
            if number == 2 {
                slots.0[0] = f32::NAN;
            }
            Ok(())
        })
    };
    let train = bad(12, &autodiff());
    let batch = (0..3).find(|batch| train.indices(0, *batch).unwrap().contains(&2)).unwrap();
    let ran = run_of(&train, &good(4, &plain()));
    let text = ran.error();
    assert_eq!(ran.kind(), &ErrorKind::NotFinite);
    let place =
        format!("step {}, epoch 1, batch {batch}, samples {}: ", batch + 1, samples(&train, 0, batch));
    assert_eq!(text, format!("{place}loss: expected a finite number, got NaN"));
    // And in the validation data: a loss there is looked at as well.
    let valid = bad(8, &plain());
    let batch = (0..2).find(|batch| valid.indices(0, *batch).unwrap().contains(&2)).unwrap();
    let ran = run_of(&good(12, &autodiff()), &valid);
    let place = format!(
        "after step 3, epoch 1, validation data, batch {batch}, samples {}: ",
        samples(&valid, 0, batch)
    );
    assert_eq!(ran.error(), format!("{place}loss: expected a finite number, got NaN"));
    assert_eq!(ran.kind(), &ErrorKind::NotFinite);
    // Or the batch is left out, as in training, and the run says so.
    let mut config = TrainerConfig::new();
    config.skip_not_finite = true;
    let ran = run_with(config, &mut task(&autodiff()), &good(12, &autodiff()), &valid);
    let outcome = ran.result.unwrap();
    assert_eq!(
        outcome.warnings,
        [format!("{place}loss: expected a finite number, got NaN; the batch is left out")]
    );
    assert!(outcome.best.unwrap().value.is_finite());
    // With nothing left there is nothing to say.
    let mut config = TrainerConfig::new();
    config.skip_not_finite = true;
    let ran = run_with(config, &mut task(&autodiff()), &good(12, &autodiff()), &bad(4, &plain()));
    assert_eq!(
        ran.error(),
        "after step 3, epoch 1, validation data: expected a batch with a finite loss, got none in 1"
    );
}

#[test]
fn data_that_have_no_batch() {
    let _alone = draws();
    let short = || loader(builder(numbers(3)).drop_last(true), &autodiff(), |_, _| Ok(()));
    let none = |device: &Device| good(0, device);
    let folder = tempfile::tempdir().unwrap();
    let trainer = Trainer::new(&RunDir::create(folder.path()).unwrap(), &plain());
    for (name, data) in [("3 samples", short()), ("0 samples", none(&autodiff()))] {
        let ran = run_of(&data, &good(4, &plain()));
        let text = ran.error();
        assert_eq!(ran.kind(), &ErrorKind::Config);
        assert!(text.starts_with("the training data have no batch"), "{text}");
        // A schedule over its steps doesn't come to be asked for.
        let schedule = trainer.steps(&data).and_then(|steps| OneCycle::new(0.1, steps));
        assert_eq!(schedule.err().unwrap().to_string(), text, "{name}");
        // What was found: how many samples, by which batch size, and that drop_last has left nothing.
        assert!(text.contains(name), "{text}");
        assert!(text.contains("batch size 4"), "{text}");
        assert_eq!(text.contains("drop_last"), name == "3 samples", "{text}");
        // The loader alone: no batch and no error, as in PyTorch.
        assert_eq!(data.epoch(0).count(), 0);
    }
    let ran = run_of(&good(12, &autodiff()), &none(&plain()));
    let text = ran.error();
    assert!(text.starts_with("the validation data have no batch") && text.contains("0 samples"), "{text}");
}

#[test]
fn a_batch_size_of_none() {
    let _alone = draws();
    let error =
        builder(numbers(4)).batch_size(0).build(Scalar::<i64>::new(), |_, _, _| Ok(())).err().unwrap();
    assert_eq!(error.to_string(), "batch size: expected at least 1, got 0");
}

#[test]
fn epochs_of_none_and_more_than_anybody_has() {
    let _alone = draws();
    let mut config = TrainerConfig::new();
    config.max_epochs = 0;
    let ran = run_with(config.clone(), &mut task(&autodiff()), &good(12, &autodiff()), &good(4, &plain()));
    assert_eq!(ran.error(), "max_epochs: expected at least 1, got 0");
    // As many as there are numbers: limited by steps, and everything else without a limit.
    (config.max_epochs, config.max_steps) = (u64::MAX, Some(2));
    (config.keep_last, config.keep_best) = (usize::MAX, usize::MAX);
    (config.validate_epochs, config.patience) = (u64::MAX, Some(usize::MAX));
    (config.limit_train, config.limit_valid) = (Some(usize::MAX), Some(usize::MAX));
    (config.validate_steps, config.save_steps) = (Some(usize::MAX), Some(usize::MAX));
    (config.max_seconds, config.save_seconds) = (Some(f64::MAX), Some(f64::MAX));
    let train = good(12, &autodiff());
    let ran = run_with(config.clone(), &mut task(&autodiff()), &train, &good(4, &plain()));
    assert_eq!((ran.result.as_ref().unwrap().steps, ran.result.unwrap().end), (2, End::Complete));
    config.max_steps = None;
    let folder = tempfile::tempdir().unwrap();
    let trainer = Trainer::new(&RunDir::create(folder.path()).unwrap(), &plain()).config(config.clone());
    assert_eq!(trainer.steps(&train).unwrap(), usize::MAX);
    assert_eq!(train.steps(u64::MAX), usize::MAX);
    assert_eq!((train.steps(20_000), train.steps(0)), (60_000, 0));
    config.max_epochs = 20_000;
    assert_eq!(trainer.config(config.clone()).steps(&train).unwrap(), 60_000);
    // One step over all batches.
    (config.max_epochs, config.accumulate, config.max_steps) = (1, usize::MAX, None);
    let ran = run_with(config, &mut task(&autodiff()), &train, &good(4, &plain()));
    assert_eq!(ran.result.unwrap().steps, 1);
}

#[test]
fn settings_that_make_no_sense() {
    let _alone = draws();
    let bad = |set: fn(&mut TrainerConfig)| {
        let mut config = TrainerConfig::new();
        set(&mut config);
        config.check().unwrap_err().to_string()
    };
    for (text, field) in [
        (bad(|config| config.limit_train = Some(0)), "limit_train: expected at least 1, got 0"),
        (bad(|config| config.accumulate = 0), "accumulate: expected at least 1, got 0"),
        (bad(|config| config.save_steps = Some(0)), "save_steps: expected at least 1, got 0"),
        (bad(|config| config.validate_epochs = 0), "validate_epochs: expected at least 1, got 0"),
        (bad(|config| config.patience = Some(0)), "patience: expected at least 1, got 0"),
        (bad(|config| config.keep_last = 0), "keep_last: expected at least 1, got 0"),
        (bad(|config| config.min_delta = f64::NAN), "min_delta: expected a number of at least 0, got NaN"),
        (bad(|config| config.norm_warning = -1.0), "norm_warning: expected a number of at least 0, got -1"),
        (bad(|config| config.max_seconds = Some(-1.0)), "max_seconds: expected a number above 0, got -1"),
        (
            bad(|config| config.max_seconds = Some(f64::INFINITY)),
            "max_seconds: expected a number above 0, got inf",
        ),
        (
            bad(|config| config.save_seconds = Some(f64::NAN)),
            "save_seconds: expected a number above 0, got NaN",
        ),
    ] {
        assert_eq!(text, field);
    }
}

/// A task that says where it has BatchNorms.
struct Normalizes(Task);

impl firebox_train::Task for Normalizes {
    type Batch = (Tensor<4>, Tensor<1, Int>);

    fn train_step(&mut self, batch: Self::Batch, context: &StepContext) -> Result<Metrics, Error> {
        self.0.train_step(batch, context)
    }

    fn evaluator(&self) -> impl FnMut(Self::Batch) -> Result<Metrics, Error> {
        self.0.evaluator()
    }

    fn monitor(&self) -> (&str, Goal) {
        firebox_train::Task::monitor(&self.0)
    }

    fn batch_norms(&self) -> Vec<String> {
        vec!["conv1.bn".to_owned(), "conv2.bn".to_owned()]
    }

    fn state(&self) -> Result<TaskState, Error> {
        self.0.state()
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        self.0.load(state)
    }
}

#[test]
fn a_last_batch_of_one_sample_under_batch_norm() {
    let _alone = draws();
    let warned = |train: &Pictures| {
        let outcome = run_of(train, &good(4, &plain())).result.unwrap();
        outcome.warnings.into_iter().find(|text| text.contains("drop_last"))
    };
    let text = "the last training batch of an epoch has one sample, by which BatchNorm (conv1.bn, conv2.bn) \
                can't normalize where its input has one value a channel: drop_last(true) leaves it out";
    assert_eq!(warned(&good(13, &autodiff())).as_deref(), Some(text));
    // A task of one's own that tells where they are.
    let mut own = Normalizes(task(&autodiff()));
    let ran = run_with(TrainerConfig::new(), &mut own, &good(13, &autodiff()), &good(4, &plain()));
    assert!(ran.result.unwrap().warnings.contains(&text.to_owned()));
    assert_eq!(warned(&good(14, &autodiff())), None);
    let dropping = loader(builder(numbers(13)).drop_last(true), &autodiff(), |number, slots| {
        fill(number, slots);
        Ok(())
    });
    assert_eq!(warned(&dropping), None);
}

#[test]
fn two_runs_in_one_folder() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = RunDir::create(&path).unwrap();
    let shown = path.display();
    // At the same time.
    let busy = format!("{shown}: another process trains in this run folder");
    fit(&run, false).unwrap();
    for error in [RunDir::overwrite(&path).unwrap_err(), RunDir::open(&path).unwrap().resume().unwrap_err()] {
        assert_eq!(error.to_string(), busy);
    }
    // Twice by one trainer's folder.
    let error = fit(&run, false).unwrap_err();
    let text = "it has checkpoints of a run: Trainer::resume(true) goes on, RunDir::overwrite begins anew";
    assert_eq!(error.to_string(), format!("{shown}: {text}"));
    drop(run);
    // One after the other.
    let error = RunDir::create(&path).unwrap_err();
    let text = "the run folder is already used: resume its run, overwrite it, or choose another";
    assert_eq!(error.to_string(), format!("{shown}: {text}"));
    // A finished run that goes on has nothing left to do.
    let run = RunDir::open(&path).unwrap().resume().unwrap();
    let outcome = fit(&run, true).unwrap();
    assert_eq!((outcome.steps, outcome.end), (3, End::Complete));
}

fn fit(run: &RunDir, resume: bool) -> Result<Outcome, Error> {
    let trainer = Trainer::new(run, &plain()).resume(resume);
    let mut trainer = trainer;
    trainer.fit(&mut task(&autodiff()), &good(12, &autodiff()), &good(4, &plain()))
}

#[test]
fn a_resume_where_no_run_is_and_a_folder_that_is_none() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let error = RunDir::open(folder.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: no run: it has no config.json", folder.path().display()));
    let file = folder.path().join("file");
    fs::write(&file, "thesis").unwrap();
    let error = RunDir::create(&file).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: cannot be a run folder: Not a directory (os error 20)", file.display())
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "thesis");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match fs::read_link(&from) {
            Ok(target) => std::os::unix::fs::symlink(target, to).unwrap(),
            Err(_) if from.is_dir() => copy(&from, &to),
            Err(_) => drop(fs::copy(from, to).unwrap()),
        }
    }
}

/// The file that suffers, and what is done to a checkpoint.
type Damage = (&'static str, fn(&Path));

#[test]
fn a_damaged_checkpoint() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let run = RunDir::create(&whole).unwrap();
    fit(&run, false).unwrap();
    drop(run);
    let damages: [Damage; 4] = [
        ("model.safetensors", |step| fs::remove_file(step.join("model.safetensors")).unwrap()),
        ("manifest.json", |step| fs::remove_file(step.join("manifest.json")).unwrap()),
        ("state.json", |step| fs::remove_file(step.join("state.json")).unwrap()),
        ("model.safetensors", |step| {
            let path = step.join("model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }),
    ];
    for (number, (file, damage)) in damages.into_iter().enumerate() {
        let path = folder.path().join(format!("damaged-{number}"));
        copy(&whole, &path);
        damage(&path.join("checkpoints/step-3"));
        let run = RunDir::open(&path).unwrap().resume().unwrap();
        let outcome = fit(&run, true).unwrap();
        assert_eq!((outcome.steps, outcome.end), (3, End::Complete));
        let warning = &outcome.warnings[0];
        assert!(warning.contains(file) && warning.ends_with(": going back to step 0"), "{warning}");
    }
}
