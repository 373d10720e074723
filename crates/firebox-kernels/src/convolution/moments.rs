//! Mean and variance of the rows of a matrix, column by column.

/// Count, mean and sum of squared deviations of some values.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Of both together (Chan, Golub, LeVeque 1979).
    pub(crate) fn with(self, other: Moments) -> Self {
        if self.count == 0.0 {
            return other;
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        Moments {
            count,
            mean: self.mean + apart * other.count / count,
            squares: self.squares + other.squares + apart * apart * self.count * other.count / count,
        }
    }

    pub(crate) fn mean(&self) -> f64 {
        self.mean
    }

    /// Biased.
    pub(crate) fn variance(&self) -> f64 {
        self.squares / self.count
    }
}

/// Adds the rows of `values` to the moments of their columns; `sums` and `centers` are memory of a row's length.
#[inline(always)]
pub(crate) fn observe(moments: &mut [Moments], values: &[f32], sums: &mut [f32], centers: &mut [f32]) {
    let columns = moments.len();
    let count = (values.len() / columns) as f64;
    sums.fill(0.0);
    for row in values.chunks_exact(columns) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    for (center, &sum) in centers.iter_mut().zip(&*sums) {
        *center = (f64::from(sum) / count) as f32;
    }
    let means: Vec<f64> = sums.iter().map(|&sum| f64::from(sum) / count).collect();
    sums.fill(0.0);
    for row in values.chunks_exact(columns) {
        for ((sum, x), center) in sums.iter_mut().zip(row).zip(&*centers) {
            *sum += (x - center) * (x - center);
        }
    }
    for (((moments, mean), &squares), &center) in moments.iter_mut().zip(means).zip(&*sums).zip(&*centers) {
        // What rounding the mean has moved.
        let squares = f64::from(squares) - count * (mean - f64::from(center)).powi(2);
        *moments = moments.with(Moments { count, mean, squares });
    }
}
