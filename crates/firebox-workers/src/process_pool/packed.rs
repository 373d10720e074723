//! Plain data that crosses in one piece.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use serde_core::de::{Error, SeqAccess, Visitor};
use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(target_os = "linux")]
use crate::error::ErrorKind;
#[cfg(target_os = "linux")]
use crate::process_pool::Crosses;
#[cfg(target_os = "linux")]
use crate::sync::crossing::{decode, encode};

/// A vector of plain data that goes to another process in one piece.
///
/// serde hands the elements of a `Vec` on one by one, which takes some nanoseconds for each. A megabyte of
/// this is copied in some ten microseconds, in each direction. It is written in the byte order of the
/// machine, so for a process of the same one.
///
/// # Send a picture, and get another one back
/// ```
/// use firebox_workers::{Packed, Pool, WorkersExt as _};
///
/// fn brighten(mut picture: Packed<u8>) -> Packed<u8> {
///     picture.iter_mut().for_each(|pixel| *pixel = pixel.saturating_add(50));
///     picture
/// }
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let pool = Pool::processes(1)?;
///     let pictures = [Packed(vec![0, 100, 250])];
///     assert_eq!(pool.map(brighten, pictures)?, [Packed(vec![50, 150, 255])]);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed<T>(pub Vec<T>);

impl<T> Deref for Packed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Packed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> From<Vec<T>> for Packed<T> {
    fn from(elements: Vec<T>) -> Self {
        Packed(elements)
    }
}

impl<T: Pod> Serialize for Packed<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytemuck::cast_slice(&self.0))
    }
}

impl<'de, T: Pod> Deserialize<'de> for Packed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_byte_buf(Bytes(PhantomData))
    }
}

/// Values of any type, written down before they are sent, and read after they have come: by somebody who
/// doesn't know their type, or at another time.
///
/// ```
/// use firebox_workers::Packed;
///
/// let packed = Packed::encode(&("spark", 0.5))?;
/// assert_eq!(Packed::decode::<(String, f64)>(&packed)?, ("spark".to_owned(), 0.5));
/// # Ok::<(), firebox_workers::Error>(())
/// ```
#[cfg(target_os = "linux")]
impl Packed<u8> {
    /// Writes a value down.
    ///
    /// # Errors
    /// [`ErrorKind::Crossing`] with what its `Serialize` says, and if it has handles of what processes share.
    pub fn encode<T: serde_core::Serialize + ?Sized>(value: &T) -> Result<Self, crate::Error> {
        let message = encode(value)?;
        match message.files.len() {
            0 => Ok(Packed(message.bytes)),
            handles => {
                let text = format!("expected a value without handles of what processes share, got {handles}");
                Err(crate::Error::new(ErrorKind::Crossing, text))
            }
        }
    }

    /// Reads the value that bytes stand for.
    ///
    /// # Errors
    /// [`ErrorKind::Crossing`] if they stand for no value of this type.
    pub fn decode<T: Crosses>(bytes: &[u8]) -> Result<T, crate::Error> {
        decode(bytes, Vec::new())
    }
}

/// Makes elements of bytes.
struct Bytes<T>(PhantomData<T>);

impl<'de, T: Pod> Visitor<'de> for Bytes<T> {
    type Value = Packed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes of elements of {} bytes each", size_of::<T>())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Packed<T>, E> {
        let size = size_of::<T>();
        if size == 0 || !bytes.len().is_multiple_of(size) {
            return Err(E::custom(format!(
                "packed elements of {size} bytes: got {} bytes in all",
                bytes.len()
            )));
        }
        let mut elements = vec![T::zeroed(); bytes.len() / size];
        bytemuck::cast_slice_mut(&mut elements).copy_from_slice(bytes);
        Ok(Packed(elements))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Packed<T>, E> {
        // Elements of one byte are there already.
        bytemuck::try_cast_vec(bytes).map(Packed).or_else(|(_, bytes)| self.visit_bytes(&bytes))
    }

    /// Formats without bytes have numbers instead.
    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Packed<T>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        self.visit_byte_buf(bytes)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::process::wire::{from_slice, to_vec};

    #[test]
    fn elements_come_back_as_they_were() {
        let floats = Packed(vec![0.0, -0.0, f32::MIN_POSITIVE, f32::INFINITY, 1.5]);
        assert_eq!(from_slice::<Packed<f32>>(&to_vec(&floats).unwrap()).unwrap(), floats);
        let bytes = Packed((0..=255).collect::<Vec<u8>>());
        assert_eq!(from_slice::<Packed<u8>>(&to_vec(&bytes).unwrap()).unwrap(), bytes);
        let json = serde_json::to_string(&Packed(vec![1_u16, 258])).unwrap();
        assert_eq!(serde_json::from_str::<Packed<u16>>(&json).unwrap(), Packed(vec![1, 258]));
        let none = Packed(Vec::<u64>::new());
        assert_eq!(from_slice::<Packed<u64>>(&to_vec(&none).unwrap()).unwrap(), none);
    }

    #[test]
    fn they_take_as_many_bytes_as_in_memory() {
        assert_eq!(to_vec(&Packed(vec![7_u32; 1000])).unwrap().len(), 8 + 4000);
    }

    #[test]
    fn values_are_written_down_and_read_later() {
        let value = (3_u8, "fire".to_owned(), vec![Some(1.5)]);
        let packed = Packed::encode(&value).unwrap();
        assert_eq!(Packed::decode::<(u8, String, Vec<Option<f64>>)>(&packed).unwrap(), value);
        assert!(Packed::decode::<u64>(&packed).is_err(), "more than that");
        assert!(Packed::decode::<u64>(&[]).is_err());
        let handle = crate::sync::Event::new().unwrap();
        let error = Packed::encode(&handle).unwrap_err();
        assert!(error.to_string().contains("without handles of what processes share, got 1"), "{error}");
    }

    #[test]
    fn a_part_of_an_element_is_an_error() {
        let bytes = to_vec(&Packed(vec![1_u8, 2, 3, 4, 5])).unwrap();
        let error = from_slice::<Packed<u32>>(&bytes).unwrap_err().to_string();
        assert!(error.contains("elements of 4 bytes: got 5 bytes"), "{error}");
    }
}
