//! The judge's opinion of samples from elsewhere.

use std::path::Path;
use std::process::ExitCode;

use burn::tensor::{Device, Tensor, TensorData};
use firebox::data::BoxError;
use firebox::prelude::*;
use firebox::weights::StateDict;
use firebox_cli::{Settings, ThreadArgs, say};
use serde_json::Value;

use crate::Recipe;
use crate::batches::Labelled;
use crate::images::Data;
use crate::judge::load;
use crate::score::Score;

/// Judges the samples in a file.
pub(crate) fn score_file(settings: &Settings<'_, Recipe>, file: &Path) -> Result<ExitCode, BoxError> {
    let run = settings.existing()?;
    let free = [&ThreadArgs::FIELDS[..], &["backend", "data_dir"]].concat();
    settings.only("--score", &free)?;
    let recipe = settings.of_run(&free)?;
    let device = recipe.common.start()?;
    let images = Data::open(&recipe)?.test;
    let mut score = Score::new(load(run.path(), &device)?);
    let samples = samples(file, images.count()?, &device)?;
    let tests = recipe.common.threads.loader(Labelled { images, for_judge: false })?.on_device(&device)?;
    let mut place = 0;
    for batch in tests.epoch(0) {
        let real = batch?;
        let [count, ..] = real.0.dims();
        score.add(real, samples.clone().narrow(0, place, count))?;
        place += count;
    }
    say(Value::Object(score.summary()).to_string());
    Ok(ExitCode::SUCCESS)
}

/// Samples from a file: `samples`, `[expected, 1, 28, 28]` or `[expected, 784]`.
fn samples(file: &Path, expected: usize, device: &Device) -> Result<Tensor<4>, BoxError> {
    let refused = |text: String| format!("{}: {text}", file.display());
    let tensors = StateDict::read(file)?;
    let data = tensors.get("samples").ok_or_else(|| refused("expected a tensor samples".to_owned()))?;
    let shape = data.shape().to_vec();
    if shape.first() != Some(&expected) || shape.iter().product::<usize>() != expected * 784 {
        return Err(refused(format!("samples: expected shape [{expected}, 1, 28, 28], got {shape:?}")).into());
    }
    let values: Vec<_> = data.to_f64_vec().into_iter().map(|value| value as f32).collect();
    if let Some(wrong) = values.iter().find(|value| !(-1.0..=1.0).contains(*value)) {
        return Err(refused(format!("samples: expected numbers from -1 to 1, got {wrong}")).into());
    }
    Ok(Tensor::from_data(TensorData::new(values, [expected, 1, 28, 28]), device))
}
