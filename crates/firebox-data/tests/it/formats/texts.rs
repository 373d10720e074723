//! Marks, line ends and encodings of text files, which all readers see alike.

use std::fs;
use std::path::Path;

use firebox_data::collate::Ragged;
use firebox_data::formats::text::{Vocabulary, read_text};
use firebox_data::formats::{Lines, cmudict};
use firebox_data::{Error, ErrorKind, Loader, SampleRng, Shards};

use super::{gzip, write};

const MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a file from an offset on, each with the offset of what follows it.
fn lines(path: &Path, offset: u64) -> Result<Vec<(String, u64)>, Error> {
    let mut records = Lines::new([path]).open(0, offset)?;
    let mut lines = Vec::new();
    while let Some(line) = records.next() {
        lines.push((line?, records.offset().unwrap()));
    }
    Ok(lines)
}

fn texts(path: &Path) -> Vec<String> {
    lines(path, 0).unwrap().into_iter().map(|(line, _)| line).collect()
}

#[test]
fn a_mark_and_a_line_end_of_windows_are_no_text() {
    let bom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bom.txt");
    assert_eq!(read_text(&bom).unwrap(), "abc\nd");
    assert_eq!(texts(&bom), ["abc", "d"]);
    // Offsets are those of the file: the mark has three bytes, the line end two.
    assert_eq!(lines(&bom, 0).unwrap(), [("abc".to_owned(), 8), ("d".to_owned(), 9)]);
    assert_eq!(lines(&bom, 8).unwrap(), [("d".to_owned(), 9)]);
    assert_eq!(Vocabulary::of(&read_text(&bom).unwrap()).len(), 5, "a b c d and the line end");
    let folder = tempfile::tempdir().unwrap();
    let packed = write(folder.path(), "packed", &gzip(&fs::read(&bom).unwrap()));
    assert_eq!(read_text(packed).unwrap(), "abc\nd");
    // Members of gzip, and pieces of them, may be of any length.
    let members: Vec<u8> = fs::read(&bom).unwrap().iter().flat_map(|&byte| gzip(&[byte])).collect();
    assert_eq!(read_text(write(folder.path(), "members", &members)).unwrap(), "abc\nd");
}

#[test]
fn a_mark_counts_at_the_beginning_only_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let twice = write(folder.path(), "twice", "\u{feff}\u{feff}a\n\u{feff}b\n".as_bytes());
    assert_eq!(read_text(&twice).unwrap(), "\u{feff}a\n\u{feff}b\n");
    assert_eq!(texts(&twice), ["\u{feff}a", "\u{feff}b"]);
    // Who goes on where a line begins with what would be a mark in front of all of them finds a character.
    let next = lines(&twice, 0).unwrap()[0].1;
    assert_eq!(lines(&twice, next).unwrap()[0].0, "\u{feff}b");
    let short = write(folder.path(), "short", b"\xef\xbb");
    assert!(read_text(&short).unwrap_err().to_string().contains("got other bytes from byte 0 on"));
    assert!(lines(&short, 0).unwrap_err().to_string().contains("the line at byte 0 is not UTF-8"));
    let alone = write(folder.path(), "alone", MARK);
    assert!(read_text(&alone).unwrap_err().to_string().ends_with("expected text, got an empty file"));
    assert_eq!(texts(&alone), [""; 0]);
    // The place in an error is one in the file.
    let control = write(folder.path(), "control", "\u{feff}a\r\n\u{1}".as_bytes());
    assert!(read_text(&control).unwrap_err().to_string().ends_with("character '\\u{1}' at byte 6"));
    let broken = write(folder.path(), "broken", b"\xef\xbb\xbfa\r\n\xff\n");
    assert!(read_text(&broken).unwrap_err().to_string().ends_with("from byte 6 on"));
    assert!(lines(&broken, 0).unwrap_err().to_string().contains("the line at byte 6 is not UTF-8"));
}

#[test]
fn another_encoding_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (bytes, name) in [
        (&b"\xff\xfea\0b\0"[..], "UTF-16 (little-endian)"),
        (b"\xff\xfe", "UTF-16 (little-endian)"),
        (b"\xfe\xff\0a\0b", "UTF-16 (big-endian)"),
        (b"\xff\xfe\0\0a\0\0\0", "UTF-32 (little-endian)"),
        (b"\0\0\xfe\xff\0\0\0a", "UTF-32 (big-endian)"),
    ] {
        let path = write(folder.path(), "cmudict.dict", bytes);
        let expected = format!("expected text in UTF-8, got {name} by its byte order mark");
        for error in [
            read_text(&path).unwrap_err(),
            lines(&path, 0).unwrap_err(),
            cmudict::read(folder.path()).unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.path()), (&ErrorKind::Format, Some(&*path)));
            assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
        }
        let packed = write(folder.path(), "packed", &gzip(bytes));
        assert!(read_text(packed).unwrap_err().to_string().ends_with(&expected));
    }
}

#[test]
fn the_lines_of_a_text_are_those_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = SampleRng::from_seed(1);
    let pieces = ["\n", "\r", "\r\n", "\r\r\n", "a", "é", "\u{feff}", "  ", "\t"];
    for case in 0..600 {
        let length = rng.below(12);
        let mark = if rng.chance(0.3) { "\u{feff}" } else { "" };
        let body: String = (0..length).map(|_| pieces[rng.below(pieces.len() as u64) as usize]).collect();
        let path = write(folder.path(), "text", format!("{mark}{body}").as_bytes());
        let read = lines(&path, 0).unwrap();
        let told: Vec<_> = read.iter().map(|(line, _)| &**line).collect();
        let text = read_text(&path).unwrap_or_default();
        assert_eq!(told, text.split_terminator('\n').collect::<Vec<_>>(), "case {case}: {body:?}");
        assert!(!text.contains("\r\n"));
        // Every offset is one to go on from.
        for (place, (_, offset)) in read.iter().enumerate() {
            assert_eq!(lines(&path, *offset).unwrap(), read[place + 1..], "case {case}: {body:?}");
        }
    }
}

#[test]
fn a_carriage_return_elsewhere_is_a_character() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "text", b"10 %\r20 %\rdone\nend\r");
    assert_eq!(read_text(&path).unwrap(), "10 %\r20 %\rdone\nend\r");
    assert_eq!(texts(&path), ["10 %\r20 %\rdone", "end\r"]);
}

#[test]
fn a_stream_of_lines_goes_on_behind_a_mark() {
    let folder = tempfile::tempdir().unwrap();
    let text = |file: usize| (0..40).map(|line| format!("{file} {line}\r\n")).collect::<String>();
    let files = [0, 1, 2].map(|file| {
        let mark = if file == 1 { "" } else { "\u{feff}" };
        write(folder.path(), &format!("{file}"), format!("{mark}{}", text(file)).as_bytes())
    });
    let build = |workers| {
        Loader::stream(Lines::new(&files))
            .batch_size(7)
            .workers(workers)
            .build(Ragged::new(|lines: Vec<String>| Ok(lines)), |line, _, slot| {
                *slot = Some(line.clone());
                Ok(())
            })
            .unwrap()
    };
    let expected: Vec<Vec<String>> = build(0).epoch(0).map(Result::unwrap).collect();
    let mut all = expected.concat();
    all.sort();
    let mut told: Vec<_> = [0, 1, 2]
        .iter()
        .flat_map(|&file| text(file).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    told.sort();
    assert_eq!(all, told);
    for stop in 0..=expected.len() {
        let loader = build(2);
        let mut epoch = loader.epoch(0);
        epoch.by_ref().take(stop).for_each(drop);
        let rest: Vec<_> = build(1).resume(&epoch.state()).unwrap().map(Result::unwrap).collect();
        assert_eq!(rest, expected[stop..], "after {stop} batches");
    }
}

#[test]
fn what_lines_cannot_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let packed = write(folder.path(), "packed.gz", &gzip(b"a\nb\n"));
    let error = lines(&packed, 0).unwrap_err();
    assert_eq!((error.kind(), error.path()), (&ErrorKind::Format, Some(&*packed)));
    assert!(error.to_string().contains("packed with gzip"), "{error}");
    let error = Lines::new([&packed]).open(1, 0).err().unwrap();
    assert_eq!(error.to_string(), "shard: expected a number below 1, got 1");
    assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    let plain = write(folder.path(), "plain", b"a\nb");
    assert_eq!(lines(&plain, u64::MAX).unwrap_err().kind(), &ErrorKind::Io);
    assert!(lines(&plain, 100).unwrap().is_empty());
}

#[test]
fn a_dictionary_may_have_a_mark_comments_and_line_ends_of_windows() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{feff}# the words\r\n;;; of an older edition\r\n\r\nb B IY1 # the letter\r\n \t# none\r\na AH0\t# the\r\na(2) EY1\r\nb B IY1\r\n";
    for (name, bytes) in
        [("cmudict.dict", text.as_bytes().to_vec()), ("cmudict.dict.gz", gzip(text.as_bytes()))]
    {
        write(folder.path(), name, &bytes);
        let words = cmudict::read(folder.path()).unwrap();
        let told: Vec<_> = words.iter().map(|word| (&*word.spelling, word.pronunciations.len())).collect();
        assert_eq!(told, [("b", 1), ("a", 2)], "{name}");
    }
    fs::remove_file(folder.path().join("cmudict.dict.gz")).unwrap();
    for (line, said) in [
        ("a AH3", "line 1: a: expected a phoneme of ARPAbet, got \"AH3\""),
        ("a AH01", "line 1: a: expected a phoneme of ARPAbet, got \"AH01\""),
        ("a 0", "line 1: a: expected a phoneme of ARPAbet, got \"0\""),
        ("a AH0#x", "line 1: a: expected a phoneme of ARPAbet, got \"AH0#x\""),
        ("a AH0\rb B", "line 1: a: expected a phoneme of ARPAbet, got \"b\""),
        ("(2) AH0", "line 1: expected a word, got none"),
    ] {
        write(folder.path(), "cmudict.dict", line.as_bytes());
        let error = cmudict::read(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with(said), "{error}");
    }
}
