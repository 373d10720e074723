//! Reading values.

use serde_core::de::value::U32Deserializer;
use serde_core::de::{
    DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::ser::UNCOUNTED;
use super::{MOST_DEPTH, Reader, WireError};

/// How many elements that take no bytes are read: a length alone must not keep a core busy for ever.
const MOST_EMPTY: usize = 1 << 24;

pub(super) struct Deserializer<'r, 'm> {
    reader: &'r mut Reader<'m>,
    depth: usize,
    /// How many elements may still take no bytes.
    empty_left: usize,
}

impl<'r, 'm> Deserializer<'r, 'm> {
    pub(super) fn new(reader: &'r mut Reader<'m>) -> Self {
        Deserializer { reader, depth: 0, empty_left: MOST_EMPTY }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.reader.array()
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, WireError> {
        let length = u64::from_le_bytes(self.array()?);
        usize::try_from(length)
            .map_err(|_| WireError::new(format!("a length: expected an address, got {length}")))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, WireError> {
        let length = self.length()?;
        self.reader.vec(length)
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(WireError::new(format!("a flag: expected 0 or 1, got {other}"))),
        }
    }

    fn string(&mut self) -> Result<String, WireError> {
        String::from_utf8(self.bytes()?).map_err(|error| WireError::new(format!("a string: {error}")))
    }

    /// Reads what is one level deeper.
    fn deeper<V>(&mut self, read: impl FnOnce(&mut Self) -> Result<V, WireError>) -> Result<V, WireError> {
        if self.depth >= MOST_DEPTH {
            return Err(WireError::new(format!(
                "expected values nested at most {MOST_DEPTH} deep, got more"
            )));
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn fields<'de, V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> Result<V::Value, WireError> {
        self.deeper(|de| visitor.visit_seq(Elements { de, left: Left::Counted(length) }))
    }

    /// Reads a sequence, whose length comes first, by its elements.
    ///
    /// A length is a claim. Elements beyond the bytes that are left can only be such that take none, of which
    /// there is a number for all sequences together: what a sequence has used of it is known when it is read,
    /// so that an element costs nothing.
    fn sequence<V>(
        &mut self,
        read: impl FnOnce(Elements<'_, 'r, 'm>) -> Result<V, WireError>,
    ) -> Result<V, WireError> {
        let left = match u64::from_le_bytes(self.array()?) {
            UNCOUNTED => Left::Marked,
            // More elements than an address can count don't fit, whatever they are.
            length => Left::Counted(usize::try_from(length).unwrap_or(usize::MAX)),
        };
        let before = self.reader.left();
        let claimed = match left {
            Left::Counted(length) => length,
            // Each has a byte before it.
            Left::Marked => 0,
        };
        let empty = |taken: usize| claimed.saturating_sub(taken);
        if empty(before) > self.empty_left {
            return Err(too_many_empty());
        }
        let value = self.deeper(|de| read(Elements { de, left }))?;
        let taken = before - self.reader.left();
        self.empty_left = self.empty_left.checked_sub(empty(taken)).ok_or_else(too_many_empty)?;
        Ok(value)
    }
}

#[cold]
fn too_many_empty() -> WireError {
    WireError::new(format!("expected at most {MOST_EMPTY} elements without a byte, got more"))
}

/// How many elements are still to come.
enum Left {
    Counted(usize),
    /// Before each there is a mark.
    Marked,
}

/// The elements of a sequence, a tuple, or a map.
struct Elements<'d, 'r, 'm> {
    de: &'d mut Deserializer<'r, 'm>,
    left: Left,
}

impl Elements<'_, '_, '_> {
    #[inline]
    fn has_next(&mut self) -> Result<bool, WireError> {
        match &mut self.left {
            Left::Counted(0) => Ok(false),
            Left::Counted(left) => {
                *left -= 1;
                Ok(true)
            }
            Left::Marked => self.de.flag(),
        }
    }

    /// No more than there are bytes: a length is a claim, for which nothing is allocated.
    fn hint(&self) -> Option<usize> {
        match self.left {
            Left::Counted(left) => Some(left.min(self.de.reader.left())),
            Left::Marked => None,
        }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_, '_, '_> {
    type Error = WireError;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, WireError> {
        if self.has_next()? { seed.deserialize(&mut *self.de).map(Some) } else { Ok(None) }
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

impl<'de> MapAccess<'de> for Elements<'_, '_, '_> {
    type Error = WireError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, WireError> {
        if self.has_next()? { seed.deserialize(&mut *self.de).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, WireError> {
        seed.deserialize(&mut *self.de)
    }

    fn size_hint(&self) -> Option<usize> {
        self.hint()
    }
}

/// The content of an enum's variant.
struct Variant<'d, 'r, 'm>(&'d mut Deserializer<'r, 'm>);

impl<'de, 'd, 'r, 'm> EnumAccess<'de> for Variant<'d, 'r, 'm> {
    type Error = WireError;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), WireError> {
        let index: U32Deserializer<WireError> = self.0.u32()?.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_, '_> {
    type Error = WireError;

    fn unit_variant(self) -> Result<(), WireError> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, WireError> {
        self.0.deeper(|de| seed.deserialize(de))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, WireError> {
        self.0.fields(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, WireError> {
        self.0.fields(fields.len(), visitor)
    }
}

macro_rules! numbers {
    ($($deserialize:ident $visit:ident $number:ty),*) => {$(
        #[inline]
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
            visitor.$visit(<$number>::from_le_bytes(self.array()?))
        }
    )*};
}

fn undescribed<V>() -> Result<V, WireError> {
    Err(WireError::new(
        "expected a type that knows what it reads, got one that asks the data (an untagged or flattened enum, a \
         field that is left out)",
    ))
}

impl<'de> serde_core::Deserializer<'de> for &mut Deserializer<'_, '_> {
    type Error = WireError;

    numbers!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_u128 visit_u128 u128, deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_i128 visit_i128 i128, deserialize_f32 visit_f32 f32, deserialize_f64 visit_f64 f64
    );

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, WireError> {
        undescribed()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, WireError> {
        undescribed()
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, WireError> {
        undescribed()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        visitor.visit_bool(self.flag()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        let code = self.u32()?;
        let char = char::from_u32(code);
        visitor
            .visit_char(char.ok_or_else(|| WireError::new(format!("expected a character, got {code:#x}")))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        visitor.visit_string(self.string()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        visitor.visit_string(self.string()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        visitor.visit_byte_buf(self.bytes()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        visitor.visit_byte_buf(self.bytes()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        if self.flag()? { self.deeper(|de| visitor.visit_some(de)) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        self.deeper(|de| visitor.visit_newtype_struct(de))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.sequence(|elements| visitor.visit_seq(elements))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, WireError> {
        self.fields(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, WireError> {
        self.fields(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WireError> {
        self.sequence(|elements| visitor.visit_map(elements))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, WireError> {
        self.fields(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, WireError> {
        visitor.visit_enum(Variant(self))
    }
}
