//! Rust's types of numbers.

use half::{bf16, f16};

use crate::dtype::DType;

/// A Rust type that a tensor's numbers can be.
///
/// These are the floats, of 16 bits those of the crate [`half`], the integers of up to 64 bits, and `bool`.
pub trait Element: Copy + Send + Sync + 'static + sealed::Bytes {
    /// The type as data.
    const DTYPE: DType;
}

pub(crate) mod sealed {
    pub trait Bytes: Sized {
        /// Reads a number of the size of this type.
        fn read(bytes: &[u8]) -> Self;

        fn write(self, bytes: &mut Vec<u8>);

        /// The number, rounded where it is a large integer.
        fn to_f64(self) -> f64;
    }
}

macro_rules! elements {
    ($($element:ty: $dtype:ident, $self:ident => $to_f64:expr;)+) => {$(
        impl Element for $element {
            const DTYPE: DType = DType::$dtype;
        }

        impl sealed::Bytes for $element {
            fn read(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$element>()];
                array.copy_from_slice(bytes);
                <$element>::from_le_bytes(array)
            }

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn to_f64($self) -> f64 {
                $to_f64
            }
        }
    )+};
}

elements! {
    f64: F64, self => self;
    f32: F32, self => self.into();
    f16: F16, self => self.into();
    bf16: BF16, self => self.into();
    i64: I64, self => self as f64;
    i32: I32, self => self.into();
    i16: I16, self => self.into();
    i8: I8, self => self.into();
    u64: U64, self => self as f64;
    u32: U32, self => self.into();
    u16: U16, self => self.into();
    u8: U8, self => self.into();
}

impl Element for bool {
    const DTYPE: DType = DType::Bool;
}

impl sealed::Bytes for bool {
    fn read(bytes: &[u8]) -> Self {
        bytes != [0]
    }

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(self.into());
    }

    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
}
