//! Where the windows of a pooling lie.

/// The windows of a pooling; each pair is of height and width.
///
/// ```
/// use firebox_kernels::pooling::PoolSettings;
///
/// let settings = PoolSettings::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
/// assert_eq!(settings.padding, [1, 1]);
/// assert_eq!(PoolSettings::new([2, 2]).stride, [2, 2]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Height and width of a window; at least 1.
    pub kernel_size: [usize; 2],
    /// Step of the window; at least 1.
    pub stride: [usize; 2],
    /// Rows and columns added at each border; at most half of the window, so that each has a value of the
    /// image.
    pub padding: [usize; 2],
}

impl PoolSettings {
    /// Windows side by side, without padding.
    pub fn new(kernel_size: [usize; 2]) -> Self {
        PoolSettings { kernel_size, stride: kernel_size, padding: [0; 2] }
    }

    /// Sets the step of the window.
    pub fn with_stride(self, stride: [usize; 2]) -> Self {
        PoolSettings { stride, ..self }
    }

    /// Sets the rows and columns added at each border.
    pub fn with_padding(self, padding: [usize; 2]) -> Self {
        PoolSettings { padding, ..self }
    }

    /// The windows along an axis of so many pixels; `None` if there is none, or a number is too large.
    fn windows(&self, axis: usize, length: usize) -> Option<usize> {
        let padded = self.padding[axis].checked_mul(2)?.checked_add(length)?;
        Some(padded.checked_sub(self.kernel_size[axis])? / self.stride[axis] + 1)
    }

    /// Height and width of what images of this size become; they have a window.
    #[cfg(feature = "flex")]
    pub(crate) fn out(&self, size: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| self.windows(axis, size[axis]).unwrap_or_default())
    }

    /// Panics unless the settings are in their ranges and the images have a window.
    #[track_caller]
    pub(crate) fn expect(&self, operation: &str, images: [usize; 4]) {
        let PoolSettings { kernel_size, stride, padding } = *self;
        for (name, values) in [("kernel_size", kernel_size), ("stride", stride)] {
            assert!(!values.contains(&0), "{operation}: expected {name} of at least 1, got {values:?}");
        }
        let half = kernel_size.map(|size| size / 2);
        let fits = padding[0] <= half[0] && padding[1] <= half[1];
        assert!(fits, "{operation}: expected padding of at most {half:?}, got {padding:?}");
        let [_, _, height, width] = images;
        assert!(
            self.windows(0, height).is_some() && self.windows(1, width).is_some(),
            "{operation}: expected images in which a window {kernel_size:?} with padding {padding:?} has a place, \
             got {images:?}"
        );
    }
}
