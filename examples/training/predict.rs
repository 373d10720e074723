//! The classes that a network sees in a picture of the user's own.

use std::path::Path;
use std::process::ExitCode;

use burn::tensor::{Tensor, TensorData};
use firebox::data::BoxError;
use firebox::data::formats::fashion_mnist;
use firebox::data::formats::idx::LabelledImage;
use firebox::prelude::*;
use firebox_cli::{Settings, load_best, say};
use image::imageops::{self, FilterType};
use image::{GrayImage, ImageReader};

use crate::images::sample;
use crate::{Recipe, task};

/// Prints what a picture shows.
pub(crate) fn predict(settings: &Settings<'_, Recipe>, picture: &Path) -> Result<ExitCode, BoxError> {
    let run = settings.existing()?;
    settings.only("--predict", &["backend"])?;
    let recipe = settings.of_run(&["backend"])?;
    let device = recipe.common.backend.device()?;
    let mut task = task(&recipe, &device)?;
    load_best(&run, &mut task)?;

    let image = LabelledImage { pixels: read(picture)?.into_raw().into(), label: 0 };
    let mut pixels = vec![0.0; 28 * 28];
    sample(false)(image, &mut SampleRng::from_seed(0), (&mut pixels, &mut 0))?;
    let input = Tensor::<4>::from_data(TensorData::new(pixels, [1, 1, 28, 28]), &device);
    let mut ranked: Vec<_> = task.probabilities(input)?.into_iter().zip(fashion_mnist::CLASSES).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (probability, class) in ranked.iter().take(3) {
        say(format!("{class:<12} {:5.1} %", 100.0 * probability));
    }
    Ok(ExitCode::SUCCESS)
}

/// A picture as the network knows pictures: 28 by 28 grey values, bright clothes on black.
fn read(picture: &Path) -> Result<GrayImage, BoxError> {
    let unreadable = |error: &dyn std::fmt::Display| format!("{}: {error}", picture.display());
    // Its contents tell its format, not its name.
    let file =
        ImageReader::open(picture).and_then(ImageReader::with_guessed_format).map_err(|e| unreadable(&e))?;
    if file.format().is_none() {
        return Err(unreadable(&"not a PNG or JPEG picture").into());
    }
    let image = file.decode().map_err(|e| unreadable(&e))?;
    let mut image = imageops::resize(&image.to_luma8(), 28, 28, FilterType::Triangle);
    // A picture with a bright border is one of dark clothes on white.
    let border = image.enumerate_pixels().filter(|(x, y, _)| [0, 27].contains(x) || [0, 27].contains(y));
    let (sum, count) =
        border.fold((0u32, 0), |(sum, count), (_, _, pixel)| (sum + u32::from(pixel[0]), count + 1));
    if sum > 127 * count {
        imageops::invert(&mut image);
    }
    Ok(image)
}
