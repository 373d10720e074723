//! How batches go from a worker process to its parent.
//!
//! Elements go by their place in memory that both have, if the [loader](crate::Loader) has its workers hand
//! them over; otherwise, and to anybody else, by value. What comes is checked: a batch whose numbers
//! contradict each other is an error, and no panic of whoever reads it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::collate::Padded;
use crate::collate::{Stacked, product};
use crate::elements::Elements;
use crate::elements::shared::{hand_over, take_over};

/// The form in which elements are written to another process.
#[derive(Serialize)]
enum Written<'e, T> {
    Values(&'e [T]),
    /// A region, the place in it, and how many of the elements there count.
    Place((u32, u64, u64), u64),
}

/// The form that they are read from.
#[derive(Deserialize)]
enum Read<T> {
    Values(Vec<T>),
    Place((u32, u64, u64), u64),
}

impl<T: Serialize> Serialize for Elements<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            return self[..].serialize(to);
        }
        let handed_over = self.part().and_then(|(part, length)| Some((hand_over(part)?, length)));
        match handed_over {
            Some((place, length)) => Written::<T>::Place(place, length as u64).serialize(to),
            None => Written::Values(self).serialize(to),
        }
    }
}

impl<'de, T: Deserialize<'de> + 'static> Deserialize<'de> for Elements<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return Vec::deserialize(from).map(Elements::from);
        }
        match Read::deserialize(from)? {
            Read::Values(values) => Ok(values.into()),
            Read::Place(place, length) => {
                let mut elements = Elements::of_part(take_over(place).map_err(D::Error::custom)?);
                if (elements.len() as u64) < length {
                    let got = elements.len();
                    return Err(D::Error::custom(format!(
                        "elements: expected {length} in a part, got {got}"
                    )));
                }
                elements.keep(|_| length as usize);
                Ok(elements)
            }
        }
    }
}

/// The fields of [`Stacked`].
#[derive(Serialize, Deserialize)]
#[serde(rename = "Stacked")]
struct StackedFields<V> {
    values: V,
    samples: usize,
    shape: Vec<usize>,
}

impl<T: Serialize, const R: usize> Serialize for Stacked<T, R> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Stacked { values, samples, shape } = self;
        StackedFields { values, samples: *samples, shape: shape.to_vec() }.serialize(to)
    }
}

impl<'de, T: Deserialize<'de> + 'static, const R: usize> Deserialize<'de> for Stacked<T, R> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let StackedFields { values, samples, shape } = StackedFields::<Elements<T>>::deserialize(from)?;
        let count = product(&shape).and_then(|elements| elements.checked_mul(samples));
        let got = values.len();
        match <[usize; R]>::try_from(shape) {
            Ok(shape) if count == Some(got) => Ok(Stacked { values, samples, shape }),
            Ok(shape) => Err(D::Error::custom(format!(
                "a batch: expected the elements of {samples} samples of {shape:?}, got {got}"
            ))),
            Err(shape) => {
                Err(D::Error::custom(format!("a batch: expected a shape of {R} sides, got {shape:?}")))
            }
        }
    }
}

/// The fields of [`Padded`].
#[derive(Serialize, Deserialize)]
#[serde(rename = "Padded")]
struct PaddedFields<V, L> {
    values: V,
    lengths: L,
    longest: usize,
}

impl<T: Serialize> Serialize for Padded<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Padded { values, lengths, longest } = self;
        PaddedFields { values, lengths, longest: *longest }.serialize(to)
    }
}

impl<'de, T: Deserialize<'de> + 'static> Deserialize<'de> for Padded<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let PaddedFields { values, lengths, longest } =
            PaddedFields::<Elements<T>, Vec<usize>>::deserialize(from)?;
        let fits = lengths.iter().all(|&length| length <= longest);
        if !fits || lengths.len().checked_mul(longest) != Some(values.len()) {
            return Err(D::Error::custom(format!(
                "a padded batch: expected {} sequences of at most {longest}, got {} values",
                lengths.len(),
                values.len()
            )));
        }
        Ok(Padded { values, lengths, longest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_data_and_what_contradicts_itself_is_refused() {
        let stacked = Stacked { values: vec![1.5f32, 2.0, 3.0, 4.0].into(), samples: 2, shape: [1, 2] };
        let json = serde_json::to_string(&stacked).unwrap();
        assert_eq!(json, r#"{"values":[1.5,2.0,3.0,4.0],"samples":2,"shape":[1,2]}"#);
        assert_eq!(serde_json::from_str::<Stacked<f32, 2>>(&json).unwrap(), stacked);
        assert!(
            serde_json::from_str::<Stacked<f32, 3>>(&json).unwrap_err().to_string().contains("of 3 sides")
        );
        for wrong in [
            r#"{"values":[1.5],"samples":2,"shape":[1,2]}"#,
            r#"{"values":[1.5],"samples":18446744073709551615,"shape":[1,2]}"#,
        ] {
            let error = serde_json::from_str::<Stacked<f32, 2>>(wrong).unwrap_err().to_string();
            assert!(error.contains("expected the elements of"), "{error}");
        }
        let padded = Padded { values: vec![1i64, 0, 2, 3].into(), lengths: vec![1, 2], longest: 2 };
        let json = serde_json::to_string(&padded).unwrap();
        assert_eq!(serde_json::from_str::<Padded<i64>>(&json).unwrap(), padded);
        for wrong in [json.replace("[1,2]", "[1,3]"), json.replace("[1,2]", "[1]")] {
            let error = serde_json::from_str::<Padded<i64>>(&wrong).unwrap_err().to_string();
            assert!(error.contains("got 4 values"), "{error}");
        }
    }
}
