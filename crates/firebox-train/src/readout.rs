//! Numbers from the device.

use burn::tensor::{Int, Tensor};

use crate::error::{Error, ErrorKind};

/// The value of a tensor of one number, such as a loss. It waits for the device.
///
/// # Errors
/// [`ErrorKind::Backend`] if the device gives no result, [`ErrorKind::Task`] if the tensor has no or several numbers.
pub fn value_of<const D: usize>(tensor: &Tensor<D>) -> Result<f64, Error> {
    let values = tensor.clone().detach().try_into_vec_as::<f64>();
    match values.map_err(|error| unreadable(error.to_string()))?[..] {
        [value] => Ok(value),
        _ => {
            let shape = tensor.dims();
            Err(Error::new(ErrorKind::Task, format!("value of a tensor: expected one number, got {shape:?}")))
        }
    }
}

/// All elements.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    tensor.try_into_vec_as().map_err(|error| unreadable(error.to_string()))
}

/// All elements, none of which is below 0.
pub(crate) fn integers<const D: usize>(tensor: Tensor<D, Int>) -> Result<Vec<usize>, Error> {
    let values = tensor.try_into_vec_as::<i64>().map_err(|error| unreadable(error.to_string()))?;
    Ok(values.into_iter().map(|value| value as usize).collect())
}

fn unreadable(error: String) -> Error {
    Error::new(ErrorKind::Backend, format!("a result cannot be read from the device: {error}"))
}
