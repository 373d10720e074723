//! From channels first to channels last and back.

use crate::machine::simd::vectorised;

/// Rows and columns of a square that vectors hold.
const SIDE: usize = 16;

/// `[rows, columns]` to `[columns, rows]`.
pub(crate) fn transpose(from: &[f32], to: &mut [f32], rows: usize, columns: usize) {
    assert_eq!((from.len(), to.len()), (rows * columns, rows * columns));
    vectorised(
        #[inline(always)]
        || {
            for row in (0..rows).step_by(SIDE) {
                let height = SIDE.min(rows - row);
                for column in (0..columns).step_by(SIDE) {
                    let width = SIDE.min(columns - column);
                    let mut square = [[0.0; SIDE]; SIDE];
                    for (y, values) in square[..height].iter_mut().enumerate() {
                        let from = &from[(row + y) * columns + column..][..width];
                        match width {
                            SIDE => values.copy_from_slice(from),
                            _ => values[..width].copy_from_slice(from),
                        }
                    }
                    // Each time the upper half's elements go between those of the lower half: four times is a
                    // turn.
                    for _ in 0..SIDE.ilog2() {
                        let mut shuffled = square;
                        for y in 0..SIDE / 2 {
                            (shuffled[2 * y], shuffled[2 * y + 1]) =
                                interleaved(square[y], square[y + SIDE / 2]);
                        }
                        square = shuffled;
                    }
                    for (x, values) in square[..width].iter().enumerate() {
                        let to = &mut to[(column + x) * rows + row..][..height];
                        match height {
                            SIDE => to.copy_from_slice(values),
                            _ => to.copy_from_slice(&values[..height]),
                        }
                    }
                }
            }
        },
    );
}

#[inline(always)]
fn interleaved(a: [f32; SIDE], b: [f32; SIDE]) -> ([f32; SIDE], [f32; SIDE]) {
    let (mut first, mut second) = ([0.0; SIDE], [0.0; SIDE]);
    for x in 0..SIDE / 2 {
        (first[2 * x], first[2 * x + 1]) = (a[x], b[x]);
        (second[2 * x], second[2 * x + 1]) = (a[x + SIDE / 2], b[x + SIDE / 2]);
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_element_goes_to_its_place() {
        for (rows, columns) in [(1, 1), (1, 17), (17, 1), (5, 33), (32, 16), (31, 47)] {
            let from: Vec<f32> = (0..rows * columns).map(|x| x as f32).collect();
            let mut to = vec![0.0; from.len()];
            transpose(&from, &mut to, rows, columns);
            for (at, &value) in to.iter().enumerate() {
                assert_eq!(value, from[at % rows * columns + at / rows]);
            }
        }
    }
}
