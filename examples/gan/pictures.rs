//! Pictures of samples.

use std::io::Cursor;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use firebox::data::BoxError;
use firebox::models::gan::Logits;
use firebox::prelude::*;
use firebox::report::Picture;
use firebox::train::event::Event;
use firebox::train::tasks::Adversarial;
use image::{GrayImage, ImageFormat};

use crate::Recipe;
use crate::judge::as_images;

/// Numbers from the normal distribution.
pub(crate) fn normal(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// The noise of all pictures of a run.
fn noise(samples: usize, recipe: &Recipe, device: &Device) -> Tensor<2> {
    device.seed(recipe.common.seed());
    normal([samples, recipe.latent], device)
}

/// Writes a picture of samples from the same noise again and again, one an epoch.
pub(crate) struct Grids<G> {
    run: RunDir,
    noise: Tensor<2>,
    /// Any generator of the run, for the weights of a checkpoint.
    like: G,
}

impl<G> Grids<G> {
    pub(crate) fn new(run: &RunDir, recipe: &Recipe, like: G, device: &Device) -> Self {
        Grids { run: run.clone(), noise: noise(80, recipe, device), like }
    }

    /// `epoch-N.png`, of what the generator makes after so many epochs.
    pub(crate) fn write<D, const R: usize>(&self, event: &Event<'_>) -> Result<(), BoxError>
    where
        G: Module + Forward<Tensor<2>, Output = Tensor<R>>,
        D: Module + Logits<Tensor<R>>,
    {
        let Event::Saving { state, task } = event else { return Ok(()) };
        let Some(epoch) = state.trained_epochs() else { return Ok(()) };
        let generator = Adversarial::<G, D, R>::generator_of(task, self.like.clone())?;
        let samples = as_images(generator.forward(self.noise.clone()));
        save(&grid(&samples, 10)?, &self.run, &format!("epoch-{epoch:03}.png"))
    }
}

/// Writes `best.png`, samples of a generator, and `interpolation.png`, the ways between some of them.
pub(crate) fn write<const R: usize>(
    run: &RunDir,
    recipe: &Recipe,
    device: &Device,
    generate: impl Fn(Tensor<2>) -> Tensor<R>,
) -> Result<(), BoxError> {
    let samples = as_images(generate(noise(80, recipe, device)));
    save(&grid(&samples, 10)?, run, "best.png")?;
    let strip = as_images(generate(interpolation(noise(9, recipe, device), 10)?));
    save(&grid(&strip, 10)?, run, "interpolation.png")
}

/// Writes a picture of samples into a run's folder.
fn save(picture: &GrayImage, run: &RunDir, name: &str) -> Result<(), BoxError> {
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(run.write_sample(name, png.get_ref())?)
}

/// Images from -1 to 1 in rows of so many.
fn grid(samples: &Tensor<4>, columns: usize) -> Result<GrayImage, BoxError> {
    let [count, _, height, width] = samples.dims();
    let values = samples.clone().try_into_vec_as::<f32>()?;
    let rows = count.div_ceil(columns);
    let mut picture = GrayImage::new((columns * width) as u32, (rows * height) as u32);
    for (place, &value) in values.iter().enumerate() {
        let (sample, pixel) = (place / (height * width), place % (height * width));
        let x = sample % columns * width + pixel % width;
        let y = sample / columns * height + pixel / width;
        let shade = ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
        picture.put_pixel(x as u32, y as u32, [shade].into());
    }
    Ok(picture)
}

/// Noise on the way from each one to the next, in so many places, both ends included.
///
/// The way is along a great circle: all that lies straight between two points of a normal distribution in
/// many dimensions is nearer to 0 than its points ever are.
fn interpolation(noise: Tensor<2>, places: usize) -> Result<Tensor<2>, BoxError> {
    let ([samples, latent], device) = (noise.dims(), noise.device());
    let values = noise.try_into_vec_as::<f32>()?;
    let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    let mut all = Vec::new();
    for pair in values.chunks(latent).collect::<Vec<_>>().windows(2) {
        let dot: f32 = pair[0].iter().zip(pair[1]).map(|(a, b)| a * b).sum();
        let angle = (dot / (norm(pair[0]) * norm(pair[1]))).clamp(-1.0, 1.0).acos();
        for place in 0..places {
            let t = place as f32 / (places.max(2) - 1) as f32;
            let (from, to) = match angle.sin() {
                // The same direction, or none.
                sine if sine.abs() < 1e-6 => (1.0 - t, t),
                sine => (((1.0 - t) * angle).sin() / sine, (t * angle).sin() / sine),
            };
            all.extend(pair[0].iter().zip(pair[1]).map(|(a, b)| from * a + to * b));
        }
    }
    let rows = samples.saturating_sub(1) * places;
    Ok(Tensor::from_data(TensorData::new(all, [rows, latent]), &device))
}

/// A picture for the report.
pub(crate) fn read(path: &Path, caption: &str) -> Result<Picture, BoxError> {
    let image = image::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Picture { image: image.to_luma8(), caption: caption.to_owned() })
}

/// The pictures of all epochs so far, in their order.
pub(crate) fn epochs(run: &RunDir) -> Result<Vec<Picture>, BoxError> {
    let caption = |epoch| format!("after {epoch} epoch{}", if epoch == 1 { "" } else { "s" });
    let samples = run.samples_by_epoch("png")?.into_iter();
    samples.map(|(epoch, path)| read(&path, &caption(epoch))).collect()
}
