//! Which items of which data set the items of a part are.
//!
//! It is how a training set and a test set that were cut from one data set are found to have items in common. Burn's trait
//! of data sets has no place for the question, so that a part answers it beside the trait: [`known`] puts its type into a
//! table, and [`origin_of`] asks whatever type it is given for, if it is there.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Where the items of a data set come from: from which data set, and which of its items each of them is.
///
/// Parts know it: [`Subset`](crate::Subset), what [`random_split`](crate::random_split) gives, [`Filter`](crate::Filter),
/// [`Map`](crate::Map) and [`Cache`](crate::Cache), also parts of parts, and in an `Arc` or a `Box`. A data set of another type is one of its own.
#[derive(Clone)]
pub struct Origin {
    /// Shared by all parts of one data set, and by nothing else.
    whole: Arc<()>,
    /// `None` if it is the whole.
    row: Option<Arc<RowOf>>,
    /// What the whole was put together from, if that is known.
    sources: Option<Arc<Sources>>,
}

/// The row in the whole of an item of a part, if the part has it.
type RowOf = dyn Fn(usize) -> Option<usize> + Send + Sync;

/// The data sets that a data set was put together from.
struct Sources {
    origins: Vec<Origin>,
    /// Which of them a row comes from, and its index in that one.
    split: Box<dyn Fn(usize) -> Option<(usize, usize)> + Send + Sync>,
}

impl Origin {
    /// Of a data set that is no part of another.
    pub(crate) fn whole() -> Self {
        Origin { whole: Arc::new(()), row: None, sources: None }
    }

    /// Of a data set put together from these, of which `split` says which one a row comes from, and its index there.
    pub(crate) fn of_sources(
        origins: Vec<Origin>,
        split: impl Fn(usize) -> Option<(usize, usize)> + Send + Sync + 'static,
    ) -> Self {
        Origin { sources: Some(Arc::new(Sources { origins, split: Box::new(split) })), ..Origin::whole() }
    }

    /// Of a part whose item `index` is this one's item `part(index)`.
    pub(crate) fn part(&self, part: impl Fn(usize) -> Option<usize> + Send + Sync + 'static) -> Self {
        let whole = self.row.clone();
        let row = move |index| {
            let index = part(index)?;
            match &whole {
                Some(row) => row(index),
                None => Some(index),
            }
        };
        Origin { row: Some(Arc::new(row)), ..self.clone() }
    }

    /// Whether it is that of a part, whose indices are not those of the whole data set.
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

    /// The index in the whole data set of the item `index`.
    ///
    /// # Panics
    /// If a part has no such item, as a slice does; [`row`](Self::row) doesn't.
    pub fn index_in_whole(&self, index: usize) -> usize {
        match self.row(index) {
            Some(row) => row,
            None => panic!("index {index} of a part that has no such item"),
        }
    }

    /// Where an item comes from, in words; `None` if its index says it all.
    pub(crate) fn describe(&self, index: usize) -> Option<String> {
        let row = self.row(index)?;
        let part = self.is_part().then(|| format!("row {row} of the whole data set"));
        let source = self.sources.as_ref().and_then(|sources| {
            let (source, index) = (sources.split)(row)?;
            let text = format!("item {index} of part {source}");
            Some(match sources.origins.get(source).and_then(|origin| origin.describe(index)) {
                Some(of_source) => format!("{text}: {of_source}"),
                None => text,
            })
        });
        match (part, source) {
            (Some(part), Some(source)) => Some(format!("{part}, {source}")),
            (part, source) => part.or(source),
        }
    }

    /// Whether anything else is known now whose items come from the same data set.
    pub fn has_relatives(&self) -> bool {
        Arc::strong_count(&self.whole) > 1
    }

    /// Whether the other's items come from the same data set.
    pub fn is_shared_with(&self, other: &Origin) -> bool {
        Arc::ptr_eq(&self.whole, &other.whole)
    }
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("whole", &Arc::as_ptr(&self.whole)).finish_non_exhaustive()
    }
}

/// A data set that knows its origin.
pub(crate) trait Part: 'static {
    fn origin(&self) -> Origin;
}

type Ask = fn(&dyn Any) -> Option<Origin>;

static PARTS: RwLock<Option<HashMap<TypeId, Ask>>> = RwLock::new(None);

/// Has [`origin_of`] know a type.
pub(crate) fn known<P: Part>() {
    let mut parts = PARTS.write().unwrap_or_else(PoisonError::into_inner);
    let parts = parts.get_or_insert_default();
    parts.insert(TypeId::of::<P>(), |part| Some(part.downcast_ref::<P>()?.origin()));
    parts.insert(TypeId::of::<Arc<P>>(), |part| Some(part.downcast_ref::<Arc<P>>()?.origin()));
    parts.insert(TypeId::of::<Box<P>>(), |part| Some(part.downcast_ref::<Box<P>>()?.origin()));
}

/// The origin of a data set; one of its own if its type isn't known.
pub(crate) fn origin_of<D: 'static>(dataset: &D) -> Origin {
    let ask = {
        let parts = PARTS.read().unwrap_or_else(PoisonError::into_inner);
        parts.as_ref().and_then(|parts| parts.get(&TypeId::of::<D>()).copied())
    };
    ask.and_then(|ask| ask(dataset)).unwrap_or_else(Origin::whole)
}
