//! Checks of a batch before anything is learned from it, or judged.
//!
//! A mistake here would be a panic in an operation at best; at worst a number that looks like any other:
//! shapes are stretched to each other, and some devices read a row beyond the end of a table as zeros.

use burn::tensor::{Int, Tensor, Transaction};
use firebox_data::tensors::SequenceBatch;
use firebox_kernels::cross_entropy::try_cross_entropy;
use firebox_models::Forward;

use crate::error::{Error, ErrorKind};

/// Fails with what a batch is not.
pub(crate) fn check(holds: bool, text: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::new(ErrorKind::Task, text())) }
}

/// True of a batch without samples, by the shape of a tensor with a row for each: a mean over nothing is NaN.
pub(crate) fn is_empty(shape: &[usize]) -> bool {
    shape.first() == Some(&0)
}

/// The error for a batch that a model refuses.
pub(crate) fn refused(error: firebox_models::Error) -> Error {
    Error::new(ErrorKind::Task, error.to_string())
}

/// The output of a model, if the inputs fit it.
pub(crate) fn forwarded<M: Forward<I>, I>(model: &M, inputs: I) -> Result<M::Output, Error> {
    model.check_input(&inputs).and_then(|()| model.check_tokens(&inputs)).map_err(refused)?;
    Ok(model.forward(inputs))
}

/// The mean cross-entropy of classes, of which there must be one a row of logits, which has a number for
/// each. It waits for the device, once.
pub(crate) fn cross_entropy_of(logits: &Tensor<2>, classes: &Tensor<1, Int>) -> Result<Tensor<1>, Error> {
    let ([rows, _], [samples]) = (logits.dims(), classes.dims());
    check(rows == samples, || {
        format!(
            "classes of a batch: expected one for each of the model's {rows} rows of logits, got {samples}"
        )
    })?;
    let loss = try_cross_entropy(logits.clone(), classes.clone());
    loss.map_err(|error| Error::new(ErrorKind::Task, error.to_string()))
}

/// The lengths of some batches of sequences, after a look at these and at their tokens, which must be below
/// the number beside them. It waits for the device, once.
pub(crate) fn lengths_of<const N: usize>(
    batches: [(&'static str, &SequenceBatch, usize); N],
) -> Result<[Vec<usize>; N], Error> {
    let read = batches.iter().fold(Transaction::default(), |read, (_, batch, _)| {
        read.register(batch.lengths.clone()).register(batch.values.clone())
    });
    let mut parts = read.try_execute().map_err(unreadable)?.into_iter();
    let mut all = [const { Vec::new() }; N];
    for (lengths, (name, batch, vocabulary)) in all.iter_mut().zip(batches) {
        let ([samples, longest], [others]) = (batch.values.dims(), batch.lengths.dims());
        check(others == samples, || {
            format!("{name}s: expected a length for each of {samples}, got {others}")
        })?;
        let (Some(read), Some(tokens)) = (parts.next(), parts.next()) else { continue };
        for (row, length) in read.iter::<i64>().enumerate() {
            let fits = usize::try_from(length).is_ok_and(|length| length <= longest);
            check(fits, || {
                format!("{name} {row} of the batch: expected a length of at most {longest}, got {length}")
            })?;
            lengths.push(length as usize);
        }
        for (place, token) in tokens.iter::<i64>().enumerate() {
            check(below(token, vocabulary), || {
                let (row, place) = (place / longest, place % longest);
                format!(
                    "{name} {row} of the batch, place {place}: expected a token below {vocabulary}, got {token}"
                )
            })?;
        }
    }
    Ok(all)
}

/// True of 0, 1, … below a bound.
fn below(number: i64, bound: usize) -> bool {
    usize::try_from(number).is_ok_and(|number| number < bound)
}

fn unreadable(error: impl std::fmt::Debug) -> Error {
    Error::new(ErrorKind::Backend, format!("a batch cannot be read from the device: {error:?}"))
}
