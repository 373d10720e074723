//! The policy for samples that cannot be made.

/// The policy for a sample that cannot be made, after its retries.
///
/// ```
/// use firebox_data::loader::FailureBudget;
/// use firebox_data::{Loader, OnError, Scalar};
///
/// let numbers = |policy| {
///     let builder = Loader::builder(vec!["1", "two", "3"]).batch_size(3).on_error(policy);
///     builder.build(Scalar::new(), |text: &str, _, slot| Ok(*slot = text.parse::<i64>()?))
/// };
/// let error = numbers(OnError::Fail)?.epoch(0).next().unwrap().unwrap_err();
/// assert_eq!(error.index(), Some(1));
/// let at_most = FailureBudget::Count(1);
/// assert_eq!(numbers(OnError::Skip { at_most })?.epoch(0).next().unwrap()?.len(), 2);
/// assert_eq!(numbers(OnError::Replace { at_most })?.epoch(0).next().unwrap()?.len(), 3);
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OnError {
    /// The epoch ends with the sample's error.
    Fail,
    /// The batch goes without the sample, and is shorter. More than `at_most` such samples in an epoch end it
    /// with the error of the first too many.
    Skip {
        /// How many samples an epoch may lack.
        at_most: FailureBudget,
    },
    /// Another sample of its batch takes its place, too (of the epoch, if the batch has no other), chosen by
    /// (seed, epoch, global position), and augmented by the random numbers of the place; batches keep their
    /// size. More than `at_most` such samples in an epoch end it with the error of the first too many.
    Replace {
        /// How many samples of an epoch may be replaced.
        at_most: FailureBudget,
    },
}

/// How many samples of an epoch may be bad, on each [rank](crate::loader::LoaderBuilder::rank) of its own
/// samples.
///
/// ```
/// use firebox_data::loader::FailureBudget;
/// use firebox_data::{Loader, OnError, Scalar};
///
/// let one_in_ten = OnError::Skip { at_most: FailureBudget::Share(0.1) };
/// let loader = Loader::builder((0..20).collect::<Vec<_>>()).on_error(one_in_ten).build(
///     Scalar::new(),
///     |number, _, slot| match number {
///         0..3 => Err("unreadable".into()),
///         _ => Ok(*slot = number),
///     },
/// )?;
/// let ends = loader.epoch(0).find_map(Result::err).unwrap();
/// assert_eq!(ends.index(), Some(2), "the third of 20 is one too many");
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailureBudget {
    /// So many.
    Count(usize),
    /// This part of the epoch's samples, from 0 to 1, rounded down.
    Share(f64),
}

impl OnError {
    /// How many bad samples there may be in an epoch of so many; a share of an unknown number is none.
    pub(in crate::loader) fn budget(self, samples: Option<usize>) -> usize {
        match self {
            OnError::Fail => 0,
            OnError::Skip { at_most } | OnError::Replace { at_most } => match at_most {
                FailureBudget::Count(count) => count,
                FailureBudget::Share(share) => (share * samples.unwrap_or(0) as f64) as usize,
            },
        }
    }

    /// The share of an epoch that may be bad, if the limit is one.
    pub(in crate::loader) fn share(self) -> Option<f64> {
        match self {
            OnError::Skip { at_most: FailureBudget::Share(share) }
            | OnError::Replace { at_most: FailureBudget::Share(share) } => Some(share),
            _ => None,
        }
    }

    /// For a saved position to be compared with: another policy gives other batches.
    pub(in crate::loader) fn describe(self) -> &'static str {
        match self {
            OnError::Fail => "",
            OnError::Skip { .. } => ", bad samples skipped",
            OnError::Replace { .. } => ", bad samples replaced",
        }
    }
}
