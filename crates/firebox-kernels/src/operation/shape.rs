//! The message for shapes that don't fit.

/// Panics unless a tensor has a shape: names the operation, the tensor, what was expected and what came.
#[track_caller]
pub(crate) fn expect_shape<const D: usize>(
    operation: &str,
    tensor: &str,
    got: [usize; D],
    expected: [usize; D],
) {
    assert!(got == expected, "{operation}: expected {tensor} {expected:?}, got {got:?}");
}
