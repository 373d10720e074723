//! Logits that a token can be chosen by.

use burn::tensor::{DType, Tensor};

use crate::error::{Error, ErrorKind};

/// The elements, one after the other, in 32 bits.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let values = tensor.cast(DType::F32).into_data().try_to_vec::<f32>();
    values.unwrap_or_else(|error| unreachable!("a tensor cast to f32: {error:?}"))
}

/// Fails unless a token can be chosen by these logits.
///
/// None may be NaN or +∞, and not all −∞, which is the logit of a token that cannot come.
pub(crate) fn check_logits(logits: &[f32]) -> Result<(), Error> {
    let error = |text: String| Err(Error::new(ErrorKind::Value, text));
    let bad = |&(_, logit): &(usize, &f32)| logit.is_nan() || *logit == f32::INFINITY;
    if let Some((token, logit)) = logits.iter().enumerate().find(bad) {
        return error(format!("the logit of token {token}: expected a finite number, got {logit}"));
    }
    if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) {
        let all = logits.len();
        return error(format!(
            "the logits of {all} tokens: expected a finite number among them, got -inf for all"
        ));
    }
    Ok(())
}
