//! How far two sets of samples are apart.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::lossless::Lossless;
use crate::error::{Error, ErrorKind};
use crate::metrics::symmetric::Symmetric;
use crate::readout::floats;

/// The Fréchet distance between real and generated samples, by their features.
///
/// Features are taken for normally distributed (Heusel et al. 2017): |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½),
/// with the unbiased covariances, in 64 bits.
///
/// With the features of the published Inception network this is the FID. With any other features it is a
/// number of its own, to be compared with such that have the same features, from as many samples: few samples
/// make it larger.
///
/// It keeps means and products of deviations, put together as by Chan, Golub, LeVeque (1979), and no sample.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_train::metrics::FrechetDistance;
///
/// let device = Device::default();
/// let real = Tensor::<2>::from_data([[0.0], [2.0]], &device);
/// let shifted = Tensor::<2>::from_data([[3.0], [5.0]], &device);
/// let distance = FrechetDistance::of(&real, &shifted)?.value().unwrap();
/// assert!((distance - 9.0).abs() < 1e-9);
/// # Ok::<(), firebox_train::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrechetDistance {
    real: Moments,
    fake: Moments,
}

impl FrechetDistance {
    /// The sums over features `[batch, features]` of real and of generated samples.
    ///
    /// There need not be as many of both.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] if they have different numbers of features, [`ErrorKind::Backend`] if the device
    /// gives no result.
    pub fn of(real: &Tensor<2>, fake: &Tensor<2>) -> Result<Self, Error> {
        let ([_, features], [_, others]) = (real.dims(), fake.dims());
        check(features, others)?;
        let moments = |tensor: &Tensor<2>| Ok::<_, Error>(Moments::of(&floats(tensor.clone())?, features));
        Ok(FrechetDistance { real: moments(real)?, fake: moments(fake)? })
    }

    /// The distance, if there are two samples on each side.
    ///
    /// It is NaN where a feature is NaN or infinite.
    ///
    /// It takes a tenth of a second for 128 features.
    pub fn value(&self) -> Option<f64> {
        if self.real.samples < 2 || self.fake.samples < 2 {
            return None;
        }
        let means: f64 = self.real.mean.iter().zip(&self.fake.mean).map(|(a, b)| (a.0 - b.0).powi(2)).sum();
        let (real, fake) = (self.real.covariance(), self.fake.covariance());
        let trace = real.trace() + fake.trace();
        // Σ₁ = QΛQᵀ: the eigenvalues of Σ₁Σ₂ are those of (Λ^½Qᵀ)·Σ₂·(Λ^½Qᵀ)ᵀ, which is symmetric.
        let (values, vectors) = real.eigen();
        let root = |value: f64| if value.is_nan() { value } else { value.max(0.0).sqrt() };
        let features = values.len();
        let rows: Vec<f64> = values
            .iter()
            .zip(vectors.chunks(features))
            .flat_map(|(&value, vector)| vector.iter().map(move |x| x * root(value)))
            .collect();
        let (values, _) = fake.within(&rows).eigen();
        let product: f64 = values.into_iter().map(root).sum();
        let distance = means + trace - 2.0 * product;
        // Equal sets can come out a rounding error below 0, which would be better than the best.
        Some(if distance < 0.0 { 0.0 } else { distance })
    }

    pub(super) fn is_counted(&self) -> bool {
        self.real.samples > 0 || self.fake.samples > 0
    }

    /// Fails if the samples have other numbers of features.
    pub(super) fn check(&self, other: &Self) -> Result<(), Error> {
        check(self.real.mean.len(), other.real.mean.len())
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.real.merge(&other.real);
        self.fake.merge(&other.fake);
    }
}

fn check(own: usize, others: usize) -> Result<(), Error> {
    match own == others {
        true => Ok(()),
        false => {
            let text = format!("Fréchet distance: expected {own} features, got {others}");
            Err(Error::new(ErrorKind::Task, text))
        }
    }
}

/// The sums over the features of some samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Moments {
    samples: usize,
    mean: Vec<Lossless>,
    /// Sums of products of deviations from the mean, row after row.
    products: Vec<Lossless>,
}

impl Moments {
    fn of(values: &[f32], features: usize) -> Self {
        let samples = values.len() / features.max(1);
        let mut mean = vec![0.0; features];
        for row in values.chunks(features.max(1)) {
            for (sum, &value) in mean.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= samples.max(1) as f64);
        let mut products = vec![0.0; features * features];
        let mut deviations = vec![0.0; features];
        for row in values.chunks(features.max(1)) {
            for ((deviation, &value), mean) in deviations.iter_mut().zip(row).zip(&mean) {
                *deviation = f64::from(value) - mean;
            }
            add_products(&mut products, &deviations, 1.0);
        }
        let lossless = |values: Vec<f64>| values.into_iter().map(Lossless).collect();
        Moments { samples, mean: lossless(mean), products: lossless(products) }
    }

    fn merge(&mut self, other: &Self) {
        if other.samples == 0 {
            return;
        }
        let (own, others) = (self.samples as f64, other.samples as f64);
        let differences: Vec<f64> = self.mean.iter().zip(&other.mean).map(|(a, b)| b.0 - a.0).collect();
        for (mean, difference) in self.mean.iter_mut().zip(&differences) {
            mean.0 += difference * others / (own + others);
        }
        let mut between = vec![0.0; self.products.len()];
        add_products(&mut between, &differences, own * others / (own + others));
        for ((sum, other), between) in self.products.iter_mut().zip(&other.products).zip(between) {
            sum.0 += other.0 + between;
        }
        // No counting comes near the largest number; what a file holds may.
        self.samples = self.samples.saturating_add(other.samples);
    }

    fn covariance(&self) -> Symmetric {
        let degrees = self.samples as f64 - 1.0;
        Symmetric::new(self.mean.len(), self.products.iter().map(|sum| sum.0 / degrees).collect())
    }
}

/// Adds weight · x·xᵀ.
fn add_products(to: &mut [f64], x: &[f64], weight: f64) {
    for (row, left) in to.chunks_mut(x.len().max(1)).zip(x) {
        let left = left * weight;
        for (sum, right) in row.iter_mut().zip(x) {
            *sum += left * right;
        }
    }
}
