//! Mean and variance of the rows of a matrix, column by column.

/// Count, mean and sum of squared deviations of some values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Of both together (Chan, Golub, LeVeque 1979).
    pub(super) fn with(self, other: Moments) -> Self {
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

    /// The moments beside a number that moves all values alike: the same, and NaN if it is NaN.
    pub(super) fn beside(self, number: f32) -> Self {
        Moments { squares: self.squares + 0.0 * f64::from(number), ..self }
    }

    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// Biased.
    pub(super) fn variance(&self) -> f64 {
        self.squares / self.count
    }
}

/// Rows whose sums stay in 32 bits: of more, a sum would lose digits.
pub(super) const ROWS: usize = 64;

/// Adds the rows of `values` to the moments of their columns; `sums` and `centers` are memory of a row's
/// length.
#[inline(always)]
pub(super) fn observe(moments: &mut [Moments], values: &[f32], sums: &mut [f32], centers: &mut [f32]) {
    let columns = moments.len();
    let count = (values.len() / columns) as f64;
    let mut means = column_sums(values, sums, |x, _| x, centers);
    means.iter_mut().for_each(|sum| *sum /= count);
    centers.iter_mut().zip(&means).for_each(|(center, &mean)| *center = mean as f32);
    let squares = column_sums(values, sums, |x, center| (x - center) * (x - center), centers);
    for (((moments, mean), squares), &center) in moments.iter_mut().zip(means).zip(squares).zip(&*centers) {
        // What rounding the mean has moved; of equal values rounding can leave less than nothing.
        let squares = squares - count * (mean - f64::from(center)).powi(2);
        let squares = if squares < 0.0 { 0.0 } else { squares };
        *moments = moments.with(Moments { count, mean, squares });
    }
}

#[inline(always)]
fn column_sums(values: &[f32], sums: &mut [f32], of: impl Fn(f32, f32) -> f32, centers: &[f32]) -> Vec<f64> {
    let columns = sums.len();
    let mut wide = vec![0.0; columns];
    for rows in values.chunks(ROWS * columns) {
        sums.fill(0.0);
        for row in rows.chunks_exact(columns) {
            for ((sum, &x), &center) in sums.iter_mut().zip(row).zip(centers) {
                *sum += of(x, center);
            }
        }
        wide.iter_mut().zip(&*sums).for_each(|(wide, &sum)| *wide += f64::from(sum));
    }
    wide
}
