//! CMUdict: how English words are pronounced, 135,166 pronunciations of 126,052 spellings (Carnegie Mellon
//! University, 1993–2015).

use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::formats::gzip::{find, open_text, undecodable};

/// The letters that spellings have.
pub const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz'-.";

/// The sounds of ARPAbet: the vowels, which have a stress, then the consonants.
pub const SOUNDS: [&str; 39] = [
    "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW", "B", "CH", "D",
    "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z",
    "ZH",
];

/// How many of the [`SOUNDS`], the first ones, are vowels.
pub const VOWELS: usize = 15;

/// A sound, and of a vowel its stress. Written as in the dictionary: `AH0`, `B`; without stress marks `AH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Phoneme {
    sound: u8,
    stress: Option<u8>,
}

impl Phoneme {
    /// All that a pronunciation can have: with stress marks 69, without them 39.
    pub fn all(stress: bool) -> Vec<Phoneme> {
        let sounds = 0..SOUNDS.len();
        let marks = |sound| if stress && sound < VOWELS { &[Some(0), Some(1), Some(2)][..] } else { &[None] };
        let with = |sound| marks(sound).iter().map(move |&stress| Phoneme { sound: sound as u8, stress });
        sounds.flat_map(with).collect()
    }

    /// The same sound without its stress.
    pub fn unstressed(self) -> Self {
        Phoneme { stress: None, ..self }
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, stress) = match text.strip_suffix(['0', '1', '2']) {
            Some(name) => (name, Some(text.as_bytes()[name.len()] - b'0')),
            None => (text, None),
        };
        let sound = SOUNDS.iter().position(|&sound| sound == name)?;
        ((sound < VOWELS) == stress.is_some()).then_some(Phoneme { sound: sound as u8, stress })
    }
}

impl fmt::Display for Phoneme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", SOUNDS[usize::from(self.sound)])?;
        self.stress.map_or(Ok(()), |stress| write!(f, "{stress}"))
    }
}

/// A spelling with everything that it may sound like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// One or more of the [`LETTERS`].
    pub spelling: String,
    /// Different ones, the first the dictionary's first; each has at least one phoneme.
    pub pronunciations: Vec<Vec<Phoneme>>,
}

/// The words of `cmudict.dict` in `folder`, with or without `.gz`, in the order in which they first come.
///
/// # Errors
/// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::Format`] if it has no word, or a line is not a
/// spelling of these [`LETTERS`] with phonemes of ARPAbet behind it. The error names file and line. Comments,
/// empty lines, `\r` before a line's end and a byte order mark are passed over.
pub fn read(folder: impl AsRef<Path>) -> Result<Vec<Word>, Error> {
    let path = find(folder.as_ref(), "cmudict.dict")?;
    let words = open_text(&path).and_then(words);
    words.map_err(|error| error.at_path(path))
}

fn words(mut file: impl BufRead) -> Result<Vec<Word>, Error> {
    let mut words: Vec<Word> = Vec::new();
    let mut places = HashMap::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(undecodable)? == 0 {
            break;
        }
        let wrong = |text: String| Error::new(ErrorKind::Format, format!("line {number}: {text}"));
        let text = str::from_utf8(&line)
            .map_err(|_| wrong("expected text, got bytes that are not UTF-8".to_owned()))?;
        let mut parts = without_comment(text).split_ascii_whitespace();
        let Some(name) = parts.next() else { continue };
        let spelling = without_number(name);
        check(spelling).map_err(wrong)?;
        let phoneme = |text: &str| {
            Phoneme::parse(text)
                .ok_or_else(|| wrong(format!("{name}: expected a phoneme of ARPAbet, got {text:?}")))
        };
        let pronunciation = parts.map(phoneme).collect::<Result<Vec<_>, _>>()?;
        if pronunciation.is_empty() {
            return Err(wrong(format!("{name}: expected phonemes behind the word, got none")));
        }
        let place = *places.entry(spelling.to_owned()).or_insert_with(|| {
            words.push(Word { spelling: spelling.to_owned(), pronunciations: Vec::new() });
            words.len() - 1
        });
        let pronunciations = &mut words[place].pronunciations;
        if !pronunciations.contains(&pronunciation) {
            pronunciations.push(pronunciation);
        }
    }
    match words.is_empty() {
        true => Err(Error::new(ErrorKind::Format, "expected words with their phonemes, got none")),
        false => Ok(words),
    }
}

/// Words to train on, to validate on and to test on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// About eighteen of twenty.
    pub train: Vec<Word>,
    /// About one of twenty.
    pub valid: Vec<Word>,
    /// About one of twenty.
    pub test: Vec<Word>,
}

impl Split {
    /// By a hash of the spelling: each is in one part, the same one whatever other words there are.
    pub fn by_spelling(words: Vec<Word>) -> Self {
        let mut split = Split::default();
        for word in words {
            match fnv1a(&word.spelling) % 20 {
                0 => split.test.push(word),
                1 => split.valid.push(word),
                _ => split.train.push(word),
            }
        }
        split
    }
}

/// The upper half of FNV-1a with 64 bits, which is better mixed than the lower one.
fn fnv1a(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step) >> 32
}

/// Says what is wrong with a spelling, if something is.
///
/// # Errors
/// A text that names the first letter that is none of the [`LETTERS`]; it may become part of an error's
/// message.
pub fn check(spelling: &str) -> Result<(), String> {
    if spelling.is_empty() {
        return Err("expected a word, got none".to_owned());
    }
    match spelling.chars().find(|&letter| !LETTERS.contains(letter)) {
        Some(letter) => Err(format!("{spelling:?}: expected the letters {LETTERS}, got {letter:?}")),
        None => Ok(()),
    }
}

/// A line up to its comment: what begins with `#` where a part of the line could begin, or a whole line with
/// `;;;`, as in older editions.
fn without_comment(line: &str) -> &str {
    let begins = |&(place, _): &(usize, &str)| place == 0 || line.as_bytes()[place - 1].is_ascii_whitespace();
    match line.match_indices('#').find(begins) {
        _ if line.starts_with(";;;") => "",
        Some((place, _)) => &line[..place],
        None => line,
    }
}

/// `word` of `word(2)`, which is how another pronunciation of it is marked.
fn without_number(name: &str) -> &str {
    let numbered = name.strip_suffix(')').and_then(|name| name.rsplit_once('('));
    match numbered {
        Some((word, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            word
        }
        _ => name,
    }
}
