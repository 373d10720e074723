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
/// Parts know it: [`Subset`](crate::Subset), what [`random_split`](crate::random_split) gives, [`Filter`](crate::Filter)
/// and [`Map`](crate::Map), also parts of parts, and in an `Arc`. A data set of another type is one of its own.
#[derive(Clone)]
pub struct Origin {
    /// Shared by all parts of one data set, and by nothing else.
    whole: Arc<()>,
    /// `None` for the whole data set itself.
    index: Option<Arc<dyn Fn(usize) -> usize + Send + Sync>>,
}

impl Origin {
    /// Of a data set that is no part of another.
    pub(crate) fn whole() -> Self {
        Origin { whole: Arc::new(()), index: None }
    }

    /// Of a part whose item `index` is this one's item `part(index)`.
    pub(crate) fn part(&self, part: impl Fn(usize) -> usize + Send + Sync + 'static) -> Self {
        let index: Arc<dyn Fn(usize) -> usize + Send + Sync> = match self.index.clone() {
            Some(index) => Arc::new(move |place| index(part(place))),
            None => Arc::new(part),
        };
        Origin { whole: Arc::clone(&self.whole), index: Some(index) }
    }

    /// Whether it is of a part, whose indices may be others than the whole data set's.
    pub fn is_part(&self) -> bool {
        self.index.is_some()
    }

    /// The index in the whole data set of the item `index`.
    pub fn index_in_whole(&self, index: usize) -> usize {
        self.index.as_ref().map_or(index, |whole| whole(index))
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

impl<P: Part> Part for Arc<P> {
    fn origin(&self) -> Origin {
        (**self).origin()
    }
}

type Ask = fn(&dyn Any) -> Option<Origin>;

static PARTS: RwLock<Option<HashMap<TypeId, Ask>>> = RwLock::new(None);

/// Has [`origin_of`] know a type.
pub(crate) fn known<P: Part>() {
    let mut parts = PARTS.write().unwrap_or_else(PoisonError::into_inner);
    let parts = parts.get_or_insert_default();
    parts.insert(TypeId::of::<P>(), |part| Some(part.downcast_ref::<P>()?.origin()));
    parts.insert(TypeId::of::<Arc<P>>(), |part| Some(part.downcast_ref::<Arc<P>>()?.origin()));
}

/// The origin of a data set; one of its own if its type isn't known.
pub(crate) fn origin_of<D: 'static>(dataset: &D) -> Origin {
    let ask = {
        let parts = PARTS.read().unwrap_or_else(PoisonError::into_inner);
        parts.as_ref().and_then(|parts| parts.get(&TypeId::of::<D>()).copied())
    };
    ask.and_then(|ask| ask(dataset)).unwrap_or_else(Origin::whole)
}
