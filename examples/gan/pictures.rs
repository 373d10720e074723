//! Pictures of samples.

use std::io::Cursor;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use firebox::data::BoxError;
use firebox::report::Picture;
use firebox::train::RunDir;
use firebox_cli::paths::files_in;
use image::{GrayImage, ImageFormat};

use crate::judge::images;

/// Writes a picture of samples from the same noise again and again, one an epoch.
pub(crate) struct Grids {
    run: RunDir,
    noise: Tensor<2>,
}

impl Grids {
    pub(crate) fn new(run: RunDir, noise: Tensor<2>) -> Self {
        Grids { run, noise }
    }

    /// `epoch-N.png`, of what `generate` makes after so many epochs.
    pub(crate) fn write<const R: usize>(
        &self,
        epoch: u64,
        generate: impl FnOnce(Tensor<2>) -> Tensor<R>,
    ) -> Result<(), BoxError> {
        save(&grid(&images(generate(self.noise.clone())), 10)?, &self.run, &format!("epoch-{epoch:03}.png"))
    }
}

/// Writes a picture of samples into a run's folder.
pub(crate) fn save(picture: &GrayImage, run: &RunDir, name: &str) -> Result<(), BoxError> {
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    Ok(run.write_sample(name, png.get_ref())?)
}

/// Images from -1 to 1 in rows of so many.
pub(crate) fn grid(samples: &Tensor<4>, columns: usize) -> Result<GrayImage, BoxError> {
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

/// Noise on the way from each one to the next, in so many places, both ends included. The way is along a great circle: what
/// lies straight between two points of a normal distribution in many dimensions is nearer to 0 than its points ever are.
pub(crate) fn interpolation(noise: Tensor<2>, places: usize) -> Result<Tensor<2>, BoxError> {
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
pub(crate) fn epochs(folder: &Path) -> Result<Vec<Picture>, BoxError> {
    let mut found = Vec::new();
    for path in files_in(folder)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let epoch = name.strip_prefix("epoch-").and_then(|name| name.strip_suffix(".png"));
        if let Some(epoch) = epoch.and_then(|epoch| epoch.parse::<u64>().ok()) {
            found.push((epoch, path));
        }
    }
    found.sort();
    let caption = |epoch: u64| format!("after {epoch} epoch{}", if epoch == 1 { "" } else { "s" });
    found.iter().map(|(epoch, path)| read(path, &caption(*epoch))).collect()
}
