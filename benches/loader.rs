//! The loader and the worker pool by themselves: throughput, latency, scaling, and the peers beside them.
//!
//!     cargo bench --bench loader
//!
//! Each figure is the median of several runs; where there is a peer, the runs alternate. The PyTorch and
//! Python peers need the environment that `benches/peers/compare` makes; without it they are left out, and it
//! says so.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::iter::zip;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::tensor::Device;
use firebox::data::collate::StackWhole;
use firebox::data::dataset::IntoBurn;
use firebox::data::formats::fashion_mnist;
use firebox::data::formats::idx::{LabelledImage, LabelledImages};
use firebox::data::sampler::{BatchSampler, Bucketed, Sampler, Shuffled, WeightedWithoutReplacement};
use firebox::data::{BoxError, Dataset, Loader, Scalar};
use firebox::workers::{Pool, WorkersExt as _};
use rayon::prelude::*;
use serde_json::Value;

const RUNS: usize = 15;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

/// Alternates two works and gives the median seconds of each.
fn alternate(mut a: impl FnMut(), mut b: impl FnMut()) -> (f64, f64) {
    let pairs: Vec<_> = (0..RUNS).map(|_| (seconds(&mut a), seconds(&mut b))).collect();
    (median(pairs.iter().map(|pair| pair.0).collect()), median(pairs.iter().map(|pair| pair.1).collect()))
}

type Images = (StackWhole<f32, 3>, Scalar<i64>);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/fashion-mnist")
}

/// One copy in memory, whoever loads it.
fn fashion() -> LabelledImages {
    static IMAGES: LazyLock<LabelledImages> = LazyLock::new(|| fashion_mnist::train(folder()).unwrap());
    IMAGES.clone()
}

fn normalised(pixel: &u8) -> f32 {
    (f32::from(*pixel) / 255.0 - fashion_mnist::MEAN) / fashion_mnist::STD
}

fn images(workers: usize) -> Loader<Images> {
    Loader::builder(fashion())
        .shuffle(true)
        .batch_size(64)
        .workers(workers)
        .build((StackWhole::new([1, 28, 28]), Scalar::new()), |image, _, (mut pixels, class)| {
            *class = i64::from(image.label);
            pixels.fill(image.pixels.iter().map(normalised))
        })
        .unwrap()
}

/// Items that are their own index, after a while.
struct Virtual {
    len: usize,
    delay: fn(usize) -> Duration,
}

impl Dataset for Virtual {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        let delay = (self.delay)(index);
        if !delay.is_zero() {
            sleep(delay);
        }
        Ok(index)
    }

    fn len(&self) -> usize {
        self.len
    }
}

fn numbers(
    len: usize,
    delay: fn(usize) -> Duration,
    workers: usize,
    batch: usize,
    prefetch: usize,
) -> Loader<Scalar<usize>> {
    Loader::builder(Virtual { len, delay })
        .shuffle(true)
        .batch_size(batch)
        .workers(workers)
        .prefetch(prefetch)
        .build(Scalar::new(), |index, _, slot| {
            *slot = index;
            Ok(())
        })
        .unwrap()
}

/// Burn's own loader of the same images, with the same arithmetic: its batcher writes into one buffer, too.
struct Normalise;

impl Batcher<LabelledImage, (Vec<f32>, Vec<i64>)> for Normalise {
    fn batch(&self, items: Vec<LabelledImage>, _: &Device) -> (Vec<f32>, Vec<i64>) {
        let mut values = vec![0.0; items.len() * 28 * 28];
        for (pixels, image) in values.chunks_exact_mut(28 * 28).zip(&items) {
            zip(pixels, &image.pixels[..]).for_each(|(to, from)| *to = normalised(from));
        }
        (values, items.iter().map(|image| i64::from(image.label)).collect())
    }
}

fn burns(workers: usize) -> Arc<dyn DataLoader<(Vec<f32>, Vec<i64>)>> {
    let builder = DataLoaderBuilder::new(Normalise).batch_size(64).shuffle(0).num_workers(workers);
    builder.build(IntoBurn::new(fashion()))
}

fn images_per_second() {
    println!("Fashion-MNIST, normalised to f32, batches of 64, an epoch of 60,000:");
    for workers in [0, 1, 2] {
        let (ours, theirs) = (images(workers), burns(workers));
        let (firebox, burn) = alternate(
            || assert_eq!(ours.epoch(0).count(), 938),
            // Burn gives each of its workers a part of the data set, with a short batch at the end of each.
            || assert!((938..941).contains(&theirs.iter().count())),
        );
        println!(
            "  {workers} workers: {:.0} samples/s; Burn's loader {:.0}: {:.2} times as many",
            60_000.0 / firebox,
            60_000.0 / burn,
            burn / firebox
        );
    }
    let loader = images(2);
    let first = (0..RUNS).map(|_| seconds(|| drop(loader.epoch(0).next()))).collect();
    println!("  first batch after {:.2} ms", 1e3 * median(first));
}

/// The memory that this process has in use, in kB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim_end_matches("kB").trim().parse().ok()).unwrap_or(f64::NAN)
}

fn trillion() {
    let len = 1_000_000_000_000;
    let before = resident();
    let loader = numbers(len, |_| Duration::ZERO, 1, 64, 4);
    let first = (0..RUNS).map(|_| seconds(|| drop(loader.epoch(0).next()))).collect();
    let mut state = loader.state(0);
    state.batch = loader.batches(0).unwrap_or(0) / 2;
    let middle = (0..RUNS).map(|_| seconds(|| drop(loader.resume(&state).unwrap().next()))).collect();
    println!(
        "10^12 virtual samples, shuffled: first batch after {:.3} ms, resumed in the middle after {:.3} ms, {:.0} kB",
        1e3 * median(first),
        1e3 * median(middle),
        resident() - before
    );
}

/// How fast a resume makes the plan of an epoch that has one.
fn plans() {
    let items = 10_000_000;
    let weights: Vec<f64> = (0..items).map(|item| 1.0 + (item % 7) as f64).collect();
    // From 1 to 512, about as random as a hash.
    let length = |item: usize| 1 + ((item as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55) as u32;
    let lengths: Arc<[u32]> = (0..items).map(length).collect();
    let once = WeightedWithoutReplacement::new(weights, items, 1).unwrap();
    let order = || Shuffled::new(items, 2);
    let by_length = Bucketed::by_length(order(), Arc::clone(&lengths), 64, 1).unwrap();
    let by_tokens = Bucketed::by_tokens(order(), lengths, 16_384, 1).unwrap();
    let rate = |plan: &dyn Fn(u64) -> usize| {
        items as f64 / median((0..5).map(|epoch| seconds(|| _ = black_box(plan(epoch)))).collect()) / 1e6
    };
    println!(
        "plans of 10 million items, million items/s: weighted without replacement {:.1}, by length {:.1}, by tokens {:.1}",
        rate(&|epoch| once.index(epoch, 0)),
        rate(&|epoch| BatchSampler::index(&by_length, epoch, 0)),
        rate(&|epoch| BatchSampler::index(&by_tokens, epoch, 0)),
    );
}

fn waiting() {
    println!("samples that wait 1 ms each, batches of 8:");
    for workers in [1, 4, 16, 64] {
        let samples = 400 * workers;
        let loader = numbers(samples, |_| Duration::from_millis(1), workers, 8, 4 * workers);
        let took =
            median((0..3).map(|_| seconds(|| assert!(loader.epoch(0).all(|batch| batch.is_ok())))).collect());
        // What one thread that does nothing else needs for a wait of 1 ms here.
        let wait = median(
            (0..3).map(|_| seconds(|| (0..100).for_each(|_| sleep(Duration::from_millis(1))))).collect(),
        ) / 100.0;
        let perfect = workers as f64 / wait;
        println!(
            "  {workers:>2} workers: {:.0} samples/s, {:.1} % of perfect",
            samples as f64 / took,
            100.0 * samples as f64 / took / perfect
        );
    }
    let delay = |index: usize| Duration::from_millis(if index % 1000 == 7 { 50 } else { 1 });
    let samples = 16_000;
    let loader = numbers(samples, delay, 4, 64, 8);
    let took = seconds(|| assert!(loader.epoch(0).all(|batch| batch.is_ok())));
    let bare = seconds(|| (0..1000).for_each(|index| sleep(delay(index)))) / 1000.0;
    println!(
        "one in a thousand waits 50 ms, 4 workers, batches of 64, prefetch 8: {:.1} % of what the mean allows",
        100.0 * samples as f64 / took * bare / 4.0
    );
}

/// Work that takes about ten microseconds.
fn spin(seed: u64) -> u64 {
    (0..7_000u64).fold(seed, |hash, word| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
}

fn pool() {
    let one =
        median((0..RUNS).map(|_| seconds(|| (0..1000).for_each(|task| _ = black_box(spin(task))))).collect())
            / 1e3;
    let pool = Pool::threads(2).unwrap();
    let tasks = 20_000;
    let (ours, rayons) = alternate(
        || drop(pool.map(spin, 0..tasks).unwrap()),
        || drop((0..tasks).into_par_iter().map(spin).collect::<Vec<_>>()),
    );
    println!(
        "{tasks} tasks of {:.1} µs: Pool::map takes {:.2} times as long as rayon's par_iter",
        1e6 * one,
        ours / rayons
    );
}

/// Python's loader and pools, three times in turn with ours.
fn python() {
    let (pool, loaders) = (Pool::threads(2).unwrap(), [images(0), images(2)]);
    let mut runs: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for _ in 0..3 {
        for (name, theirs) in peers() {
            let ours = match name.as_str() {
                "samples/s with 0 workers" => {
                    60_000.0 / seconds(|| assert_eq!(loaders[0].epoch(0).count(), 938))
                }
                "samples/s with 2 workers" => {
                    60_000.0 / seconds(|| assert_eq!(loaders[1].epoch(0).count(), 938))
                }
                _ => seconds(|| drop(pool.map(|x: u64| x + 1, 0..1_000_000).unwrap())),
            };
            runs.entry(name).or_default().push((ours, theirs));
        }
    }
    println!("Python's, medians of three runs in turn with ours:");
    for (name, pairs) in runs {
        let ours = median(pairs.iter().map(|pair| pair.0).collect());
        let theirs = median(pairs.iter().map(|pair| pair.1).collect());
        match name.contains("samples/s") {
            true => {
                println!("  DataLoader, {name}: {theirs:.0}; firebox {ours:.0}: {:.0} times", ours / theirs)
            }
            false => println!(
                "  a million tasks x + 1, {name}: {theirs:.2}; Pool::map {ours:.3}: {:.0} times as fast",
                theirs / ours
            ),
        }
    }
}

type Peers = BTreeMap<String, f64>;

/// The packages that the Python peers need.
fn peers() -> Peers {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let python = folder.join(".venv/bin/python");
    if !python.exists() {
        println!("  the Python peers are left out: benches/peers/compare makes their environment");
        return Peers::new();
    }
    let output = Command::new(python).arg(folder.join("loader.py")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    match serde_json::from_str(text.lines().last().unwrap_or_default()) {
        Ok(Value::Object(figures)) => {
            figures.into_iter().filter_map(|(name, figure)| Some((name, figure.as_f64()?))).collect()
        }
        _ => panic!("loader.py failed: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn main() {
    images_per_second();
    trillion();
    plans();
    waiting();
    pool();
    python();
}
