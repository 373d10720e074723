//! Resampling, by fast_image_resize.

use std::cell::RefCell;

use fast_image_resize::images::{CroppedImage, Image as Target, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::size::Size;
use crate::error::{Error, ErrorKind};
use crate::image::{ColorMode, CropBox, Image};

/// The way pixels between pixels are found.
///
/// The filters are PIL's: a triangle, Keys' cubic with a = −0.5, Lanczos with three lobes. With antialiasing
/// they are as much wider as the image becomes smaller. As PIL's do, they go over rows and then columns, each
/// rounded to 8 bits. The nearest pixel is the one under the center of the new one.
///
/// ```
/// use firebox_core::SampleRng;
/// use firebox_data::Transform;
/// use firebox_vision::transforms::{Interpolation, Resize};
/// use firebox_vision::{ColorMode, Image};
///
/// let image = Image::new(1, 4, ColorMode::Gray, vec![0, 100, 200, 100])?;
/// let resize = Resize::new([1, 2]).with_interpolation(Interpolation::Nearest).build()?;
/// assert_eq!(resize.apply(image, &mut SampleRng::from_seed(0))?.pixels(), [100, 100]);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// The pixel itself.
    Nearest,
    /// A triangle over two pixels.
    #[default]
    Bilinear,
    /// Keys' cubic over four pixels, a = −0.5.
    Bicubic,
    /// Lanczos over six pixels.
    Lanczos,
}

impl Interpolation {
    fn algorithm(self, antialias: bool) -> ResizeAlg {
        let filter = match self {
            Interpolation::Nearest => return ResizeAlg::Nearest,
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
            Interpolation::Lanczos => FilterType::Lanczos3,
        };
        match antialias {
            true => ResizeAlg::Convolution(filter),
            false => ResizeAlg::Interpolation(filter),
        }
    }
}

/// Memory that a thread keeps for the next image; what is larger is given back.
const MAX_KEPT: usize = 16 << 20;

thread_local! {
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// The part of an image within a box, in another size. Nothing outside of the box is looked at.
pub(super) fn resample(
    image: Image,
    part: CropBox,
    size: Size,
    interpolation: Interpolation,
    antialias: bool,
) -> Result<Image, Error> {
    part.check_within(&image)?;
    if (part.height, part.width) == (size.height, size.width) {
        return image.crop(part);
    }
    let failed = |error: &dyn std::fmt::Display| {
        let text = format!("resize of {image:?} to {}×{}: {error}", size.height, size.width);
        Error::new(ErrorKind::Shape, text)
    };
    let kind = match image.mode() {
        ColorMode::Gray => PixelType::U8,
        ColorMode::Rgb => PixelType::U8x3,
    };
    let side = |side: usize| u32::try_from(side).map_err(|error| failed(&error));
    let mut resized = Image::filled(size.height, size.width, image.mode(), 0)?;
    let source = ImageRef::new(side(image.width())?, side(image.height())?, image.pixels(), kind)
        .map_err(|error| failed(&error))?;
    let source =
        CroppedImage::new(&source, side(part.left)?, side(part.top)?, side(part.width)?, side(part.height)?)
            .map_err(|error| failed(&error))?;
    let (width, height) = (side(size.width)?, side(size.height)?);
    let mut target =
        Target::from_slice_u8(width, height, resized.pixels_mut(), kind).map_err(|error| failed(&error))?;
    let options = ResizeOptions::new().resize_alg(interpolation.algorithm(antialias)).use_alpha(false);
    RESIZER.with_borrow_mut(|resizer| {
        let result = resizer.resize(&source, &mut target, &options);
        if resizer.size_of_internal_buffers() > MAX_KEPT {
            resizer.reset_internal_buffers();
        }
        result.map_err(|error| failed(&error))
    })?;
    Ok(resized)
}
