//! Numbers in JSON that come back as they were.
//!
//! JSON has no word for infinity and for what is not a number, and serde_json reads some others with an error
//! in the last digit: all those are text.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(f64),
    Text(String),
}

pub(crate) fn serialize<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let read = serde_json::to_string(number).and_then(|text| serde_json::from_str::<f64>(&text));
    let number = match read {
        Ok(read) if read.to_bits() == number.to_bits() => Number::Plain(*number),
        _ => Number::Text(number.to_string()),
    };
    number.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match Number::deserialize(deserializer)? {
        Number::Plain(number) => Ok(number),
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// A number of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lossless(#[serde(with = "self")] pub(super) f64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives_a_file() {
        let mut numbers =
            vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324];
        // One that serde_json reads as its neighbour.
        numbers.push(0.00010000000000000003);
        let mut bits = 1_u64;
        numbers.extend((0..10_000).map(|_| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (bits >> 11) as f64 / 1e18
        }));
        for number in numbers {
            let text = serde_json::to_string(&Lossless(number)).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let Lossless(back) = serde_json::from_value(value).unwrap();
            assert_eq!(back.to_bits(), number.to_bits(), "{text}");
        }
    }
}
