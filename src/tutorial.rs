//! Programs from "load a folder" to "resume a killed run".
//!
//! Each is whole, short, and compiled and run with the tests. They need one dependency, and the fourth also
//! `serde` with its derives:
//!
//! ```toml
//! [dependencies]
//! firebox = "0.1"
//!
//! # Without these two lines a debug build trains 40 to 50 times slower.
//! [profile.dev.package."*"]
//! opt-level = 3
//! ```
//!
//! 1. [Load a folder](#load-a-folder)
//! 2. [Augment at random](#augment-at-random-and-get-the-same-batches-anyway)
//! 3. [Live with bad samples](#live-with-bad-samples)
//! 4. [Make batches in worker processes](#make-batches-in-worker-processes)
//! 5. [Stop in the middle of an epoch](#stop-in-the-middle-of-an-epoch)
//! 6. [Train a classifier](#train-a-classifier)
//! 7. [Choose the best checkpoint](#choose-the-best-checkpoint-by-a-metric)
//! 8. [Write a network](#write-a-network)
//! 9. [Exchange weights with PyTorch](#exchange-weights-with-pytorch)
//! 10. [Resume a killed run](#resume-a-killed-run)
//!
//! The [cookbook](crate::cookbook) has recipes for single questions.
//!
//! # Load a folder
//!
//! A data set is a type with a length and an item for each index; reading is its part, and is done by the
//! workers. `locate` tells the file of an item, so that an error can name it. `Pad` makes one batch of rows
//! of different lengths.
//!
//! ```
//! use std::path::PathBuf;
//!
//! use firebox::data::{BoxError, Dataset, Loader, Pad};
//! use firebox::data::collate::Padded;
//! use firebox::data::dataset::Location;
//!
//! struct Folder(Vec<PathBuf>);
//!
//! impl Folder {
//!     fn open(path: &str) -> Result<Self, BoxError> {
//!         let files = std::fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
//!         let mut files = files.collect::<Result<Vec<_>, BoxError>>()?;
//!         files.retain(|file| file.extension().is_some_and(|ending| ending == "toml"));
//!         files.sort(); // The system's order is any.
//!         Ok(Folder(files))
//!     }
//! }
//!
//! impl Dataset for Folder {
//!     type Item = Vec<u8>;
//!
//!     fn len(&self) -> usize {
//!         self.0.len()
//!     }
//!
//!     fn get(&self, index: usize) -> Result<Vec<u8>, BoxError> {
//!         Ok(std::fs::read(&self.0[index])?)
//!     }
//!
//!     fn locate(&self, index: usize) -> Option<Location> {
//!         self.0.as_slice().get(index).map(Location::file)
//!     }
//! }
//!
//! fn main() -> Result<(), BoxError> {
//!     let files = Folder::open(".")?;
//!     assert!(!files.0.is_empty());
//!     let loader = Loader::builder(files).batch_size(2).workers(2).build(
//!         Pad::with(0_u8),
//!         |bytes: Vec<u8>, _rng, row: &mut Vec<u8>| {
//!             row.extend(bytes);
//!             Ok(())
//!         },
//!     )?;
//!     for batch in loader.epoch(0) {
//!         let batch: Padded<u8> = batch?;
//!         println!("files of {:?} bytes in {} with padding", batch.lengths, batch.values.len());
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Augment at random, and get the same batches anyway
//!
//! The random numbers of a sample follow from the seed, the epoch and its position, and from nothing else:
//! two workers make the bytes that none would make.
//!
//! ```
//! use firebox::data::{Error, Loader, SampleRng, Stack};
//! use firebox::data::collate::Stacked;
//! use firebox::data::elements::Elements;
//!
//! /// Mirrors one row of two.
//! fn mirrored(mut row: [f32; 3], rng: &mut SampleRng) -> Result<[f32; 3], firebox::data::BoxError> {
//!     if rng.chance(0.5) {
//!         row.reverse();
//!     }
//!     Ok(row)
//! }
//!
//! fn batches(workers: usize) -> Result<Vec<f32>, Error> {
//!     let rows: Vec<[f32; 3]> = (0..100u8).map(|n| [f32::from(n), 0.5, 0.0]).collect();
//!     let loader = Loader::builder(rows)
//!         .map(mirrored)
//!         .shuffle(true)
//!         .seed(42)
//!         .batch_size(8)
//!         .workers(workers)
//!         .build(Stack::<f32, 1>::new([3]), |row: [f32; 3], _rng, slot: &mut [f32]| {
//!             slot.copy_from_slice(&row);
//!             Ok(())
//!         })?;
//!     let mut all = Vec::new();
//!     for batch in loader.epoch(0) {
//!         let batch: Stacked<f32, 1> = batch?;
//!         let values: Elements<f32> = batch.values;
//!         all.extend_from_slice(&values);
//!     }
//!     Ok(all)
//! }
//!
//! fn main() -> Result<(), Error> {
//!     let alone = batches(0)?;
//!     assert_eq!(alone.len(), 300);
//!     assert_eq!(alone, batches(2)?);
//!     Ok(())
//! }
//! ```
//!
//! # Live with bad samples
//!
//! By default the first bad sample ends the epoch with an error that names it. A policy lets some be left
//! out, and the epoch's report names each.
//!
//! ```
//! use firebox::data::{Error, Loader, OnError, Scalar};
//! use firebox::data::loader::FailureBudget;
//!
//! fn main() -> Result<(), Error> {
//!     let lines = ["1", "2", "three", "4", "5"];
//!     let loader = Loader::builder(lines.to_vec())
//!         .batch_size(2)
//!         .on_error(OnError::Skip { at_most: FailureBudget::Share(0.2) })
//!         .build(Scalar::<i64>::new(), |line: &str, _rng, number: &mut i64| {
//!             *number = line.parse()?;
//!             Ok(())
//!         })?;
//!     let mut epoch = loader.epoch(0);
//!     let mut sum = 0;
//!     for batch in epoch.by_ref() {
//!         sum += batch?.iter().sum::<i64>();
//!     }
//!     let report = epoch.report();
//!     assert_eq!((sum, report.skipped()), (12, 1));
//!     assert_eq!(report.failures[0].error.index(), Some(2));
//!     println!("{}", report.failures[0].error); // sample 2: … invalid digit found in string
//!     Ok(())
//! }
//! ```
//!
//! # Make batches in worker processes
//!
//! Threads are the first choice. A decoder that may crash belongs into processes: what dies is replaced, and
//! the sample that kills its workers is named. A loader for processes is made by a recipe, settings that each
//! worker makes the same loader from; the batches are those of threads, byte for byte. Worker processes need
//! Linux.
//!
//! ```
//! use firebox::data::dataset::from_fn;
//! use firebox::data::loader::FailureBudget;
//! use firebox::data::{BoxError, Error, ErrorKind, Loader, OnError, Recipe, Stack};
//! use firebox::workers::Pool;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! struct Waves {
//!     count: usize,
//!     length: usize,
//! }
//!
//! /// Stands for a library in C that crashes on some input.
//! fn decode(wave: usize, values: &mut [f32]) {
//!     if wave == 13 {
//!         std::process::abort();
//!     }
//!     (0_u16..).zip(values).for_each(|(time, value)| *value = (wave as f32 * f32::from(time)).sin());
//! }
//!
//! impl Recipe for Waves {
//!     type Layout = Stack<f32, 1>;
//!
//!     fn loader(&self) -> Result<Loader<Stack<f32, 1>>, Error> {
//!         Loader::builder(from_fn(self.count, Ok))
//!             .batch_size(8)
//!             .on_error(OnError::Skip { at_most: FailureBudget::Count(1) })
//!             .build(Stack::new([self.length]), |wave, _rng, values: &mut [f32]| {
//!                 decode(wave, values);
//!                 Ok(())
//!             })
//!     }
//! }
//!
//! fn main() -> Result<(), BoxError> {
//!     firebox::workers::init(); // First of all: a worker is this program, and works in here.
//!     let loader = Waves { count: 24, length: 100 }.workers(Pool::processes(2)?)?;
//!     let mut epoch = loader.epoch(0);
//!     let mut sizes = Vec::new();
//!     for batch in epoch.by_ref() {
//!         sizes.push(batch?.samples);
//!     }
//!     assert_eq!(sizes, [8, 7, 8]);
//!     let report = epoch.report();
//!     let error = &report.failures[0].error;
//!     assert_eq!((error.kind(), error.index()), (&ErrorKind::Died, Some(13)));
//!     assert!(report.deaths >= 3);
//!     Ok(())
//! }
//! ```
//!
//! # Stop in the middle of an epoch
//!
//! Where a loader stands is a few numbers. They are written by any format of serde, and another process goes
//! on from them without making a batch twice.
//!
//! ```
//! use firebox::data::{BoxError, Loader, Scalar};
//!
//! fn loader() -> Result<Loader<Scalar<i64>>, BoxError> {
//!     let numbers: Vec<i64> = (0..10).collect();
//!     let builder = Loader::builder(numbers).shuffle(true).seed(7).batch_size(2);
//!     Ok(builder.build(Scalar::<i64>::new(), |number, _rng, slot: &mut i64| {
//!         *slot = number;
//!         Ok(())
//!     })?)
//! }
//!
//! fn main() -> Result<(), BoxError> {
//!     let mut seen = Vec::new();
//!     let first = loader()?;
//!     let mut epoch = first.epoch(0);
//!     for batch in epoch.by_ref().take(2) {
//!         seen.extend_from_slice(&batch?);
//!     }
//!     let state = epoch.state(); // Write it where you like: it is `Serialize`.
//!
//!     for batch in loader()?.resume(&state)? {
//!         seen.extend_from_slice(&batch?);
//!     }
//!     seen.sort_unstable();
//!     assert_eq!(seen, (0..10).collect::<Vec<_>>());
//!     Ok(())
//! }
//! ```
//!
//! # Train a classifier
//!
//! A learner is a model with its optimizer, a task says what a step is, and the trainer owns the rest:
//! epochs, learning rates, evaluations, checkpoints, records. The folder holds all of them, for other
//! programs, too.
//!
//! ```
//! use firebox::burn::tensor::{Device, Tensor};
//! use firebox::data::BoxError;
//! use firebox::models::layers::{Linear, LinearConfig};
//! use firebox::prelude::*;
//!
//! fn main() -> Result<(), BoxError> {
//!     let device = Device::default();
//!     // Which of two numbers is the larger one?
//!     let pairs: Vec<[f32; 2]> = (0..600u16).map(|n| [f32::from(n % 17), f32::from(n % 23)]).collect();
//!     let (train, valid) = random_split(pairs, 100, 42)?;
//!     let loader = |pairs| {
//!         let layout = (Stack::<f32, 1>::new([2]), Scalar::<i64>::new());
//!         let builder = Loader::builder(pairs).batch_size(50).shuffle(true).seed(42);
//!         builder.build(layout, |pair: [f32; 2], _rng, (to, class)| {
//!             to.copy_from_slice(&pair);
//!             *class = i64::from(pair[1] > pair[0]);
//!             Ok(())
//!         })
//!     };
//!     // Burn derives gradients on the device that says so: what is trained on goes there.
//!     let train = loader(train)?.on_device(&device.clone().autodiff())?;
//!     let valid = loader(valid)?.on_device(&device)?;
//!
//!     let model = init(42, &device.clone().autodiff(), |device| LinearConfig::new(2, 2).init(device))?;
//!     let learner = Learner::new(model, AdamConfig::new().init()?);
//!     let mut task = Classification::<Linear, Tensor<2>>::new(learner);
//!     let folder = std::env::temp_dir().join("firebox-tutorial-classifier");
//!     let run = RunDir::overwrite(folder)?;
//!     let outcome = Trainer::new(&run, &device).epochs(20).schedule(0.05).fit(&mut task, &train, &valid)?;
//!
//!     let best = outcome.best.expect("there was an evaluation");
//!     println!("{} steps, accuracy {:.3}", outcome.steps, best.value);
//!     assert_eq!(outcome.steps, 200);
//!     assert!(run.metrics().is_file());
//!     Ok(())
//! }
//! ```
//!
//! # Choose the best checkpoint by a metric
//!
//! Accuracy says little where one class is rare. A classifier measures what it is told to, a metric that is
//! there or one of your own, and one of them decides which checkpoint is the best.
//!
//! ```
//! use firebox::burn::tensor::activation::softmax;
//! use firebox::burn::tensor::{Device, Tensor};
//! use firebox::data::BoxError;
//! use firebox::models::layers::{Linear, LinearConfig};
//! use firebox::prelude::*;
//! use firebox::train::metrics::Quantity;
//! use firebox::train::task::Goal;
//! use firebox::train::tasks::ClassMetric;
//! use firebox::train::to_scalar;
//!
//! fn main() -> Result<(), BoxError> {
//!     let device = Device::default();
//!     // One in ten is of class 1, and has rather large numbers.
//!     let points: Vec<_> = (0..1000_u16).map(|n| (f32::from(n % 37) / 37.0, n % 10 == 0)).collect();
//!     let (train, valid) = random_split(points, 300, 42)?;
//!     let loader = |points| {
//!         let layout = (Stack::<f32, 1>::new([2]), Scalar::<i64>::new());
//!         let builder = Loader::builder(points).batch_size(50).shuffle(true).seed(42);
//!         builder.build(layout, |(at, rare): (f32, bool), rng, (to, class)| {
//!             to.copy_from_slice(&[at, if rare { 0.8 } else { 0.4 } * rng.uniform()]);
//!             *class = i64::from(rare);
//!             Ok(())
//!         })
//!     };
//!     let train = loader(train)?.on_device(&device.clone().autodiff())?;
//!     let valid = loader(valid)?.on_device(&device)?;
//!
//!     let certainty = ClassMetric::new("certainty", |logits, classes| {
//!         let likeliest = softmax(logits.clone(), 1).max_dim(1);
//!         Ok(Quantity::mean(to_scalar(&likeliest.mean())?, classes.dims()[0] as f64))
//!     });
//!     let model = init(42, &device.clone().autodiff(), |device| LinearConfig::new(2, 2).init(device))?;
//!     let learner = Learner::new(model, AdamConfig::new().init()?);
//!     let mut task = Classification::<Linear, Tensor<2>>::new(learner)
//!         .with_metric(ClassMetric::auroc().in_evaluations_only())?
//!         .with_metric(certainty)?
//!         .monitor("auroc", Goal::Maximize)?;
//!     let run = RunDir::overwrite(std::env::temp_dir().join("firebox-tutorial-best"))?;
//!     let mut trainer = Trainer::new(&run, &device).epochs(5).schedule(0.05);
//!     let best = trainer.fit(&mut task, &train, &valid)?.best.expect("there was an evaluation");
//!
//!     // The task has the weights of the last step. Those of the best one are in the run's folder.
//!     let (_, state) = run.checkpoints().best()?;
//!     task.load(&state)?;
//!     let record = trainer.evaluate(&valid, "best", task.evaluator())?;
//!     println!("AUROC {:.3} after step {}", best.value, best.step);
//!     assert_eq!(record.metrics.value("auroc"), Some(best.value));
//!     assert!(best.value > 0.7 && record.metrics.value("certainty") > Some(0.5));
//!     Ok(())
//! }
//! ```
//!
//! # Write a network
//!
//! A network is a struct of layers. `use firebox::burn;` at the root of the program is for Burn's derive,
//! which names its crate so. `Forward` tells the tasks what goes in and comes out.
//!
//! ```
//! use firebox::burn;
//! use firebox::burn::module::Module;
//! use firebox::burn::tensor::{Device, Tensor};
//! use firebox::models::layers::{ConvBlock, ConvBlockConfig, Linear, LinearConfig};
//! use firebox::models::{Error, Forward, init};
//!
//! #[derive(Module, Debug)]
//! struct Net {
//!     conv: ConvBlock,
//!     head: Linear,
//! }
//!
//! impl Net {
//!     fn new(device: &Device) -> Result<Self, Error> {
//!         Ok(Net {
//!             conv: ConvBlockConfig::new(1, 8, 3).init(device)?,
//!             head: LinearConfig::new(8, 10).init(device)?,
//!         })
//!     }
//! }
//!
//! impl Forward<Tensor<4>> for Net {
//!     type Output = Tensor<2>;
//!
//!     fn forward(&self, images: Tensor<4>) -> Tensor<2> {
//!         let maps = self.conv.forward(images);
//!         // The mean over height and width.
//!         let features: Tensor<2> = maps.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2);
//!         self.head.forward(features)
//!     }
//! }
//!
//! fn main() -> Result<(), Error> {
//!     let device = Device::default();
//!     let net = init(42, &device, Net::new)?;
//!     let logits = net.forward(Tensor::zeros([3, 1, 12, 12], &device));
//!     assert_eq!(logits.dims(), [3, 10]);
//!     Ok(())
//! }
//! ```
//!
//! # Exchange weights with PyTorch
//!
//! Models have PyTorch's keys. A file of safetensors is what `safetensors.torch` reads and writes; `.pt`
//! files are read, and nothing in them is run.
//!
//! ```
//! use firebox::burn::tensor::Device;
//! use firebox::data::BoxError;
//! use firebox::models::vision::CnnConfig;
//! use firebox::prelude::*;
//! use firebox::weights::{StateDict, Weights};
//!
//! fn main() -> Result<(), BoxError> {
//!     let device = Device::default();
//!     let cnn = init(1, &device, |device| CnnConfig::new(10).with_channels(1).init(device))?;
//!     let path = std::env::temp_dir().join("firebox-tutorial-cnn.safetensors");
//!     cnn.save_safetensors(&path)?;
//!
//!     let weights = StateDict::read(&path)?;
//!     for (name, tensor) in weights.iter() {
//!         println!("{name}: {:?}", tensor.shape());
//!     }
//!     // Another one with other initial values, into which they go; or `load_pytorch("cnn.pt")`.
//!     let other = init(2, &device, |device| CnnConfig::new(10).with_channels(1).init(device))?;
//!     assert!(StateDict::of(&other) != weights);
//!     assert!(StateDict::of(&other.load_safetensors(&path)?) == weights);
//!     Ok(())
//! }
//! ```
//!
//! # Resume a killed run
//!
//! A run that is killed has a whole checkpoint, of its last epoch or of the last `save_steps` steps. Here a
//! run ends after 30 of its 80 steps, in the middle of an epoch, and another process would go on just so:
//! open the folder, and `resume(true)`. The weights are those of the run that was never stopped, to the last
//! bit.
//!
//! ```
//! use std::path::Path;
//!
//! use firebox::burn::tensor::{Device, Tensor};
//! use firebox::data::BoxError;
//! use firebox::models::layers::{Linear, LinearConfig};
//! use firebox::prelude::*;
//! use firebox::train::TrainerConfig;
//! use firebox::train::task::TaskState;
//!
//! fn train(folder: &Path, resume: bool, max_steps: Option<usize>) -> Result<TaskState, BoxError> {
//!     let device = Device::default();
//!     let loader = |count: u16| {
//!         let layout = (Stack::<f32, 1>::new([2]), Scalar::<i64>::new());
//!         let pairs: Vec<[f32; 2]> = (0..count).map(|n| [f32::from(n % 7), f32::from(n % 5)]).collect();
//!         let builder = Loader::builder(pairs).batch_size(10).shuffle(true).seed(42);
//!         builder.build(layout, |pair: [f32; 2], _rng, (to, class)| {
//!             to.copy_from_slice(&pair);
//!             *class = i64::from(pair[1] > pair[0]);
//!             Ok(())
//!         })
//!     };
//!     let train = loader(200)?.on_device(&device.clone().autodiff())?;
//!     let valid = loader(50)?.on_device(&device)?;
//!     let model = init(42, &device.clone().autodiff(), |device| LinearConfig::new(2, 2).init(device))?;
//!     let learner = Learner::new(model, AdamConfig::new().init()?);
//!     let mut task = Classification::<Linear, Tensor<2>>::new(learner);
//!
//!     let run = match resume {
//!         true => RunDir::open(folder)?.resume()?,
//!         false => RunDir::overwrite(folder)?,
//!     };
//!     let config = TrainerConfig::new().with_max_epochs(4).with_max_steps(max_steps).with_save_steps(10);
//!     let mut trainer = Trainer::new(&run, &device).config(config).schedule(0.01).resume(resume);
//!     trainer.fit(&mut task, &train, &valid)?;
//!     Ok(task.state()?)
//! }
//!
//! fn main() -> Result<(), BoxError> {
//!     let folder = |name: &str| std::env::temp_dir().join(format!("firebox-tutorial-{name}"));
//!     let whole = train(&folder("whole"), false, None)?;
//!     let stopped = train(&folder("stopped"), false, Some(30))?;
//!     assert!(stopped != whole);
//!     let resumed = train(&folder("stopped"), true, None)?;
//!     assert!(resumed == whole);
//!     Ok(())
//! }
//! ```
