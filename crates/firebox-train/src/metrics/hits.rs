//! How often a classifier is right.

use burn::tensor::{Int, Tensor};

use super::{Mean, Quantity};
use crate::error::{Error, ErrorKind, check};
use crate::readout::signed;

/// The share of samples whose highest logit, of `[batch, classes]`, is that of their class.
///
/// Of equal logits that of the lowest class is the highest. A sample with a NaN among its logits has no
/// highest one: it is no hit, on any device.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_train::metrics::accuracy;
///
/// let device = Device::default();
/// let logits = Tensor::<2>::from_data([[2.0, 1.0], [0.0, 3.0]], &device);
/// let classes = Tensor::<1, Int>::from_data([0, 0], &device);
/// assert_eq!(accuracy(&logits, &classes)?.value(), Some(0.5));
/// # Ok::<(), firebox_train::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Task`] unless there is one class a sample, each of them below the number of logits;
/// [`ErrorKind::Backend`] if the device gives no result.
pub fn accuracy(logits: &Tensor<2>, classes: &Tensor<1, Int>) -> Result<Quantity, Error> {
    let [samples, outputs] = logits.dims();
    check_shape("accuracy", [samples], classes.dims())?;
    let rows = Rows { what: "accuracy", logits: logits.clone(), classes: classes.clone(), padding: None };
    rows.share(outputs, |rows| rows.highest(), |highest, class| highest == class)
}

/// The share of samples whose class is among the `k` highest logits.
///
/// Logits are `[batch, classes]`.
///
/// Of equal logits that of the lower class is the higher. A sample with a NaN among its logits has no order
/// of them: it is no hit, whatever `k` is.
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_train::metrics::top_k;
///
/// let device = Device::default();
/// let logits = Tensor::<2>::from_data([[3.0, 2.0, 1.0]], &device);
/// let classes = Tensor::<1, Int>::from_data([1], &device);
/// assert_eq!(top_k(&logits, &classes, 2)?.value(), Some(1.0));
/// # Ok::<(), firebox_train::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::OutOfRange`] unless 1 ≤ k ≤ classes; [`ErrorKind::Task`] unless there is one class a sample,
/// each of them below the number of logits; [`ErrorKind::Backend`] if the device gives no result.
pub fn top_k(logits: &Tensor<2>, classes: &Tensor<1, Int>, k: usize) -> Result<Quantity, Error> {
    let [samples, outputs] = logits.dims();
    check((1..=outputs).contains(&k), "top_k", format_args!("a number from 1 to {outputs} classes"), k)?;
    check_shape("top_k", [samples], classes.dims())?;
    let rows = Rows { what: "top_k", logits: logits.clone(), classes: classes.clone(), padding: None };
    rows.share(outputs, |rows| rows.higher(), |higher, _| higher < k as i64)
}

/// The share of tokens with the highest logit, padding left out.
///
/// Logits are `[batch, time, vocabulary]`.
///
/// It weighs as many tokens as it counts, so that a batch of padding alone adds nothing. Equal logits and NaN
/// are taken as by [`accuracy`].
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use firebox_train::metrics::token_accuracy;
///
/// let device = Device::default();
/// let logits = Tensor::<3>::from_data([[[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]]], &device);
/// // The last one is padding.
/// let tokens = Tensor::<2, Int>::from_data([[0, 0, -1]], &device);
/// assert_eq!(token_accuracy(&logits, &tokens, Some(-1))?.value(), Some(0.5));
/// # Ok::<(), firebox_train::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Task`] unless there is one token for each place, each of them `padding` or below the number
/// of logits; [`ErrorKind::Backend`] if the device gives no result.
pub fn token_accuracy(
    logits: &Tensor<3>,
    tokens: &Tensor<2, Int>,
    padding: Option<i64>,
) -> Result<Quantity, Error> {
    let [batch, time, outputs] = logits.dims();
    check_shape("token_accuracy", [batch, time], tokens.dims())?;
    let count = batch * time;
    if count == 0 {
        return Ok(Quantity::Mean(Mean::default()));
    }
    let rows = Rows {
        what: "token_accuracy",
        logits: logits.clone().reshape([count, outputs]),
        classes: tokens.clone().reshape([count]),
        padding,
    };
    rows.share(outputs, |rows| rows.highest(), |highest, class| highest == class)
}

/// Logits `[rows, classes]` with the class of each row.
struct Rows<'w> {
    what: &'w str,
    logits: Tensor<2>,
    classes: Tensor<1, Int>,
    /// The class of rows that don't count.
    padding: Option<i64>,
}

impl Rows<'_> {
    /// The class of the highest logit of each row.
    fn highest(&self) -> Tensor<1, Int> {
        self.logits.clone().argmax(1).flatten(0, 1)
    }

    /// How many logits of each row are higher than that of its class.
    fn higher(&self) -> Tensor<1, Int> {
        let [rows, outputs] = self.logits.dims();
        // What is out of range is refused once it was read: until then no device is asked for it.
        let classes = self.classes.clone().clamp(0, outputs as i64 - 1).reshape([rows, 1]);
        let own = self.logits.clone().gather(1, classes.clone()).expand([rows, outputs]);
        let at = Tensor::<1, Int>::arange(0..outputs as i64, &self.logits.device()).reshape([1, outputs]);
        let before = at.expand([rows, outputs]).lower(classes.expand([rows, outputs])).int();
        let higher =
            self.logits.clone().greater(own.clone()).int() + self.logits.clone().equal(own).int() * before;
        higher.sum_dim(1).flatten(0, 1)
    }

    /// The share of the rows that are `right`, by what was `found` of them on the device, and their class.
    ///
    /// A row with a NaN is never right. Backends differ in where they see the highest of such a row, and a
    /// look at each logit would be another pass over them: the sum of all tells whether there may be a NaN at
    /// all, and only then the rows are looked at. Everything that is needed otherwise is read from the device
    /// at once.
    fn share(
        self,
        outputs: usize,
        found: impl FnOnce(&Self) -> Tensor<1, Int>,
        right: impl Fn(i64, i64) -> bool,
    ) -> Result<Quantity, Error> {
        let [rows] = self.classes.dims();
        if rows == 0 {
            return Ok(Quantity::Mean(Mean::default()));
        }
        if outputs == 0 {
            let text = format!("{}: expected logits of at least 1 class, got 0", self.what);
            return Err(Error::new(ErrorKind::Task, text));
        }
        let suspicious = self.logits.clone().sum().is_nan().int();
        let read = signed(Tensor::cat(vec![found(&self), self.classes, suspicious], 0))?;
        let (found, rest) = read.split_at(rows);
        let (classes, suspicious) = rest.split_at(rows);
        // Infinite logits of both signs have such a sum, too.
        let spoilt = match suspicious {
            [0] => vec![0; rows],
            _ => signed(self.logits.is_nan().any_dim(1).int().flatten::<1>(0, 1))?,
        };
        let (mut hits, mut count) = (0_usize, 0_usize);
        for (row, ((&found, &class), &spoilt)) in found.iter().zip(classes).zip(&spoilt).enumerate() {
            if Some(class) == self.padding {
                continue;
            }
            if !(0..outputs as i64).contains(&class) {
                let text = format!(
                    "{}: row {row}: expected a class from 0 to {}, got {class}",
                    self.what,
                    outputs - 1
                );
                return Err(Error::new(ErrorKind::Task, text));
            }
            count += 1;
            hits += usize::from(spoilt == 0 && right(found, class));
        }
        Ok(Quantity::Mean(Mean::of_sum(hits as f64, count as f64)))
    }
}

fn check_shape<const D: usize>(what: &str, expected: [usize; D], got: [usize; D]) -> Result<(), Error> {
    match expected == got {
        true => Ok(()),
        false => {
            let text = format!("{what}: expected classes of shape {expected:?}, got {got:?}");
            Err(Error::new(ErrorKind::Task, text))
        }
    }
}
