//! Tensors of no framework.

use std::fmt;

use bytes::Bytes;
use half::{bf16, f16};

use crate::dtype::DType;
use crate::element::Element;
use crate::error::{Error, ErrorKind};

/// A tensor's type, shape and bytes: contiguous, row by row, little-endian.
///
/// A clone shares the bytes. They may be a part of a storage that other tensors share, too. Two tensors are
/// equal if type, shape and bytes are; so a NaN equals itself, and 0 doesn't equal −0.
///
/// ```
/// use firebox_weights::{DType, RawTensor};
///
/// let tensor = RawTensor::new(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
/// assert_eq!((tensor.dtype(), tensor.shape()), (DType::F32, &[2, 3][..]));
/// assert_eq!(tensor.to_vec::<f32>()?[4], 5.0);
/// assert!(tensor.to_vec::<i32>().is_err());
/// # Ok::<(), firebox_weights::Error>(())
/// ```
///
/// # Give a file's numbers to a framework
///
/// What takes bytes with a shape takes them as they are; `to_vec` gives numbers of one type, and `to_f64_vec`
/// those of any type:
///
/// ```
/// use firebox_weights::RawTensor;
/// use half::bf16;
///
/// let tensor = RawTensor::from([bf16::from_f32(1.5), bf16::from_f32(-2.0)]);
/// assert_eq!(tensor.as_bytes(), [0xc0, 0x3f, 0x00, 0xc0]);
/// assert_eq!(tensor.to_f64_vec(), [1.5, -2.0]);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RawTensor {
    dtype: DType,
    shape: Vec<usize>,
    /// As many as type and shape say. Of bools each is 0 or 1.
    bytes: Bytes,
}

impl RawTensor {
    /// A tensor of these numbers, row by row.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if the shape has another number of elements.
    pub fn new<E: Element>(values: &[E], shape: impl Into<Vec<usize>>) -> Result<Self, Error> {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| value.write(&mut bytes));
        Self::from_bytes(bytes, shape, E::DTYPE)
    }

    /// A tensor of these bytes, which are not copied.
    ///
    /// Memory of somebody else's, such as a mapped file, comes in by [`Bytes::from_owner`].
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if type and shape have another number of bytes, or a bool is neither 0 nor 1.
    pub fn from_bytes(
        bytes: impl Into<Bytes>,
        shape: impl Into<Vec<usize>>,
        dtype: DType,
    ) -> Result<Self, Error> {
        Self::checked(bytes.into(), shape.into(), dtype)
            .map_err(|error| Error::new(ErrorKind::Mismatch, error))
    }

    pub(crate) fn checked(bytes: Bytes, shape: Vec<usize>, dtype: DType) -> Result<Self, String> {
        let expected = match shape.contains(&0) {
            true => Some(0),
            false => shape.iter().try_fold(dtype.size(), |all, &length| all.checked_mul(length)),
        };
        if expected != Some(bytes.len()) {
            let got = bytes.len();
            return Err(format!("expected the bytes of shape {shape:?} of {dtype:?}, got {got}"));
        }
        // Any other byte is no value of Rust's.
        if dtype == DType::Bool
            && let Some(byte) = bytes.iter().find(|&&byte| byte > 1)
        {
            return Err(format!("expected bools of 0 or 1, got {byte}"));
        }
        Ok(RawTensor { dtype, shape, bytes })
    }

    /// The type of the numbers.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The length of each dimension; none for a single number.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes of all numbers.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of all numbers, shared with the tensor.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The numbers, row by row.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] if they are of another type; nothing is converted.
    pub fn to_vec<E: Element>(&self) -> Result<Vec<E>, Error> {
        match self.dtype == E::DTYPE {
            true => Ok(self.numbers().collect()),
            false => {
                let text = format!("expected a tensor of {:?}, got {:?}", E::DTYPE, self.dtype);
                Err(Error::new(ErrorKind::Mismatch, text))
            }
        }
    }

    /// The numbers of any type as floats of 64 bits, row by row.
    ///
    /// Integers beyond 2⁵³ are rounded; bools are 0 and 1.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        match self.dtype {
            DType::F64 => self.wide::<f64>(),
            DType::F32 => self.wide::<f32>(),
            DType::F16 => self.wide::<f16>(),
            DType::BF16 => self.wide::<bf16>(),
            DType::I64 => self.wide::<i64>(),
            DType::I32 => self.wide::<i32>(),
            DType::I16 => self.wide::<i16>(),
            DType::I8 => self.wide::<i8>(),
            DType::U64 => self.wide::<u64>(),
            DType::U32 => self.wide::<u32>(),
            DType::U16 => self.wide::<u16>(),
            DType::U8 => self.wide::<u8>(),
            DType::Bool => self.wide::<bool>(),
        }
    }

    fn wide<E: Element>(&self) -> Vec<f64> {
        self.numbers::<E>().map(|number| number.to_f64()).collect()
    }

    fn numbers<E: Element>(&self) -> impl Iterator<Item = E> {
        self.bytes.chunks_exact(E::DTYPE.size()).map(E::read)
    }
}

/// A tensor of one dimension.
impl<E: Element, const N: usize> From<[E; N]> for RawTensor {
    fn from(values: [E; N]) -> Self {
        let mut bytes = Vec::with_capacity(size_of_val(&values));
        values.into_iter().for_each(|value| value.write(&mut bytes));
        RawTensor { dtype: E::DTYPE, shape: vec![N], bytes: bytes.into() }
    }
}

/// Type, shape and the first few numbers.
impl fmt::Debug for RawTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let size = self.dtype.size();
        let all = self.bytes.len() / size;
        let bytes = self.bytes.slice(..all.min(SHOWN) * size);
        let first = RawTensor { dtype: self.dtype, shape: Vec::new(), bytes }.to_f64_vec();
        let more = if all > SHOWN { format!(" and {} more", all - SHOWN) } else { String::new() };
        write!(f, "{:?} {:?}: {first:?}{more}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were() {
        fn check<E: Element + PartialEq + fmt::Debug>(values: &[E], wide: &[f64]) {
            let tensor = RawTensor::new(values, [values.len()]).unwrap();
            assert_eq!(tensor.to_vec::<E>().unwrap(), values);
            assert_eq!(tensor.to_f64_vec(), wide);
            assert_eq!(tensor.as_bytes().len(), values.len() * E::DTYPE.size());
        }
        check(&[1.5f64, f64::INFINITY], &[1.5, f64::INFINITY]);
        check(&[1.5f32, -0.0], &[1.5, -0.0]);
        check(&[f16::from_f32(1.5), f16::MAX], &[1.5, 65504.0]);
        check(&[bf16::from_f32(-2.0)], &[-2.0]);
        check(&[i64::MIN, 1 << 53], &[-9223372036854775808.0, 9007199254740992.0]);
        check(&[i32::MIN, i32::MAX], &[-2147483648.0, 2147483647.0]);
        check(&[i16::MIN], &[-32768.0]);
        check(&[-1i8], &[-1.0]);
        check(&[u64::MAX], &[18446744073709551615.0]);
        check(&[u32::MAX], &[4294967295.0]);
        check(&[60000u16], &[60000.0]);
        check(&[200u8], &[200.0]);
        check(&[true, false], &[1.0, 0.0]);
        check::<f32>(&[], &[]);
    }

    #[test]
    fn bytes_that_are_no_tensor_are_refused() {
        let error = |bytes: &'static [u8], shape: &[usize], dtype| {
            let error = RawTensor::from_bytes(bytes, shape, dtype).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Mismatch);
            error.to_string()
        };
        assert_eq!(error(&[0; 7], &[2], DType::F32), "expected the bytes of shape [2] of F32, got 7");
        assert_eq!(error(&[], &[], DType::U8), "expected the bytes of shape [] of U8, got 0");
        assert_eq!(error(&[1, 2], &[2], DType::Bool), "expected bools of 0 or 1, got 2");
        let overflow = error(&[], &[usize::MAX, 2], DType::U8);
        assert!(overflow.ends_with("of U8, got 0"), "{overflow}");
        assert!(RawTensor::from_bytes(&b""[..], [usize::MAX, 2, 0], DType::F64).is_ok());
        let wrong = RawTensor::from([1i64]).to_vec::<u64>().unwrap_err();
        assert_eq!(wrong.to_string(), "expected a tensor of U64, got I64");
    }

    #[test]
    fn a_tensor_is_shown_by_its_first_numbers() {
        assert_eq!(format!("{:?}", RawTensor::from([1i64, -2])), "I64 [2]: [1.0, -2.0]");
        let long = RawTensor::new(&[0.5f32; 10], [10]).unwrap();
        assert!(format!("{long:?}").ends_with("0.5] and 2 more"), "{long:?}");
    }
}
