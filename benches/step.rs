//! Single training steps (forward, loss, backward, Adam) of five models, and the forward pass of one: with the kernels
//! and, by turns, without.
//!
//!     cargo bench --bench step                       # everything
//!     cargo bench --bench step -- --quick --steps lstm,gan --batches 64 --threads 1
//!
//! `benches/peers/step` sets the same steps beside PyTorch's, in `benches/peers/step.py`.
//!
//! The number of threads and `FIREBOX_KERNELS` are fixed when a process starts. So each pair of them is a process of its
//! own, this program with `--serve`: it reads lines of a step, a batch size and a number of steps, such as `cnn 64 20`,
//! and answers each with one line of JSON. Whoever asks waits for the answer, so that only one process is ever busy.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints, and may panic"
)]

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::BinaryCrossEntropyLossConfig;
use burn::tensor::{Device, Distribution, Int, Shape, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use firebox::kernels;
use firebox::models::gan::{DiscriminatorConfig, GeneratorConfig};
use firebox::models::layers::{AttentionBlockConfig, LstmBlockConfig, RnnBlockConfig};
use firebox::models::vision::CnnConfig;
use firebox::models::{Error, Forward, init};
use firebox::train::optimizer::AdamConfig;
use firebox::train::{Learner, Threads};
use serde::{Deserialize, Serialize};

/// PyTorch's default.
const LR: f64 = 1e-3;
/// The size of the images' sides, and the classes.
const SIDE: usize = 28;
const CLASSES: usize = 10;
/// Places of a sequence, features of its elements, and of the state.
const TIME: usize = 64;
const FEATURES: usize = 128;
const HIDDEN: usize = 256;
/// Features of the noise and of the samples.
const LATENT: usize = 100;
const PIXELS: usize = 784;
/// The rows and columns of the matrices whose product is taken for the machine's peak.
const PEAK: usize = 1024;
/// Steps that are run before any is timed.
const WARM_UP: usize = 3;
/// A model that meets the same batch for thousands of steps comes to numbers so small that they slow the processor.
const MOST_STEPS: usize = 50;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// `Cnn`, 3×28×28 to 10 classes, cross-entropy.
    Cnn,
    /// `LstmBlock`, 64 places, 128 features to 256, mean of squares of the outputs.
    Lstm,
    /// `RnnBlock` with tanh, as `lstm`.
    Rnn,
    /// `Generator` and `Discriminator`, 784 pixels: a step of the one after a step of the other, with logits.
    Gan,
    /// `AttentionBlock`, 64 places, 256 features, mean of squares of the context, gradients of its inputs too.
    Attention,
    /// `Cnn` without a gradient: the forward pass on a plain device.
    CnnEval,
    /// No model: a product of square matrices, whose size stands in place of the batch.
    Gemm,
}

impl Kind {
    fn name(self) -> String {
        self.to_possible_value().unwrap().get_name().to_owned()
    }

    fn batches(self) -> &'static [usize] {
        match self {
            Kind::CnnEval => &[1, 64],
            Kind::Gemm => &[PEAK],
            _ => &[16, 64, 256],
        }
    }

    /// The floating-point operations of the matrix products of one step, a multiplication and an addition being two.
    ///
    /// A layer's backward pass has two products as large as the forward one, for the gradients of the weights and of the
    /// input; the latter is left out where nothing needs it.
    fn flop(self, batch: usize) -> f64 {
        let linear = |from: usize, to: usize| 2 * from * to;
        let step = match self {
            Kind::Cnn | Kind::CnnEval => {
                let conv1 = linear(3 * 9, 32) * SIDE * SIDE;
                let conv2 = linear(32 * 9, 64) * SIDE * SIDE / 4;
                let forward = conv1 + conv2 + linear(64 * SIDE * SIDE / 16, 128) + linear(128, CLASSES);
                if self == Kind::Cnn { 3 * forward - conv1 } else { forward }
            }
            Kind::Lstm => TIME * (2 * linear(FEATURES, 4 * HIDDEN) + 3 * linear(HIDDEN, 4 * HIDDEN)),
            Kind::Rnn => TIME * (2 * linear(FEATURES, HIDDEN) + 3 * linear(HIDDEN, HIDDEN)),
            Kind::Gan => {
                let generator = linear(LATENT, 256) + linear(256, 512) + linear(512, PIXELS);
                let discriminator = linear(PIXELS, 512) + linear(512, 256) + linear(256, 1);
                let first_step = 2 * (3 * discriminator - linear(PIXELS, 512));
                // The discriminator's weights get their gradients in the generator's step as well, unused.
                let second_step = 3 * discriminator + 3 * generator - linear(LATENT, 256);
                first_step + second_step
            }
            // W and V of each place, and the sum of the places by their weights.
            Kind::Attention => 3 * TIME * (linear(HIDDEN, HIDDEN) + linear(HIDDEN, 1) + linear(1, HIDDEN)),
            Kind::Gemm => return 2.0 * (batch as f64).powi(3),
        };
        (batch * step) as f64
    }
}

/// Runs one step and gives what shows that it was run: its losses, not yet read.
type Step = Box<dyn FnMut() -> Vec<Tensor<1>>>;

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(Shape::from(shape), Distribution::Normal(0.0, 1.0), device)
}

/// A step towards an output of zeros.
fn mean_square_step<M: Module + 'static>(
    mut learner: Learner<M>,
    forward: impl Fn(&M) -> Tensor<3> + 'static,
) -> Step {
    Box::new(move || {
        let loss = forward(learner.model()).square().mean();
        let value = loss.clone().detach();
        learner.step(loss, LR);
        vec![value]
    })
}

/// Inputs are drawn once: a step is measured, not the generator of random numbers.
fn prepare(kind: Kind, batch: usize) -> Result<Step, Error> {
    let plain = Device::flex();
    let device = Device::flex().autodiff();
    device.seed(1);
    let adam = || AdamConfig::new().init().unwrap();
    Ok(match kind {
        Kind::Cnn => {
            let model = init(2, &device, |device| CnnConfig::new(CLASSES).init(device))?;
            let mut learner = Learner::new(model, adam());
            let images = random([batch, 3, SIDE, SIDE], &device);
            let classes = Tensor::<1, Int>::arange(0..batch as i64, &device).remainder_scalar(CLASSES as i64);
            Box::new(move || {
                let logits = learner.model().forward(images.clone());
                let loss = kernels::cross_entropy(logits, classes.clone());
                let value = loss.clone().detach();
                learner.step(loss, LR);
                vec![value]
            })
        }
        Kind::Lstm => {
            let model = init(2, &device, |device| LstmBlockConfig::new(FEATURES, HIDDEN).init(device))?;
            let input = random([batch, TIME, FEATURES], &device);
            mean_square_step(Learner::new(model, adam()), move |model| {
                model.forward(input.clone(), None, None).0
            })
        }
        Kind::Rnn => {
            let model = init(2, &device, |device| RnnBlockConfig::new(FEATURES, HIDDEN).init(device))?;
            let input = random([batch, TIME, FEATURES], &device);
            mean_square_step(Learner::new(model, adam()), move |model| {
                model.forward(input.clone(), None, None).0
            })
        }
        Kind::Gan => {
            let lr = 2e-4;
            let adam = || AdamConfig::new().with_betas([0.5, 0.999]).init().unwrap();
            let generator = init(2, &device, |device| GeneratorConfig::new(LATENT, PIXELS).init(device))?;
            let discriminator = init(3, &device, |device| DiscriminatorConfig::new(PIXELS).init(device))?;
            let mut generator = Learner::new(generator, adam());
            let mut discriminator = Learner::new(discriminator, adam());
            let (real, noise) = (random([batch, PIXELS], &device).tanh(), random([batch, LATENT], &device));
            let (ones, zeros) =
                (Tensor::<2, Int>::ones([batch, 1], &device), Tensor::<2, Int>::zeros([batch, 1], &device));
            let binary = BinaryCrossEntropyLossConfig::new().with_logits(true).init(&device);
            Box::new(move || {
                let fake = generator.model().forward(noise.clone());
                let judge = discriminator.model();
                let loss = binary.forward(judge.logits(real.clone()), ones.clone())
                    + binary.forward(judge.logits(fake.clone().detach()), zeros.clone());
                let first = loss.clone().detach();
                discriminator.step(loss, lr);
                let loss = binary.forward(discriminator.model().logits(fake), ones.clone());
                let second = loss.clone().detach();
                generator.step(loss, lr);
                vec![first, second]
            })
        }
        Kind::Attention => {
            let model = init(2, &device, |device| AttentionBlockConfig::new(HIDDEN).init(device))?;
            let (outputs, state) =
                (random([batch, TIME, HIDDEN], &device), random([batch, 1, HIDDEN], &device));
            mean_square_step(Learner::new(model, adam()), move |model| {
                // In a model they come from an encoder and a decoder, which learn by these gradients.
                let (outputs, state) = (outputs.clone().require_grad(), state.clone().require_grad());
                model.forward(outputs, state, None).0
            })
        }
        Kind::CnnEval => {
            let model = init(2, &device, |device| CnnConfig::new(CLASSES).init(device))?.valid();
            let images = random([batch, 3, SIDE, SIDE], &plain);
            Box::new(move || vec![model.forward(images.clone()).reshape([batch * CLASSES])])
        }
        Kind::Gemm => {
            let [left, right] = [random([batch, batch], &plain), random([batch, batch], &plain)]
                .map(|matrix| matrix.into_data().try_to_vec::<f32>().unwrap());
            let mut product = vec![0.0; batch * batch];
            Box::new(move || {
                multiply(batch, &left, &right, &mut product);
                vec![Tensor::from_data(TensorData::new(vec![product[0]], [1]), &plain)]
            })
        }
    })
}

/// The product of two square matrices, by the crate that the kernels and flex take for it, on all threads.
#[allow(unsafe_code, reason = "gemm has no other interface")]
fn multiply(size: usize, left: &[f32], right: &[f32], product: &mut [f32]) {
    assert!([left.len(), right.len(), product.len()] == [size * size; 3]);
    let parallelism = match rayon::current_num_threads() {
        1 => gemm::Parallelism::None,
        threads => gemm::Parallelism::Rayon(threads),
    };
    let (column, row) = (1, size as isize);
    // SAFETY: all three have size · size elements, which these strides do not leave; `product` is borrowed alone.
    unsafe {
        gemm::gemm(
            size,
            size,
            size,
            product.as_mut_ptr(),
            column,
            row,
            false,
            left.as_ptr(),
            column,
            row,
            right.as_ptr(),
            column,
            row,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// What a server says of one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answer {
    /// Seconds of a step: over the steps of this line.
    median: f64,
    mean: f64,
    /// The operations of a step in its matrix products, by [`Kind::flop`].
    flop: f64,
    /// The losses of the very first step, and of the latest; of `cnn-eval` the mean of the logits, of `gemm` an element.
    first: Vec<f64>,
    last: Vec<f64>,
    threads: usize,
    kernels: bool,
    /// How often a kernel passed its work to plain operations, since the start of the process.
    fallbacks: usize,
}

/// A step that has been warmed up.
struct Prepared {
    kind: Kind,
    batch: usize,
    step: Step,
    first: Vec<f64>,
}

fn read(values: Vec<Tensor<1>>) -> Vec<f64> {
    let mean = |tensor: Tensor<1>| f64::from(tensor.mean().into_scalar::<f32>());
    values.into_iter().map(mean).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

impl Prepared {
    fn new(kind: Kind, batch: usize) -> Result<Self, String> {
        let mut step = prepare(kind, batch).map_err(|error| error.to_string())?;
        let first = read(step());
        (1..WARM_UP).for_each(|_| drop(step()));
        Ok(Prepared { kind, batch, step, first })
    }

    fn run(&mut self, steps: usize) -> Answer {
        let mut times = Vec::with_capacity(steps);
        let mut last = Vec::new();
        for _ in 0..steps {
            let begun = Instant::now();
            last = (self.step)();
            times.push(begun.elapsed().as_secs_f64());
        }
        Answer {
            mean: times.iter().sum::<f64>() / steps as f64,
            median: median(times),
            flop: self.kind.flop(self.batch),
            first: self.first.clone(),
            last: read(last),
            threads: rayon::current_num_threads(),
            kernels: kernels::enabled(),
            fallbacks: kernels::fallbacks(),
        }
    }
}

fn parse(line: &str) -> Result<(Kind, usize, usize), String> {
    let wrong =
        || format!("expected a step, a batch size and a number of steps, such as `cnn 64 20`, got {line:?}");
    let [kind, batch, steps] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(wrong());
    };
    let kind = Kind::from_str(kind, false).map_err(|_| format!("no step {kind:?}"))?;
    let positive = |text: &str| text.parse().ok().filter(|&number| number > 0).ok_or_else(wrong);
    Ok((kind, positive(batch)?, positive(steps)?))
}

/// Answers lines until there are no more.
fn serve() {
    // As the examples do.
    Threads::detect().start().unwrap();
    // The peak is asked for between the steps of a model, which should not be made anew for that.
    let (mut current, mut peak): (Option<Prepared>, Option<Prepared>) = (None, None);
    for line in stdin().lock().lines() {
        let answer = parse(&line.unwrap()).and_then(|(kind, batch, steps)| {
            let place = if kind == Kind::Gemm { &mut peak } else { &mut current };
            if place.as_ref().is_none_or(|prepared| (prepared.kind, prepared.batch) != (kind, batch)) {
                *place = None;
                *place = Some(Prepared::new(kind, batch)?);
            }
            Ok(place.as_mut().unwrap().run(steps))
        });
        match answer {
            Ok(answer) => println!("{}", serde_json::to_string(&answer).unwrap()),
            Err(error) => println!("{}", serde_json::json!({ "error": error })),
        }
    }
}

/// A process of this program that answers.
struct Server {
    child: Child,
    lines: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    fn start(threads: usize, kernels: bool) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("--serve").env("RAYON_NUM_THREADS", threads.to_string());
        command.env("FIREBOX_KERNELS", if kernels { "on" } else { "off" });
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (lines, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Server { child, lines, answers };
        let answer = server.ask(Kind::Gemm, 1, 1);
        assert_eq!(
            (answer.threads, answer.kernels),
            (threads, kernels),
            "a server is not as it was asked to be"
        );
        server
    }

    fn ask(&mut self, kind: Kind, batch: usize, steps: usize) -> Answer {
        let request = format!("{} {batch} {steps}", kind.name());
        writeln!(self.lines, "{request}")
            .unwrap_or_else(|error| panic!("{request}: the server is gone: {error}"));
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Answer =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{request}: the server answered {line:?}"));
        let losses = [&answer.first[..], &answer.last].concat();
        assert!(losses.iter().all(|loss| loss.is_finite()), "{request}: a loss is not a number: {losses:?}");
        answer
    }

    /// How many steps take about as many seconds; warms the step up.
    fn steps(&mut self, kind: Kind, batch: usize, seconds: f64) -> usize {
        let once = self.ask(kind, batch, 1).median;
        ((seconds / once) as usize).clamp(1, MOST_STEPS)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its input, but nobody is left to close that before `wait`.
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

#[derive(Parser)]
#[command(name = "step", about = "Times single training steps with the kernels and without, by turns")]
struct Options {
    /// Which steps, separated by commas; all of them if none are named
    #[arg(long, value_enum, value_delimiter = ',')]
    steps: Vec<Kind>,
    /// Batch sizes, separated by commas; by default 16, 64 and 256, for cnn-eval 1 and 64
    #[arg(long, value_delimiter = ',', value_parser = positive)]
    batches: Vec<usize>,
    /// Numbers of threads, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = positive, default_value = "1,2")]
    threads: Vec<usize>,
    /// How often each is measured
    #[arg(long, value_parser = positive, default_value = "7")]
    rounds: usize,
    /// About how long a measurement is to take, 50 steps at most
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Three short rounds
    #[arg(long)]
    quick: bool,
    /// Answer lines of a step, a batch size and a number of steps
    #[arg(long)]
    serve: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "expected a number of at least 1".to_owned())
}

fn three_digits(value: f64) -> String {
    let digits = (2.0 - value.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

fn compare(options: &Options) {
    let (rounds, seconds) =
        if options.quick { (3, options.seconds / 3.0) } else { (options.rounds, options.seconds) };
    let kinds = match &options.steps[..] {
        [] => Kind::value_variants(),
        kinds => kinds,
    };
    println!(
        "| step | batch | threads | kernels, ms | off, ms | off / kernels | GFLOP | kernels, of gemm's peak |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut declined = BTreeSet::new();
    for &threads in &options.threads {
        let (mut on, mut off) = (Server::start(threads, true), Server::start(threads, false));
        for &kind in kinds.iter().filter(|&&kind| kind != Kind::Gemm) {
            let batches = if options.batches.is_empty() { kind.batches() } else { &options.batches };
            for &batch in batches {
                let before = on.ask(Kind::Gemm, PEAK, 1).fallbacks;
                let steps = [&mut on, &mut off].map(|server| server.steps(kind, batch, seconds));
                let (mut with, mut without, mut ratios, mut shares) = (vec![], vec![], vec![], vec![]);
                let mut flop = 0.0;
                for round in 0..rounds {
                    let mut times = [0.0; 2];
                    // Neither is always the first.
                    for which in [round % 2, 1 - round % 2] {
                        let server = if which == 0 { &mut on } else { &mut off };
                        let answer = server.ask(kind, batch, steps[which]);
                        (times[which], flop) = (answer.median, answer.flop);
                    }
                    let peak = on.ask(Kind::Gemm, PEAK, 3);
                    if peak.fallbacks > before {
                        declined.insert(kind.name());
                    }
                    shares.push(flop / times[0] / (peak.flop / peak.median));
                    ratios.push(times[1] / times[0]);
                    with.push(times[0]);
                    without.push(times[1]);
                }
                println!(
                    "| {} | {batch} | {threads} | {} | {} | {:.2} | {} | {:.0} % |",
                    kind.name(),
                    three_digits(1e3 * median(with)),
                    three_digits(1e3 * median(without)),
                    median(ratios),
                    three_digits(flop / 1e9),
                    100.0 * median(shares)
                );
            }
        }
        if kinds.contains(&Kind::Gemm) {
            let peaks = (0..rounds).map(|_| on.ask(Kind::Gemm, PEAK, 3)).map(|peak| peak.flop / peak.median);
            println!("| gemm | {PEAK} | {threads} | {:.0} GFLOP/s | | | | |", median(peaks.collect()) / 1e9);
        }
    }
    for name in declined {
        eprintln!("step: a kernel passed work of {name} to plain operations");
    }
}

fn main() {
    let options = Options::parse();
    if options.serve { serve() } else { compare(&options) }
}
