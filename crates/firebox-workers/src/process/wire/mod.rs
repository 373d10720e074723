//! Values as bytes, for another process of the same program.
//!
//! Every number has its full width, little endian; a length comes before what it counts, and names of fields
//! are not written. Both sides are the same program, so nothing in the format has to last. Bytes and strings
//! are copied once in each direction, and no reference into memory that another process may write is ever
//! made.
//!
//! What is read may be hostile: lengths are checked against what is there, nesting and elements that take no
//! bytes are bounded, and nothing is allocated because a length says so.

mod de;
mod error;
mod reader;
mod ser;
mod writer;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

pub(crate) use error::WireError;
pub(crate) use reader::Reader;
pub(crate) use writer::{Writer, Written};

/// The deepest nesting of values: a limit for the stack of whoever reads what another process wrote.
const MOST_DEPTH: usize = 128;

/// Writes a value.
///
/// # Errors
/// The value's own, and nesting beyond 128.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, writer: &mut Writer<'_>) -> Result<(), WireError> {
    value.serialize(&mut ser::Serializer::new(writer))
}

/// Reads a value that [`write`] has written.
///
/// # Errors
/// If the bytes are not such a value.
pub(crate) fn read<T: DeserializeOwned>(reader: &mut Reader<'_>) -> Result<T, WireError> {
    T::deserialize(&mut de::Deserializer::new(reader))
}

/// A value's bytes.
///
/// # Errors
/// As for [`write`].
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::new();
    write(value, &mut Writer::vec(&mut bytes))?;
    Ok(bytes)
}

/// The value of these bytes, all of them.
///
/// # Errors
/// As for [`read`], and for bytes that are left over.
pub(crate) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let mut reader = Reader::slice(bytes);
    let value = read(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
