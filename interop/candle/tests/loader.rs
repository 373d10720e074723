//! What the loader promises, seen by candle: every sample once, one order, a resume anywhere, memory that
//! comes back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use candle_core::{Device, Tensor};
use firebox_candle::InputTensor;
use firebox_data::collate::Stacked;
use firebox_data::elements::Elements;
use firebox_data::{Error, Loader, LoaderState, Scalar, Stack};

const SAMPLES: usize = 100;
const BATCH: usize = 8;

type Layout = (Stack<f32, 3>, Scalar<u32>);

/// Samples that hold their number and random bits, in random order; the last batch is short.
fn loader(workers: usize) -> Loader<Layout> {
    Loader::builder((0..SAMPLES as u32).collect::<Vec<_>>())
        .shuffle(true)
        .seed(7)
        .batch_size(BATCH)
        .workers(workers)
        .build((Stack::new([3, 2, 2]), Scalar::new()), |number, rng, (pixels, label)| {
            pixels.fill_with(|| number as f32 + rng.uniform() / 2.0);
            *label = number;
            Ok(())
        })
        .unwrap()
}

type Batch = Result<(Stacked<f32, 3>, Elements<u32>), Error>;

/// The samples of a batch, by way of two tensors: their numbers, and their elements.
fn through_tensors(input: &mut InputTensor, batch: Batch) -> Vec<(u32, Vec<f32>)> {
    let (pictures, labels) = batch.unwrap();
    let count = labels.len();
    let pictures = input.load(pictures).unwrap();
    assert_eq!(pictures.dims(), [count, 3, 2, 2]);
    let labels = Tensor::from_vec(labels.into_vec(), count, &Device::Cpu).unwrap();
    let pictures = pictures.flatten_from(1).unwrap();
    std::iter::zip(labels.to_vec1().unwrap(), pictures.to_vec2().unwrap()).collect()
}

fn all(batches: impl Iterator<Item = Batch>) -> Vec<(u32, Vec<f32>)> {
    let mut input = InputTensor::new();
    batches.flat_map(|batch| through_tensors(&mut input, batch)).collect()
}

/// The samples of an epoch, made without a tensor.
fn expected(epoch: u64) -> Vec<(u32, Vec<f32>)> {
    let batches = loader(0);
    let batches = batches.epoch(epoch).map(Result::unwrap);
    let samples = batches.flat_map(|(pictures, labels)| {
        let pictures: Vec<_> = pictures.values.chunks(12).map(<[f32]>::to_vec).collect();
        std::iter::zip(labels, pictures)
    });
    samples.collect()
}

#[test]
fn two_epochs_arrive_whole_and_alike_with_any_number_of_workers() {
    for workers in [0, 1, 2] {
        let loader = loader(workers);
        for epoch in 0..2 {
            let samples = all(loader.epoch(epoch));
            assert_eq!(samples, expected(epoch), "{workers} workers, epoch {epoch}");
            let numbers: BTreeSet<_> = samples.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers.len(), SAMPLES);
            let is_of = |number, pixel: &f32| pixel.floor() == number as f32;
            assert!(samples.iter().all(|(number, pixels)| pixels.iter().all(|pixel| is_of(*number, pixel))));
        }
    }
    assert_ne!(expected(0), expected(1));
}

#[test]
fn an_interrupted_epoch_goes_on_where_it_was() {
    let whole = expected(1);
    for (before, after) in [(2, 2), (2, 0), (1, 2)] {
        for stop in 0..=SAMPLES.div_ceil(BATCH) {
            let first = loader(before);
            let mut epoch = first.epoch(1);
            let mut samples = all(epoch.by_ref().take(stop));
            let text = serde_json::to_string(&epoch.state()).unwrap();
            drop(epoch);
            let state: LoaderState = serde_json::from_str(&text).unwrap();
            samples.extend(all(loader(after).resume(&state).unwrap()));
            assert_eq!(samples, whole, "stopped after {stop} batches, {before} workers and then {after}");
        }
    }
}

#[test]
fn what_the_tensor_held_before_is_memory_of_a_later_batch() {
    const ROOM: usize = 10_000;
    // Memory that can be told from any that the loader would ask for.
    let mut values = Vec::with_capacity(ROOM);
    values.resize(BATCH * 12, 0.0f32);
    let mut input = InputTensor::new();
    input.load(Stacked { values: values.into(), samples: BATCH, shape: [3, 2, 2] }).unwrap();

    let loader = loader(0);
    let mut epoch = loader.epoch(0);
    let mut next = || epoch.next().unwrap().unwrap().0;
    input.load(next()).unwrap();
    let room = next().values.into_vec().capacity();
    assert!(room >= ROOM, "room for {room} elements");
    // What its owner keeps doesn't come back.
    let room = next().values.into_vec().capacity();
    assert!(room < ROOM, "room for {room} elements");
}

#[test]
fn a_tensor_of_another_shape_or_type_is_another_tensor() {
    let mut input = InputTensor::new();
    let batch = |values: Vec<f32>, samples| Stacked { values: values.into(), samples, shape: [2] };
    let first = input.load(batch(vec![1.0, 2.0, 3.0, 4.0], 2)).unwrap().clone();
    let short = input.load(batch(vec![5.0, 6.0], 1)).unwrap().clone();
    assert_eq!(short.to_vec2::<f32>().unwrap(), [[5.0, 6.0]]);
    let whole = input.load(Stacked { values: vec![7u32, 8].into(), samples: 1, shape: [2] }).unwrap().clone();
    assert_eq!(whole.to_vec2::<u32>().unwrap(), [[7, 8]]);
    // Those before hold what they held; in place is only what has the same shape and type.
    assert_eq!(first.to_vec2::<f32>().unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
    assert_eq!(short.to_vec2::<f32>().unwrap(), [[5.0, 6.0]]);
    input.load(Stacked { values: vec![9u32, 10].into(), samples: 1, shape: [2] }).unwrap();
    assert_eq!(whole.to_vec2::<u32>().unwrap(), [[9, 10]]);
}
