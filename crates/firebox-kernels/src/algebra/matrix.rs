//! Products of matrices that lie in slices.
#![allow(unsafe_code, reason = "see the argument at the call")]

use std::ops::Range;

/// A view of a matrix: element (row, column) is at `row · row_stride + column · column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a matrix of {rows} × {columns}");
        Matrix { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        let Matrix { data, rows, columns, row_stride, column_stride } = self;
        Matrix { data, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    /// Some of the columns, side by side.
    pub(crate) fn columns(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.columns,
            "columns {range:?} of {}",
            self.columns
        );
        let skipped = (range.start * self.column_stride).min(self.data.len());
        Matrix { data: &self.data[skipped..], columns: range.len(), ..self }
    }
}

/// The way in which a product is written to its place.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Accumulate {
    /// They are replaced.
    Replace,
    /// The product is added to them.
    Add,
}

/// to ← left · right, or to ← to + left · right; `to` has its rows one after the other. In this thread alone:
/// a sum's order depends on the shapes only, never on how many threads there are.
pub(crate) fn product(to: &mut [f32], accumulate: Accumulate, left: Matrix<'_>, right: Matrix<'_>) {
    let (rows, depth, columns) = (left.rows, left.columns, right.columns);
    assert_eq!(depth, right.rows, "the inner sizes of a product");
    assert_eq!(to.len(), rows * columns, "the place of a product of {rows} × {columns}");
    if rows == 0 || columns == 0 {
        return;
    }
    if depth == 0 {
        if accumulate == Accumulate::Replace {
            to.fill(0.0);
        }
        return;
    }
    let strides = |matrix: &Matrix<'_>| (matrix.column_stride as isize, matrix.row_stride as isize);
    let ((left_cs, left_rs), (right_cs, right_rs)) = (strides(&left), strides(&right));
    // SAFETY: `to` has rows · columns elements and is borrowed alone. A `Matrix` can only be made (`new`) of
    // a slice of rows · columns elements with strides that stay within it; transposing swaps sizes and
    // strides alike; `columns` lets the slice begin where the first of them does and lets no more of them
    // through than there were after it. So every element that these sizes and strides reach is within its
    // slice. f32 is a type that gemm knows.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            to.as_mut_ptr(),
            1,
            columns as isize,
            accumulate == Accumulate::Add,
            left.data.as_ptr(),
            left_cs,
            left_rs,
            right.data.as_ptr(),
            right_cs,
            right_rs,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_columns_are_a_matrix_of_their_own() {
        let values: Vec<f32> = (0..35).map(|x| x as f32).collect();
        let whole = Matrix::new(&values, 5, 7);
        for range in [0..7, 0..1, 6..7, 2..5, 3..3, 7..7] {
            // Its columns as rows, and some of its rows, by way of the transposed one.
            let ones = [1.0; 5];
            let mut sums = vec![0.0; range.len()];
            product(&mut sums, Accumulate::Replace, Matrix::new(&ones, 1, 5), whole.columns(range.clone()));
            let expected: Vec<f32> =
                range.map(|column| (0..5).map(|row| values[row * 7 + column]).sum()).collect();
            assert_eq!(sums, expected);
        }
        let mut rows = vec![0.0; 14];
        let identity: Vec<f32> = (0..49).map(|at| if at % 8 == 0 { 1.0 } else { 0.0 }).collect();
        let some = whole.transposed().columns(2..4).transposed();
        product(&mut rows, Accumulate::Replace, some, Matrix::new(&identity, 7, 7));
        assert_eq!(rows, values[14..28]);
    }

    #[test]
    fn products_of_odd_shapes_are_the_sums() {
        for (rows, depth, columns) in
            [(1, 1, 1), (2, 3, 5), (7, 17, 31), (33, 1, 3), (5, 0, 2), (0, 3, 4), (64, 288, 7)]
        {
            let value = |seed: usize| (0..).map(move |place: usize| ((place * 37 + seed) % 11) as f32 - 5.0);
            let left: Vec<f32> = value(1).take(rows * depth).collect();
            let right: Vec<f32> = value(2).take(depth * columns).collect();
            let right_t: Vec<f32> = (0..columns * depth)
                .map(|at| right[at % depth.max(1) * columns + at / depth.max(1)])
                .collect();
            let expected = |row: usize, column: usize| -> f32 {
                (0..depth).map(|at| left[row * depth + at] * right[at * columns + column]).sum()
            };
            for transposed in [false, true] {
                let right = match transposed {
                    false => Matrix::new(&right, depth, columns),
                    true => Matrix::new(&right_t, columns, depth).transposed(),
                };
                for accumulate in [Accumulate::Replace, Accumulate::Add] {
                    let mut to = vec![1.0; rows * columns];
                    product(&mut to, accumulate, Matrix::new(&left, rows, depth), right);
                    for (at, &got) in to.iter().enumerate() {
                        let before = if accumulate == Accumulate::Add { 1.0 } else { 0.0 };
                        assert_eq!(got, before + expected(at / columns, at % columns));
                    }
                }
            }
        }
    }
}
