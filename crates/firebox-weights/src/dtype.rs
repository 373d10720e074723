//! Types of numbers.

/// The type of a tensor's numbers.
///
/// ```
/// use firebox_weights::DType;
///
/// assert_eq!(DType::BF16.size(), 2);
/// assert!(DType::BF16.is_float() && !DType::Bool.is_float());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// A float of 64 bits.
    F64,
    /// A float of 32 bits.
    F32,
    /// A float of 16 bits, 10 of them for the fraction.
    F16,
    /// The upper half of a float of 32 bits.
    BF16,
    /// A signed integer of 64 bits.
    I64,
    /// A signed integer of 32 bits.
    I32,
    /// A signed integer of 16 bits.
    I16,
    /// A signed integer of 8 bits.
    I8,
    /// An unsigned integer of 64 bits.
    U64,
    /// An unsigned integer of 32 bits.
    U32,
    /// An unsigned integer of 16 bits.
    U16,
    /// An unsigned integer of 8 bits.
    U8,
    /// A byte that is 0 or 1.
    Bool,
}

impl DType {
    /// The bytes of one number.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }

    /// True for floats of any width.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
    }
}
