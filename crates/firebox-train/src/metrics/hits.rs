//! How often a classifier is right.

use burn::tensor::{Int, Tensor};

use super::{Mean, Quantity};
use crate::error::{Error, ErrorKind, check};
use crate::readout::integers;

/// The share of samples whose highest logit, of `[batch, classes]`, is that of their class.
///
/// # Errors
/// [`ErrorKind::Task`] unless there is one class a sample; [`ErrorKind::Backend`] if the device gives no result.
pub fn accuracy(logits: &Tensor<2>, classes: &Tensor<1, Int>) -> Result<Quantity, Error> {
    let [samples, _] = logits.dims();
    check_classes("accuracy", [samples], classes.dims())?;
    let hits = logits.clone().argmax(1).reshape([samples]).equal(classes.clone()).int().sum();
    share(hits, samples)
}

/// The share of samples whose class has one of the `k` highest logits, of `[batch, classes]`. Of equal logits that of
/// the lower class is the higher; a logit that is not a number is no hit.
///
/// # Errors
/// [`ErrorKind::Config`] unless 1 ≤ k ≤ classes; [`ErrorKind::Task`] unless there is one class a sample;
/// [`ErrorKind::Backend`] if the device gives no result.
pub fn top_k(logits: &Tensor<2>, classes: &Tensor<1, Int>, k: usize) -> Result<Quantity, Error> {
    let [samples, outputs] = logits.dims();
    check((1..=outputs).contains(&k), "top_k", &format!("a number from 1 to {outputs} classes"), k)?;
    check_classes("top_k", [samples], classes.dims())?;
    let classes = classes.clone().reshape([samples, 1]);
    let own = logits.clone().gather(1, classes.clone()).expand([samples, outputs]);
    let at = Tensor::<1, Int>::arange(0..outputs as i64, &logits.device()).reshape([1, outputs]);
    let behind = at.expand([samples, outputs]).greater_equal(classes.expand([samples, outputs]));
    // Counted from below, so that what is not a number is above everything else and beats itself.
    let no_higher = logits.clone().lower(own.clone()).int() + logits.clone().equal(own).int() * behind.int();
    let hits = no_higher.sum_dim(1).greater_elem((outputs - k) as i64).int().sum();
    share(hits, samples)
}

/// The share of tokens with the highest logit, of `[batch, time, vocabulary]`, among those that aren't `padding`. It
/// weighs as many tokens as it counts, so that a batch of padding alone adds nothing.
///
/// # Errors
/// [`ErrorKind::Task`] unless there is one token for each place; [`ErrorKind::Backend`] if the device gives no result.
pub fn token_accuracy(
    logits: &Tensor<3>,
    tokens: &Tensor<2, Int>,
    padding: Option<i64>,
) -> Result<Quantity, Error> {
    let [batch, time, _] = logits.dims();
    check_classes("token_accuracy", [batch, time], tokens.dims())?;
    let hits = logits.clone().argmax(2).reshape([batch, time]).equal(tokens.clone()).int();
    let Some(padding) = padding else { return share(hits.sum(), batch * time) };
    let counts = tokens.clone().not_equal_elem(padding).int();
    // One answer of the device for both.
    let both = integers(Tensor::cat(vec![(hits * counts.clone()).sum(), counts.sum()], 0))?;
    Ok(Quantity::Mean(Mean::of_sum(both[0] as f64, both[1] as f64)))
}

fn share(hits: Tensor<1, Int>, of: usize) -> Result<Quantity, Error> {
    Ok(Quantity::Mean(Mean::of_sum(integers(hits)?[0] as f64, of as f64)))
}

fn check_classes<const D: usize>(what: &str, expected: [usize; D], got: [usize; D]) -> Result<(), Error> {
    match expected == got {
        true => Ok(()),
        false => {
            let text = format!("{what}: expected classes of shape {expected:?}, got {got:?}");
            Err(Error::new(ErrorKind::Task, text))
        }
    }
}
