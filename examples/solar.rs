//! Finds defective solar cells: a classifier of two classes, from a folder of pictures and a table of labels.
//!
//!     cargo run --release --example solar -- FOLDER
//!
//! A line of `FOLDER/labels.csv` has a picture's file and how likely it shows a defect, between commas or
//! spaces: `images/cell0001.png 1.0`. So has the data set ELPV
//! (<https://github.com/zae-bayern/elpv-dataset>).
//!
//! In a crate of its own this file, as `src/main.rs`, needs:
//!
//! ```toml
//! [dependencies]
//! firebox = "0.1"
//! image = { version = "0.25", default-features = false, features = ["png", "jpeg"] }
//! ```

#![allow(clippy::print_stdout, reason = "a program talks to its user")]

use std::path::{Path, PathBuf};

use firebox::burn::tensor::{Device, Int, Tensor};
use firebox::data::{BoxError, Dataset, dataset::Location};
use firebox::models::layers::{ConvBlock, ConvBlockConfig, Flatten, Linear, LinearBlock, LinearBlockConfig};
use firebox::models::layers::{LinearConfig, MaxPooling, MaxPoolingConfig, Sequential};
use firebox::prelude::*;
use firebox::report::LiveReport;
use firebox::train::run::Interrupt;
use firebox::train::task::Goal;
use firebox::train::tasks::ClassMetric;
use image::GrayImage;
use image::imageops::{self, FilterType};

/// Height and width that pictures are brought to.
const SIZE: usize = 64;

/// A picture, and whether it shows a defect.
type Cell = (GrayImage, bool);

/// The files of pictures with their labels; the workers read them.
struct Cells(Vec<(PathBuf, bool)>);

impl Cells {
    fn open(folder: &Path) -> Result<Self, BoxError> {
        let table = std::fs::read_to_string(folder.join("labels.csv"))?;
        let cell = |line: &str| {
            let mut fields = line.split([',', ' ']).filter(|field| !field.is_empty());
            let (file, defect) = (fields.next()?, fields.next()?.parse::<f64>().ok()?);
            Some((folder.join(file), defect >= 0.5))
        };
        let cells = table.lines().map(|line| cell(line).ok_or(format!("labels.csv: not a cell: {line}")));
        Ok(Cells(cells.collect::<Result<_, _>>()?))
    }
}

impl Dataset for Cells {
    type Item = Cell;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Cell, BoxError> {
        let (file, defect) = &self.0[index];
        let picture = image::open(file)?.into_luma8();
        Ok((imageops::resize(&picture, SIZE as u32, SIZE as u32, FilterType::Triangle), *defect))
    }

    /// For errors: a picture that can't be read is named.
    fn locate(&self, index: usize) -> Option<Location> {
        self.0.as_slice().get(index).map(|(file, _)| Location::file(file))
    }
}

/// Mirrors or turns three of four pictures: a cell has no right way up.
fn turned((picture, defect): Cell, rng: &mut SampleRng) -> Result<Cell, BoxError> {
    let picture = match rng.below(4) {
        0 => imageops::flip_horizontal(&picture),
        1 => imageops::flip_vertical(&picture),
        2 => imageops::rotate90(&picture),
        _ => picture,
    };
    Ok((picture, defect))
}

fn batches(
    cells: impl Dataset<Item = Cell>,
    train: bool,
    device: &Device,
) -> Result<impl Batches<Batch = (Tensor<4>, Tensor<1, Int>)>, BoxError> {
    let builder = Loader::builder(cells).shuffle(train).seed(42).batch_size(32);
    let builder = builder.map(move |cell, rng| if train { turned(cell, rng) } else { Ok(cell) });
    let layout = (Stack::<f32, 3>::new([1, SIZE, SIZE]), Scalar::<i64>::new());
    let loader = builder.build(layout, |(picture, defect): Cell, _rng, (pixels, class)| {
        pixels.iter_mut().zip(picture.as_raw()).for_each(|(to, from)| *to = f32::from(*from) / 128.0 - 1.0);
        *class = i64::from(defect);
        Ok(())
    })?;
    Ok(loader.on_device(device)?)
}

type Convs = Sequential<(ConvBlock, MaxPooling, ConvBlock, MaxPooling, ConvBlock, MaxPooling)>;
type Net = Sequential<(Convs, Flatten, LinearBlock, Linear)>;

fn net(device: &Device) -> Result<Net, BoxError> {
    let conv = |from, to| ConvBlockConfig::new(from, to, 3).with_padding(1).init(device);
    let pool = || MaxPoolingConfig::new(2).init();
    let convs = (conv(1, 16)?, pool()?, conv(16, 32)?, pool()?, conv(32, 64)?, pool()?);
    let hidden = LinearBlockConfig::new(64 * (SIZE / 8) * (SIZE / 8), 64).init(device)?;
    let output = LinearConfig::new(64, 2).init(device)?;
    Ok(Sequential::new((Sequential::new(convs), Flatten::new(), hidden, output)))
}

fn main() -> Result<(), BoxError> {
    let folder = std::env::args().nth(1).ok_or("usage: solar FOLDER")?;
    Threads::detect().start()?;
    let (device, autodiff) = (Device::default(), Device::default().autodiff());
    let cells = Cells::open(Path::new(&folder))?;
    let fifth = cells.len() / 5;
    let (train, valid) = random_split(cells, fifth, 42)?;
    let (train, valid) = (batches(train, true, &autodiff)?, batches(valid, false, &device)?);

    // The checkpoint with the best AUROC is kept: the accuracy says little where defects are rare.
    let learner = Learner::new(init(42, &autodiff, net)?, AdamConfig::new().init()?);
    let mut task = Classification::<Net, Tensor<4>>::new(learner)
        .with_metric(ClassMetric::auroc().in_evaluations_only())?
        .monitor("auroc", Goal::Maximize)?;
    let run = RunDir::create_under("runs", "solar")?;
    let trainer = Trainer::new(&run, &device).epochs(8).interrupt(Interrupt::on_signals()?);
    let schedule = OneCycle::new(3e-3, trainer.steps(&train)?)?;
    let trainer = trainer.schedule(schedule).callback(LiveReport::new(&run, "Solar cells"));
    let mut trainer = trainer.callback(Progress::new());
    trainer.fit(&mut task, &train, &valid)?;

    task.load(&run.checkpoints().best()?.1)?;
    let best = trainer.evaluate(&valid, "best", task.evaluator())?;
    let values: Vec<_> = best.metrics.values().collect();
    println!("best checkpoint: {values:.4?}, report: {}", run.report().display());
    Ok(())
}
