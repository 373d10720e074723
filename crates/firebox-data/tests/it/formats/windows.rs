//! Long texts in windows: what is predicted how often, that rows go on, and that any worker and any resume
//! give the same.

use firebox_data::batches::Batches;
use firebox_data::collate::Padded;
use firebox_data::dataset::Windows;
use firebox_data::formats::text::{Vocabulary, read_text};
use firebox_data::sampler::ContiguousBatches;
use firebox_data::{Dataset, ErrorKind, Loader, Pad};

use super::{gzip, write};

fn loader(
    tokens: usize,
    rows: usize,
    window: usize,
    workers: usize,
) -> (ContiguousBatches, Loader<Pad<i64>>) {
    let windows = Windows::new((0..tokens as i64).collect::<Vec<_>>(), rows, window).unwrap();
    let batches = windows.batches().clone();
    let loader = Loader::builder(windows)
        .batch_sampler(batches.clone())
        .workers(workers)
        .build(Pad::with(-1), |window: Vec<i64>, _, slot| {
            slot.extend(window);
            Ok(())
        })
        .unwrap();
    (batches, loader)
}

fn rows(batch: &Padded<i64>) -> Vec<Vec<i64>> {
    batch.values.chunks(batch.longest).map(<[_]>::to_vec).collect()
}

#[test]
fn every_token_is_predicted_once_but_for_what_is_left_out() {
    for tokens in 2..45usize {
        for size in 1..tokens.min(6) {
            for window in 1..8 {
                let (batches, loader) = loader(tokens, size, window, 0);
                let epoch: Vec<Padded<i64>> = loader.epoch(3).collect::<Result<_, _>>().unwrap();
                let what = format!("{tokens} tokens, {size} rows, windows of {window}");
                assert_eq!(epoch.len(), batches.windows(), "{what}");
                assert_eq!(epoch.len(), loader.batches(3).unwrap(), "{what}");
                let mut predicted: Vec<i64> = Vec::new();
                let mut last: Option<Vec<i64>> = None;
                for (number, batch) in epoch.iter().enumerate() {
                    let rows = rows(batch);
                    assert_eq!(rows.len(), size, "{what}");
                    let full = batch.longest == window + 1;
                    assert!(
                        full || number + 1 == epoch.len() && (2..window + 1).contains(&batch.longest),
                        "{what}"
                    );
                    for row in &rows {
                        assert!(row.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{what}: {row:?}");
                        predicted.extend(&row[1..]);
                    }
                    // What a row reads first is what it predicted last.
                    let first: Vec<_> = rows.iter().map(|row| row[0]).collect();
                    if let Some(last) = last {
                        assert_eq!(first, last, "{what}");
                    }
                    last = Some(rows.iter().map(|row| row[row.len() - 1]).collect());
                }
                predicted.sort_unstable();
                let left = (tokens - 1) % size;
                assert_eq!(predicted, (1..(tokens - left) as i64).collect::<Vec<_>>(), "{what}");
                assert_eq!(batches.left_out(), tokens - left..tokens, "{what}");
                assert_eq!(batches.predictions(), predicted.len(), "{what}");
            }
        }
    }
}

#[test]
fn workers_and_resumes_change_nothing() {
    let (_, alone) = loader(1000, 7, 9, 0);
    let expected: Vec<_> = alone.epoch(1).map(Result::unwrap).collect();
    assert_eq!(expected.len(), 16);
    for workers in [1, 3] {
        let (_, loader) = loader(1000, 7, 9, workers);
        let all: Vec<_> = loader.epoch(0).map(Result::unwrap).collect();
        assert_eq!(all, expected, "every epoch is the same");
        for done in 0..=expected.len() {
            let mut epoch = alone.epoch(1);
            epoch.by_ref().take(done).for_each(|batch| drop(batch.unwrap()));
            let rest: Vec<_> = loader.resume(&epoch.state()).unwrap().map(Result::unwrap).collect();
            assert_eq!(rest, expected[done..], "{workers} workers, after {done} batches");
        }
    }
    for (tokens, rows, window) in [(1001, 7, 9), (1000, 8, 9), (1000, 7, 10)] {
        let (_, other) = loader(tokens, rows, window, 0);
        let error = other.check(&Batches::state(&alone, 1)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::State);
        assert!(error.to_string().contains("7 stretches of 1000 tokens in windows of 9"), "{error}");
    }
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let refused = |tokens: usize, rows, window| {
        let error = Windows::new(vec![0u8; tokens], rows, window).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
        error.to_string()
    };
    assert_eq!(refused(9, 0, 4), "contiguous batches: expected at least 1 row, got 0");
    assert_eq!(refused(9, 4, 0), "contiguous batches: expected windows of at least 1 token, got 0");
    for tokens in [0, 1, 4] {
        let text = format!("contiguous batches: expected more than 4 tokens for as many rows, got {tokens}");
        assert_eq!(refused(tokens, 4, 3), text);
    }
    assert!(Windows::new(vec![0u8; 5], 4, usize::MAX).is_ok());
    let (windows, other) =
        (Windows::new(vec![0u8; 99], 4, 3).unwrap(), Windows::new(vec![0u8; 99], 4, 5).unwrap());
    let text = windows.get(windows.len()).unwrap_err().to_string();
    assert_eq!(text, "windows: expected an index below 32, got 32");
    let mixed = Loader::builder(windows).batch_sampler(other.batches().clone());
    let error = mixed.build(Pad::with(0u8), |_: Vec<u8>, _, _| Ok(())).err().unwrap();
    assert_eq!(error.to_string(), "contiguous batches: expected 20 windows, got 32");
}

#[test]
fn a_text_is_read_plain_or_packed_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| write(folder.path(), name, contents);
    let text = "Grüße,\r\n\tund mehr\u{c}\n";
    let packed = gzip(text.as_bytes());
    let plain = text.replace("\r\n", "\n");
    assert_eq!(read_text(file("plain.txt", text.as_bytes())).unwrap(), plain);
    assert_eq!(read_text(file("packed", &packed)).unwrap(), plain);
    for (name, contents, kind, said) in [
        ("empty", &b""[..], ErrorKind::Format, "expected text, got an empty file"),
        ("image", b"ab\x89PNG", ErrorKind::Format, "expected text in UTF-8, got other bytes from byte 2 on"),
        ("zeros", b"abc\0\0", ErrorKind::Format, "expected text, got the control character '\\0' at byte 3"),
        ("cut", &packed[..packed.len() / 2], ErrorKind::Format, "damaged or cut short"),
    ] {
        let path = file(name, contents);
        let error = read_text(&path).unwrap_err();
        assert_eq!((error.kind(), error.path()), (&kind, Some(&*path)));
        assert!(error.to_string().starts_with(&format!("{}: {said}", path.display())), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    for path in [folder.path().join("none"), folder.path().to_owned()] {
        assert_eq!(read_text(&path).unwrap_err().kind(), &ErrorKind::Io);
    }
}

#[test]
fn characters_have_numbers_and_get_them_back() {
    let vocabulary = Vocabulary::of("to be, or not to be\n");
    assert_eq!((vocabulary.len(), vocabulary.is_empty()), (9, false));
    let numbers = vocabulary.encode("not to\n").unwrap();
    assert_eq!(numbers, [5, 6, 8, 1, 8, 6, 0]);
    assert_eq!(vocabulary.decode(&numbers), "not to\n");
    assert_eq!(vocabulary.decode(&[4, 9]), "e\u{fffd}");
    let error = vocabulary.encode("toß").unwrap_err();
    assert_eq!(error.to_string(), "character 3: expected one of the vocabulary's 9, got 'ß'");
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    let text = serde_json::to_string(&vocabulary).unwrap();
    assert_eq!(text, "\"\\n ,benort\"");
    assert_eq!(serde_json::from_str::<Vocabulary>(&text).unwrap(), vocabulary);
    assert!(Vocabulary::of("").is_empty());
}
