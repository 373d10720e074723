//! The cost of the trainer: beside a bare loop over the same step, and when it saves.
//!
//!     cargo bench --bench trainer                # everything
//!     cargo bench --bench trainer -- --quick --parts overhead
//!
//! `overhead` runs the same model over the same loader by turns in a bare loop, which only takes the next
//! batch, computes a loss, its gradients and the step of Adam, and in a trainer with what it does by default:
//! it looks at the loss and at the norm of the gradients, seeds the step, counts the accuracy, writes a
//! record, shows progress, keeps a live report. A step counts from its beginning to the next one's.
//!
//! `save` trains a model of which a checkpoint has 100 MB, and says by how much a save delays the step that
//! it follows.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints, and may panic"
)]

use std::sync::{Arc, Mutex};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use firebox::data::batches::Batches;
use firebox::data::tensors::OnDevice;
use firebox::data::{Loader, Scalar, Stack};
use firebox::kernels;
use firebox::models::layers::{Linear, LinearConfig};
use firebox::models::vision::CnnConfig;
use firebox::models::{Forward, init};
use firebox::report::{LiveReport, Progress};
use firebox::train::checkpoint::Checkpoints;
use firebox::train::event::Event;
use firebox::train::optimizer::AdamConfig;
use firebox::train::tasks::Classification;
use firebox::train::{Callback, Learner, RunDir, StepContext, Task, Threads, Trainer, TrainerConfig};

const LR: f64 = 1e-3;
const CLASSES: usize = 10;
/// Steps at the beginning of each loop that aren't counted.
const WARM_UP: usize = 5;
/// The sides of the square weights whose checkpoints are saved: with Adam's two moments, 3 · 2 · 2088² · 4
/// bytes.
const WIDTH: usize = 2088;

/// Who is told in the trainer's part: what the examples have by default, beside the records that every run
/// has.
fn callbacks(run: &RunDir) -> Vec<Box<dyn Callback>> {
    vec![Box::new(Progress::new()), Box::new(LiveReport::new(run, "bench"))]
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The trainer beside a bare loop.
    Overhead,
    /// Steps that a save follows, beside those that none does.
    Save,
}

#[derive(Parser)]
#[command(name = "trainer", about = "Times the trainer beside a bare loop, and its saves")]
struct Options {
    /// Which parts, separated by commas; both if none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Batch sizes of the network whose steps are timed: with two threads of Zen 4 steps of 10 ms and 1 ms
    #[arg(long, value_delimiter = ',', default_value = "48,1")]
    batches: Vec<usize>,
    /// How often each loop is run
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// About how many seconds each of them takes
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Saves
    #[arg(long, default_value_t = 20)]
    saves: usize,
    /// Three short rounds, five saves
    #[arg(long)]
    quick: bool,
    /// The arguments that cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

/// The times between moments that follow each other, those of the warm-up left out, in ms.
fn steps(moments: &[Instant]) -> Vec<f64> {
    let pairs = moments.windows(2).skip(WARM_UP);
    pairs.map(|pair| 1e3 * (pair[1] - pair[0]).as_secs_f64()).collect()
}

type Images = OnDevice<Loader<(Stack<f32, 3>, Scalar<i64>)>>;

/// So many batches whose making costs next to nothing.
fn images(batch: usize, batches: usize, device: &Device) -> Images {
    let loader = Loader::builder(vec![(); batch * batches]).batch_size(batch).workers(0);
    let fill = |(), rng: &mut firebox::data::SampleRng, (image, class): (&mut [f32], &mut i64)| {
        image.fill(rng.uniform());
        *class = rng.below(CLASSES as u64) as i64;
        Ok(())
    };
    loader.build((Stack::new([1, 28, 28]), Scalar::new()), fill).unwrap().on_device(device).unwrap()
}

fn cnn(device: &Device) -> firebox::models::vision::Cnn {
    let config = CnnConfig::new(CLASSES).with_channels(1);
    init(1, device, |device| config.init(device)).unwrap()
}

/// The moments at which the steps of a bare loop begin.
fn bare(batch: usize, batches: usize) -> Vec<Instant> {
    let device = Device::default().autodiff();
    let mut learner = Learner::new(cnn(&device), AdamConfig::new().init().unwrap());
    let data = images(batch, batches, &device);
    let mut moments = vec![Instant::now()];
    for batch in data.epoch(0) {
        let (inputs, classes) = batch.unwrap();
        let logits = learner.model().forward(inputs);
        learner.step(kernels::cross_entropy(logits, classes), LR);
        moments.push(Instant::now());
    }
    moments
}

/// The moments at which steps begin, told by a trainer.
#[derive(Clone, Default)]
struct Moments(Arc<Mutex<Vec<Instant>>>);

impl Callback for Moments {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), firebox::train::BoxError> {
        if let Event::StepBegins { .. } = event {
            self.0.lock().unwrap().push(Instant::now());
        }
        Ok(())
    }
}

/// The moments at which the steps of a trainer begin.
fn trained(batch: usize, batches: usize) -> Vec<Instant> {
    let device = Device::default();
    let training = device.clone().autodiff();
    let folder = tempfile::tempdir().unwrap();
    let mut task = Classification::new(Learner::new(cnn(&training), AdamConfig::new().init().unwrap()));
    let moments = Moments::default();
    let run = RunDir::create(folder.path()).unwrap();
    let mut trainer = Trainer::new(&run, &device).schedule(LR);
    for mut callback in callbacks(&run) {
        trainer = trainer.callback(move |event: &Event<'_>| callback.on_event(event));
    }
    let mut trainer = trainer.callback(moments.clone());
    trainer.fit(&mut task, &images(batch, batches, &training), &images(batch, 1, &device)).unwrap();
    let moments = moments.0.lock().unwrap();
    moments.clone()
}

fn overhead(options: &Options) {
    let (rounds, seconds) = if options.quick { (3, 0.3) } else { (options.rounds, options.seconds) };
    println!(
        "| batch | steps a round | bare, ms | trainer, ms | trainer / bare | of the rounds | µs a step |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &batch in &options.batches {
        let once = median(steps(&bare(batch, WARM_UP + 20)));
        let batches = WARM_UP + 1 + (1e3 * seconds / once).ceil() as usize;
        let (mut bares, mut traineds, mut ratios) = (vec![], vec![], vec![]);
        for round in 0..rounds {
            let mut times = [0.0; 2];
            // Neither is always the first.
            for which in [round % 2, 1 - round % 2] {
                times[which] =
                    median(steps(&if which == 0 { bare(batch, batches) } else { trained(batch, batches) }));
            }
            bares.push(times[0]);
            traineds.push(times[1]);
            ratios.push(times[1] / times[0]);
        }
        let (least, most) =
            ratios.iter().fold((f64::MAX, f64::MIN), |(a, b), ratio| (a.min(*ratio), b.max(*ratio)));
        let (bare, trained) = (median(bares), median(traineds));
        println!(
            "| {batch} | {} | {bare:.3} | {trained:.3} | {:.4} | {least:.3} to {most:.3} | {:.0} |",
            batches - WARM_UP,
            median(ratios),
            1e3 * (trained - bare)
        );
    }
}

/// Two large linear maps.
#[derive(Module, Debug)]
struct Wide {
    one: Linear,
    other: Linear,
}

impl Forward<Tensor<2>> for Wide {
    type Output = Tensor<2>;

    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        self.other.forward(self.one.forward(input))
    }
}

type Vectors = OnDevice<Loader<(Stack<f32, 1>, Scalar<i64>)>>;

fn vectors(samples: usize, device: &Device) -> Vectors {
    let loader = Loader::builder(vec![(); samples]).batch_size(1).workers(0);
    let fill = |(), rng: &mut firebox::data::SampleRng, (vector, class): (&mut [f32], &mut i64)| {
        vector.fill(rng.uniform());
        *class = rng.below(CLASSES as u64) as i64;
        Ok(())
    };
    loader.build((Stack::new([WIDTH]), Scalar::new()), fill).unwrap().on_device(device).unwrap()
}

fn wide(device: &Device) -> Classification<Wide, Tensor<2>> {
    let config = LinearConfig::new(WIDTH, WIDTH);
    let model = init(1, device, |device| {
        Ok::<_, firebox::models::Error>(Wide { one: config.init(device)?, other: config.init(device)? })
    });
    Classification::new(Learner::new(model.unwrap(), AdamConfig::new().init().unwrap()))
}

/// When steps begin, and after which of them a checkpoint was handed over and was complete.
#[derive(Clone, Default)]
struct Heard {
    begins: Vec<Instant>,
    saving: Vec<usize>,
    saved: Vec<usize>,
}

#[derive(Clone, Default)]
struct Saves(Arc<Mutex<Heard>>);

impl Callback for Saves {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), firebox::train::BoxError> {
        let mut heard = self.0.lock().unwrap();
        match event {
            Event::StepBegins { .. } => heard.begins.push(Instant::now()),
            Event::Saving { state, .. } => heard.saving.push(state.step),
            Event::Saved { .. } => {
                let steps = heard.begins.len();
                heard.saved.push(steps);
            }
            _ => {}
        }
        Ok(())
    }
}

fn save(options: &Options) {
    let saves = if options.quick { 5 } else { options.saves };
    let every = 40;
    let device = Device::default();
    let training = device.clone().autodiff();
    let mut task = wide(&training);
    // The copies alone: of as many bytes, and as the trainer has it from the task.
    let input = Tensor::<2>::from_data(TensorData::new(vec![0.5f32; WIDTH], [1, WIDTH]), &training);
    let classes = Tensor::<1, Int>::from_data(TensorData::new(vec![1i64], [1]), &training);
    task.train_step((input, classes), &StepContext::new(0, 0, LR)).unwrap();
    let bytes: usize = {
        let state = task.state().unwrap();
        state.iter().flat_map(|(_, part)| part.iter()).map(|(_, tensor)| tensor.as_bytes().len()).sum()
    };
    let buffer = vec![1u8; bytes];
    let timed = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        1e3 * begun.elapsed().as_secs_f64()
    };
    let copy = median((0..9).map(|_| timed(&mut || drop(std::hint::black_box(buffer.clone())))).collect());
    let state = median((0..9).map(|_| timed(&mut || drop(task.state().unwrap()))).collect());
    drop(buffer);

    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::create(folder.path()).unwrap();
    let heard = Saves::default();
    let mut config = TrainerConfig::new();
    config.save_steps = Some(every);
    let mut trainer = Trainer::new(&run, &device).config(config).schedule(LR);
    for mut callback in callbacks(&run) {
        trainer = trainer.callback(move |event: &Event<'_>| callback.on_event(event));
    }
    let mut trainer = trainer.callback(heard.clone());
    trainer.fit(&mut task, &vectors(every * saves + every / 2, &training), &vectors(1, &device)).unwrap();
    let Heard { begins, saving, saved } = heard.0.lock().unwrap().clone();
    // What a checkpoint takes if somebody waits for it.
    let (last, task_state) = run.checkpoints().last().unwrap();
    let beside = tempfile::tempdir().unwrap();
    let whole = timed(&mut || drop(Checkpoints::new(beside.path()).save(&last, &task_state).unwrap()));

    let length = |step: usize| 1e3 * (begins[step] - begins[step - 1]).as_secs_f64();
    // A save after step n falls between the beginnings of the steps n - 1 and n.
    let inner: Vec<_> = saving.iter().copied().filter(|step| *step > 0 && *step < begins.len()).collect();
    let busy = |step: usize| {
        let of = |(from, to): (&usize, &usize)| *from <= step && step <= *to;
        inner.iter().zip(saved.iter().skip(1)).any(of)
    };
    let quiet = median((1..begins.len()).filter(|step| !busy(*step)).map(length).collect());
    let beside =
        median((1..begins.len()).filter(|step| busy(*step) && !inner.contains(step)).map(length).collect());
    let delays: Vec<_> = inner.iter().map(|step| length(*step) - quiet).collect();
    let (least, most) =
        delays.iter().fold((f64::MAX, f64::MIN), |(a, b), delay| (a.min(*delay), b.max(*delay)));
    // Until the next save nothing is late any more: all that a save costs.
    let windows = inner.iter().filter(|step| **step + every - 1 < begins.len());
    let all = windows.map(|step| (*step..*step + every).map(|step| length(step) - quiet).sum()).collect();
    println!("checkpoints of {:.1} MB, one after every {every} steps", bytes as f64 / 1e6);
    println!("| | ms |");
    println!("|---|---|");
    println!("| a step without a save | {quiet:.1} |");
    println!("| a step while a checkpoint is written | {beside:.1} |");
    println!("| a copy of as many bytes, alone | {copy:.1} |");
    println!("| the state from the task, alone | {state:.1} |");
    println!("| a checkpoint written while somebody waits: hashes, files, disk | {whole:.1} |");
    println!(
        "| delay of the step of a save, median of {} | {:.1} ({least:.1} to {most:.1}) |",
        delays.len(),
        median(delays)
    );
    println!("| all delays until the next save, median | {:.1} |", median(all));
}

fn main() {
    let options = Options::parse();
    let threads = Threads::detect();
    threads.start().unwrap();
    println!("{threads:?}, kernels {}", if kernels::enabled() { "on" } else { "off" });
    let parts = if options.parts.is_empty() { Part::value_variants() } else { &options.parts };
    for part in parts {
        match part {
            Part::Overhead => overhead(&options),
            Part::Save => save(&options),
        }
    }
}
