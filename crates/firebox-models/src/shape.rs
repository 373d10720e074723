//! Shapes that layers want and give, known without computing anything.

use burn::tensor::{Int, Tensor};

use crate::error::{Error, fitting, input_error};

/// Fails unless a tensor, `what` of the layer's inputs, has a shape.
pub(crate) fn check_shape(layer: &str, what: &str, got: &[usize], expected: &[usize]) -> Result<(), Error> {
    let space = if what.is_empty() { "" } else { " " };
    match got == expected {
        true => Ok(()),
        false => Err(input_error(layer, format!("{what}{space}{expected:?}"), format!("{got:?}"))),
    }
}

/// A window that moves over a side of an image.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) size: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) dilation: usize,
}

impl Window {
    /// The number of its places on a side of so many pixels, padding aside.
    ///
    /// `None` if it is larger than the side with its padding.
    pub(crate) fn places(self, side: usize) -> Option<usize> {
        let reach = self.size.checked_sub(1)?.checked_mul(self.dilation)?.checked_add(1)?;
        let rest = self.padding.checked_mul(2)?.checked_add(side)?.checked_sub(reach)?;
        Some(rest / self.stride.max(1) + 1)
    }
}

/// The shape of what a layer makes of images by a window for each side.
///
/// `channels` are those of input and output, if it has its own, as a convolution has.
pub(crate) fn windowed(
    layer: &str,
    input: [usize; 4],
    channels: Option<[usize; 2]>,
    windows: [Window; 2],
) -> Result<[usize; 4], Error> {
    let [batch, got, height, width] = input;
    let wrong = |expected: String| input_error(layer, expected, format!("{input:?}"));
    let [expected, given] = channels.unwrap_or([got; 2]);
    if got != expected {
        return Err(wrong(format!("[.., {expected}, .., ..]")));
    }
    match (windows[0].places(height), windows[1].places(width)) {
        (Some(height), Some(width)) => Ok([batch, given, height, width]),
        _ => {
            let least = windows.map(|window| {
                let reach = (window.size.saturating_sub(1)).saturating_mul(window.dilation).saturating_add(1);
                reach.saturating_sub(window.padding.saturating_mul(2))
            });
            Err(wrong(format!("a height of at least {} and a width of at least {}", least[0], least[1])))
        }
    }
}

/// Sequences and their lengths, of one batch.
pub(crate) fn check_lengths(
    layer: &str,
    tokens: &Tensor<2, Int>,
    lengths: &Tensor<1, Int>,
) -> Result<(), Error> {
    let [batch, _] = tokens.dims();
    check_shape(layer, "lengths", &lengths.dims(), &[batch])
}

/// The same for what was given to a forward pass.
#[track_caller]
pub(crate) fn sequences(
    layer: &str,
    sequences: impl Into<(Tensor<2, Int>, Tensor<1, Int>)>,
) -> (Tensor<2, Int>, Tensor<1, Int>) {
    let (tokens, lengths) = sequences.into();
    fitting(check_lengths(layer, &tokens, &lengths));
    (tokens, lengths)
}
