//! Where in the data something happened, in words.

use firebox_data::LoaderState;
use firebox_data::batches::Batches;

use crate::error::caught;

/// How many of a batch's samples are named.
const MOST: usize = 256;

/// The batch that was delivered between two states: its index in the epoch, its samples, and their rows in
/// the whole data set if the data are a part of one. `None` if it can't be told.
pub(super) fn batch(data: &impl Batches, before: &LoaderState, now: &LoaderState) -> Option<String> {
    // Asked for an error's sake: a panic here must not take the error's place.
    caught("the data", || Ok(told(data, before, now))).ok().flatten()
}

fn told(data: &impl Batches, before: &LoaderState, now: &LoaderState) -> Option<String> {
    let epoch = now.epoch;
    let new = |batch: &usize| now.has_delivered(*batch) && !before.has_delivered(*batch);
    let batch = (0..data.batches(epoch)).find(new)?;
    let Some(samples) = data.indices(epoch, batch) else { return Some(format!("batch {batch}")) };
    let text = format!("batch {batch}, samples {}", listed(&samples));
    let Some(lineage) = data.lineage().filter(|lineage| lineage.is_part()) else { return Some(text) };
    let rows: Vec<_> = samples.iter().filter_map(|sample| lineage.row(*sample)).collect();
    Some(format!("{text} (rows {} of the whole data set)", listed(&rows)))
}

fn listed(indices: &[usize]) -> String {
    let rest = if indices.len() > MOST { ", …" } else { "" };
    let shown: Vec<_> = indices.iter().take(MOST).map(usize::to_string).collect();
    format!("{}{rest}", shown.join(", "))
}
