//! Every format, and every odd kind of it.

use firebox_vision::{ColorMode, Decode, Encoded, ErrorKind, Image, decode};
use image::{DynamicImage, ImageFormat};

use crate::files::{FlatJpeg, dynamic, encode, jpeg, pattern, png};

fn rgb(bytes: Vec<u8>) -> Image {
    decode(&Encoded::new(bytes)).unwrap()
}

fn gray(bytes: Vec<u8>) -> Image {
    Decode::new().with_mode(ColorMode::Gray).decode(&Encoded::new(bytes)).unwrap()
}

fn assert_close(image: &Image, expected: [u8; 3], what: &str) {
    for pixel in image.pixels().chunks(3) {
        let is_near = pixel.iter().zip(expected).all(|(one, other)| one.abs_diff(other) <= 2);
        assert!(is_near, "{what}: expected about {expected:?}, got {pixel:?}");
    }
}

#[test]
fn lossless_formats_give_every_pixel_whatever_the_name() {
    for size in [(1, 1), (5, 7), (32, 17)] {
        let image = pattern(size.0, size.1, ColorMode::Rgb);
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
            let encoded = Encoded::new(encode(&dynamic(&image), format)).named("photo.jpg");
            assert_eq!(decode(&encoded).unwrap().pixels(), image.pixels(), "{format:?}");
        }
    }
}

#[test]
fn a_jpeg_is_near_to_what_was_encoded() {
    let smooth = |at: usize| (at / 3 / 40 * 3 + at / 3 % 40 * 2 + at % 3 * 40) as u8;
    let image = Image::new(30, 40, ColorMode::Rgb, (0..30 * 40 * 3).map(smooth).collect()).unwrap();
    let decoded = rgb(encode(&dynamic(&image), ImageFormat::Jpeg));
    assert_eq!((decoded.height(), decoded.width()), (30, 40));
    let off: u32 = decoded.pixels().iter().zip(image.pixels()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    assert!(off < 4 * 3600, "{off}");
    assert_eq!((rgb(jpeg(3, 5)).height(), rgb(jpeg(3, 5)).width()), (3, 5));
}

#[test]
fn a_jpeg_of_any_size_and_quality_is_decoded_whole() {
    for size in 1..40 {
        for quality in [1, 30, 75, 100] {
            for mode in [ColorMode::Gray, ColorMode::Rgb] {
                let image = dynamic(&pattern(size, 1 + size * 7 % 37, mode));
                let mut bytes = Vec::new();
                let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
                image.write_with_encoder(encoder).unwrap();
                let expected = image::load_from_memory(&bytes).unwrap().into_rgb8();
                assert_eq!(rgb(bytes).pixels(), expected.as_raw(), "{size}, quality {quality}");
            }
        }
    }
}

#[test]
fn a_tiff_of_floating_point_numbers_is_named() {
    let image = DynamicImage::ImageRgb32F(image::Rgb32FImage::from_pixel(2, 2, image::Rgb([0.5; 3])));
    let error = decode(&Encoded::new(encode(&image, ImageFormat::Tiff))).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "TIFF: expected 8 or 16 bits a channel, got floating-point numbers");
}

#[test]
fn a_jpeg_of_any_color_space_is_rgb() {
    /// The values of the components, Adobe's transform, and the color that they mean.
    type Case = (&'static str, &'static [(u8, u8)], Option<u8>, [u8; 3]);
    let cases: [Case; 9] = [
        ("gray", &[(1, 200)], None, [200; 3]),
        ("gray of Adobe", &[(1, 200)], Some(0), [200; 3]),
        ("RGB of Adobe by name", &[(b'R', 10), (b'G', 120), (b'B', 230)], Some(0), [10, 120, 230]),
        ("YCbCr", &[(1, 76), (2, 85), (3, 255)], None, [254, 0, 0]),
        ("YCbCr of Adobe", &[(1, 76), (2, 85), (3, 255)], Some(1), [254, 0, 0]),
        ("RGB of Adobe", &[(1, 10), (2, 120), (3, 230)], Some(0), [10, 120, 230]),
        ("RGB by name", &[(b'R', 10), (b'G', 120), (b'B', 230)], None, [10, 120, 230]),
        ("CMYK of Adobe", &[(1, 255), (2, 128), (3, 0), (4, 128)], Some(0), [128, 64, 0]),
        // Red ink's complement, half black.
        ("YCCK of Adobe", &[(1, 76), (2, 85), (3, 255), (4, 128)], Some(2), [0, 128, 128]),
    ];
    for (what, components, adobe, expected) in cases {
        for frame in [0xc0, 0xc1, 0xc2] {
            let bytes = FlatJpeg { frame, components, adobe, ..FlatJpeg::default() }.bytes();
            let image = rgb(bytes.clone());
            assert_eq!((image.height(), image.width()), (8, 16), "{what}");
            assert_close(&image, expected, &format!("{what}, frame {frame:x}"));
            let [r, g, b] = expected.map(u32::from);
            let luma = ((299 * r + 587 * g + 114 * b) / 1000) as u8;
            let gray = gray(bytes);
            assert!(gray.pixels().iter().all(|pixel| pixel.abs_diff(luma) <= 2), "{what}: {luma} {gray:?}");
        }
    }
}

#[test]
fn a_jpeg_that_is_not_decoded_is_named() {
    for (frame, name) in
        [(0xc9, "arithmetic"), (0xca, "arithmetic"), (0xc3, "lossless"), (0xc5, "hierarchical")]
    {
        let bytes = FlatJpeg { frame, ..FlatJpeg::default() }.bytes();
        let error = decode(&Encoded::new(bytes).named("a.jpg")).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unsupported);
        assert!(error.to_string().starts_with("a.jpg: ") && error.to_string().contains(name), "{error}");
    }
    let bytes = FlatJpeg { precision: 12, ..FlatJpeg::default() }.bytes();
    let error = decode(&Encoded::new(bytes)).unwrap_err();
    assert_eq!(error.to_string(), "JPEG: expected 8 bits a sample, got 12");
    let named = &[(b'R', 10), (b'G', 120), (b'B', 230)];
    for (components, adobe) in
        [(&named[..], 1), (&[(1, 1), (2, 1), (3, 1)], 2), (&[(1, 1), (2, 1), (3, 1), (4, 1)], 1)]
    {
        let bytes = FlatJpeg { components, adobe: Some(adobe), ..FlatJpeg::default() }.bytes();
        assert_eq!(decode(&Encoded::new(bytes)).unwrap_err().kind(), &ErrorKind::Unsupported);
    }
    let bytes = FlatJpeg { components: &[(1, 1), (2, 2)], ..FlatJpeg::default() }.bytes();
    let error = decode(&Encoded::new(bytes)).unwrap_err();
    assert_eq!(error.to_string(), "JPEG: expected 1, 3 or 4 components, got 2");
}

#[test]
fn alpha_is_left_out_and_of_16_bits_the_high_ones_stay() {
    let rgba: Vec<u8> = vec![10, 20, 30, 0, 40, 50, 60, 255];
    let image = DynamicImage::from(image::RgbaImage::from_raw(2, 1, rgba).unwrap());
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Bmp] {
        let decoded = rgb(encode(&image, format));
        assert_eq!(decoded.pixels(), [10, 20, 30, 40, 50, 60], "{format:?}");
    }
    let gray_alpha = png((1, 1), 8, 4, &[], &[0, 77, 3]);
    assert_eq!((rgb(gray_alpha.clone()).pixels(), gray(gray_alpha).pixels()), (&[77; 3][..], &[77][..]));
    let gray_16 = png((1, 2), 16, 0, &[], &[0, 0x12, 0xff, 0x80, 0x01]);
    assert_eq!(gray(gray_16.clone()).pixels(), [0x12, 0x80]);
    assert_eq!(rgb(gray_16).pixels(), [0x12, 0x12, 0x12, 0x80, 0x80, 0x80]);
    let rgb_16 = png((1, 1), 16, 2, &[], &[0, 1, 255, 2, 255, 3, 255]);
    assert_eq!(rgb(rgb_16).pixels(), [1, 2, 3]);
    let rgba_16 = png((1, 1), 16, 6, &[], &[0, 1, 255, 2, 255, 3, 255, 0, 0]);
    assert_eq!(rgb(rgba_16).pixels(), [1, 2, 3]);
    let tiff = DynamicImage::from(
        image::ImageBuffer::<image::Rgb<u16>, _>::from_raw(1, 1, vec![0x1ff, 0x2ff, 0x3ff]).unwrap(),
    );
    assert_eq!(rgb(encode(&tiff, ImageFormat::Tiff)).pixels(), [1, 2, 3]);
}

#[test]
fn palettes_are_looked_up_and_few_bits_are_spread() {
    let palette: (&[u8; 4], &[u8]) = (b"PLTE", &[1, 2, 3, 4, 5, 6]);
    assert_eq!(rgb(png((1, 2), 8, 3, &[palette], &[0, 1, 0])).pixels(), [4, 5, 6, 1, 2, 3]);
    // The first color is transparent: it is a color all the same.
    let with_alpha = png((1, 2), 8, 3, &[palette, (b"tRNS", &[0])], &[0, 0, 1]);
    assert_eq!(rgb(with_alpha).pixels(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(gray(png((1, 3), 1, 0, &[], &[0, 0b1010_0000])).pixels(), [255, 0, 255]);
    assert_eq!(gray(png((1, 3), 2, 0, &[], &[0, 0b0110_1100])).pixels(), [85, 170, 255]);
}

#[test]
fn a_gif_gives_its_first_frame() {
    let mut bytes = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for value in [50, 200] {
            let frame = image::RgbaImage::from_pixel(4, 3, image::Rgba([value, 0, 0, 255]));
            encoder.encode_frame(image::Frame::new(frame)).unwrap();
        }
    }
    let image = rgb(bytes);
    assert_eq!((image.height(), image.width()), (3, 4));
    assert_close(&image, [50, 0, 0], "first frame");
}

#[test]
fn orientation_is_followed_if_asked_for() {
    // A file with an orientation, and a lossless one that says where its pixels are.
    let flat = |exif| FlatJpeg { exif: Some(exif), ..FlatJpeg::default() }.bytes();
    for exif in 1..=8 {
        let as_it_is = rgb(flat(exif));
        let turned = Decode::new().with_exif_orientation(true).decode(&Encoded::new(flat(exif))).unwrap();
        assert_eq!((as_it_is.height(), as_it_is.width()), (8, 16));
        let size = if exif >= 5 { (16, 8) } else { (8, 16) };
        assert_eq!((turned.height(), turned.width()), size, "{exif}");
    }
    // Two rows: 1 2 3, 4 5 6.
    let rows = [0, 1, 2, 3, 0, 4, 5, 6];
    let expected: [[u8; 6]; 8] = [
        [1, 2, 3, 4, 5, 6],
        [3, 2, 1, 6, 5, 4],
        [6, 5, 4, 3, 2, 1],
        [4, 5, 6, 1, 2, 3],
        [1, 4, 2, 5, 3, 6],
        [4, 1, 5, 2, 6, 3],
        [6, 3, 5, 2, 4, 1],
        [3, 6, 2, 5, 1, 4],
    ];
    for (exif, expected) in (1..=8).zip(expected) {
        let chunk =
            [b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[exif], &[0; 6]].concat();
        let bytes = png((2, 3), 8, 0, &[(b"eXIf", &chunk)], &rows);
        let settings = Decode::new().with_mode(ColorMode::Gray).with_exif_orientation(true);
        assert_eq!(settings.decode(&Encoded::new(bytes.clone())).unwrap().pixels(), expected, "{exif}");
        assert_eq!(gray(bytes).pixels(), [1, 2, 3, 4, 5, 6]);
    }
}
