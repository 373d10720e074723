//! The header of a safetensors file.
//!
//! It is JSON of one shape: an object of tensors by name, each with `dtype`, `shape` and `data_offsets`, and
//! beside them `__metadata__`, an object of texts. Nothing else is read past: another field, a key that comes
//! twice, data that lie on others or leave a gap are refused by name. A type of numbers that is unknown is no
//! damage: the tensor's offsets say where it ends. (The crate `safetensors`, which writes the files, lets the
//! later of two keys win, passes over fields, refuses a file for one type of numbers, and adds lengths up
//! without a look.)

use std::collections::BTreeMap;
use std::ops::Range;

/// The header's key that is no tensor's.
pub(crate) const METADATA: &str = "__metadata__";
/// Bytes of a header; the format's own limit.
const MAX_HEADER: usize = 100_000_000;
/// Dimensions of a tensor; PyTorch's own kernels take no more.
const MAX_RANK: usize = 64;

/// A tensor as the header has it, with data within the file.
///
/// They are of its shape if `bits` knows the type.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    /// In the bytes after the header.
    pub(crate) data: Range<usize>,
}

/// The tensors by name, and the bytes after the header.
pub(crate) fn read(file: &[u8]) -> Result<(BTreeMap<String, Entry>, &[u8]), String> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(format!("expected the header's length, got {} bytes", file.len()));
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER || length > rest.len() {
        let most = rest.len().min(MAX_HEADER);
        return Err(format!("expected a header of at most {most} bytes, got {length}"));
    }
    let (header, data) = rest.split_at(length);
    let header = str::from_utf8(header).map_err(|_| "the header is not UTF-8".to_owned())?;
    let entries = Parser { text: header, at: 0 }.header()?;
    check(&entries, data.len())?;
    Ok((entries, data))
}

/// Fails unless the tensors' data follow on each other and fill the file.
fn check(entries: &BTreeMap<String, Entry>, length: usize) -> Result<(), String> {
    let mut in_order: Vec<_> = entries.iter().collect();
    in_order.sort_by_key(|(_, entry)| (entry.data.start, entry.data.end));
    let mut next = 0;
    for (name, Entry { dtype, shape, data }) in in_order {
        let name = short(name);
        if data.start != next || data.end < data.start || data.end > length {
            return Err(format!(
                "{name}: expected data from byte {next} up to {length} at most, got {data:?}"
            ));
        }
        next = data.end;
        let bits = match bits(dtype) {
            Some(bits) => shape.iter().try_fold(bits, |all, &length| all.checked_mul(length)),
            None => Some(8 * data.len()),
        };
        if bits.is_none_or(|bits| bits % 8 != 0 || bits / 8 != data.len()) {
            let got = data.len();
            return Err(format!("{name}: expected the bytes of shape {shape:?} of {dtype}, got {got}"));
        }
    }
    match next == length {
        true => Ok(()),
        false => Err(format!("expected {next} bytes of tensors, got {length}")),
    }
}

/// The bits of a number of this type, if the format names it.
fn bits(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "I8" | "U8" | "BOOL" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "F6_E2M3" | "F6_E3M2" => 6,
        "F4" => 4,
        _ => return None,
    })
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(100)]
}

/// JSON of a depth that is known, so that there is no recursion.
struct Parser<'t> {
    text: &'t str,
    /// The next byte's place; always the beginning of a character.
    at: usize,
}

impl Parser<'_> {
    fn header(mut self) -> Result<BTreeMap<String, Entry>, String> {
        let mut entries = BTreeMap::new();
        let mut metadata = None;
        // The format has no blanks before it.
        if !self.text.starts_with('{') {
            return Err("expected a header that begins with {".to_owned());
        }
        self.members(|parser, name| {
            let again = match &name[..] {
                METADATA => metadata.replace(parser.texts()?).is_some(),
                _ => {
                    let entry = parser.entry().map_err(|error| format!("{}: {error}", short(&name)))?;
                    entries.insert(name.clone(), entry).is_some()
                }
            };
            match again {
                true => Err(format!("{} is there twice", short(&name))),
                false => Ok(()),
            }
        })?;
        match self.peek() {
            None => Ok(entries),
            Some(_) => Err(self.expected("nothing after the last }")),
        }
    }

    /// Reads past the metadata, such as where the file comes from.
    fn texts(&mut self) -> Result<(), String> {
        self.members(|parser, _| parser.string().map(drop))
    }

    fn entry(&mut self) -> Result<Entry, String> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        self.members(|parser, field| {
            let again = match &field[..] {
                "dtype" => dtype.replace(parser.string()?).is_some(),
                "shape" => shape.replace(parser.numbers()?).is_some(),
                "data_offsets" => offsets.replace(parser.numbers()?).is_some(),
                _ => return Err(format!("{:?} is no field of the format", short(&field))),
            };
            match again {
                true => Err(format!("{field} is there twice")),
                false => Ok(()),
            }
        })?;
        match (dtype, shape, offsets.as_deref()) {
            (Some(dtype), Some(shape), Some(&[start, end])) => {
                Ok(Entry { dtype: short(&dtype).to_owned(), shape, data: start..end })
            }
            _ => Err("expected dtype, shape and two data_offsets".to_owned()),
        }
    }

    /// An object; `each` reads the value of a key.
    fn members(
        &mut self,
        mut each: impl FnMut(&mut Self, String) -> Result<(), String>,
    ) -> Result<(), String> {
        self.take('{')?;
        if self.next_is('}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.take(':')?;
            each(self, key)?;
            if !self.next_is(',') {
                return self.take('}');
            }
        }
    }

    fn numbers(&mut self) -> Result<Vec<usize>, String> {
        let mut numbers = Vec::new();
        self.take('[')?;
        if self.next_is(']') {
            return Ok(numbers);
        }
        loop {
            if numbers.len() == MAX_RANK {
                return Err(self.expected(&format!("at most {MAX_RANK} numbers")));
            }
            numbers.push(self.number()?);
            if !self.next_is(',') {
                return self.take(']').map(|()| numbers);
            }
        }
    }

    fn number(&mut self) -> Result<usize, String> {
        self.peek();
        let rest = &self.text[self.at..];
        let digits = &rest[..rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(rest.len())];
        match digits.parse() {
            Ok(number) if digits.len() == 1 || !digits.starts_with('0') => {
                self.at += digits.len();
                Ok(number)
            }
            _ => Err(self.expected("a whole number")),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        self.take('"')?;
        let mut text = String::new();
        loop {
            let next = self.character()?;
            match next {
                '"' => return Ok(text),
                '\\' => {
                    let escaped = self.escaped()?;
                    text.push(escaped);
                }
                '\0'..='\x1f' => return Err(self.expected("no control character in a text")),
                _ => text.push(next),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        Ok(match self.character()? {
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let mut units = vec![self.unit()?];
                if (0xd800..0xdc00).contains(&units[0]) && self.text[self.at..].starts_with("\\u") {
                    self.at += 2;
                    units.push(self.unit()?);
                }
                let decoded = String::from_utf16(&units).ok().and_then(|text| text.chars().next());
                decoded.ok_or_else(|| self.expected("a character"))?
            }
            plain @ ('"' | '\\' | '/') => plain,
            _ => return Err(self.expected("a character that may be escaped")),
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, String> {
        let digits =
            self.text.get(self.at..self.at + 4).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        self.at += 4;
        u16::from_str_radix(digits, 16).map_err(|_| self.expected("four hexadecimal digits"))
    }

    fn character(&mut self) -> Result<char, String> {
        let next = self.text[self.at..].chars().next().ok_or_else(|| self.expected("more"))?;
        self.at += next.len_utf8();
        Ok(next)
    }

    /// The next character that is no blank.
    fn peek(&mut self) -> Option<char> {
        let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\n', '\r']);
        self.at = self.text.len() - rest.len();
        rest.chars().next()
    }

    fn next_is(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn take(&mut self, expected: char) -> Result<(), String> {
        match self.next_is(expected) {
            true => Ok(()),
            false => Err(self.expected(&format!("{expected}"))),
        }
    }

    fn expected(&self, what: &str) -> String {
        format!("expected {what} at byte {} of the header", self.at)
    }
}
