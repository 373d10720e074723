//! Base64 with padding (RFC 4648): the form of scores in a checkpoint.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of some bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    text
}

/// The bytes of a text, or the reason why it has none.
///
/// One value has one text: bits that padding leaves over must be 0.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.trim_end_matches('=').as_bytes();
    let padding = text.len() - digits.len();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return Err(format!(
            "base64: expected digits in fours, got {} and {padding} of padding",
            digits.len()
        ));
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for (index, chunk) in digits.chunks(4).enumerate() {
        let mut bits = 0;
        for (place, digit) in chunk.iter().enumerate() {
            let value = value(*digit).ok_or_else(|| {
                format!("base64: expected a digit at byte {}, got {digit:#04x}", 4 * index + place)
            })?;
            bits |= value << (18 - 6 * place);
        }
        let [_, first, second, third] = bits.to_be_bytes();
        let all = [first, second, third];
        let (whole, rest) = all.split_at(chunk.len() - 1);
        if rest.iter().any(|byte| *byte != 0) {
            return Err("base64: expected 0 in the bits that are left over".to_owned());
        }
        bytes.extend_from_slice(whole);
    }
    Ok(bytes)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        for end in 0..all.len() {
            assert_eq!(decode(&encode(&all[..end])).unwrap(), all[..end]);
        }
        assert!(encode(&[0xfb, 0xff, 0xbf]).contains(['+', '/']));
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zm9vYg=", "====", "Z===", "Zg==Zg==", "Z m9", "Zm9-", "Zh==", "Zm9=", "Zm9v\n",
        ] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
