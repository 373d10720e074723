//! Event files: read by a reader of the tests' own, which knows the format and nothing of the writer, and by
//! TensorBoard.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it skips")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::{Pulled, STEPS, fit, folder, numbers, python};
use firebox_report::TensorBoard;
use firebox_train::event::Event;
use firebox_train::trainer::Outcome;
use firebox_train::{Error, ErrorKind, RunDir, Trainer};
use image::{GrayImage, RgbImage};
use serde_json::Value;

/// Bit by bit, unlike the writer's.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The records of a file; a short last one is left out, as by TensorBoard.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while bytes.len() >= 12 {
        let (head, rest) = bytes.split_at(12);
        let len = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
        assert_eq!(masked_crc32c(&head[..8]).to_le_bytes(), head[8..], "the length's checksum");
        if rest.len() < len + 4 {
            break;
        }
        let (contents, rest) = rest.split_at(len);
        assert_eq!(masked_crc32c(contents).to_le_bytes(), rest[..4], "the contents' checksum");
        records.push(contents.to_vec());
        bytes = &rest[4..];
    }
    records
}

/// The fields of a message, by number: numbers of eight bytes and fewer as bits.
enum Field {
    Bits(u64),
    Bytes(Vec<u8>),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let mut take = |len: usize| {
            let (taken, rest) = bytes.split_at(len);
            bytes = rest;
            taken.to_vec()
        };
        let field = match key & 7 {
            0 => Field::Bits(varint(&mut bytes)),
            1 => Field::Bits(u64::from_le_bytes(take(8).try_into().unwrap())),
            5 => Field::Bits(u32::from_le_bytes(take(4).try_into().unwrap()).into()),
            2 => {
                let len = varint(&mut bytes) as usize;
                let (taken, rest) = bytes.split_at(len);
                bytes = rest;
                Field::Bytes(taken.to_vec())
            }
            kind => panic!("a field of kind {kind}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn bits(message: &[u8], number: u64) -> Option<u64> {
    fields(message).into_iter().find_map(|(field, value)| match value {
        Field::Bits(bits) if field == number => Some(bits),
        _ => None,
    })
}

fn bytes(message: &[u8], number: u64) -> Vec<Vec<u8>> {
    let all = fields(message).into_iter().filter(|(field, _)| *field == number);
    all.filter_map(|(_, value)| match value {
        Field::Bytes(bytes) => Some(bytes),
        Field::Bits(_) => None,
    })
    .collect()
}

/// A step; a picture's file; its width, height and number of colours.
type Image = (u64, Vec<u8>, [u64; 3]);
/// A step; minimum, maximum, number, sum, sum of squares; limits; counts.
type Histogram = (u64, [f64; 5], Vec<f64>, Vec<f64>);

/// What a folder's files say by tag: (step, value), with what a restart voids left out.
#[derive(Default)]
struct Board {
    scalars: BTreeMap<String, Vec<(u64, f32)>>,
    images: BTreeMap<String, Vec<Image>>,
    histograms: BTreeMap<String, Vec<Histogram>>,
    /// The steps from which on something was void.
    restarts: Vec<u64>,
}

fn read(run: &Path) -> Board {
    let mut files: Vec<_> =
        fs::read_dir(run.join("tensorboard")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut board = Board::default();
    for file in files {
        let records = records(&fs::read(&file).unwrap());
        assert_eq!(bytes(&records[0], 3), [b"brain.Event:2"], "the first event says the version");
        for event in records {
            // The time is a field of eight bytes: a date of this century.
            let time = f64::from_bits(bits(&event, 1).unwrap());
            assert!(time > 1.7e9 && time < 4e9, "{time}");
            let step = bits(&event, 2).unwrap();
            for log in bytes(&event, 7) {
                assert_eq!(bits(&log, 1), Some(1), "SessionLog.START");
                board.restarts.push(step);
                board.scalars.values_mut().for_each(|course| course.retain(|(at, _)| *at < step));
                board.images.values_mut().for_each(|course| course.retain(|(at, ..)| *at < step));
                board.histograms.values_mut().for_each(|course| course.retain(|(at, ..)| *at < step));
            }
            for value in bytes(&event, 5).iter().flat_map(|summary| bytes(summary, 1)) {
                let tag = String::from_utf8(bytes(&value, 1).remove(0)).unwrap();
                if let Some(scalar) = bits(&value, 2) {
                    board.scalars.entry(tag).or_default().push((step, f32::from_bits(scalar as u32)));
                } else if let Some(image) = bytes(&value, 4).first() {
                    let size = [2, 1, 3].map(|field| bits(image, field).unwrap());
                    board.images.entry(tag).or_default().push((step, bytes(image, 4).remove(0), size));
                } else {
                    let histogram = bytes(&value, 5).remove(0);
                    let doubles = |field| -> Vec<f64> {
                        let packed = bytes(&histogram, field).remove(0);
                        packed.chunks(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap())).collect()
                    };
                    let of_all =
                        [1, 2, 3, 4, 5].map(|field| f64::from_bits(bits(&histogram, field).unwrap()));
                    let course = board.histograms.entry(tag).or_default();
                    course.push((step, of_all, doubles(6), doubles(7)));
                }
            }
        }
    }
    board
}

fn grey(step: usize) -> GrayImage {
    GrayImage::from_fn(5, 3, |x, y| [(40 * x + 10 * y) as u8 + step as u8].into())
}

/// A run that also draws a picture after each evaluation.
fn logged(run: &RunDir, resume: bool, task: &mut Pulled) -> Result<Outcome, Error> {
    let board = TensorBoard::new(run);
    fit(run, resume, task, |trainer| {
        trainer.callback(board.clone()).callback(move |event: &Event<'_>| match event {
            Event::Validated { state, .. } => Ok(board.image("drawn/grey", grey(state.step))?),
            _ => Ok(()),
        })
    })
}

/// Every number of every record is in a course of the split's, at its step, and no others are there.
fn check_scalars(run: &Path, board: &Board) {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut expected: BTreeMap<String, Vec<(u64, f32)>> = BTreeMap::new();
    for record in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let epoch = if record["kind"] == "epoch" { "-epoch" } else { "" };
        for (name, value) in record.as_object().unwrap() {
            if let Some(value) = value.as_f64()
                && !["format_version", "step"].contains(&name.as_str())
            {
                let tag = format!("{name}/{}{epoch}", record["split"].as_str().unwrap());
                expected.entry(tag).or_default().push((record["step"].as_u64().unwrap(), value as f32));
            }
        }
    }
    // What is not finite is in no record.
    let mut finite = board.scalars.clone();
    finite.values_mut().for_each(|course| course.retain(|(_, value)| value.is_finite()));
    assert_eq!(finite, expected);
}

#[test]
fn every_number_of_the_records_is_a_scalar() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let mut task = Pulled { not_a_number: Some(3), ..Pulled::default() };
    logged(&run, false, &mut task).unwrap();
    let board = read(place.path());
    check_scalars(place.path(), &board);
    for tag in ["loss/train", "loss/valid", "lr/train", "gradient_norm/train", "seconds/train-epoch"] {
        assert!(board.scalars.contains_key(tag), "{tag}: {:?}", board.scalars.keys());
    }
    let ratios = &board.scalars["ratio/train"];
    assert_eq!(ratios.len(), 2 * STEPS);
    assert!(ratios[3].1.is_nan() && ratios.iter().filter(|(_, ratio)| ratio.is_nan()).count() == 1);
    // A test after the run.
    let mut trainer = Trainer::new(&run, &Default::default()).callback(TensorBoard::new(&run));
    trainer.evaluate(&numbers(8), "test", firebox_train::Task::evaluator(&task)).unwrap();
    let board = read(place.path());
    check_scalars(place.path(), &board);
    assert!(board.scalars.contains_key("loss/test"));
}

#[test]
fn weights_are_histograms_at_checkpoints_and_pictures_are_png() {
    let place = tempfile::tempdir().unwrap();
    logged(&folder(place.path(), false), false, &mut Pulled::default()).unwrap();
    let board = read(place.path());
    assert_eq!(board.histograms.keys().collect::<Vec<_>>(), ["model/layer.weight"], "of no optimiser");
    let course = &board.histograms["model/layer.weight"];
    let steps: Vec<_> = course.iter().map(|(step, ..)| *step as usize).collect();
    assert!(steps.is_sorted() && [0, STEPS, 2 * STEPS].iter().all(|step| steps.contains(step)), "{steps:?}");
    let (_, [min, max, count, sum, squares], limits, counts) = course.last().unwrap();
    // Weights of which the first one stays 0, and the third is twice the second.
    assert_eq!((*min, *count, limits.len(), counts.len()), (0.0, 3.0, 30, 30));
    assert!((sum - 1.5 * max).abs() < 1e-6 && (squares - 1.25 * max * max).abs() < 1e-5 && *max > 1.0);
    assert_eq!((limits[29], counts.iter().sum::<f64>(), counts[0], counts[29]), (*max, 3.0, 1.0, 1.0));
    let images = &board.images["drawn/grey"];
    for ((step, png, size), expected) in images.iter().zip([STEPS, 2 * STEPS]) {
        assert_eq!((*step as usize, size), (expected, &[5, 3, 1]));
        assert_eq!(image::load_from_memory(png).unwrap().into_luma8(), grey(expected));
    }
    assert_eq!(images.len(), 2);
}

#[test]
fn a_run_that_goes_on_shows_no_step_twice() {
    let whole = tempfile::tempdir().unwrap();
    logged(&folder(whole.path(), false), false, &mut Pulled::default()).unwrap();
    let expected = read(whole.path());
    for fails in 1..2 * STEPS {
        let place = tempfile::tempdir().unwrap();
        let run = folder(place.path(), false);
        logged(&run, false, &mut Pulled { fails: Some(fails), ..Pulled::default() }).unwrap_err();
        // A kill in the middle of an event.
        let file = fs::read_dir(run.tensorboard()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = fs::read(&file).unwrap();
        bytes.extend(bytes[..30].to_vec());
        fs::write(&file, bytes).unwrap();
        logged(&run, true, &mut Pulled::default()).unwrap();
        let board = read(place.path());
        check_scalars(place.path(), &board);
        // The first word of each file; the second part begins behind a checkpoint that is not after the
        // failure.
        assert_eq!((board.restarts.len(), board.restarts[0]), (2, 1));
        assert!(board.restarts[1] as usize <= fails + 1, "{:?}, {fails}", board.restarts);
        assert_eq!(board.images, expected.images);
        for tag in ["loss/train", "loss/train-epoch", "loss/valid", "seen/valid"] {
            assert_eq!(board.scalars[tag], expected.scalars[tag], "{tag}, failed at {fails}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_the_runs_error() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    fs::write(place.path().join("tensorboard"), "not a folder").unwrap();
    let error = logged(&run, false, &mut Pulled::default()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Callback);
    assert!(error.to_string().contains("tensorboard: cannot be created: "), "{error}");
}

#[test]
fn odd_values_are_written_or_refused() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let board = TensorBoard::new(&run);
    for image in [GrayImage::new(0, 0), GrayImage::new(0, 5), GrayImage::new(5, 0)] {
        let error = board.image("none", image).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::RunDir);
        assert!(
            error.to_string().starts_with("picture none: ") && error.to_string().lines().count() == 1,
            "{error}"
        );
    }
    for values in [&[][..], &[f32::NAN], &[f32::INFINITY, f32::NEG_INFINITY]] {
        board.histogram("nothing", values).unwrap();
    }
    board.histogram("constant", &[2.5; 9]).unwrap();
    board.histogram("whole", &[f32::MIN, 0.0, f32::MAX]).unwrap();
    for (tag, value) in [("a \"tag\",\nof two lines", 1.0), ("", 2.0), ("nan", f64::NAN), ("huge", 1e308)] {
        board.scalar(tag, value).unwrap();
    }
    let found = read(place.path());
    assert_eq!(found.histograms.keys().collect::<Vec<_>>(), ["constant", "whole"]);
    let (_, [min, max, count, ..], limits, counts) = &found.histograms["whole"][0];
    assert_eq!((*min, *max, *count), (f64::from(f32::MIN), f64::from(f32::MAX), 3.0));
    assert!(limits.is_sorted() && counts.iter().sum::<f64>() == 3.0 && counts[15] == 1.0, "{counts:?}");
    assert_eq!(found.scalars.len(), 4);
    assert_eq!(found.scalars["a \"tag\",\nof two lines"][0].1, 1.0);
    assert!(found.scalars["nan"][0].1.is_nan() && found.scalars["huge"][0].1 == f32::INFINITY);
}

#[test]
fn overwriting_a_run_removes_its_event_files_and_no_others() {
    let place = tempfile::tempdir().unwrap();
    logged(&folder(place.path(), false), false, &mut Pulled::default()).unwrap();
    let notes = place.path().join("tensorboard/notes");
    fs::write(&notes, "").unwrap();
    let run = RunDir::overwrite(place.path()).unwrap();
    let left: Vec<_> = fs::read_dir(run.tensorboard()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [notes]);
}

#[test]
fn tensorboard_reads_it() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let mut task = Pulled { not_a_number: Some(3), fails: Some(8), ..Pulled::default() };
    logged(&run, false, &mut task).unwrap_err();
    let first = fs::read_dir(run.tensorboard()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&first).unwrap();
    bytes.extend(bytes[..30].to_vec());
    fs::write(&first, bytes).unwrap();
    logged(&run, true, &mut Pulled { not_a_number: Some(3), ..Pulled::default() }).unwrap();
    let after = TensorBoard::new(&run);
    after.scalar("after/huge", 1e300).unwrap();
    after.image("after/colours", RgbImage::from_pixel(2, 4, [255, 0, 9].into())).unwrap();
    after.histogram("after/values", &[1.0, 2.0, f32::NAN, 2.0]).unwrap();
    after.histogram("after/nothing", &[f32::NAN]).unwrap();

    let Some(said) = python("tensorboard.backend.event_processing.event_accumulator", &[&run.tensorboard()])
    else {
        return;
    };
    let said: Value = serde_json::from_str(&said).unwrap();
    let board = read(place.path());
    let tags = |kind: &str| said[kind].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(tags("scalars"), board.scalars.keys().cloned().collect::<Vec<_>>());
    for (tag, course) in &board.scalars {
        let found = said["scalars"][tag].as_array().unwrap();
        assert_eq!(found.len(), course.len(), "{tag}");
        for (found, (step, value)) in found.iter().zip(course) {
            let number: f64 = found[1].as_str().unwrap().parse().unwrap();
            let same = (number as f32).to_bits() == value.to_bits() || number.is_nan() && value.is_nan();
            assert!(found[0] == *step && same, "{tag}: {found}, expected {value} at {step}");
        }
    }
    assert_eq!(said["scalars"]["after/huge"][0][1], "inf");
    assert_eq!(said["scalars"]["loss/train"].as_array().unwrap().len(), 2 * STEPS, "each step once");
    assert_eq!(tags("images"), ["after/colours", "drawn/grey"]);
    for (tag, course) in &board.images {
        for (place, (step, png, [width, height, _])) in course.iter().enumerate() {
            let hex: String = png.iter().map(|byte| format!("{byte:02x}")).collect();
            let expected = serde_json::json!([step, [width, height, hex]]);
            assert_eq!(said["images"][tag][place], expected, "{tag}");
        }
    }
    assert_eq!(tags("histograms"), ["after/values", "model/layer.weight"]);
    for (tag, course) in &board.histograms {
        assert_eq!(said["histograms"][tag].as_array().unwrap().len(), course.len(), "{tag}");
        for (place, (step, [min, max, count, sum, squares], limits, counts)) in course.iter().enumerate() {
            let expected = serde_json::json!([step, [min, max, count, sum, squares, limits, counts]]);
            assert_eq!(said["histograms"][tag][place], expected, "{tag}");
        }
    }
    let values = &said["histograms"]["after/values"][0][1];
    assert_eq!((&values[2], &values[3], &values[4]), (&3.0.into(), &5.0.into(), &9.0.into()));
}
