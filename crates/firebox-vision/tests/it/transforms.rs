//! Transforms, exact where they must be.

use firebox_core::SampleRng;
use firebox_data::{Loader, Transform};
use firebox_vision::transforms::{
    CenterCrop, ColorJitter, Compose, Grayscale, Interpolation, Normalize, Pad, PaddingMode, RandomCrop,
    RandomHorizontalFlip, RandomResizedCrop, RandomVerticalFlip, Resize, Size,
};
use firebox_vision::{ColorMode, ErrorKind, Image};

use crate::files::pattern;

const MODES: [ColorMode; 2] = [ColorMode::Gray, ColorMode::Rgb];

fn apply(stage: &impl Transform<Image, Out = Image>, image: Image) -> Image {
    stage.apply(image, &mut SampleRng::from_seed(3)).unwrap()
}

fn refused(stage: &impl Transform<Image, Out = Image>, image: Image) -> String {
    stage.apply(image, &mut SampleRng::from_seed(3)).unwrap_err().to_string()
}

#[test]
fn flips_mirror_every_pixel() {
    for mode in MODES {
        for (height, width) in [(1, 1), (3, 4), (4, 5)] {
            let image = pattern(height, width, mode);
            let flip = RandomHorizontalFlip::new().with_p(1.0).build().unwrap();
            let (across, down) =
                (apply(&flip, image.clone()), apply(&RandomVerticalFlip::new().with_p(1.0), image.clone()));
            for row in 0..height {
                for column in 0..width {
                    assert_eq!(across.pixel(row, column), image.pixel(row, width - 1 - column));
                    assert_eq!(down.pixel(row, column), image.pixel(height - 1 - row, column));
                }
            }
        }
    }
}

#[test]
fn a_center_crop_has_torchvisions_place_and_border() {
    // Size of the image, of the crop, and where its first pixel comes from; halves round to the even number.
    for (size, crop, from) in [
        ((5, 5), (2, 2), (2, 2)),
        ((7, 7), (4, 4), (2, 2)),
        ((9, 9), (4, 4), (2, 2)),
        ((10, 7), (4, 7), (3, 0)),
        ((3, 8), (5, 3), (-1, 2)),
        ((2, 2), (5, 5), (-1, -1)),
    ] {
        for mode in MODES {
            let image = pattern(size.0, size.1, mode);
            let cropped = apply(&CenterCrop::new([crop.0, crop.1]).build().unwrap(), image.clone());
            assert_eq!((cropped.height(), cropped.width()), crop);
            for row in 0..crop.0 {
                for column in 0..crop.1 {
                    let at = (row as i64 + from.0, column as i64 + from.1);
                    let inside = (0..size.0 as i64).contains(&at.0) && (0..size.1 as i64).contains(&at.1);
                    match inside {
                        true => {
                            let expected = image.pixel(at.0 as usize, at.1 as usize);
                            assert_eq!(cropped.pixel(row, column), expected, "{size:?} {crop:?}");
                        }
                        false => assert!(cropped.pixel(row, column).iter().all(|value| *value == 0)),
                    }
                }
            }
        }
    }
}

#[test]
fn borders_follow_their_mode_in_both_directions() {
    let image = Image::new(2, 3, ColorMode::Gray, vec![1, 2, 3, 4, 5, 6]).unwrap();
    let padded = |mode, fill| {
        let pad = Pad::new([2, 1, 1, 0]).with_padding_mode(mode).with_fill(fill);
        apply(&pad, image.clone()).into_pixels()
    };
    assert_eq!(padded(PaddingMode::Constant, [9; 3]), [9, 9, 9, 9, 9, 9, 9, 9, 1, 2, 3, 9, 9, 9, 4, 5, 6, 9]);
    assert_eq!(padded(PaddingMode::Edge, [9; 3]), [1, 1, 1, 2, 3, 3, 1, 1, 1, 2, 3, 3, 4, 4, 4, 5, 6, 6]);
    assert_eq!(padded(PaddingMode::Reflect, [9; 3]), [6, 5, 4, 5, 6, 5, 3, 2, 1, 2, 3, 2, 6, 5, 4, 5, 6, 5]);
    assert_eq!(
        padded(PaddingMode::Symmetric, [9; 3]),
        [2, 1, 1, 2, 3, 3, 2, 1, 1, 2, 3, 3, 5, 4, 4, 5, 6, 6]
    );
    let color = Image::new(1, 1, ColorMode::Rgb, vec![1, 2, 3]).unwrap();
    assert_eq!(apply(&Pad::new([1, 0]).with_fill([7, 8, 9]), color).pixels(), [7, 8, 9, 1, 2, 3, 7, 8, 9]);
    let error = refused(&Pad::new(2).with_padding_mode(PaddingMode::Reflect), image.clone());
    assert_eq!(error, "padding of Image(2×3, Gray): expected at most 1 rows, got 2");
    assert!(refused(&Pad::new(usize::MAX), image).contains("at most 178956970 pixels"));
}

#[test]
fn a_random_crop_is_a_part_of_the_padded_image() {
    let image = pattern(6, 7, ColorMode::Rgb);
    let crop = RandomCrop::new([4, 5]).with_padding(1).build().unwrap();
    let padded = apply(&Pad::new(1), image.clone());
    for seed in 0..50 {
        let part = crop.apply(image.clone(), &mut SampleRng::from_seed(seed)).unwrap();
        let is_there = (0..=padded.height() - 4).any(|top| {
            (0..=padded.width() - 5).any(|left| {
                (0..4).all(|row| {
                    (0..5).all(|column| part.pixel(row, column) == padded.pixel(top + row, left + column))
                })
            })
        });
        assert!(is_there, "{seed}");
    }
    let error = refused(&RandomCrop::new(8).build().unwrap(), image.clone());
    assert_eq!(error, "random crop: expected at least 8×8, got 6×7");
    let grown = apply(&RandomCrop::new(9).with_pad_if_needed(true).build().unwrap(), image);
    assert_eq!((grown.height(), grown.width()), (9, 9));
}

#[test]
fn sizes_are_exact_for_odd_and_small_images() {
    let size = |resize: &Resize, height, width| {
        let Size { height, width } = resize.output_size(height, width);
        (height, width)
    };
    let shorter = Resize::shorter_side(256).build().unwrap();
    assert_eq!(size(&shorter, 375, 500), (256, 341));
    assert_eq!(size(&shorter, 500, 375), (341, 256));
    assert_eq!(size(&shorter, 1, 1), (256, 256));
    assert_eq!(size(&shorter, 256, 999), (256, 999));
    let capped = Resize::shorter_side(256).with_max_size(300).build().unwrap();
    assert_eq!(size(&capped, 375, 500), (225, 300));
    for mode in MODES {
        for (from, to) in [((1, 1), (3, 5)), ((7, 3), (3, 7)), ((300, 2), (1, 1)), ((5, 5), (5, 5))] {
            for interpolation in [
                Interpolation::Nearest,
                Interpolation::Bilinear,
                Interpolation::Bicubic,
                Interpolation::Lanczos,
            ] {
                for antialias in [true, false] {
                    let resize = Resize::new([to.0, to.1])
                        .with_interpolation(interpolation)
                        .with_antialias(antialias)
                        .build()
                        .unwrap();
                    let flat = apply(&resize, Image::filled(from.0, from.1, mode, 137).unwrap());
                    assert_eq!((flat.height(), flat.width()), to);
                    assert!(
                        flat.pixels().iter().all(|value| *value == 137),
                        "{interpolation:?} {from:?} {to:?}"
                    );
                    if from == to {
                        let image = pattern(from.0, from.1, mode);
                        assert_eq!(apply(&resize, image.clone()), image);
                    }
                }
            }
        }
        let part = RandomResizedCrop::new(40).build().unwrap();
        let grown = apply(&part, pattern(5, 9, mode));
        assert_eq!((grown.height(), grown.width()), (40, 40));
    }
}

/// PIL's filters, and how far they reach.
fn filter(interpolation: Interpolation) -> (fn(f64) -> f64, f64) {
    fn sinc(x: f64) -> f64 {
        let x = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { x.sin() / x }
    }
    match interpolation {
        Interpolation::Nearest => unreachable!("no filter"),
        Interpolation::Bilinear => (|x| (1.0 - x.abs()).max(0.0), 1.0),
        Interpolation::Bicubic => (
            |x| match x.abs() {
                x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
                x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
                _ => 0.0,
            },
            2.0,
        ),
        Interpolation::Lanczos => (|x| if x.abs() < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }, 3.0),
    }
}

/// A row in another length, in double precision, as PIL's `Resample.c` defines it.
fn resampled(row: &[u8], to: usize, interpolation: Interpolation) -> Vec<f64> {
    let (filter, support) = filter(interpolation);
    let ratio = row.len() as f64 / to as f64;
    let scale = ratio.max(1.0);
    let value = |place: usize| {
        let center = (place as f64 + 0.5) * ratio;
        let from = (center - support * scale + 0.5).max(0.0) as usize;
        let until = ((center + support * scale + 0.5) as usize).min(row.len());
        let weight = |at: usize| filter((at as f64 - center + 0.5) / scale);
        let sum: f64 = (from..until).map(weight).sum();
        let value = (from..until).map(|at| weight(at) * f64::from(row[at])).sum::<f64>() / sum;
        value.clamp(0.0, 255.0)
    };
    (0..to).map(value).collect()
}

#[test]
fn antialiased_filters_are_pils_in_double_precision_to_one_level() {
    let row: Vec<u8> = (0..97).map(|at| (at * at * 7 + at * 31) as u8).collect();
    for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos] {
        for to in [1, 2, 10, 33, 48, 96, 98, 150, 400] {
            let resize = |size| Resize::new(size).with_interpolation(interpolation).build().unwrap();
            let across = Image::new(1, 97, ColorMode::Gray, row.clone()).unwrap();
            let down = Image::new(97, 1, ColorMode::Gray, row.clone()).unwrap();
            let resized = [apply(&resize([1, to]), across), apply(&resize([to, 1]), down)];
            for (got, expected) in resized[0].pixels().iter().zip(resampled(&row, to, interpolation)) {
                assert!(
                    (f64::from(*got) - expected).abs() <= 1.0,
                    "{interpolation:?} {to}: {got} for {expected}"
                );
            }
            assert_eq!(resized[0].pixels(), resized[1].pixels(), "{interpolation:?} {to}");
        }
    }
}

#[test]
fn the_nearest_pixel_is_the_one_under_the_center() {
    for (from, to) in [(7, 3), (3, 7), (10, 4), (97, 31), (5, 100)] {
        let row: Vec<u8> = (0..from).map(|at| at as u8).collect();
        let image = Image::new(1, from, ColorMode::Gray, row).unwrap();
        let resize = Resize::new([1, to]).with_interpolation(Interpolation::Nearest).build().unwrap();
        let expected: Vec<u8> = (0..to).map(|place| ((2 * place + 1) * from / (2 * to)) as u8).collect();
        assert_eq!(apply(&resize, image).pixels(), expected, "{from} to {to}");
    }
}

#[test]
fn a_resized_crop_looks_at_nothing_outside_its_box() {
    let crop = RandomResizedCrop::new(3).with_scale(0.2, 0.3).build().unwrap();
    for seed in 0..20 {
        let part = crop.crop_box(20, 20, &mut SampleRng::from_seed(seed));
        let mut image = Image::filled(20, 20, ColorMode::Gray, 255).unwrap();
        for row in part.top..part.top + part.height {
            image.pixels_mut()[row * 20 + part.left..][..part.width].fill(40);
        }
        let resized = crop.apply(image, &mut SampleRng::from_seed(seed)).unwrap();
        assert_eq!(resized.pixels(), [40; 9], "{part:?}");
    }
}

#[test]
fn colors_change_as_torchvisions_formulas_say() {
    let image = Image::new(1, 2, ColorMode::Rgb, vec![200, 100, 50, 10, 20, 30]).unwrap();
    let jitter = |stage: ColorJitter| apply(&stage.build().unwrap(), image.clone()).into_pixels();
    assert_eq!(jitter(ColorJitter::new()), image.pixels());
    assert_eq!(jitter(ColorJitter::new().with_brightness_range(1.5, 1.5)), [255, 150, 75, 15, 30, 45]);
    // Grays are 124 and 18: their mean is 71.
    assert_eq!(jitter(ColorJitter::new().with_contrast_range(0.0, 0.0)), [71; 6]);
    assert_eq!(jitter(ColorJitter::new().with_saturation_range(0.0, 0.0)), [124, 124, 124, 18, 18, 18]);
    assert_eq!(jitter(ColorJitter::new().with_saturation_range(1.0, 1.0)), image.pixels());
    let turned = jitter(ColorJitter::new().with_hue_range(0.0, 0.0));
    assert!(turned.iter().zip(image.pixels()).all(|(a, b)| a.abs_diff(*b) <= 1), "{turned:?}");
    // A third of a turn: red becomes green.
    let red = Image::new(1, 1, ColorMode::Rgb, vec![255, 0, 0]).unwrap();
    let third = ColorJitter::new().with_hue_range(1.0 / 3.0, 1.0 / 3.0).build().unwrap();
    let green = apply(&third, red);
    assert!(
        green.pixels()[0] <= 1 && green.pixels()[1] == 255 && green.pixels()[2] <= 1,
        "{:?}",
        green.pixels()
    );
    let gray = apply(&Grayscale::new().with_num_output_channels(3).build().unwrap(), image);
    assert_eq!(gray.pixels(), [124, 124, 124, 18, 18, 18]);
}

#[test]
fn normalized_numbers_are_those_of_the_formula_channel_by_channel() {
    let pixels: Vec<u8> = (0..256).flat_map(|byte| [byte as u8, 255 - byte as u8, byte as u8 / 2]).collect();
    let image = Image::new(8, 32, ColorMode::Rgb, pixels.clone()).unwrap();
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let normalize = Normalize::imagenet([8, 32]).build().unwrap();
    let layout = normalize.layout();
    let loader = Loader::builder(vec![image.clone()]).build_with(layout, normalize).unwrap();
    let batch = loader.epoch(0).next().unwrap().unwrap();
    assert_eq!((batch.samples, batch.shape), (1, [3, 8, 32]));
    for (at, number) in batch.values.iter().enumerate() {
        let (channel, place) = (at / 256, at % 256);
        let expected: f32 = (f32::from(pixels[3 * place + channel]) / 255.0 - mean[channel]) / std[channel];
        assert_eq!(*number, expected, "channel {channel}, pixel {place}");
    }
    let unit = Normalize::unit([8, 32], 3).build().unwrap();
    let loader = Loader::builder(vec![image]).build_with(unit.layout(), unit).unwrap();
    assert_eq!(loader.epoch(0).next().unwrap().unwrap().values[255], 1.0);
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let kinds = [
        Resize::new(0).build().unwrap_err(),
        Resize::new(3).with_max_size(9).build().unwrap_err(),
        Resize::shorter_side(9).with_max_size(9).build().unwrap_err(),
        CenterCrop::new([0, 1]).build().unwrap_err(),
        RandomCrop::new(0).build().unwrap_err(),
        RandomResizedCrop::new(1).with_scale(0.5, 0.1).build().unwrap_err(),
        RandomResizedCrop::new(1).with_ratio(f64::NAN, 1.0).build().unwrap_err(),
        ColorJitter::new().with_hue(0.6).build().unwrap_err(),
        ColorJitter::new().with_contrast(-1.0).build().unwrap_err(),
        Grayscale::new().with_num_output_channels(2).build().unwrap_err(),
        RandomVerticalFlip::new().with_p(f32::NAN).build().unwrap_err(),
        Normalize::new(1, &[0.0; 2], &[1.0; 2]).build().unwrap_err(),
        Normalize::new(1, &[0.0; 3], &[1.0; 2]).build().unwrap_err(),
        Normalize::new(1, &[0.0], &[0.0]).build().unwrap_err(),
    ];
    for error in kinds {
        assert!(matches!(error.kind(), ErrorKind::OutOfRange(_)), "{error}");
        assert!(error.to_string().contains(": expected "), "{error}");
    }
    let thin = Image::filled(1, 60_000, ColorMode::Gray, 0).unwrap();
    let error = refused(&Resize::shorter_side(256).build().unwrap(), thin);
    assert!(error.contains("at most 178956970 pixels, got 256×15360000"), "{error}");
}

#[test]
fn a_stage_that_is_put_in_front_changes_nothing_that_others_draw() {
    let crop = || RandomCrop::new(2).build().unwrap();
    let image = pattern(9, 9, ColorMode::Gray);
    let alone = Compose::new().then(crop());
    let after = Compose::new().then(RandomHorizontalFlip::new().with_p(0.0).build().unwrap()).then(crop());
    for seed in 0..20 {
        let apply = |stages: &Compose| stages.apply(image.clone(), &mut SampleRng::from_seed(seed)).unwrap();
        assert_eq!(apply(&alone), apply(&after));
    }
}
