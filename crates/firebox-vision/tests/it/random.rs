//! Distributions of what is drawn.

use firebox_core::SampleRng;
use firebox_data::Transform;
use firebox_vision::transforms::{
    ColorJitter, RandomCrop, RandomGrayscale, RandomHorizontalFlip, RandomResizedCrop, RandomVerticalFlip,
};
use firebox_vision::{ColorMode, Image};

const DRAWS: usize = 4000;

fn rngs() -> impl Iterator<Item = SampleRng> {
    (0..DRAWS as u64).map(|seed| SampleRng::from_seed(1000 + seed))
}

/// Kolmogorov's and Smirnov's test of numbers that should be uniform from 0 to 1, at a significance of 1e-4.
fn assert_uniform(mut values: Vec<f64>, slack: f64, what: &str) {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let off = |(place, value): (usize, &f64)| {
        (value - place as f64 / count).abs().max((value - (place + 1) as f64 / count).abs())
    };
    let statistic = values.iter().enumerate().map(off).fold(0.0, f64::max);
    // sqrt(ln(2 / 1e-4) / 2), and what is due to whole pixels.
    let limit = 2.225 / count.sqrt() + slack;
    assert!(statistic < limit, "{what}: {statistic} of at most {limit}");
}

#[test]
fn crops_have_the_stated_areas_ratios_and_places() {
    let crop = RandomResizedCrop::new(8).with_scale(0.08, 0.5).build().unwrap();
    let boxes: Vec<_> = rngs().map(|mut rng| crop.crop_box(2000, 2000, &mut rng)).collect();
    let area = |part: &firebox_vision::CropBox| (part.height * part.width) as f64 / 4e6;
    let scales = boxes.iter().map(|part| (area(part) - 0.08) / 0.42).collect();
    assert_uniform(scales, 0.003, "scale");
    let (low, high) = (0.75f64.ln(), (4.0f64 / 3.0).ln());
    let ratio = |part: &firebox_vision::CropBox| (part.width as f64 / part.height as f64).ln();
    assert_uniform(boxes.iter().map(|part| (ratio(part) - low) / (high - low)).collect(), 0.003, "ratio");
    let place = |start: usize, length: usize| (start as f64 + 0.5) / (2000 - length + 1) as f64;
    assert_uniform(boxes.iter().map(|part| place(part.top, part.height)).collect(), 0.003, "top");
    assert_uniform(boxes.iter().map(|part| place(part.left, part.width)).collect(), 0.003, "left");
}

#[test]
fn a_box_that_cannot_fit_is_the_middle_in_the_nearest_ratio() {
    let crop = RandomResizedCrop::new(8).with_scale(1.0, 1.0).build().unwrap();
    let mut rng = SampleRng::from_seed(1);
    for (size, expected) in [((300, 1000), (0, 300, 300, 400)), ((1000, 300), (300, 0, 400, 300))] {
        let part = crop.crop_box(size.0, size.1, &mut rng);
        assert_eq!((part.top, part.left, part.height, part.width), expected);
    }
    for size in [(1, 1), (1, 50_000), (50_000, 1), (2, 3)] {
        let part = RandomResizedCrop::new(8).crop_box(size.0, size.1, &mut rng);
        assert!(part.height >= 1 && part.width >= 1 && part.top + part.height <= size.0, "{part:?}");
        assert!(part.left + part.width <= size.1, "{part:?}");
    }
}

#[test]
fn probabilities_are_as_stated() {
    let image = Image::new(2, 2, ColorMode::Rgb, (0..12).collect()).unwrap();
    let share = |changed: &dyn Fn(Image, &mut SampleRng) -> Image| {
        let count =
            rngs().filter_map(|mut rng| (changed(image.clone(), &mut rng) != image).then_some(())).count();
        count as f64 / DRAWS as f64
    };
    let horizontal = RandomHorizontalFlip::new();
    let vertical = RandomVerticalFlip::new().with_p(0.3).build().unwrap();
    let gray = RandomGrayscale::new();
    for (share, p) in [
        (share(&|image, rng| horizontal.apply(image, rng).unwrap()), 0.5),
        (share(&|image, rng| vertical.apply(image, rng).unwrap()), 0.3),
        (share(&|image, rng| gray.apply(image, rng).unwrap()), 0.1),
    ] {
        let deviation: f64 = f64::sqrt(p * (1.0 - p) / DRAWS as f64);
        assert!((share - p).abs() < 4.0 * deviation, "{share} for {p}");
    }
}

#[test]
fn factors_of_colors_are_uniform() {
    let jitter = ColorJitter::new().with_brightness_range(0.0, 1.0).build().unwrap();
    let white = Image::filled(1, 1, ColorMode::Gray, 255).unwrap();
    let factor = |mut rng: SampleRng| {
        (f64::from(jitter.apply(white.clone(), &mut rng).unwrap().pixels()[0]) + 0.5) / 255.0
    };
    assert_uniform(rngs().map(factor).collect(), 0.004, "brightness");
}

#[test]
fn each_place_of_a_crop_is_as_likely() {
    let crop = RandomCrop::new(2).build().unwrap();
    let image = Image::new(4, 5, ColorMode::Gray, (0..20).collect()).unwrap();
    let mut counts = [0usize; 20];
    rngs().for_each(|mut rng| {
        counts[usize::from(crop.apply(image.clone(), &mut rng).unwrap().pixels()[0])] += 1
    });
    let expected = DRAWS as f64 / 12.0;
    for (corner, count) in counts.into_iter().enumerate() {
        match corner % 5 < 4 && corner < 15 {
            true => assert!((count as f64 - expected).abs() < 5.0 * expected.sqrt(), "{corner}: {count}"),
            false => assert_eq!(count, 0, "{corner}"),
        }
    }
}
