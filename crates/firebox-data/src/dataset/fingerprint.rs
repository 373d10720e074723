//! Fingerprints, by which a data set is told when a run goes on.

use std::fmt;
use std::path::{Path, PathBuf};

use firebox_core::seed::mix;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;

/// The length of a data set, its description, and a hash of its contents.
///
/// A saved position holds it, with as much of the contents as is known, so that a run which goes on with
/// other data is refused. Times are no part of it, since a clone or a copy changes them, and neither are
/// folders, so that data may move.
///
/// ```
/// use firebox_data::dataset::Fingerprint;
///
/// let saved = Fingerprint::new(2, "recordings").with_file("a.wav", 300).with_file("b.wav", 500);
/// let here = Fingerprint::new(2, "recordings").with_file("a.wav", 300).with_file("b.wav", 501);
/// assert_eq!(saved.difference(&saved), None);
/// let difference = saved.difference(&here).unwrap();
/// assert!(difference.starts_with("data: saved 2 × recordings, 2 files of 800 bytes"), "{difference}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The number of items, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    len: Option<u64>,
    description: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    files: u64,
    /// The size of all files.
    #[serde(default, skip_serializing_if = "is_zero")]
    bytes: u64,
    /// Of names, sizes and contents; `None` if nothing is known of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
}

/// A hash, saved as hexadecimal digits: not every format has integers of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hash(u64);

impl Fingerprint {
    /// A data set of `len` items, which are, for example, "recordings".
    pub fn new(len: usize, description: impl Into<String>) -> Self {
        Fingerprint { len: Some(len as u64), ..Self::uncounted(description) }
    }

    /// Data whose items nobody has counted, such as lines of files.
    pub fn uncounted(description: impl Into<String>) -> Self {
        Fingerprint { len: None, description: description.into(), files: 0, bytes: 0, hash: None }
    }

    /// A data set of which nothing but its length and its type is known.
    ///
    /// The modules of types are left out, so that a type may move.
    pub fn of_type<D: ?Sized>(len: usize) -> Self {
        Self::new(len, without_modules(std::any::type_name::<D>()))
    }

    /// Adds a file: its name, relative to the folder of the data, and its size.
    pub fn with_file(self, name: impl AsRef<Path>, bytes: u64) -> Self {
        // By its parts: what stands between them differs from system to system.
        let parts = name.as_ref().iter().map(|part| part.as_encoded_bytes());
        let hashed = parts.fold(self, Self::with_contents).with_words([bytes]);
        let (files, bytes) = (hashed.files + 1, hashed.bytes.saturating_add(bytes));
        Fingerprint { files, bytes, ..hashed }
    }

    /// Adds the files where items of a data set lie: of all, or of so many, the first and the last among
    /// them, that to look at them takes no time to speak of.
    ///
    /// Names are relative to the folder that all of them have in common. A file that can't be found is told
    /// by its name: reading it is an error.
    pub fn with_located<D: Dataset + ?Sized>(self, dataset: &D) -> Self {
        let len = dataset.len();
        let told = len.min(MOST_LOCATED);
        let items =
            (0..told).map(|place| (place as u128 * (len - 1) as u128 / (told - 1).max(1) as u128) as usize);
        let mut paths: Vec<PathBuf> =
            items.filter_map(|item| dataset.locate(item)?.path().map(Path::to_owned)).collect();
        // Items of one file come one after the other.
        paths.dedup();
        let mut folder = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("")).to_owned();
        while !paths.iter().all(|path| path.starts_with(&folder)) {
            if !folder.pop() {
                folder = PathBuf::new();
            }
        }
        paths.iter().fold(self, |fingerprint, path| {
            let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
            fingerprint.with_file(path.strip_prefix(&folder).unwrap_or(path), bytes)
        })
    }

    /// Adds contents, such as the bytes of a small file.
    pub fn with_contents(self, contents: impl AsRef<[u8]>) -> Self {
        let contents = contents.as_ref();
        let (chunks, rest) = contents.as_chunks::<{ 8 * LANES }>();
        let mut last = [0; 8 * LANES];
        last[..rest.len()].copy_from_slice(rest);
        // Several lanes, since each step waits for the one before.
        let mut lanes: [u64; LANES] = std::array::from_fn(|lane| lane as u64);
        for chunk in chunks.iter().chain([&last]) {
            for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<8>().0) {
                *lane = mix(*lane ^ u64::from_le_bytes(*word));
            }
        }
        self.with_words([contents.len() as u64].into_iter().chain(lanes))
    }

    /// Adds numbers, such as a table of indices.
    pub fn with_words(self, words: impl IntoIterator<Item = u64>) -> Self {
        let before = self.hash.map_or(0, |Hash(hash)| hash);
        let hash = words.into_iter().fold(before, |hash, word| mix(mix(hash) ^ word));
        Fingerprint { hash: Some(Hash(hash)), ..self }
    }

    /// A data set of `len` items that is made of this one, for example its "subset".
    pub fn within(self, len: usize, what: &str) -> Self {
        let description = format!("{what} of {}", self.in_words());
        Fingerprint { len: Some(len as u64), description, ..self }
    }

    /// A data set of `len` items that is put together from others, for example their "concat".
    pub fn joined(len: usize, what: &str, parts: impl IntoIterator<Item = Fingerprint>) -> Self {
        let (mut joined, mut in_words) = (Self::new(len, ""), Vec::new());
        for part in parts {
            joined = joined.with_contents(part.to_string());
            joined.files += part.files;
            joined.bytes = joined.bytes.saturating_add(part.bytes);
            in_words.push(part.in_words());
        }
        let more = in_words.len().saturating_sub(MOST_PARTS);
        in_words.truncate(MOST_PARTS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Fingerprint { description: format!("{what} of ({}){more}", in_words.join("; ")), ..joined }
    }

    /// Says how the data here differ from these, which were saved; `None` if they don't.
    pub fn difference(&self, here: &Fingerprint) -> Option<String> {
        (self != here).then(|| format!("data: saved {self}, here {here}"))
    }

    /// Its fields, for a format without names.
    #[cfg(feature = "processes")]
    pub(crate) fn to_fields(&self) -> FingerprintFields {
        let Fingerprint { len, description, files, bytes, hash } = self.clone();
        (len, description, files, bytes, hash.map(|Hash(hash)| hash))
    }

    /// The fingerprint with these fields.
    #[cfg(feature = "processes")]
    pub(crate) fn of_fields((len, description, files, bytes, hash): FingerprintFields) -> Self {
        Fingerprint { len, description, files, bytes, hash: hash.map(Hash) }
    }

    /// Without what the files are told by.
    fn in_words(&self) -> String {
        match self.len {
            Some(len) => format!("{len} × {}", self.description),
            None => self.description.clone(),
        }
    }
}

/// The fields of a [`Fingerprint`].
#[cfg(feature = "processes")]
pub(crate) type FingerprintFields = (Option<u64>, String, u64, u64, Option<u64>);

/// Items whose files are looked at.
const MOST_LOCATED: usize = 256;

/// How many words of contents are hashed beside each other.
const LANES: usize = 4;

/// Parts that are named; others are counted. All of them are in the hash.
const MOST_PARTS: usize = 8;

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The name of a type without the modules that lead to it: `Vec<Item>` for `alloc::vec::Vec<my_crate::Item>`.
fn without_modules(name: &str) -> String {
    let mut short = String::new();
    for part in name.split_inclusive(|letter: char| !(letter.is_alphanumeric() || "_:{}".contains(letter))) {
        short.push_str(part.rsplit_once("::").map_or(part, |(_, last)| last));
    }
    short
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words())?;
        match self.files {
            0 => {}
            1 => write!(f, ", 1 file of {} bytes", self.bytes)?,
            files => write!(f, ", {files} files of {} bytes", self.bytes)?,
        }
        match self.hash {
            Some(hash) => write!(f, " ({})", String::from(hash)),
            None => Ok(()),
        }
    }
}

impl From<Hash> for String {
    fn from(Hash(hash): Hash) -> String {
        format!("{hash:016x}")
    }
}

impl TryFrom<String> for Hash {
    type Error = String;

    fn try_from(digits: String) -> Result<Self, String> {
        let is_hash = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        match u64::from_str_radix(&digits, 16) {
            Ok(hash) if is_hash => Ok(Hash(hash)),
            _ => Err(format!("hash of a data set: expected 16 hexadecimal digits, got {digits:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_told_with_both_sides() {
        let saved = Fingerprint::new(3, "letters").with_file("a/b.txt", 10).with_contents(b"abc");
        let others = [
            Fingerprint::new(4, "letters").with_file("a/b.txt", 10).with_contents(b"abc"),
            Fingerprint::new(3, "digits").with_file("a/b.txt", 10).with_contents(b"abc"),
            Fingerprint::new(3, "letters").with_file("ab.txt", 10).with_contents(b"abc"),
            Fingerprint::new(3, "letters").with_file("a/b.txt", 11).with_contents(b"abc"),
            Fingerprint::new(3, "letters").with_file("a/b.txt", 10).with_contents(b"abd"),
            Fingerprint::new(3, "letters").with_file("a/b.txt", 10).with_contents(b"abc\0"),
            Fingerprint::new(3, "letters").with_file("a/b.txt", 10).with_contents(b"ab").with_contents(b"c"),
            Fingerprint::new(3, "letters").with_file("a/b.txt", 10),
            Fingerprint::new(3, "letters").with_contents(b"abc"),
            Fingerprint::uncounted("letters").with_file("a/b.txt", 10).with_contents(b"abc"),
        ];
        for (place, other) in others.iter().enumerate() {
            let expected = format!("data: saved {saved}, here {other}");
            assert_eq!(saved.difference(other), Some(expected), "{place}");
            assert_ne!(saved.to_string(), other.to_string(), "{place}: a message that shows no difference");
            assert!(others[..place].iter().all(|earlier| earlier != other), "{place}");
        }
        assert_eq!(saved.difference(&saved.clone()), None);
    }

    #[test]
    fn bytes_are_hashed_as_they_were_in_the_first_release() {
        let hash = |bytes: &[u8]| Fingerprint::new(0, "").with_contents(bytes).to_string();
        let long: Vec<u8> = (0..=255).collect();
        let hashes = [hash(b""), hash(b"12345678"), hash(&long)];
        assert_eq!(hashes, GOLDEN);
        // Each byte counts, wherever it stands.
        for place in 0..long.len() {
            let mut other = long.clone();
            other[place] ^= 1;
            assert_ne!(hash(&other), hash(&long), "byte {place}");
        }
    }

    /// Computed by another program, in Python.
    const GOLDEN: [&str; 3] =
        ["0 ×  (d564fe800c141ce1)", "0 ×  (b34b1f91bff7c0b2)", "0 ×  (f564bc2b1fe6cd90)"];

    #[test]
    fn what_is_saved_is_read_back_and_what_is_damaged_is_refused() {
        let plain = Fingerprint::of_type::<Vec<std::path::PathBuf>>(7);
        let json = serde_json::to_string(&plain).unwrap();
        assert_eq!(json, r#"{"len":7,"description":"Vec<PathBuf>"}"#);
        for saved in [plain, Fingerprint::uncounted("lines").with_file("a", u64::MAX).with_file("b", 1)] {
            let json = serde_json::to_string(&saved).unwrap();
            assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), saved, "{json}");
        }
        for hash in ["", "12", "x123456789abcdef", "0123456789abcdef0", "+123456789abcdef"] {
            let json = format!(r#"{{"description":"","hash":"{hash}"}}"#);
            let error = serde_json::from_str::<Fingerprint>(&json).unwrap_err().to_string();
            assert!(error.contains("expected 16 hexadecimal digits"), "{json}: {error}");
        }
    }

    #[test]
    fn types_are_named_without_their_modules() {
        for (name, short) in [
            ("i64", "i64"),
            ("[alloc::string::String]", "[String]"),
            ("a::b::C<(d::e::F, alloc::vec::Vec<g::H>), 3>", "C<(F, Vec<H>), 3>"),
            ("a::f::{{closure}}", "{{closure}}"),
            ("dyn a::Dataset<Item = b::C>", "dyn Dataset<Item = C>"),
            ("<a::B as c::D>::E", "<B as D>E"),
        ] {
            assert_eq!(without_modules(name), short);
        }
    }

    #[test]
    fn parts_are_all_in_the_hash_and_the_first_are_named() {
        let parts = |count: usize, last: usize| {
            let len = move |part| if part + 1 == count { last } else { part };
            Fingerprint::joined(
                9,
                "concat",
                (0..count).map(|part| Fingerprint::new(len(part), "x").with_file("f", 2)),
            )
        };
        let two = parts(2, 5).to_string();
        assert!(two.starts_with("9 × concat of (0 × x; 5 × x), 2 files of 4 bytes ("), "{two}");
        let many = parts(11, 5);
        assert!(many.to_string().contains("; 7 × x) and 3 more, 11 files"), "{many}");
        assert_ne!(many, parts(11, 6));
        let within = Fingerprint::new(9, "x").with_contents(b"y").within(4, "subset");
        assert!(within.to_string().starts_with("4 × subset of 9 × x ("), "{within}");
    }
}
