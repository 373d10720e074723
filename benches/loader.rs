//! The loader and the worker pool by themselves: throughput, latency, scaling, and the peers beside them.
//!
//!     cargo bench --bench loader
//!
//! Each figure is the median of several runs; where there is a peer, the runs alternate. The PyTorch and Python
//! peers need the environment that `benches/peers/compare` makes; without it they are left out, and it says so.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use firebox::data::burn_dataset::{Dataset, DatasetError};
use firebox::data::{Loader, Scalar, Stack, fashion_mnist};
use firebox::workers::Pool;
use rayon::prelude::*;
use serde_json::Value;

const RUNS: usize = 7;

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

type Images = (Stack<f32, 3>, Scalar<i64>);

fn images(workers: usize) -> Loader<Images> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/fashion-mnist");
    Loader::builder(fashion_mnist::train(folder).unwrap())
        .shuffle(true)
        .batch_size(64)
        .workers(workers)
        .build((Stack::new([1, 28, 28]), Scalar::new()), |image, _, (pixels, class)| {
            for (to, from) in std::iter::zip(pixels, &image.pixels[..]) {
                *to = (f32::from(*from) / 255.0 - fashion_mnist::MEAN) / fashion_mnist::STD;
            }
            *class = i64::from(image.label);
            Ok(())
        })
        .unwrap()
}

/// Items that are their own index, after a while.
struct Virtual {
    len: usize,
    delay: fn(usize) -> Duration,
}

impl Dataset<usize> for Virtual {
    fn get(&self, index: usize) -> Result<usize, DatasetError> {
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

fn fashion() {
    println!("Fashion-MNIST, normalised to f32, batches of 64, an epoch of 60,000:");
    let bare = images(0);
    for workers in [1, 2] {
        let loader = images(workers);
        let (with, without) =
            alternate(|| assert_eq!(loader.epoch(0).count(), 938), || assert_eq!(bare.epoch(0).count(), 938));
        println!(
            "  {workers} workers {:.0} samples/s, without workers {:.0}: {:.2} times",
            60_000.0 / with,
            60_000.0 / without,
            without / with
        );
    }
    let loader = images(2);
    let first = (0..RUNS).map(|_| seconds(|| drop(loader.epoch(0).next()))).collect();
    println!("  first batch after {:.2} ms", 1e3 * median(first));
}

fn trillion() {
    let len = 1_000_000_000_000;
    let loader = numbers(len, |_| Duration::ZERO, 1, 64, 4);
    let first = (0..RUNS).map(|_| seconds(|| drop(loader.epoch(0).next()))).collect();
    let mut state = loader.state(0);
    state.batch = loader.batches(0) / 2;
    let middle = (0..RUNS).map(|_| seconds(|| drop(loader.resume(&state).unwrap().next()))).collect();
    println!(
        "10^12 virtual samples, shuffled: first batch after {:.3} ms, resumed in the middle after {:.3} ms",
        1e3 * median(first),
        1e3 * median(middle)
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
    (0..4_000u64).fold(seed, |hash, word| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
}

fn pool() {
    let one = median(
        (0..RUNS)
            .map(|_| seconds(|| (0..1000).for_each(|task| _ = std::hint::black_box(spin(task)))))
            .collect(),
    ) / 1e3;
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
    let small =
        median((0..3).map(|_| seconds(|| drop(pool.map(|x: u64| x + 1, 0..1_000_000).unwrap()))).collect());
    println!("a million tasks x + 1: {small:.2} s");
    for (name, figure) in peers() {
        match name.as_str() {
            "multiprocessing_pool_s" | "concurrent_futures_s" => {
                println!(
                    "  Python's {}: {figure:.2} s, {:.1} times as long",
                    name.trim_end_matches("_s"),
                    figure / small
                );
            }
            _ => println!("  PyTorch's DataLoader on Fashion-MNIST, {name}: {figure:.0}"),
        }
    }
}

/// What the Python peers need, by name.
fn peers() -> Vec<(String, f64)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let python = folder.join(".venv/bin/python");
    if !python.exists() {
        println!("  the Python peers are left out: benches/peers/compare makes their environment");
        return Vec::new();
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
    fashion();
    trillion();
    waiting();
    pool();
}
