//! The parts of a text file beside its text: a mark of its encoding, and the ends of its lines.

use crate::error::{Error, ErrorKind};

/// The most bytes that a byte order mark has.
pub(crate) const LONGEST_MARK: usize = 4;

/// The first bytes of a gzip file.
pub(crate) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The length of UTF-8's byte order mark if a file that begins like this has one, else 0.
///
/// # Errors
/// [`ErrorKind::Format`] if the mark is that of another encoding, which it names.
pub(crate) fn mark(head: &[u8]) -> Result<usize, Error> {
    // That of UTF-32 begins as the one of UTF-16 does.
    let encoding = match head {
        [0xef, 0xbb, 0xbf, ..] => return Ok(3),
        [0xff, 0xfe, 0, 0, ..] => "UTF-32 (little-endian)",
        [0, 0, 0xfe, 0xff, ..] => "UTF-32 (big-endian)",
        [0xff, 0xfe, ..] => "UTF-16 (little-endian)",
        [0xfe, 0xff, ..] => "UTF-16 (big-endian)",
        _ => return Ok(0),
    };
    let text = format!("expected text in UTF-8, got {encoding} by its byte order mark");
    Err(Error::new(ErrorKind::Format, text))
}

/// Takes the end off a line that was read up to it.
///
/// A line ends with `\n`, and the `\r` before it are a part of its end: one in files of Windows, several
/// where such a file was converted twice. A `\r` elsewhere is a character of the text: it overwrites a line
/// on a terminal, and files whose lines end with it alone have not been written for decades.
pub(crate) fn cut_line_end(line: &mut Vec<u8>) {
    if line.pop_if(|byte| *byte == b'\n').is_some() {
        while line.pop_if(|byte| *byte == b'\r').is_some() {}
    }
}

/// The text with `\n` for each of its lines' ends: those that [`cut_line_end`] takes off.
pub(crate) fn with_plain_line_ends(text: String) -> String {
    if !text.contains("\r\n") {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some(line) => {
                plain.push_str(line.trim_end_matches('\r'));
                plain.push('\n');
            }
            None => plain.push_str(line),
        }
    }
    plain
}
