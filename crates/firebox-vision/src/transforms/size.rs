//! Sizes of outputs.

use crate::error::{Error, check};

/// A height and a width: one number is a square.
///
/// ```
/// use firebox_vision::transforms::Size;
///
/// assert_eq!(Size::from(224), Size::from([224, 224]));
/// assert_eq!(Size::from([2, 3]), Size { height: 2, width: 3 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// The number of rows.
    pub height: usize,
    /// The number of columns.
    pub width: usize,
}

impl From<usize> for Size {
    fn from(side: usize) -> Self {
        Size { height: side, width: side }
    }
}

/// Height and width, in torchvision's order.
impl From<[usize; 2]> for Size {
    fn from([height, width]: [usize; 2]) -> Self {
        Size { height, width }
    }
}

impl Size {
    pub(super) fn check(self, field: &str) -> Result<(), Error> {
        let Size { height, width } = self;
        let got = format_args!("{height}×{width}");
        check(height > 0 && width > 0, field, "a size of at least 1×1", got)
    }
}

/// Half of a difference, rounded as Python rounds: halves to the even number.
pub(super) fn half_to_even(difference: usize) -> usize {
    let half = difference / 2;
    half + usize::from(difference % 2 == 1 && half % 2 == 1)
}
