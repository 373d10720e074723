//! The dictionary of pronunciations, good and bad.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use firebox_data::ErrorKind;
use firebox_data::formats::cmudict::{self, Phoneme, SOUNDS, Split, VOWELS};

use super::gzip;

fn text(pronunciation: &[Phoneme]) -> String {
    pronunciation.iter().map(Phoneme::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_dictionary_has_what_its_readme_says() {
    let words = cmudict::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/cmudict")).unwrap();
    assert_eq!(words.len(), 126_052);
    let spellings: HashSet<_> = words.iter().map(|word| &word.spelling).collect();
    assert_eq!(spellings.len(), words.len());
    let pronunciations = words.iter().map(|word| word.pronunciations.len());
    // Two of the file's 135,166 lines repeat a pronunciation.
    assert_eq!(pronunciations.sum::<usize>(), 135_164);
    let longest = |length: fn(&cmudict::Word) -> usize| words.iter().map(length).max();
    assert_eq!(longest(|word| word.spelling.len()), Some(28));
    assert_eq!(longest(|word| word.pronunciations.iter().map(Vec::len).max().unwrap()), Some(28));
    let word = words.iter().find(|word| word.spelling == "aalborg").unwrap();
    let heard: Vec<_> = word.pronunciations.iter().map(|pronunciation| text(pronunciation)).collect();
    assert_eq!(heard, ["AO1 L B AO0 R G", "AA1 L B AO0 R G"]);
    let used: HashSet<_> = words.iter().flat_map(|word| word.pronunciations.iter().flatten()).collect();
    let all = Phoneme::all(true);
    assert_eq!((used.len(), all.len()), (69, 69));
    assert!(all.iter().all(|phoneme| used.contains(phoneme)));
}

#[test]
fn no_spelling_is_on_two_sides() {
    let words = cmudict::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/cmudict")).unwrap();
    let all: HashSet<String> = words.iter().map(|word| word.spelling.clone()).collect();
    let few: Vec<_> = words.iter().step_by(7).rev().cloned().collect();
    let parts = |words| {
        let Split { train, valid, test } = Split::by_spelling(words);
        [train, valid, test].map(|part| part.into_iter().map(|word| word.spelling).collect::<HashSet<_>>())
    };
    let (whole, few) = (parts(words), parts(few));
    // As benches/peers/pronounce.py has them.
    assert_eq!(whole.each_ref().map(HashSet::len), [113_420, 6_573, 6_059]);
    assert_eq!(whole.iter().map(HashSet::len).sum::<usize>(), all.len());
    assert_eq!(whole.iter().flatten().cloned().collect::<HashSet<_>>(), all);
    for (whole, few) in whole.iter().zip(&few) {
        assert!(few.is_subset(whole), "a word's part depends on the other words");
    }
}

#[test]
fn phonemes_lose_their_stress_and_nothing_else() {
    let plain = Phoneme::all(false);
    assert_eq!(plain.iter().map(Phoneme::to_string).collect::<Vec<_>>(), SOUNDS);
    let unstressed: HashSet<_> = Phoneme::all(true).into_iter().map(Phoneme::unstressed).collect();
    assert_eq!(unstressed, plain.into_iter().collect());
    assert_eq!(Phoneme::all(true).len(), 3 * VOWELS + (SOUNDS.len() - VOWELS));
}

#[test]
fn a_word_has_all_its_lines_and_comments_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "b B IY1 # the letter\n\na AH0\nb(2) B\na(2) EY1\na(3) AH0\r\n";
    for (name, bytes) in [("cmudict.dict", lines.as_bytes()), ("cmudict.dict.gz", &gzip(lines.as_bytes()))] {
        fs::write(folder.path().join(name), bytes).unwrap();
        let words = cmudict::read(folder.path()).unwrap();
        let told: Vec<_> = words
            .iter()
            .map(|word| (&*word.spelling, word.pronunciations.iter().map(|p| text(p)).collect::<Vec<_>>()))
            .collect();
        let expected = [
            ("b", vec!["B IY1".to_owned(), "B".to_owned()]),
            ("a", vec!["AH0".to_owned(), "EY1".to_owned()]),
        ];
        assert_eq!(told, expected, "{name}");
    }
}

#[test]
fn a_bad_dictionary_is_refused_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let error = cmudict::read(folder.path()).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Io);
    assert!(
        error.to_string().ends_with("cmudict.dict: no such file, neither with .gz nor without"),
        "{error}"
    );
    let path = folder.path().join("cmudict.dict");
    let cases: [(&[u8], &str); 10] = [
        (b"", "expected words with their phonemes, got none"),
        (b"\n  \n", "expected words with their phonemes, got none"),
        (b"a AH0\n\x00\x01\xfe\xff\n", "line 2: expected text, got bytes that are not UTF-8"),
        (
            b"\x7fELF\x02",
            "line 1: \"\\u{7f}ELF\\u{2}\": expected the letters abcdefghijklmnopqrstuvwxyz'-., got '\\u{7f}'",
        ),
        (b"a AH0\nbee\n", "line 2: bee: expected phonemes behind the word, got none"),
        (b"a AH0\nbee(2) # B\n", "line 2: bee(2): expected phonemes behind the word, got none"),
        (
            b"caf\xc3\xa9 K AE0\n",
            "line 1: \"caf\u{e9}\": expected the letters abcdefghijklmnopqrstuvwxyz'-., got '\u{e9}'",
        ),
        (b"a(2 AH0\n", "line 1: \"a(2\": expected the letters abcdefghijklmnopqrstuvwxyz'-., got '('"),
        (b"a AH\n", "line 1: a: expected a phoneme of ARPAbet, got \"AH\""),
        (b"bee B1 IY1\n", "line 1: bee: expected a phoneme of ARPAbet, got \"B1\""),
    ];
    for (bytes, message) in cases {
        fs::write(&path, bytes).unwrap();
        let error = cmudict::read(folder.path()).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Format);
        assert_eq!(error.to_string(), format!("{}: {message}", path.display()));
    }
    fs::write(path.with_added_extension("gz"), b"\x1f\x8b\x08\x00").unwrap();
    let error = cmudict::read(folder.path()).unwrap_err();
    assert!(error.to_string().contains("cmudict.dict.gz: damaged or cut short"), "{error}");
}
