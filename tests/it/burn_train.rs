//! Both ways with Burn: its data sets go in, ours come out, and its trainer takes the loader for one of its
//! own.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::data::dataloader::DataLoader;
use burn::data::dataloader::split::split_dataloader;
use burn::data::dataset::transform::{ComposedDataset, Mapper, MapperDataset, PartialDataset};
use burn::data::dataset::{Dataset, DatasetError, InMemDataset};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::optim::SgdConfig;
use burn::optim::lr_scheduler::constant::ConstantLr;
use burn::tensor::{Device, Int, Tensor};
use burn_train::logger::{EvaluationProgressLogger, InMemoryMetricLogger, TrainingProgressLogger};
use burn_train::metric::{AccuracyMetric, LossMetric, MetricDefinition};
use burn_train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use burn_train::{
    ClassificationOutput, ExecutionStrategy, InferenceStep, Learner, MultiDeviceOptim, SupervisedTraining,
    TrainOutput, TrainStep,
};
use firebox::data::batches::Batches;
use firebox::data::collate::SlotOf;
use firebox::data::dataset::{Filter, FromBurn, IntoBurn, from_fn, random_split};
use firebox::data::loader::FailureBudget;
use firebox::data::sampler::{
    BatchSampler, Bucketed, Sampler, Sequential, Shuffled, SubsetSampler, Weighted,
};
use firebox::data::tensors::BurnLoader;
use firebox::data::{BoxError, Error, ErrorKind, Loader, OnError, Pad, SampleRng, Scalar, Stack};

const SAMPLES: usize = 200;
const BATCH: usize = 16;

/// An item's place, its point and its class: the side of a line on which the point is.
type Item = (i64, [f32; 2], i64);

fn item(place: usize) -> Item {
    let angle = place as f32;
    let point = [2.0 * angle.sin(), 2.0 * angle.cos()];
    (place as i64, point, i64::from(point[0] + point[1] > 0.0))
}

fn items(range: Range<usize>) -> Vec<Item> {
    range.map(item).collect()
}

type Layout = (Stack<f32, 1>, Scalar<i64>, Scalar<i64>);

fn layout() -> Layout {
    (Stack::new([2]), Scalar::new(), Scalar::new())
}

/// Moves the point a little at random.
fn write(item: Item, rng: &mut SampleRng, slot: SlotOf<'_, Layout>) -> Result<(), BoxError> {
    let ((place, [x, y], class), (to, label, id)) = (item, slot);
    to.copy_from_slice(&[x + 0.01 * rng.uniform(), y]);
    (*label, *id) = (class, place);
    Ok(())
}

fn shuffled(samples: usize, workers: usize) -> Loader<Layout> {
    let loader = Loader::builder(items(0..samples)).shuffle(true).seed(7).batch_size(BATCH);
    loader.workers(workers).build(layout(), write).unwrap()
}

/// The model's input: a type of the user's own.
struct Points {
    points: Tensor<2>,
    classes: Tensor<1, Int>,
    ids: Vec<i64>,
    /// Where a step leaves word of itself.
    log: Log,
}

type Log = Arc<Mutex<Vec<Step>>>;

#[derive(Clone, Debug)]
struct Step {
    training: bool,
    autodiff: bool,
    loss: f32,
    ids: Vec<i64>,
}

fn for_burn(loader: Loader<Layout>, log: &Log) -> BurnLoader<Layout, Points> {
    let log = Arc::clone(log);
    let points = move |(points, classes, ids): (Tensor<2>, Tensor<1, Int>, Tensor<1, Int>)| {
        let ids = ids.try_into_vec_as().unwrap();
        Points { points, classes, ids, log: Arc::clone(&log) }
    };
    // A plain device, which training has to replace by one with autodiff.
    loader.into_burn(&Device::flex(), points).unwrap()
}

/// The items of each batch.
fn batches(loader: &dyn DataLoader<Points>) -> Vec<Vec<i64>> {
    loader.iter().map(|batch| batch.unwrap().ids).collect()
}

fn epoch(loader: &Loader<Layout>, epoch: u64) -> Vec<Vec<i64>> {
    loader.epoch(epoch).map(|batch| batch.unwrap().2.into_vec()).collect()
}

fn sorted(ids: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable();
    ids
}

fn all(samples: usize) -> Vec<i64> {
    (0..samples as i64).collect()
}

#[derive(Module, Debug)]
struct Model {
    linear: Linear,
}

impl Model {
    fn step(&self, batch: Points, training: bool) -> ClassificationOutput {
        let Points { points, classes, ids, log } = batch;
        let autodiff = points.device().is_autodiff();
        let output = self.linear.forward(points);
        let loss =
            CrossEntropyLossConfig::new().init(&output.device()).forward(output.clone(), classes.clone());
        let step = Step { training, autodiff, loss: loss.clone().into_scalar(), ids };
        log.lock().unwrap().push(step);
        ClassificationOutput::new(loss, output, classes)
    }
}

impl TrainStep for Model {
    type Input = Points;
    type Output = ClassificationOutput;

    fn step(&self, batch: Points) -> TrainOutput<ClassificationOutput> {
        let output = self.step(batch, true);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Model {
    type Input = Points;
    type Output = ClassificationOutput;

    fn step(&self, batch: Points) -> ClassificationOutput {
        self.step(batch, false)
    }
}

/// Burn's trainer, as it comes.
fn training(
    folder: &Path,
    train: Arc<dyn DataLoader<Points>>,
    valid: Arc<dyn DataLoader<Points>>,
    epochs: usize,
) -> SupervisedTraining<Model> {
    SupervisedTraining::new(folder, train, valid)
        .num_epochs(epochs)
        .metrics((LossMetric::new(), AccuracyMetric::new()))
        .with_metric_logger(InMemoryMetricLogger::new())
        .with_application_logger(None)
        .renderer(Box::new(Silent))
}

/// Always the same one: the tests that run beside each other share a generator.
fn learner() -> Learner<Model> {
    let device = Device::flex().autodiff();
    let linear = LinearConfig::new(2, 2).with_initializer(Initializer::Zeros).init(&device);
    Learner::new(Model { linear }, SgdConfig::new().init(), ConstantLr::new(0.3))
}

fn weights(model: &Model) -> Vec<f32> {
    model.linear.weight.val().try_into_vec_as().unwrap()
}

/// For validation, in order.
fn valid(log: &Log) -> Arc<BurnLoader<Layout, Points>> {
    let loader = Loader::builder(items(0..40)).batch_size(BATCH).workers(1).build(layout(), write).unwrap();
    Arc::new(for_burn(loader, log))
}

#[test]
fn burns_own_trainer_trains_on_it() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Log::default());
    let train = Arc::new(for_burn(shuffled(SAMPLES, 2), &log));
    let result = training(folder.path(), train.clone(), valid(&log), 3).launch(learner());
    assert!(result.error.is_none(), "{:?}", result.error);

    let steps = std::mem::take(&mut *log.lock().unwrap());
    let (training, validation): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| step.training);
    assert!(training.iter().all(|step| step.autodiff), "a training batch without autodiff");
    assert!(validation.iter().all(|step| !step.autodiff), "a validation batch with autodiff");

    // Whole epochs, each in its own order.
    let seen: Vec<_> = training.iter().map(|step| step.ids.clone()).collect();
    let orders: Vec<_> = (0..3).map(|e| epoch(train.loader(), e)).collect();
    assert_eq!(seen, orders.concat());
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
    for order in &orders {
        assert_eq!(sorted(order.concat()), all(SAMPLES));
    }
    let validated: Vec<_> = validation.iter().map(|step| step.ids.clone()).collect();
    assert_eq!(validated.concat(), [all(40), all(40), all(40)].concat());
    assert_eq!(train.epoch(), 3);

    let steps = training.len() / 3;
    let loss = |steps: &[Step]| steps.iter().map(|step| step.loss).sum::<f32>() / steps.len() as f32;
    assert!(
        loss(&training[2 * steps..]) < 0.8 * loss(&training[..steps]),
        "{:?}",
        training.iter().map(|step| step.loss).collect::<Vec<_>>()
    );
}

#[test]
fn a_resumed_training_equals_one_that_was_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, parts: &[(usize, usize)]| {
        let (log, mut last) = (Log::default(), Vec::new());
        for &(from, to) in parts {
            let (train, valid) = (Arc::new(for_burn(shuffled(SAMPLES, 1), &log)), valid(&log));
            let mut training = training(&folder.path().join(name), train.clone(), valid.clone(), to)
                .with_default_checkpointers();
            if from > 0 {
                // Validation has its random numbers, too.
                train.set_epoch(from as u64);
                valid.set_epoch(from as u64);
                training = training.checkpoint(from);
            }
            let result = training.launch(learner());
            assert!(result.error.is_none(), "{:?}", result.error);
            last = weights(&result.model);
        }
        let steps = std::mem::take(&mut *log.lock().unwrap());
        (steps.into_iter().map(|step| (step.ids, step.loss.to_bits())).collect::<Vec<_>>(), last)
    };
    let (whole, parts) = (run("whole", &[(0, 4)]), run("parts", &[(0, 2), (2, 4)]));
    assert_eq!(whole.0.len(), parts.0.len());
    let differ = std::iter::zip(whole.0, parts.0).position(|(whole, parts)| whole != parts);
    assert_eq!(differ, None, "the first step that differs");
    assert_eq!(whole.1, parts.1);
}

#[test]
fn several_devices_share_each_epoch_between_them() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Log::default());
    let train = Arc::new(for_burn(shuffled(SAMPLES, 2), &log));
    let devices = vec![Device::flex(), Device::flex()];
    let strategy = ExecutionStrategy::multi(devices, MultiDeviceOptim::OptimMainDevice);
    let result = training(folder.path(), train, valid(&log), 2)
        .with_training_strategy(strategy.into())
        .launch(learner());
    assert!(result.error.is_none(), "{:?}", result.error);

    let steps = log.lock().unwrap();
    let training: Vec<_> = steps.iter().filter(|step| step.training).collect();
    assert!(training.iter().all(|step| step.autodiff), "a training batch without autodiff");
    let seen = |steps: &[&Step]| steps.iter().flat_map(|step| step.ids.clone()).collect::<Vec<_>>();
    let (first, second) = training.split_at(training.len() / 2);
    assert_eq!(sorted(seen(first)), all(SAMPLES));
    assert_eq!(sorted(seen(second)), all(SAMPLES));
    assert_ne!(seen(first), seen(second));
}

#[test]
fn each_iterator_is_the_next_epoch() {
    for workers in [0, 2] {
        let loader = for_burn(shuffled(SAMPLES, workers), &Log::default());
        for e in 0..3 {
            assert_eq!(loader.epoch(), e);
            assert_eq!(batches(&loader), epoch(loader.loader(), e), "epoch {e}, {workers} workers");
        }
        loader.set_epoch(40);
        assert_eq!(batches(&loader), epoch(loader.loader(), 40));
        assert_eq!(batches(&loader), epoch(loader.loader(), 41));
        // An iterator that is dropped early is an epoch, too.
        assert_eq!(loader.iter().next().unwrap().unwrap().ids, epoch(loader.loader(), 42)[0]);
        assert_eq!(batches(&loader), epoch(loader.loader(), 43));
    }
}

#[test]
fn progress_counts_the_samples_that_were_delivered() {
    let bad = |item: Item, rng: &mut SampleRng, slot: SlotOf<'_, Layout>| match item.0 {
        3 | 17 => Err("bad".into()),
        _ => write(item, rng, slot),
    };
    for workers in [0, 2] {
        let build = |drop_last| {
            let loader = Loader::builder(items(0..50)).batch_size(8).drop_last(drop_last).workers(workers);
            loader.on_error(OnError::Skip { at_most: FailureBudget::Count(2) })
        };
        let whole = build(false).build(layout(), write).unwrap();
        let dropping = build(true).build(layout(), write).unwrap();
        let skipping = build(false).build(layout(), bad).unwrap();
        for (loader, samples, delivered) in [(whole, 50, 50), (dropping, 48, 48), (skipping, 50, 48)] {
            let loader = for_burn(loader, &Log::default());
            assert_eq!(loader.num_items(), samples);
            let mut iterator = loader.iter();
            let (mut seen, mut done) = (0, 0);
            loop {
                let progress = iterator.progress();
                assert_eq!((progress.items_processed, progress.items_total), (done, samples));
                let Some(batch) = iterator.next() else { break };
                // Burn steps at the end of its gradient accumulation when an epoch is complete: at its last
                // batch.
                seen += batch.unwrap().ids.len();
                done = (done + 8).min(samples);
                assert_eq!(iterator.progress().is_completed(), seen == delivered);
            }
            assert_eq!(seen, delivered);
        }
    }
}

#[test]
fn another_device_is_the_same_loader_elsewhere() {
    let loader = for_burn(shuffled(SAMPLES, 2), &Log::default());
    let autodiff = |loader: &dyn DataLoader<Points>| {
        let batch = loader.iter().next().unwrap().unwrap();
        assert_eq!(batch.points.device().is_autodiff(), batch.classes.device().is_autodiff());
        batch.points.device().is_autodiff()
    };
    let training = loader.to_device(&Device::flex().autodiff());
    let plain = training.to_device(&Device::flex());
    assert!(!autodiff(&loader) && autodiff(&*training) && !autodiff(&*plain));
    // Those were three epochs of one loader.
    assert_eq!(batches(&*training), epoch(loader.loader(), 3));
    loader.set_epoch(9);
    assert_eq!(batches(&*plain), epoch(loader.loader(), 9));
    assert_eq!(training.num_items(), SAMPLES);
}

#[test]
fn slices_cover_everything_once_and_are_shuffled_in_themselves() {
    let loader = Arc::new(for_burn(shuffled(103, 2), &Log::default()));
    let devices = [(); 3].map(|()| Device::flex());
    let ranges = [0..34, 34..68, 68..103];
    loader.set_epoch(4);
    let slices = split_dataloader(loader.clone(), &devices);
    for e in 4..6 {
        let mut seen = Vec::new();
        for (slice, range) in slices.iter().zip(&ranges) {
            assert_eq!(slice.num_items(), range.len());
            let ids = batches(&**slice).concat();
            // What a loader of these items alone would do: the same kind of order, the same seed.
            let order = Shuffled::new(range.len(), 7);
            let expected: Vec<_> =
                (0..range.len()).map(|at| (range.start + order.index(e, at)) as i64).collect();
            assert_eq!(ids, expected);
            seen.extend(ids);
        }
        assert_eq!(sorted(seen), all(103));
    }
    assert_eq!(loader.epoch(), 4, "slices count for themselves");

    // A slice of a slice, and what is left of nothing.
    let part = loader.slice(10, 60).slice(5, 25);
    assert_eq!(sorted(batches(&*part).concat()), (15..35).collect::<Vec<_>>());
    assert_eq!(batches(&*loader.slice(7, 7)), Vec::<Vec<i64>>::new());
    assert!(loader.loader().slice(60..104).is_err());
}

#[test]
fn a_slice_makes_the_samples_that_the_whole_makes() {
    let samples = |loader: &Loader<Layout>| {
        let batches = loader.epoch(2).map(Result::unwrap);
        let samples = batches.flat_map(|(points, _, ids)| {
            let points: Vec<_> =
                points.values.chunks(2).map(|point| [point[0], point[1]].map(f32::to_bits)).collect();
            ids.into_iter().zip(points)
        });
        samples.collect::<BTreeSet<_>>()
    };
    let halves = |loader: &Loader<Layout>| [0..30, 30..60].map(|half| samples(&loader.slice(half).unwrap()));
    // Samples of an order of one's own keep their positions in it, and so what they draw.
    let own = Loader::builder(items(0..60)).sampler(Shuffled::new(60, 7)).seed(7).batch_size(BATCH);
    let own = own.workers(1).build(layout(), write).unwrap();
    let [first, second] = halves(&own);
    assert_eq!(&first | &second, samples(&own));
    // Those that are shuffled in themselves have other positions, and so other draws of the same items.
    let loader = shuffled(60, 1);
    let [first, second] = halves(&loader);
    let ids = |samples: &BTreeSet<(i64, [u32; 2])>| samples.iter().map(|sample| sample.0).collect::<Vec<_>>();
    assert_eq!([ids(&first), ids(&second)].concat(), ids(&samples(&loader)));

    // A slice goes on where it was; a position of it is none of another slice, or of the whole.
    let half = || loader.slice(0..30).unwrap();
    let (first, slice) = (epoch(&half(), 2), half());
    let mut begun = slice.epoch(2);
    assert_eq!(begun.next().unwrap().unwrap().2, first[0]);
    let rest: Vec<_> = half().resume(&begun.state()).unwrap().map(|batch| batch.unwrap().2).collect();
    assert_eq!(rest, first[1..]);
    for other in [&loader, &loader.slice(30..60).unwrap()] {
        assert_eq!(other.check(&begun.state()).unwrap_err().kind(), &ErrorKind::State);
    }
}

#[test]
fn a_slice_of_your_own_order_is_what_of_it_is_in_range() {
    let weights: Vec<f64> = (0..100).map(|index| f64::from(index % 7)).collect();
    let weighted = || Weighted::new(&weights, 250, 3).unwrap();
    let subset = || SubsetSampler::new((50..100).collect::<Vec<_>>()).shuffled(3);
    let build = || Loader::builder(items(0..100)).batch_size(BATCH).workers(2);
    let orders: [(Box<dyn Sampler>, Loader<Layout>); 2] = [
        (Box::new(weighted()), build().sampler(weighted()).build(layout(), write).unwrap()),
        (Box::new(subset()), build().sampler(subset()).build(layout(), write).unwrap()),
    ];
    for (order, loader) in orders {
        let loader = Arc::new(for_burn(loader, &Log::default()));
        // Burn cuts the samples' number, which isn't the items'.
        assert_eq!(loader.num_items(), order.len());
        let slices = split_dataloader(loader, &[Device::flex(), Device::flex()]);
        for e in 0..2 {
            let whole: Vec<_> = (0..order.len()).map(|at| order.index(e, at) as i64).collect();
            for (slice, range) in slices.iter().zip([0..50, 50..100]) {
                let expected: Vec<_> = whole.iter().copied().filter(|id| range.contains(id)).collect();
                assert_eq!(slice.num_items(), expected.len());
                let got = batches(&**slice);
                assert!(got.iter().rev().skip(1).all(|batch| batch.len() == BATCH));
                assert_eq!(got.concat(), expected, "{}", order.describe());
            }
        }
    }
}

#[test]
fn a_slice_of_your_own_batches_keeps_them_apart() {
    let lengths: Vec<u32> = (0..100).map(|index| index * 37 % 11).collect();
    let bucketed = || Bucketed::by_length(Sequential::new(100), &*lengths, 8, 1).unwrap();
    let loader = Loader::builder(items(0..100)).batch_sampler(bucketed()).workers(1);
    let loader = for_burn(loader.build(layout(), write).unwrap(), &Log::default());
    let whole = bucketed();
    let slices = [loader.slice(0, 5), loader.slice(5, 100)];
    for e in 0..2 {
        for (slice, range) in slices.iter().zip([0..5, 5..100]) {
            let in_range = |batch| {
                let ids = whole.positions(e, batch).map(|at| whole.index(e, at) as i64);
                ids.filter(|&id| range.contains(&(id as usize))).collect::<Vec<_>>()
            };
            let expected: Vec<_> =
                (0..whole.batches(e)).map(in_range).filter(|batch| !batch.is_empty()).collect();
            assert_eq!(batches(&**slice), expected);
            assert_eq!(loader.loader().slice(range).unwrap().batches(e), Some(expected.len()));
        }
    }
}

#[test]
fn slices_lose_nothing_for_the_last_batch_that_is_dropped() {
    let loader = Loader::builder(items(0..10)).shuffle(true).batch_size(4).drop_last(true).workers(1);
    let loader = Arc::new(for_burn(loader.build(layout(), write).unwrap(), &Log::default()));
    assert_eq!(loader.num_items(), 8);
    let slices = split_dataloader(loader, &[Device::flex(), Device::flex()]);
    // Each drops the rest of its own: there is one of six items, which come all in some epoch.
    assert_eq!(sorted(batches(&*slices[0]).concat()), all(4));
    let seen: BTreeSet<_> = (0..20).flat_map(|_| batches(&*slices[1]).concat()).collect();
    assert!(seen.into_iter().eq(4..10));
}

#[test]
fn an_index_that_there_is_no_item_for_is_an_error_of_every_slice() {
    struct Wrong;
    impl Sampler for Wrong {
        fn len(&self) -> usize {
            10
        }
        fn index(&self, _: u64, position: usize) -> usize {
            position + 5
        }
        fn describe(&self) -> String {
            "wrong".to_owned()
        }
    }
    let loader = Loader::builder(items(0..10)).sampler(Wrong).workers(1).build(layout(), write).unwrap();
    for range in [0..5, 5..10] {
        let error = loader.slice(range).unwrap().epoch(0).find_map(Result::err).unwrap();
        assert_eq!(error.index(), Some(10));
    }
}

/// A data set with an item that cannot be read.
struct Torn;

impl Dataset<Item, io::Error> for Torn {
    fn get(&self, index: usize) -> io::Result<Item> {
        match index {
            57 => Err(io::Error::other("torn")),
            _ => Ok(item(index)),
        }
    }

    fn len(&self) -> usize {
        SAMPLES
    }
}

fn cause<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> &'e T {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.into_iter().find_map(|error| error.downcast_ref()).unwrap()
}

#[test]
fn an_error_comes_to_burn_with_its_cause() {
    for workers in [0, 2] {
        let torn = Loader::builder(FromBurn::new(Torn))
            .batch_size(BATCH)
            .workers(workers)
            .build(layout(), write)
            .unwrap();
        let panicking = Loader::builder(items(0..SAMPLES)).batch_size(BATCH).workers(workers);
        let panicking = panicking
            .build(layout(), |item: Item, rng: &mut SampleRng, slot| {
                assert_ne!(item.0, 57, "no such luck");
                write(item, rng, slot)
            })
            .unwrap();
        for (loader, kind) in [(torn, ErrorKind::Dataset), (panicking, ErrorKind::Panic)] {
            let loader = for_burn(loader, &Log::default());
            let mut iterator = loader.iter();
            for batch in 0..57 / BATCH as i64 {
                assert_eq!(iterator.next().unwrap().unwrap().ids[0], batch * BATCH as i64);
            }
            let error: DatasetError = iterator.next().unwrap().err().unwrap();
            let ours: &Error = cause(&error);
            assert_eq!((ours.kind(), ours.index()), (&kind, Some(57)));
            if kind == ErrorKind::Dataset {
                assert_eq!(cause::<io::Error>(&error).to_string(), "torn");
            }
            assert!(!iterator.progress().is_completed());
            assert!(iterator.next().is_none() && iterator.next().is_none());
        }
    }
}

#[test]
fn a_batch_that_the_mapping_panics_on_is_an_error() {
    for workers in [0, 2] {
        let made = Arc::new(Mutex::new(0));
        let loader = shuffled(SAMPLES, workers).into_burn(&Device::flex(), move |tensors| {
            let mut made = made.lock().unwrap();
            *made += 1;
            assert_ne!(*made, 4, "no such luck");
            tensors
        });
        let loader = loader.unwrap();
        let mut iterator = loader.iter();
        assert_eq!(iterator.by_ref().take_while(Result::is_ok).count(), 3);
        assert!(iterator.next().is_none());
    }
}

#[test]
fn a_sample_that_cannot_be_read_ends_the_training_with_its_error() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Log::default());
    let torn =
        Loader::builder(FromBurn::new(Torn)).batch_size(BATCH).workers(2).build(layout(), write).unwrap();
    let result = training(folder.path(), Arc::new(for_burn(torn, &log)), valid(&log), 3).launch(learner());
    let error = result.error.unwrap();
    assert_eq!(cause::<Error>(&*error).index(), Some(57));
    assert_eq!(cause::<io::Error>(&*error).to_string(), "torn");
    assert_eq!(log.lock().unwrap().len(), 57 / BATCH);
}

#[test]
fn any_data_set_of_burns_goes_in() {
    struct Backwards;
    impl Mapper<Item, Item> for Backwards {
        fn map(&self, &(place, _, _): &Item) -> Item {
            item(99 - place as usize)
        }
    }
    fn ids<D, E>(dataset: D) -> Vec<i64>
    where
        D: Dataset<Item, E> + 'static,
        E: StdError + Send + Sync + 'static,
    {
        let loader =
            Loader::builder(FromBurn::new(dataset)).batch_size(7).workers(2).build(layout(), write).unwrap();
        epoch(&loader, 0).concat()
    }
    let some = || PartialDataset::<_, Item>::new(InMemDataset::new(items(0..100)), 20, 50);
    assert_eq!(ids(some()), (20..50).collect::<Vec<_>>());
    assert_eq!(ids(ComposedDataset::new(vec![some(), some()])), (20..50).chain(20..50).collect::<Vec<_>>());
    let mapped = MapperDataset::<_, _, Item>::new(some(), Backwards);
    assert_eq!(ids(mapped), (50..80).rev().collect::<Vec<_>>());
    let shared: Arc<dyn Dataset<Item>> = Arc::new(some());
    assert_eq!(ids(shared), (20..50).collect::<Vec<_>>());
    let partial = PartialDataset::<_, Item>::new(Torn, 0, 50);
    assert_eq!(ids::<_, io::Error>(partial), all(50));
}

#[test]
fn a_data_set_of_burns_is_told_by_length_and_type_and_has_no_other_indices() {
    use firebox::data::Dataset;
    let numbers = FromBurn::new(InMemDataset::new(vec![7, 8, 9]));
    assert_eq!((numbers.len(), numbers.is_empty(), numbers.reads_many()), (3, false, false));
    assert_eq!(numbers.fingerprint().to_string(), "3 × InMemDataset<i32>");
    let many: Vec<_> = numbers
        .get_many(&[2, 3, 0])
        .into_iter()
        .map(|item| item.map_err(|error| error.to_string()))
        .collect();
    assert_eq!(
        many,
        [Ok(9), Err("expected an index below 3, got 3".to_owned()), Ok(7)],
        "where Burn's panic"
    );
    let (train, valid) = random_split(numbers, 1, 3).unwrap();
    assert!(train.lineage().is_shared_with(&valid.lineage()));
}

#[test]
fn any_data_set_of_ours_comes_out() {
    let odd = Filter::new(items(0..100), |item| item.0 % 2 == 1).unwrap();
    let partial = PartialDataset::<_, Item>::new(IntoBurn::new(odd), 10, 20);
    let ids: Vec<i64> = partial.iter().map(|item| item.unwrap().0).collect();
    assert_eq!(ids, (10..20).map(|index| 2 * index + 1).collect::<Vec<i64>>());
    let boxed: Box<dyn firebox::data::Dataset<Item = Item>> = Box::new(items(0..9));
    let burns = IntoBurn::new(boxed);
    let ids = |many: Vec<Item>| many.into_iter().map(|item| item.0).collect::<Vec<_>>();
    assert_eq!((burns.len(), ids(burns.get_many(vec![8, 0, 8]).unwrap())), (9, vec![8, 0, 8]));
    let past = || burns.get(9).is_ok();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(past)).is_err(), "as Burn's do");
    // An error keeps its cause on the way out, and on the way back in.
    let broken = from_fn(3, |index| match index {
        1 => Err(Error::new(ErrorKind::Io, "torn").at_path("a.png").into()),
        _ => Ok(item(index)),
    });
    let burns = IntoBurn::new(broken);
    for error in [burns.get(1).unwrap_err(), burns.get_many(vec![0, 1, 2]).unwrap_err()] {
        assert_eq!(
            (error.to_string().as_str(), cause::<Error>(&error).path()),
            ("a.png: torn", Some(Path::new("a.png")))
        );
    }
    let loader = Loader::builder(FromBurn::new(burns)).build(layout(), write).unwrap();
    let error = loader.epoch(0).find_map(Result::err).unwrap();
    assert_eq!((error.index(), error.path()), (Some(1), Some(Path::new("a.png"))));
}

/// Draws nothing, where Burn's own renderer prints.
struct Silent;

impl MetricsRendererTraining for Silent {
    fn update_train(&mut self, _: MetricState) {}
    fn update_valid(&mut self, _: MetricState) {}
}

impl MetricsRendererEvaluation for Silent {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl TrainingProgressLogger for Silent {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _: usize) {}
    fn start_split(&mut self, _: &str, _: usize) {}
    fn update_split(&mut self, _: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
}

impl EvaluationProgressLogger for Silent {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRenderer for Silent {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: MetricDefinition) {}
}

#[test]
fn a_loader_on_a_device_says_whether_training_shares_its_cores() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let loader = shuffled(SAMPLES, 1).on_device(&device).unwrap();
        let mut epoch = Batches::epoch(&loader, 0);
        assert!(epoch.by_ref().all(|batch| batch.is_ok()));
        let report = epoch.report();
        assert_eq!((report.on_cpu, report.samples), (Some(true), SAMPLES), "{device:?}");
        assert!(report.cores >= 1 && report.cache_saving().is_some());
    }
    // What the batches of a loader without a device are for, nobody knows.
    let loader = shuffled(SAMPLES, 1);
    let mut epoch = loader.epoch(0);
    assert!(epoch.by_ref().all(|batch| batch.is_ok()));
    assert_eq!((epoch.report().on_cpu, epoch.report().cache_saving()), (None, None));
}

/// Sequences of which all are empty are a batch without values.
#[test]
fn empty_sequences_become_tensors() {
    let device = Device::flex();
    let loader = Loader::builder(vec![0u8; 3])
        .batch_size(2)
        .build(Pad::with(0i64), |_, _, _| Ok(()))
        .unwrap()
        .on_device(&device)
        .unwrap();
    let dims: Vec<_> = Batches::epoch(&loader, 0)
        .map(|batch| {
            batch.map(|batch| (batch.values.dims(), batch.mask.dims(), batch.lengths.dims())).unwrap()
        })
        .collect();
    assert_eq!(dims, [([2, 0], [2, 0], [2]), ([1, 0], [1, 0], [1])]);
}
