//! Text: files, and characters as numbers.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::formats::gzip::{open, undecodable};
use crate::formats::text_file::{mark, with_plain_line_ends};

/// Reads a text file, plain or gzip: which of them is seen from its first bytes.
///
/// A byte order mark at its beginning is no part of the text. Lines end with `\n`, also where the file has
/// `\r\n`, so that the lines of the text are those of [`Lines`](crate::formats::Lines); a `\r` elsewhere
/// stays.
///
/// ```
/// use firebox_data::formats::text::read_text;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.txt");
/// std::fs::write(&path, "\u{feff}one\r\ntwo\n")?;
/// assert_eq!(read_text(&path)?, "one\ntwo\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Io`] if it cannot be read; [`ErrorKind::Format`] if it is empty, not UTF-8, or has control
/// characters that no text has. The error names the file and the place.
pub fn read_text(path: impl AsRef<Path>) -> Result<String, Error> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes).map_err(undecodable))
        .and_then(|_| text_of(bytes))
        .map_err(|error| error.at_path(path))
}

/// The text of a file's bytes.
fn text_of(bytes: Vec<u8>) -> Result<String, Error> {
    let wrong = |text: String| Error::new(ErrorKind::Format, text);
    let mark = mark(&bytes)?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        wrong(format!("expected text in UTF-8, got other bytes from byte {place} on"))
    })?;
    if text.len() == mark {
        return Err(wrong("expected text, got an empty file".to_owned()));
    }
    let odd = |&(_, character): &(usize, char)| {
        character.is_control() && !matches!(character, '\n' | '\r' | '\t' | '\u{c}')
    };
    // Before anything is taken out of it: the place is one in the file.
    if let Some((place, character)) = text.char_indices().find(odd) {
        return Err(wrong(format!("expected text, got the control character {character:?} at byte {place}")));
    }
    text.drain(..mark);
    Ok(with_plain_line_ends(text))
}

/// The characters that a text is made of, each of which has a number: its place among them, by code point.
///
/// Serialised it is the string of its characters.
///
/// ```
/// use firebox_data::formats::text::Vocabulary;
///
/// let letters = Vocabulary::of("hello");
/// let numbers = letters.encode("hole")?;
/// assert_eq!((letters.len(), letters.decode(&numbers)), (4, "hole".to_owned()));
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Vocabulary(Vec<char>);

impl Vocabulary {
    /// The characters of a text.
    pub fn of(text: &str) -> Self {
        Vocabulary(text.chars().collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// How many characters there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers of a text's characters.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] if one of them has none; it names the first.
    pub fn encode(&self, text: &str) -> Result<Vec<usize>, Error> {
        let number = |(place, character): (usize, char)| {
            self.0.binary_search(&character).map_err(|_| {
                let expected = format_args!("one of the vocabulary's {}", self.len());
                let got = format_args!("{character:?}");
                Error::out_of_range(format_args!("character {}", place + 1), expected, got)
            })
        };
        text.chars().enumerate().map(number).collect()
    }

    /// The text of some numbers; one that no character has becomes U+FFFD.
    pub fn decode(&self, numbers: &[usize]) -> String {
        let character = |&number: &usize| self.0.get(number).copied();
        numbers.iter().map(|number| character(number).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    }
}

impl From<String> for Vocabulary {
    fn from(characters: String) -> Self {
        Vocabulary::of(&characters)
    }
}

impl From<Vocabulary> for String {
    fn from(vocabulary: Vocabulary) -> String {
        vocabulary.0.into_iter().collect()
    }
}
