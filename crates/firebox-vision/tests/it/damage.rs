//! Files that are damaged, cut short, or state more than there is.

use firebox_core::SampleRng;
use firebox_vision::{ColorMode, Decode, Encoded, ErrorKind, decode};
use image::ImageFormat;

use crate::files::{FlatJpeg, dynamic, encode, jpeg, pattern, png};

fn files() -> Vec<(&'static str, Vec<u8>)> {
    let image = dynamic(&pattern(24, 31, ColorMode::Rgb));
    vec![
        ("jpeg", jpeg(24, 31)),
        ("progressive", FlatJpeg { frame: 0xc2, ..FlatJpeg::default() }.bytes()),
        ("cmyk", {
            let components = &[(1, 9), (2, 99), (3, 199), (4, 240)];
            FlatJpeg { components, adobe: Some(2), ..FlatJpeg::default() }.bytes()
        }),
        ("png", encode(&image, ImageFormat::Png)),
        ("webp", encode(&image, ImageFormat::WebP)),
        ("gif", encode(&image, ImageFormat::Gif)),
        ("bmp", encode(&image, ImageFormat::Bmp)),
        ("tiff", encode(&image, ImageFormat::Tiff)),
    ]
}

/// The most memory that this process has had, in bytes.
fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib << 10)
}

#[test]
fn damaged_files_are_errors_or_images_and_memory_is_bounded() {
    let before = peak();
    let settings = Decode::new().with_max_pixels(1 << 20).with_exif_orientation(true);
    let mut rng = SampleRng::from_seed(19);
    let (mut tried, mut refused) = (0, 0);
    for (name, file) in files() {
        let whole = settings.decode(&Encoded::new(file.clone())).unwrap();
        assert!(whole.height() <= 24, "{name}");
        for case in 0..250 {
            let mut bytes = file.clone();
            match case % 5 {
                // Flips go to the front as well, where sizes are.
                0 | 1 => {
                    let within = if case % 2 == 0 { bytes.len().min(64) } else { bytes.len() };
                    for _ in 0..1 + rng.below(4) {
                        bytes[rng.below(within as u64) as usize] ^= 1 << rng.below(8);
                    }
                }
                2 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
                3 => {
                    let at = rng.below(bytes.len() as u64) as usize;
                    let end = (at + 1 + rng.below(40) as usize).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => {
                    let at = rng.below(bytes.len() as u64) as usize;
                    let noise: Vec<u8> = (0..1 + rng.below(30)).map(|_| rng.bits() as u8).collect();
                    let end = (at + noise.len()).min(bytes.len());
                    bytes.splice(at..end, noise);
                }
            }
            tried += 1;
            match settings.decode(&Encoded::new(bytes).named(name)) {
                Ok(image) => assert!(image.height() * image.width() <= 1 << 20),
                Err(error) => {
                    refused += 1;
                    let text = error.to_string();
                    assert!(text.starts_with(name) && !text.contains('\n'), "{text}");
                }
            }
        }
    }
    assert_eq!(tried, 2000);
    assert!(refused > 800, "{refused}");
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(after - before < 200 << 20, "{before} → {after}");
    }
}

#[test]
fn a_file_that_is_cut_short_is_an_error_unless_every_pixel_is_there() {
    for (name, file) in files() {
        let whole = decode(&Encoded::new(&*file)).unwrap();
        let mut images = 0;
        for length in 0..file.len() {
            if let Ok(image) = decode(&Encoded::new(&file[..length])) {
                assert!(image == whole, "{name}: {length} of {} bytes gave another image", file.len());
                images += 1;
            }
        }
        // What ends a file, such as an empty chunk.
        assert!(images <= 16, "{name}: {images} cuts of {}", file.len());
    }
}

#[test]
fn what_is_no_image_is_named_with_what_was_there() {
    for (bytes, expected) in [
        (&b""[..], "a.png: expected an image, got an empty file"),
        (
            b"<html>",
            "a.png: expected a JPEG, PNG, WebP, GIF, BMP or TIFF, got a file that begins with \"<html>\"",
        ),
        (
            b"\0\x01",
            "a.png: expected a JPEG, PNG, WebP, GIF, BMP or TIFF, got a file that begins with \"\\x00\\x01\"",
        ),
    ] {
        let error = decode(&Encoded::new(bytes).named("a.png")).unwrap_err();
        assert_eq!((error.to_string(), error.kind()), (expected.to_owned(), &ErrorKind::Format));
    }
}

#[test]
fn bombs_are_errors_before_memory_is_taken() {
    let gif = |width: u16, height: u16| {
        let mut bytes = encode(&dynamic(&pattern(2, 2, ColorMode::Rgb)), ImageFormat::Gif);
        bytes[6..8].copy_from_slice(&width.to_le_bytes());
        bytes[8..10].copy_from_slice(&height.to_le_bytes());
        bytes
    };
    let mut bmp = encode(&dynamic(&pattern(2, 2, ColorMode::Rgb)), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&60_000i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000i32.to_le_bytes());
    let mut jpeg = FlatJpeg::default().bytes();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x20, 0, 0x20, 0]);
    let before = peak();
    for (name, bytes) in [
        ("png", png((50_000, 50_000), 8, 2, &[], &[0; 10])),
        ("png, long", png((1, 100_000), 8, 0, &[], &[0; 10])),
        ("gif", gif(u16::MAX, u16::MAX)),
        ("bmp", bmp),
        ("jpeg of 67 million pixels in 400 bytes", jpeg),
    ] {
        let error = decode(&Encoded::new(bytes)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooLarge(_)), "{name}: {error}");
    }
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(after - before < 200 << 20, "{before} → {after}");
    }
    let file = Encoded::new(vec![0xff; 11]);
    let error = Decode::new().with_max_bytes(10).decode(&file).unwrap_err();
    assert_eq!(error.to_string(), "file: expected at most 10 bytes, got 11");
    let side = Decode::new().with_max_side(7).decode(&Encoded::new(FlatJpeg::default().bytes())).unwrap_err();
    assert_eq!(side.to_string(), "image: expected sides of at most 7, got 8×16");
}
