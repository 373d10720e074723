//! Numbers from the device.

use burn::tensor::{Int, Tensor};

use crate::error::{Error, ErrorKind};

/// The value of a tensor of one number, such as a loss.
///
/// It waits for the device.
///
/// # Errors
/// [`ErrorKind::Backend`] if the device gives no result, [`ErrorKind::Task`] if the tensor has no or several
/// numbers.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_train::to_scalar;
///
/// let losses = Tensor::<1>::from_data([1.0, 2.0, 6.0], &Device::default());
/// assert_eq!(to_scalar(&losses.mean())?, 3.0);
/// # Ok::<(), firebox_train::Error>(())
/// ```
pub fn to_scalar<const D: usize>(tensor: &Tensor<D>) -> Result<f64, Error> {
    let values = tensor.clone().detach().try_into_vec_as::<f64>();
    match values.map_err(unreadable)?[..] {
        [value] => Ok(value),
        _ => {
            let shape = tensor.dims();
            Err(Error::new(ErrorKind::Task, format!("value of a tensor: expected one number, got {shape:?}")))
        }
    }
}

/// All elements of a tensor, row by row.
///
/// It waits for the device.
///
/// # Errors
/// [`ErrorKind::Backend`] if the device gives no result.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_train::values_of;
///
/// let table = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &Device::default());
/// assert_eq!(values_of(&table)?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), firebox_train::Error>(())
/// ```
pub fn values_of<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<f32>, Error> {
    floats(tensor.clone().detach())
}

/// All elements.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    tensor.try_into_vec_as().map_err(unreadable)
}

/// All elements, none of which is below 0.
pub(crate) fn integers<const D: usize>(tensor: Tensor<D, Int>) -> Result<Vec<usize>, Error> {
    Ok(signed(tensor)?.into_iter().map(|value| value as usize).collect())
}

/// All elements, with their signs.
pub(crate) fn signed<const D: usize>(tensor: Tensor<D, Int>) -> Result<Vec<i64>, Error> {
    tensor.try_into_vec_as().map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Backend, format!("a result cannot be read from the device: {error}"))
}
