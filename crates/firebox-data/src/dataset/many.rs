//! Many items at once, through data sets that are made of others.

use super::Dataset;
use crate::error::{BoxError, Error, ErrorKind};

/// Where items stand: which answer of a request each of them is, and its index in the data set that has it.
type Wanted = (Vec<usize>, Vec<usize>);

/// The error of an index that a data set doesn't have.
pub(super) fn out_of_range(index: usize, len: usize) -> BoxError {
    Error::new(ErrorKind::Dataset, format!("expected an index below {len}, got {index}")).into()
}

/// The items of a part, of which `row` says where they stand in `dataset`.
pub(super) fn of_part<D: Dataset>(
    dataset: &D,
    indices: &[usize],
    len: usize,
    row: impl Fn(usize) -> Option<usize>,
) -> Vec<Result<D::Item, BoxError>> {
    of_parts(std::slice::from_ref(dataset), indices, len, |index| Some((0, row(index)?)))
}

/// The items of data sets put together, of which `split` says in which part they stand and where in it: one
/// request a part.
pub(super) fn of_parts<D: Dataset>(
    parts: &[D],
    indices: &[usize],
    len: usize,
    split: impl Fn(usize) -> Option<(usize, usize)>,
) -> Vec<Result<D::Item, BoxError>> {
    let mut wanted: Vec<Wanted> = vec![Wanted::default(); parts.len()];
    for (place, index) in indices.iter().enumerate() {
        if let Some((part, index)) = split(*index) {
            wanted[part].0.push(place);
            wanted[part].1.push(index);
        }
    }
    let mut items: Vec<_> = indices.iter().map(|_| None).collect();
    for (part, (places, indices)) in parts.iter().zip(&wanted).filter(|(_, (places, _))| !places.is_empty()) {
        for (place, item) in places.iter().zip(answers(part, indices)) {
            items[*place] = Some(item);
        }
    }
    let items = items.into_iter().zip(indices);
    items.map(|(item, index)| item.unwrap_or_else(|| Err(out_of_range(*index, len)))).collect()
}

/// One answer for each index, also of a data set that gives another number of them.
pub(crate) fn answers<D: Dataset + ?Sized>(dataset: &D, indices: &[usize]) -> Vec<Result<D::Item, BoxError>> {
    let items = dataset.get_many(indices);
    let (expected, got) = (indices.len(), items.len());
    if got == expected {
        return items;
    }
    // Which are missing is not guessed.
    let lost = |_: &usize| {
        let text = format!("get_many: expected {expected} answers for as many indices, got {got}");
        Err(Error::new(ErrorKind::Dataset, text).into())
    };
    indices.iter().map(lost).collect()
}
