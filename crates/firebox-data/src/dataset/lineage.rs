//! Where the items of a data set come from.
//!
//! Parts of data sets know it, so that a training set and a test set that were cut from one data set are
//! found to have items in common.

use std::sync::Arc;

/// The data set that items were cut from, and their places in it.
///
/// Parts know it: [`Subset`](crate::dataset::Subset), what [`random_split`](crate::dataset::random_split)
/// gives, [`Filter`](crate::dataset::Filter), [`Map`](crate::dataset::Map) and
/// [`Cache`](crate::dataset::Cache), also parts of parts, and in an `Arc` or a `Box`. A data set of one's own
/// that is a part answers [`Dataset::lineage`](crate::Dataset::lineage) with a [`part`](Self::part):
///
/// ```
/// use firebox_data::dataset::Lineage;
///
/// let whole = Lineage::whole();
/// let every_other = whole.part(|index| (index < 5).then_some(2 * index));
/// assert_eq!((every_other.row(3), every_other.row(5)), (Some(6), None));
/// assert!(every_other.is_shared_with(&whole) && !every_other.is_shared_with(&Lineage::whole()));
/// ```
#[derive(Clone)]
pub struct Lineage {
    /// Shared by all parts of one data set, and by nothing else.
    whole: Arc<()>,
    /// `None` if it is the whole.
    row: Option<Arc<RowOf>>,
    /// The data sets that the whole was put together from, if they are known.
    sources: Option<Arc<Sources>>,
}

/// The row in the whole of an item of a part, if the part has it.
type RowOf = dyn Fn(usize) -> Option<usize> + Send + Sync;

/// The data sets that a data set was put together from.
struct Sources {
    lineages: Vec<Lineage>,
    /// Which of them a row comes from, and its index in that one.
    split: Box<dyn Fn(usize) -> Option<(usize, usize)> + Send + Sync>,
}

impl Lineage {
    /// A data set that is no part of another, and no other's whole.
    pub fn whole() -> Self {
        Lineage { whole: Arc::new(()), row: None, sources: None }
    }

    /// A data set put together from others.
    ///
    /// `split` says which of them an item comes from, and its index there.
    pub fn joined(
        sources: Vec<Lineage>,
        split: impl Fn(usize) -> Option<(usize, usize)> + Send + Sync + 'static,
    ) -> Self {
        let sources = Sources { lineages: sources, split: Box::new(split) };
        Lineage { sources: Some(Arc::new(sources)), ..Lineage::whole() }
    }

    /// A part whose item `index` is this one's item `part(index)`.
    pub fn part(&self, part: impl Fn(usize) -> Option<usize> + Send + Sync + 'static) -> Self {
        let whole = self.row.clone();
        let row = move |index| {
            let index = part(index)?;
            match &whole {
                Some(row) => row(index),
                None => Some(index),
            }
        };
        Lineage { row: Some(Arc::new(row)), ..self.clone() }
    }

    /// Tells whether it is that of a part, whose indices are not those of the whole data set.
    pub fn is_part(&self) -> bool {
        self.row.is_some()
    }

    /// The index in the whole data set of the item `index`; `None` if a part has no such item.
    pub fn row(&self, index: usize) -> Option<usize> {
        match &self.row {
            Some(row) => row(index),
            None => Some(index),
        }
    }

    /// Where an item comes from, in words; `None` if its index says it all.
    pub fn describe(&self, index: usize) -> Option<String> {
        let row = self.row(index)?;
        let part = self.is_part().then(|| format!("row {row} of the whole data set"));
        let source = self.sources.as_ref().and_then(|sources| {
            let (source, index) = (sources.split)(row)?;
            let text = format!("item {index} of part {source}");
            Some(match sources.lineages.get(source).and_then(|lineage| lineage.describe(index)) {
                Some(of_source) => format!("{text}: {of_source}"),
                None => text,
            })
        });
        match (part, source) {
            (Some(part), Some(source)) => Some(format!("{part}, {source}")),
            (part, source) => part.or(source),
        }
    }

    /// Tells whether anything else is known now whose items come from the same data set.
    pub fn has_relatives(&self) -> bool {
        Arc::strong_count(&self.whole) > 1
    }

    /// Tells whether the other's items come from the same data set.
    pub fn is_shared_with(&self, other: &Lineage) -> bool {
        Arc::ptr_eq(&self.whole, &other.whole)
    }
}

impl std::fmt::Debug for Lineage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lineage").field("whole", &Arc::as_ptr(&self.whole)).finish_non_exhaustive()
    }
}
