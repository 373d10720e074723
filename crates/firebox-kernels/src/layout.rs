//! From channels first to channels last and back.

/// `[rows, columns]` to `[columns, rows]`.
pub(crate) fn transpose(from: &[f32], to: &mut [f32], rows: usize, columns: usize) {
    // Squares that fit the cache's lines on both sides.
    const SIDE: usize = 16;
    assert_eq!((from.len(), to.len()), (rows * columns, rows * columns));
    for row in (0..rows).step_by(SIDE) {
        for column in (0..columns).step_by(SIDE) {
            for column in column..(column + SIDE).min(columns) {
                let to = &mut to[column * rows + row..][..SIDE.min(rows - row)];
                for (to, from) in to.iter_mut().zip(from[row * columns + column..].iter().step_by(columns)) {
                    *to = *from;
                }
            }
        }
    }
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
