//! Silent failures are errors: samples that are trained on among those of a test, a metric of
//! nothing.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use crate::common::draws;
use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::tensor::{Device, Tensor};
use firebox_data::batches::{BatchStream, Batches, SampleSet};
use firebox_data::dataset::{Filter, Lineage, Map, Subset, random_split};
use firebox_data::elements::Elements;
use firebox_data::sampler::SubsetSampler;
use firebox_data::{Dataset, Loader, LoaderState, Scalar};
use firebox_models::layers::{Linear, LinearConfig};
use firebox_models::{Forward, init};
use firebox_train::checkpoint::{Checkpoints, RunState};
use firebox_train::event::{End, Event};
use firebox_train::metrics::{Auroc, Metrics, Quantity};
use firebox_train::optimizer::SgdConfig;
use firebox_train::task::{Goal, TaskState};
use firebox_train::trainer::Outcome;
use firebox_train::{Error, ErrorKind, Learner, RunDir, StepContext, Task, Trainer, TrainerConfig};
use firebox_weights::StateDict;

fn numbers(count: i64) -> Vec<i64> {
    (0..count).collect::<Vec<_>>()
}

type Numbers = Loader<Scalar<i64>>;

fn loader<D: Dataset<Item = i64>>(data: D) -> Numbers {
    let builder = Loader::builder(data).batch_size(4).shuffle(true).workers(0);
    builder
        .build(Scalar::new(), |number, _, slot| {
            *slot = number;
            Ok(())
        })
        .unwrap()
}

/// A task that measures what it is told to.
struct Measures {
    train: fn(usize) -> Metrics,
    eval: fn(usize) -> Metrics,
}

impl Default for Measures {
    fn default() -> Self {
        let loss = |samples| Metrics::of(samples).with_mean("loss", 1.0);
        Measures { train: loss, eval: loss }
    }
}

impl Task for Measures {
    type Batch = Elements<i64>;

    fn train_step(&mut self, batch: Elements<i64>, _: &StepContext) -> Result<Metrics, Error> {
        Ok((self.train)(batch.len()))
    }

    fn evaluator(&self) -> impl FnMut(Elements<i64>) -> Result<Metrics, Error> {
        let eval = self.eval;
        move |batch| Ok(eval(batch.len()))
    }

    fn monitor(&self) -> (&'static str, Goal) {
        ("loss", Goal::Minimize)
    }

    fn state(&self) -> Result<TaskState, Error> {
        Ok(TaskState::default())
    }

    fn load(&mut self, _: &TaskState) -> Result<(), Error> {
        Ok(())
    }
}

fn fit(
    task: &mut Measures,
    train: &Numbers,
    valid: &Numbers,
    config: TrainerConfig,
) -> Result<Trainer, Error> {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::new(&RunDir::create(folder.path())?, &Device::default()).config(config);
    trainer.fit(task, train, valid)?;
    Ok(trainer)
}

fn overlap(train: &Numbers, valid: &Numbers) -> Option<(usize, Vec<usize>)> {
    let result = fit(&mut Measures::default(), train, valid, TrainerConfig::new());
    let both = SampleSet::of(train, 0).unwrap().overlap(&SampleSet::of(valid, 0).unwrap());
    let both = both.map(|both| (both.items, both.first));
    match (&result, &both) {
        (Ok(_), None) => {}
        (Err(error), Some((items, first))) => {
            assert_eq!(error.kind(), &ErrorKind::Config);
            let shown: Vec<_> = first.iter().map(usize::to_string).collect();
            let rest = if *items > 10 { ", …" } else { "" };
            let expected = format!(
                "the training and the validation data come from one data set: expected no item in both, got {items}, \
                 with the indices {}{rest}",
                shown.join(", ")
            );
            assert_eq!(error.to_string(), expected);
        }
        _ => panic!("{both:?}, but {:?}", result.err()),
    }
    both
}

#[test]
fn samples_in_both_sets_are_refused_where_both_come_from_one_data_set() {
    let _alone = draws();
    let listed = |indices: std::ops::Range<usize>| indices.collect::<Vec<_>>();
    // A split has nothing in common, also where it is cut again; another one by another seed has.
    let (train, test) = random_split(numbers(100), 20, 1).unwrap();
    assert_eq!(overlap(&loader(train.clone()), &loader(test.clone())), None);
    assert_eq!(
        overlap(&loader(Subset::first(train.clone(), 50)), &loader(Subset::first(test.clone(), 9))),
        None
    );
    let both = overlap(&loader(train.clone()), &loader(train.clone())).unwrap();
    let mut all: Vec<_> = (0..80).map(|index| train.index_in_whole(index)).collect();
    all.sort_unstable();
    assert_eq!(both, (80, all[..10].to_vec()));
    // Subsets of clones: the second's last, by the first's indices.
    let whole = Subset::all(numbers(100));
    let part = |indices| Subset::new(whole.clone(), listed(indices)).unwrap();
    assert_eq!(overlap(&loader(part(0..50)), &loader(part(50..100))), None);
    assert_eq!(overlap(&loader(part(0..50)), &loader(part(47..60))), Some((3, vec![47, 48, 49])));
    let nested = Subset::new(part(40..60), vec![19, 8]).unwrap();
    assert_eq!(overlap(&loader(part(0..50)), &loader(nested)), Some((1, vec![48])));
    let (one, other) = random_split(whole.clone(), 50, 3).unwrap();
    assert_eq!(overlap(&loader(one), &loader(other.clone())), None);
    assert_eq!(overlap(&loader(whole.clone()), &loader(other)).unwrap().0, 50);
    // Through what else knows where its items come from.
    let doubled = Map::new(part(40..60), |number| 2 * number);
    assert_eq!(overlap(&loader(part(0..41)), &loader(doubled)), Some((1, vec![40])));
    let even = Filter::new(part(0..50), |number| number % 2 == 0).unwrap();
    assert_eq!(overlap(&loader(part(44..47)), &loader(even)), Some((2, vec![44, 46])));
    assert_eq!(overlap(&loader(Arc::new(part(0..5))), &loader(part(4..9))), Some((1, vec![4])));
    // By the order instead of the data set, and by slices.
    let sampled = |indices| {
        let builder = Loader::builder(whole.clone()).sampler(SubsetSampler::new(listed(indices))).workers(0);
        builder
            .build(Scalar::new(), |number, _, slot| {
                *slot = number;
                Ok(())
            })
            .unwrap()
    };
    assert_eq!(overlap(&sampled(0..9), &sampled(9..12)), None);
    assert_eq!(overlap(&sampled(0..9), &sampled(8..12)), Some((1, vec![8])));
    let all = loader(numbers(100));
    assert_eq!(overlap(&all.slice(0..80).unwrap(), &all.slice(80..100).unwrap()), None);
    assert_eq!(overlap(&all.slice(0..80).unwrap(), &all.slice(70..100).unwrap()).unwrap().0, 10);
}

#[test]
fn other_data_with_the_same_indices_are_not_refused() {
    let _alone = draws();
    let part = |data: Vec<i64>| loader(Subset::new(data, (0..9).collect::<Vec<_>>()).unwrap());
    assert_eq!(overlap(&loader(numbers(9)), &loader(numbers(9))), None);
    assert_eq!(overlap(&part(numbers(9)), &part(numbers(9))), None);
    let (a, b) = (random_split(numbers(20), 10, 1).unwrap(), random_split(numbers(20), 10, 1).unwrap());
    assert_eq!(overlap(&loader(a.0), &loader(b.0)), None);
}

#[test]
fn an_evaluation_of_what_was_trained_on_is_refused_unless_it_is_called_that() {
    let _alone = draws();
    let (train, rest) = random_split(numbers(100), 40, 1).unwrap();
    let (valid, test) = random_split(rest.clone(), 20, 1).unwrap();
    let (train, valid, test) = (loader(train.clone()), loader(valid), (loader(test), loader(train)));
    let mut task = Measures::default();
    let mut trainer = fit(&mut task, &train, &valid, TrainerConfig::new()).unwrap();
    trainer.evaluate(&test.0, "test", task.evaluator()).unwrap();
    trainer.evaluate(&test.1, "train", task.evaluator()).unwrap();
    let error = trainer.evaluate(&test.1, "test", task.evaluator()).unwrap_err();
    assert!(
        error.to_string().starts_with("the training and the test data come from one data set: "),
        "{error}"
    );
    // To learn a few samples by heart is a test as well.
    let mut config = TrainerConfig::new();
    config.allow_overlap = true;
    let mut trainer = fit(&mut task, &train, &train, config).unwrap();
    trainer.evaluate(&test.1, "test", task.evaluator()).unwrap();
}

/// Batches of which nobody may ask which samples they have.
struct Secret(Numbers);

impl Batches for Secret {
    type Batch = Elements<i64>;

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

    fn indices(&self, _: u64, _: usize) -> Option<Vec<usize>> {
        panic!("asked for indices")
    }

    fn lineage(&self) -> Option<&Lineage> {
        self.0.lineage()
    }

    fn epoch(&self, epoch: u64) -> Box<dyn BatchStream<Elements<i64>> + '_> {
        Batches::epoch(&self.0, epoch)
    }

    fn resume(
        &self,
        state: &LoaderState,
    ) -> Result<Box<dyn BatchStream<Elements<i64>> + '_>, firebox_data::Error> {
        Batches::resume(&self.0, state)
    }
}

#[test]
fn indices_are_looked_at_only_if_data_have_relatives() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    let mut trainer = Trainer::new(&run, &Device::default());
    let mut task = Measures::default();
    let [train, valid] = [12, 8].map(|count| Secret(loader(numbers(count))));
    trainer.fit(&mut task, &train, &valid).unwrap();
    trainer.evaluate(&valid, "test", task.evaluator()).unwrap();
    // The training data themselves, and what was cut from them since.
    let Secret(train) = train;
    for (data, items) in [(&train, 12), (&train.slice(0..5).unwrap(), 5)] {
        let error = trainer.evaluate(data, "test", task.evaluator()).unwrap_err();
        assert!(error.to_string().contains(&format!("got {items}, with the indices")), "{error}");
    }
    let error = fit(&mut task, &train, &train, TrainerConfig::new()).err().unwrap();
    assert!(error.to_string().contains("got 12, with the indices 0, 1, 2, 3, "), "{error}");
}

#[test]
fn a_metric_of_nothing_is_an_error() {
    let _alone = draws();
    let loss = |samples| Metrics::of(samples).with_mean("loss", 1.0);
    let nothing: fn(usize) -> Metrics = |samples| {
        Metrics::of(samples)
            .with_mean("loss", 1.0)
            .with_weighted_mean("bleu", 0.0, 0.0)
            .with("f", Quantity::perplexity(0.0, 0))
    };
    let undefined: fn(usize) -> Metrics = |samples| {
        let one_class = Auroc::of(&[0.5], &[true]).unwrap();
        Metrics::of(samples).with_mean("loss", 1.0).with("auroc", Quantity::Auroc(one_class))
    };
    let data = || (loader(numbers(12)), loader(numbers(8)));
    let fit = |train, eval| {
        let (train_data, valid) = data();
        fit(&mut Measures { train, eval }, &train_data, &valid, TrainerConfig::new())
    };
    let error = fit(nothing, loss).err().unwrap();
    let text = "metrics of the training data: nothing was counted for bleu, f in 12 samples";
    assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Task, text));
    let error = fit(loss, nothing).err().unwrap();
    assert_eq!(error.to_string(), "metrics of the valid data: nothing was counted for bleu, f in 8 samples");
    // Some data have no AUROC.
    let mut trainer = fit(undefined, undefined).unwrap();
    let error = trainer.evaluate(&loader(numbers(3)), "test", |batch| Ok(nothing(batch.len()))).unwrap_err();
    assert_eq!(error.to_string(), "metrics of the test data: nothing was counted for bleu, f in 3 samples");
}

#[test]
fn what_an_evaluation_draws_does_not_depend_on_what_came_before() {
    let _alone = draws();
    let draw = |trainer: &Trainer| {
        let noise = |_| {
            let noise = burn::tensor::Tensor::<1>::random(
                [2],
                burn::tensor::Distribution::Default,
                &Device::default(),
            );
            Ok(noise.try_into_vec_as::<f32>().unwrap())
        };
        trainer.predict(&loader(numbers(8)), noise).unwrap()
    };
    let new = |folder: &Path| Trainer::new(&RunDir::create(folder).unwrap(), &Device::default()).seed(3);
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (one, other) = (new(folders[0].path()), new(folders[1].path()));
    let first = draw(&one);
    assert_ne!(first[0], first[1], "each batch has its own");
    assert_eq!(draw(&one), first);
    Device::default().seed(99);
    assert_eq!(draw(&other), first);
    assert_ne!(draw(&other.seed(4)), first);
    assert_eq!(loader(numbers(8)).batches(0), Some(2));
}

#[test]
fn the_norm_of_a_steps_gradients_is_known_however_they_came_together() {
    let _alone = draws();
    let device = Device::default().autodiff();
    let linear = init(1, &device, |device| LinearConfig::new(2, 1).init(device)).unwrap();
    // The gradient of factor · (w · x + b) is factor · x, and factor for b.
    let loss = |learner: &Learner<Linear>, x: [f32; 2], factor: f64| {
        learner.model().forward(Tensor::<2>::from_floats([x], &device)).mean().mul_scalar(factor)
    };
    let learner = || Learner::new(linear.clone(), SgdConfig::new().init().unwrap());
    let (first, last) = (StepContext::new(0, 0, 1e-3).without_update(), StepContext::new(0, 0, 1e-3));

    let mut plain = learner();
    for (x, context) in [([6.0, 0.0], &first), ([0.0, 6.0], &last)] {
        let loss = loss(&plain, x, 1.0);
        plain.learn(loss, 1.0, context).unwrap();
    }
    // Of the mean, (3, 3, 1), not of either.
    assert!((plain.gradient_norm().unwrap() - 19f64.sqrt()).abs() < 1e-6, "{:?}", plain.gradient_norm());

    // Clipped by value it is what came.
    let mut clipped = learner().with_clip_value(0.5).unwrap().with_clip_norm(9.0).unwrap();
    let of_one = loss(&clipped, [4.0, 8.0], 1.0);
    clipped.learn(of_one, 1.0, &last).unwrap();
    assert!((clipped.gradient_norm().unwrap() - 9.0).abs() < 1e-6, "{:?}", clipped.gradient_norm());

    // Two that are finite, each, and whose weighted sum isn't.
    let mut large = learner();
    let before = StateDict::of(large.model());
    let of_one = loss(&large, [1.0, 1.0], 1e18);
    large.learn(of_one, 1e30, &first).unwrap();
    let of_other = loss(&large, [1.0, 1.0], 1e18);
    let error = large.learn(of_other, 1e30, &last).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::NotFinite);
    assert_eq!(StateDict::of(large.model()), before, "the parameters moved");
}

#[test]
fn a_moving_average_is_not_dropped_by_a_resume_without_one() {
    let _alone = draws();
    let device = Device::default().autodiff();
    let linear = init(1, &device, |device| LinearConfig::new(2, 1).init(device)).unwrap();
    let learner = || Learner::new(linear.clone(), SgdConfig::new().init().unwrap());
    let mut state = TaskState::default();
    learner().with_ema(0.9).unwrap().save("model", &mut state).unwrap();
    let error = learner().load("model", &state).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Checkpoint);
    assert!(error.to_string().contains("model.ema: the checkpoint has a moving average"), "{error}");
}

/// A task whose evaluations say what they are told to, one after the other.
struct Says {
    metric: &'static str,
    goal: Goal,
    values: Vec<f64>,
    steps: usize,
}

impl Task for Says {
    type Batch = Elements<i64>;

    fn train_step(&mut self, batch: Elements<i64>, context: &StepContext) -> Result<Metrics, Error> {
        self.steps = context.step + 1;
        Ok(Metrics::of(batch.len()).with_mean("loss", 1.0))
    }

    fn evaluator(&self) -> impl FnMut(Elements<i64>) -> Result<Metrics, Error> {
        let value = self.values[self.steps - 1];
        move |batch| Ok(Metrics::of(batch.len()).with_mean(self.metric, value))
    }

    fn monitor(&self) -> (&'static str, Goal) {
        (self.metric, self.goal)
    }

    fn state(&self) -> Result<TaskState, Error> {
        let mut state = TaskState::default();
        state.insert_value("steps", &self.steps)?;
        Ok(state)
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        self.steps = state.value("steps")?;
        Ok(())
    }
}

/// A run of one step an epoch, with as many evaluations as values, in a folder: all at once, or going on
/// after each `part` epochs.
fn says(
    path: &Path,
    (metric, goal): (&'static str, Goal),
    values: &[f64],
    min_delta: f64,
    part: usize,
) -> (Outcome, RunState, Vec<String>) {
    let mut done = 0;
    let mut warnings = Vec::new();
    loop {
        done = (done + part).min(values.len());
        let run = match path.exists() {
            true => RunDir::open(path).unwrap().resume().unwrap(),
            false => RunDir::create(path).unwrap(),
        };
        let mut config = TrainerConfig::new();
        (config.max_epochs, config.patience, config.min_delta) = (done as u64, Some(3), min_delta);
        // This task tells no norm.
        config.norm_warning = 0.0;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        let callback = move |event: &Event<'_>| {
            if let Event::Warning(text) = event {
                told.lock().unwrap().push((*text).to_owned());
            }
            Ok(())
        };
        let mut task = Says { metric, goal, values: values.to_vec(), steps: 0 };
        let outcome = Trainer::new(&run, &Device::default())
            .config(config)
            .resume(done > part)
            .callback(callback)
            .fit(&mut task, &loader(numbers(4)), &loader(numbers(8)))
            .unwrap();
        assert_eq!(outcome.warnings, *heard.lock().unwrap());
        warnings.extend(outcome.warnings.iter().cloned());
        if outcome.end == End::Stale || done == values.len() {
            let (state, _) = run.checkpoints().last().unwrap();
            return (outcome, state, warnings);
        }
    }
}

#[test]
fn patience_compares_with_the_last_value_that_counted_as_better() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let falling: Vec<_> = (0..12).map(|epoch| 1.0 - 0.006 * f64::from(epoch)).collect();
    // By 0.006 each they never add up to 0.05 in three.
    let rising: Vec<_> = falling.iter().map(|value| -value).collect();
    for part in [1, 2, 5, 12] {
        let run = |name: &str, goal, values: &[f64], min_delta| {
            says(&folder.path().join(format!("{name}{part}")), ("loss", goal), values, min_delta, part)
        };
        // Keras and Lightning call every other one better, and never stop.
        for (name, goal, values) in [("falls", Goal::Minimize, &falling), ("rises", Goal::Maximize, &rising)]
        {
            let (outcome, state, _) = run(name, goal, values, 0.01);
            assert_eq!((outcome.steps, outcome.end), (12, End::Complete), "{name}, parts of {part}");
            // The best checkpoint is that of the best value, whatever counted.
            assert_eq!((outcome.best.unwrap().step, state.stale), (12, 1));
            assert_eq!(state.reference.unwrap().step, 11);
        }
        let (outcome, state, _) = run("slow", Goal::Minimize, &falling, 0.05);
        assert_eq!((outcome.steps, outcome.end), (4, End::Stale), "parts of {part}");
        assert_eq!((outcome.best.unwrap().step, state.stale), (4, 3));
        assert_eq!(state.reference.unwrap().step, 1);
    }
}

#[test]
fn a_value_that_is_not_finite_is_said_and_never_the_best() {
    let _alone = draws();
    for (number, bad) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter().enumerate() {
        for goal in [Goal::Maximize, Goal::Minimize] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run");
            let (outcome, _, warnings) = says(&path, ("score", goal), &[bad, 0.5, bad], 0.0, 1);
            assert_eq!(outcome.best.unwrap().step, 2, "{bad} {goal:?}");
            let best = Checkpoints::new(path.join("checkpoints")).load("best").unwrap().0;
            assert_eq!(best.step, 2);
            let text = |step| {
                format!(
                    "after step {step}: score of the validation data: expected a finite number, got {bad}"
                )
            };
            assert_eq!(warnings, [text(1), text(3)]);
            // The records have no such number, and say which one it is that they lack.
            let records = std::fs::read_to_string(path.join("metrics.jsonl")).unwrap();
            let records = records.lines().map(|line| serde_json::from_str(line).unwrap());
            let valid: Vec<serde_json::Value> =
                records.filter(|record: &serde_json::Value| record["split"] == "valid").collect();
            assert_eq!(valid.len(), 3, "{number}");
            assert_eq!((&valid[0]["not_finite"], valid[0].get("score")), (&["score"][..].into(), None));
            assert_eq!((valid[1].get("not_finite"), &valid[1]["score"]), (None, &0.5.into()));

            let path = folder.path().join("never");
            let (outcome, state, _) = says(&path, ("score", goal), &[bad; 5], 0.0, 5);
            assert_eq!((outcome.end, outcome.steps), (End::Stale, 3));
            assert!(outcome.best.is_none() && state.best.is_empty() && state.reference.is_none());
            let error = Checkpoints::new(path.join("checkpoints")).load("best").unwrap_err();
            assert!(error.to_string().contains("best: no such checkpoint"), "{error}");
        }
    }
}

#[test]
fn an_evaluation_by_hand_says_what_is_not_finite() {
    let _alone = draws();
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    let mut trainer = Trainer::new(&run, &Device::default()).callback(move |event: &Event<'_>| {
        if let Event::Warning(text) = event {
            told.lock().unwrap().push((*text).to_owned());
        }
        Ok(())
    });
    let measure = |batch: Elements<i64>| {
        let auroc = Auroc::of(&[f32::NAN, 0.5], &[true, false]).unwrap();
        let metrics = Metrics::of(batch.len()).with_mean("loss", 1.0).with_mean("ratio", f64::NEG_INFINITY);
        Ok(metrics.with("auroc", Quantity::Auroc(auroc)))
    };
    trainer.evaluate(&loader(numbers(8)), "test", measure).unwrap();
    let expected = [
        "auroc of the test data: expected a finite number, got NaN",
        "ratio of the test data: \
                    expected a finite number, got -inf",
    ];
    assert_eq!(*heard.lock().unwrap(), expected.map(|text| format!("after step 0: {text}")));
}
