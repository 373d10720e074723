//! The settings of work, once for each piece of work that streams run.

use std::any::{Any, TypeId, type_name};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::remote_work::RemoteWork;
use crate::error::{Error, ErrorKind};
use crate::sync::crossing::{self, Carried};

/// The settings of one piece of work.
#[derive(Debug)]
pub(super) struct Settings {
    /// No other work has it, in any pool; 0 for work without settings.
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) files: Vec<Carried>,
}

/// Settings, or why there are none.
pub(super) type Checked = Result<Arc<Settings>, Error>;

/// How many settings are known again when other work has the same.
const MOST_KNOWN: usize = 32;

/// The settings of the work that was packed lately.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    entries: Vec<Entry>,
    /// Settings, the newest first: workers that have work with them needn't make it again for another stream.
    settings: Vec<(TypeId, Arc<Settings>)>,
}

#[derive(Debug)]
struct Entry {
    /// As long as it is here, no other work can be at the same address.
    work: Weak<dyn Any + Send + Sync>,
    settings: Checked,
}

impl Registry {
    /// The settings of this work, which are written when it is seen for the first time.
    pub(super) fn settings<W: Any + Send + Sync>(
        &self,
        work: &Arc<W>,
        check: impl FnOnce(&W) -> Checked,
    ) -> Checked {
        if size_of::<W>() == 0 {
            // Functions: nothing is to be remembered, and their settings are nothing.
            return check(work);
        }
        let is_it = |entry: &Entry| std::ptr::addr_eq(entry.work.as_ptr(), Arc::as_ptr(work));
        let Known { entries, settings: known } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter().find(|entry| is_it(entry)) {
            return entry.settings.clone();
        }
        entries.retain(|entry| entry.work.strong_count() > 0);
        let mut settings = check(work);
        if let Ok(new) = &mut settings {
            let is_same = |(of, old): &&(TypeId, Arc<Settings>)| {
                *of == TypeId::of::<W>() && old.bytes == new.bytes && new.files.is_empty()
            };
            match known.iter().find(is_same) {
                Some((_, old)) => *new = Arc::clone(old),
                // Those with shared objects are never the same again, and would keep their memory here.
                None if !new.files.is_empty() => {}
                None => {
                    known.truncate(MOST_KNOWN - 1);
                    known.insert(0, (TypeId::of::<W>(), Arc::clone(new)));
                }
            }
        }
        let work: Arc<dyn Any + Send + Sync> = Arc::clone(work) as _;
        entries.push(Entry { work: Arc::downgrade(&work), settings: settings.clone() });
        settings
    }
}

/// The settings of work, if they come back as they were.
///
/// # Errors
/// [`ErrorKind::Crossing`], with the first field that differs.
pub(super) fn check<T, W: RemoteWork<T>>(work: &W) -> Checked {
    let failed = |message: String| {
        Error::new(ErrorKind::Crossing, format!("settings of {}: {message}", type_name::<W>()))
    };
    let (bytes, files) = crossing::collect(|| work.settings());
    let bytes = bytes.map_err(failed)?.unwrap_or_default();
    if size_of::<W>() == 0 {
        return Ok(Arc::new(Settings { number: 0, bytes, files }));
    }
    let copies: Result<Vec<_>, _> = files.iter().map(|file| file.as_fd().try_clone_to_owned()).collect();
    let copies = copies.map_err(|error| failed(error.to_string()))?;
    let back = crossing::supply(copies, || W::from_settings(&bytes)).map_err(failed)?;
    let (before, after) = (work.described(), back.described());
    if let Some((before, after)) = before.lines().zip(after.lines()).find(|(before, after)| before != after) {
        let (before, after) = (before.trim().trim_end_matches(','), after.trim().trim_end_matches(','));
        return Err(failed(format!("expected `{before}` to come back in another process, got `{after}`")));
    }
    let (again, _) = crossing::collect(|| back.settings());
    if again.map_err(failed)?.unwrap_or_default() != bytes || before != after {
        return Err(failed(
            "expected the same settings to come back in another process, got others".to_owned(),
        ));
    }
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    Ok(Arc::new(Settings { number: NUMBERS.fetch_add(1, Ordering::Relaxed), bytes, files }))
}
