//! Small symmetric matrices in 64 bits.
//!
//! There is one function of linear algebra on matrices of a few hundred rows; a library for that would
//! be the largest dependency of the crate.

use std::cmp::Ordering;

/// A symmetric matrix.
#[derive(Clone, Debug)]
pub(crate) struct Symmetric {
    size: usize,
    /// All elements, row after row.
    elements: Vec<f64>,
}

/// Sweeps over all pairs, at most: Jacobi's method needs about ten for any matrix, and what isn't finite
/// never converges.
const MOST_SWEEPS: usize = 50;

impl Symmetric {
    /// From all elements, row after row.
    pub(crate) fn new(size: usize, elements: Vec<f64>) -> Self {
        debug_assert_eq!(elements.len(), size * size);
        Symmetric { size, elements }
    }

    pub(crate) fn trace(&self) -> f64 {
        self.elements.iter().step_by(self.size + 1).sum()
    }

    /// B·A·Bᵀ for a square matrix B of the same size, row after row.
    pub(crate) fn within(&self, rows: &[f64]) -> Symmetric {
        let half = product(rows, &self.elements, self.size);
        let transposed: Vec<f64> =
            (0..self.size).flat_map(|row| rows.iter().skip(row).step_by(self.size).copied()).collect();
        Symmetric::new(self.size, product(&half, &transposed, self.size))
    }

    /// The eigenvalues, in no order, and as many orthonormal eigenvectors, one after the other, by Jacobi's
    /// cyclic method (Golub, Van Loan, Matrix Computations, 8.5).
    pub(crate) fn eigen(mut self) -> (Vec<f64>, Vec<f64>) {
        let n = self.size;
        let mut vectors = vec![0.0; n * n];
        vectors.iter_mut().step_by(n + 1).for_each(|one| *one = 1.0);
        let total: f64 = self.elements.iter().map(|x| x * x).sum();
        for _ in 0..MOST_SWEEPS {
            let beside: f64 = self.pairs().map(|(row, column)| self.elements[row * n + column].powi(2)).sum();
            // Also where it is not a number.
            if beside.partial_cmp(&(total * f64::EPSILON.powi(2))) != Some(Ordering::Greater) {
                break;
            }
            for (p, q) in self.pairs() {
                if let Some((cosine, sine)) = self.rotation(p, q) {
                    // Aᵀ is A: what is done to its columns is done to the rows first.
                    rotate_rows(&mut self.elements, n, (p, q), (cosine, sine));
                    for row in self.elements.chunks_mut(n) {
                        let (x, y) = (row[p], row[q]);
                        (row[p], row[q]) = (cosine * x - sine * y, sine * x + cosine * y);
                    }
                    rotate_rows(&mut vectors, n, (p, q), (cosine, sine));
                }
            }
        }
        (self.elements.into_iter().step_by(n + 1).collect(), vectors)
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let n = self.size;
        (0..n).flat_map(move |row| (row + 1..n).map(move |column| (row, column)))
    }

    /// Cosine and sine of the angle that makes the element between p and q zero; `None` if it is.
    fn rotation(&self, p: usize, q: usize) -> Option<(f64, f64)> {
        let at = |row: usize, column: usize| self.elements[row * self.size + column];
        let between = at(p, q);
        if between == 0.0 {
            return None;
        }
        let tau = (at(q, q) - at(p, p)) / (2.0 * between);
        // The smaller of both angles, which lets the method converge.
        let tangent = tau.signum() / (tau.abs() + tau.hypot(1.0));
        let cosine = 1.0 / tangent.hypot(1.0);
        Some((cosine, tangent * cosine))
    }
}

fn rotate_rows(matrix: &mut [f64], n: usize, (p, q): (usize, usize), (cosine, sine): (f64, f64)) {
    let (before, behind) = matrix.split_at_mut(q * n);
    let (upper, lower) = (&mut before[p * n..][..n], &mut behind[..n]);
    for (x, y) in upper.iter_mut().zip(lower) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
}

/// The product of two square matrices.
fn product(left: &[f64], right: &[f64], n: usize) -> Vec<f64> {
    let mut result = vec![0.0; n * n];
    for (to, row) in result.chunks_mut(n.max(1)).zip(left.chunks(n.max(1))) {
        for (factor, from) in row.iter().zip(right.chunks(n)) {
            for (sum, value) in to.iter_mut().zip(from) {
                *sum += factor * value;
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A matrix with numbers of both signs, some of its eigenvalues 0, some equal.
    fn example(n: usize) -> Symmetric {
        let columns: Vec<Vec<f64>> = (0..n.div_ceil(2))
            .map(|column| (0..n).map(|row| ((row * 7 + column * 13) % 11) as f64 - 5.0).collect())
            .collect();
        let element = |row: usize, column: usize| -> f64 {
            let sum: f64 = columns.iter().map(|x| x[row] * x[column]).sum();
            sum + if row == column && row.is_multiple_of(2) { 3.0 } else { 0.0 }
        };
        Symmetric::new(n, (0..n * n).map(|place| element(place / n, place % n)).collect())
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_give_the_matrix_back() {
        for n in 1..40 {
            let matrix = example(n);
            let (values, vectors) = matrix.clone().eigen();
            let largest = values.iter().fold(1.0, |most: f64, value| most.max(value.abs()));
            for row in 0..n {
                for column in 0..n {
                    let dot: f64 = (0..n).map(|k| vectors[row * n + k] * vectors[column * n + k]).sum();
                    let expected = f64::from(u8::from(row == column));
                    assert!((dot - expected).abs() < 1e-12, "{n}: vectors {row} and {column}: {dot}");
                    let sum: f64 =
                        (0..n).map(|k| values[k] * vectors[k * n + row] * vectors[k * n + column]).sum();
                    let element = matrix.elements[row * n + column];
                    assert!(
                        (sum - element).abs() < 1e-12 * largest,
                        "{n}: {row}, {column}: {sum}, {element}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_ends() {
        let (values, _) = Symmetric::new(2, vec![1.0, f64::NAN, f64::NAN, 1.0]).eigen();
        assert_eq!(values.len(), 2);
        let (values, vectors) = Symmetric::new(0, Vec::new()).eigen();
        assert!(values.is_empty() && vectors.is_empty());
    }
}
