//! Writing values.

use serde_core::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};

use super::{MOST_DEPTH, WireError, Writer};

/// The length of what doesn't know its length: each element has a mark before it then, and the end has one.
pub(super) const UNCOUNTED: u64 = u64::MAX;

pub(super) struct Serializer<'w, 'm> {
    writer: &'w mut Writer<'m>,
    depth: usize,
}

impl<'w, 'm> Serializer<'w, 'm> {
    pub(super) fn new(writer: &'w mut Writer<'m>) -> Self {
        Serializer { writer, depth: 0 }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.writer.put(bytes);
    }

    fn put_length(&mut self, length: usize) {
        self.put(&(length as u64).to_le_bytes());
    }

    fn deeper(&mut self) -> Result<(), WireError> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(WireError::new(format!(
                "expected values nested at most {MOST_DEPTH} deep, got more"
            )));
        }
        Ok(())
    }

    fn compound(&mut self, marked: bool) -> Result<Compound<'_, 'w, 'm>, WireError> {
        self.deeper()?;
        Ok(Compound { serializer: self, marked })
    }

    fn counted(&mut self, length: Option<usize>) -> Result<Compound<'_, 'w, 'm>, WireError> {
        self.put(&length.map_or(UNCOUNTED, |length| length as u64).to_le_bytes());
        self.compound(length.is_none())
    }
}

/// A value made of others, which is being written.
pub(super) struct Compound<'s, 'w, 'm> {
    serializer: &'s mut Serializer<'w, 'm>,
    /// True if each element has a mark before it.
    marked: bool,
}

impl Compound<'_, '_, '_> {
    #[inline]
    fn mark(&mut self, more: bool) {
        if self.marked {
            self.serializer.put(&[u8::from(more)]);
        }
    }

    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WireError> {
        self.mark(true);
        value.serialize(&mut *self.serializer)
    }

    fn finish(mut self) -> Result<(), WireError> {
        self.mark(false);
        self.serializer.depth -= 1;
        Ok(())
    }
}

macro_rules! numbers {
    ($($name:ident: $number:ty),*) => {$(
        #[inline]
        fn $name(self, value: $number) -> Result<(), WireError> {
            self.put(&value.to_le_bytes());
            Ok(())
        }
    )*};
}

impl<'s, 'w, 'm> serde_core::Serializer for &'s mut Serializer<'w, 'm> {
    type Ok = ();
    type Error = WireError;
    type SerializeSeq = Compound<'s, 'w, 'm>;
    type SerializeTuple = Compound<'s, 'w, 'm>;
    type SerializeTupleStruct = Compound<'s, 'w, 'm>;
    type SerializeTupleVariant = Compound<'s, 'w, 'm>;
    type SerializeMap = Compound<'s, 'w, 'm>;
    type SerializeStruct = Compound<'s, 'w, 'm>;
    type SerializeStructVariant = Compound<'s, 'w, 'm>;

    numbers!(
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_f32: f32, serialize_f64: f64
    );

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), WireError> {
        self.serialize_u8(u8::from(value))
    }

    fn serialize_char(self, value: char) -> Result<(), WireError> {
        self.serialize_u32(u32::from(value))
    }

    fn serialize_str(self, value: &str) -> Result<(), WireError> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), WireError> {
        self.put_length(value.len());
        self.put(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), WireError> {
        self.serialize_u8(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), WireError> {
        self.put(&[1]);
        self.deeper()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), WireError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), WireError> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), WireError> {
        self.serialize_u32(index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), WireError> {
        self.deeper()?;
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), WireError> {
        self.put(&index.to_le_bytes());
        self.serialize_newtype_struct(name, value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Compound<'s, 'w, 'm>, WireError> {
        self.counted(length)
    }

    fn serialize_tuple(self, _: usize) -> Result<Compound<'s, 'w, 'm>, WireError> {
        self.compound(false)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Compound<'s, 'w, 'm>, WireError> {
        self.compound(false)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Compound<'s, 'w, 'm>, WireError> {
        self.put(&index.to_le_bytes());
        self.compound(false)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Compound<'s, 'w, 'm>, WireError> {
        self.counted(length)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Compound<'s, 'w, 'm>, WireError> {
        self.compound(false)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Compound<'s, 'w, 'm>, WireError> {
        self.put(&index.to_le_bytes());
        self.compound(false)
    }
}

macro_rules! compounds {
    ($($of:ident: $element:ident),*) => {$(
        impl $of for Compound<'_, '_, '_> {
            type Ok = ();
            type Error = WireError;

            #[inline]
            fn $element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WireError> {
                self.element(value)
            }

            fn end(self) -> Result<(), WireError> {
                self.finish()
            }
        }
    )*};
}

compounds!(
    SerializeSeq: serialize_element, SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field
);

impl SerializeMap for Compound<'_, '_, '_> {
    type Ok = ();
    type Error = WireError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), WireError> {
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WireError> {
        value.serialize(&mut *self.serializer)
    }

    fn end(self) -> Result<(), WireError> {
        self.finish()
    }
}

impl SerializeStruct for Compound<'_, '_, '_> {
    type Ok = ();
    type Error = WireError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _: &'static str,
        value: &T,
    ) -> Result<(), WireError> {
        self.element(value)
    }

    fn skip_field(&mut self, field: &'static str) -> Result<(), WireError> {
        // The other side, which reads the fields in order, would take another one for it.
        Err(WireError::new(format!(
            "field {field}: expected all fields to be written, got one that is skipped"
        )))
    }

    fn end(self) -> Result<(), WireError> {
        self.finish()
    }
}

impl SerializeStructVariant for Compound<'_, '_, '_> {
    type Ok = ();
    type Error = WireError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _: &'static str,
        value: &T,
    ) -> Result<(), WireError> {
        self.element(value)
    }

    fn skip_field(&mut self, field: &'static str) -> Result<(), WireError> {
        SerializeStruct::skip_field(self, field)
    }

    fn end(self) -> Result<(), WireError> {
        self.finish()
    }
}
