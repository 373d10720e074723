//! Tensor data of Burn and of this crate.

use burn::tensor::{AllocationProperty, BoolStore, Bytes, DType as BurnDType, TensorData};

use crate::dtype::DType;
use crate::raw_tensor::RawTensor;

/// Burn's name of a type; its bools are bytes.
pub(super) fn to_burn(dtype: DType) -> BurnDType {
    match dtype {
        DType::F64 => BurnDType::F64,
        DType::F32 => BurnDType::F32,
        DType::F16 => BurnDType::F16,
        DType::BF16 => BurnDType::BF16,
        DType::I64 => BurnDType::I64,
        DType::I32 => BurnDType::I32,
        DType::I16 => BurnDType::I16,
        DType::I8 => BurnDType::I8,
        DType::U64 => BurnDType::U64,
        DType::U32 => BurnDType::U32,
        DType::U16 => BurnDType::U16,
        DType::U8 => BurnDType::U8,
        DType::Bool => BurnDType::Bool(BoolStore::Native),
    }
}

/// The type of data that a file can have; `None` for quantized ones.
fn from_burn(dtype: BurnDType) -> Option<DType> {
    Some(match dtype {
        BurnDType::F64 => DType::F64,
        // Computed with in fewer bits on some devices, and kept as 32.
        BurnDType::F32 | BurnDType::Flex32 => DType::F32,
        BurnDType::F16 => DType::F16,
        BurnDType::BF16 => DType::BF16,
        BurnDType::I64 => DType::I64,
        BurnDType::I32 => DType::I32,
        BurnDType::I16 => DType::I16,
        BurnDType::I8 => DType::I8,
        BurnDType::U64 => DType::U64,
        BurnDType::U32 => DType::U32,
        BurnDType::U16 => DType::U16,
        BurnDType::U8 => DType::U8,
        BurnDType::Bool(_) => DType::Bool,
        BurnDType::QFloat(_) => return None,
    })
}

/// Memory of Burn's, on loan.
struct Lent(Bytes);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The same numbers, in the memory that they are in.
///
/// Only bools that a device keeps as integers are written anew.
///
/// # Panics
/// If the data are quantized, which no file of weights has a type for: `Tensor::dequantize` comes first.
impl From<TensorData> for RawTensor {
    fn from(data: TensorData) -> Self {
        let data = match data.dtype() {
            BurnDType::Bool(_) => data.convert_dtype(to_burn(DType::Bool)),
            _ => data,
        };
        let (bytes, shape, dtype) = data.into_parts();
        let Some(dtype) = from_burn(dtype) else {
            panic!("expected data with a number for each element, got {dtype:?}");
        };
        let bytes = bytes::Bytes::from_owner(Lent(bytes));
        let tensor = RawTensor::checked(bytes, shape.to_vec(), dtype);
        tensor.unwrap_or_else(|error| unreachable!("data of Burn's: {error}"))
    }
}

impl From<RawTensor> for TensorData {
    fn from(tensor: RawTensor) -> Self {
        let (shape, dtype) = (tensor.shape().to_vec(), to_burn(tensor.dtype()));
        let bytes = tensor.into_bytes();
        // Burn reads numbers where they are. A part of a storage need not begin where one may be.
        let bytes = match bytes.as_ptr() as usize % dtype.size() {
            0 => Bytes::from_shared(bytes, AllocationProperty::Other),
            _ => Bytes::from_bytes_vec(bytes.to_vec()),
        };
        TensorData::from_bytes(bytes, shape, dtype)
    }
}

impl From<&RawTensor> for TensorData {
    fn from(tensor: &RawTensor) -> Self {
        tensor.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Element;

    use super::*;

    #[test]
    fn numbers_go_to_burn_and_back() {
        fn check<E: Element + PartialEq>(values: &[E]) {
            let data = TensorData::new(values.to_vec(), [1, values.len()]);
            let place = data.as_bytes().as_ptr();
            let tensor = RawTensor::from(data.clone());
            assert_eq!(tensor.shape(), [1, values.len()]);
            let moved = RawTensor::from(data.clone());
            assert_eq!((&moved, TensorData::from(&tensor)), (&tensor, data.clone()));
            // Neither way copies.
            let moved = RawTensor::from(data);
            assert_eq!(moved.as_bytes().as_ptr(), place);
            assert_eq!(TensorData::from(moved).as_bytes().as_ptr(), place);
        }
        check(&[1.5f64, -2.0]);
        check(&[1.5f32, -2.0]);
        check(&[half::f16::from_f32(1.5)]);
        check(&[half::bf16::from_f32(1.5)]);
        check(&[i64::MIN, 1]);
        check(&[i32::MIN, 1]);
        check(&[i16::MIN, 1]);
        check(&[i8::MIN, 1]);
        check(&[u64::MAX, 1]);
        check(&[u32::MAX, 1]);
        check(&[u16::MAX, 1]);
        check(&[u8::MAX, 1]);
    }

    #[test]
    fn bools_are_bytes_however_a_device_keeps_them() {
        let expected = RawTensor::from([true, false, true]);
        let data = TensorData::from([true, false, true]);
        assert_eq!(TensorData::from(&expected), data);
        for store in [BoolStore::Native, BoolStore::U8, BoolStore::U32] {
            assert_eq!(RawTensor::from(data.clone().convert_dtype(BurnDType::Bool(store))), expected);
        }
    }

    #[test]
    fn numbers_that_lie_askew_are_read_all_the_same() {
        let bytes = bytes::Bytes::from([&[0][..], &1.5f64.to_le_bytes(), &[0; 7]].concat());
        for start in 0..8 {
            let eight = bytes.slice(start..start + 8);
            let number = f64::from_le_bytes(eight[..].try_into().unwrap());
            let tensor = RawTensor::from_bytes(eight, [1], DType::F64).unwrap();
            assert_eq!(TensorData::from(tensor).as_slice::<f64>().unwrap(), [number]);
        }
    }

    #[test]
    fn a_change_of_burns_data_leaves_the_tensor() {
        let tensor = RawTensor::from([1f32, 2.0]);
        let mut data = TensorData::from(&tensor);
        data.as_mut_slice::<f32>().unwrap()[0] = 7.0;
        assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.0, 2.0]);
        assert_eq!(data, TensorData::from([7f32, 2.0]));
    }
}
