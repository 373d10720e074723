//! What is done for the others when a process has ended.
//!
//! A lock is given on by the kernel. What a process held of anything else stands in a table, which the parent
//! mends when it reaps the process: it knows all shared objects that it has itself, and takes the dead one
//! out of each.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::monitor::{Inside, Monitor};
use crate::error::Error;

/// An object that has to hear of a process that has ended.
pub(super) trait Mend: Send + Sync {
    /// Takes back what the process had, and wakes who may go on now; `false` if that takes longer than until
    /// the deadline.
    fn mend(&self, process: u32, deadline: Option<Instant>) -> Result<bool, Error>;
}

/// The objects of this process.
static OBJECTS: Mutex<Vec<Weak<dyn Mend>>> = Mutex::new(Vec::new());

/// How long one who reaps waits for a lock whose holder is stopped, before a thread of its own does.
const PATIENCE: Duration = Duration::from_millis(100);

/// Has an object hear of processes that end.
pub(super) fn watch(object: &Arc<impl Mend + 'static>) {
    let object: Weak<dyn Mend> = Arc::downgrade(&(Arc::clone(object) as Arc<dyn Mend>));
    let mut objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
    objects.retain(|object| object.strong_count() > 0);
    objects.push(object);
}

/// Takes back what a process had of everything shared.
///
/// It is called when the process has ended and before it is reaped, while nobody else can have its id.
pub(crate) fn mend(process: u32) {
    // Not under the lock: an object's lock may take its time, and an object that is dropped may be the last
    // one to have it.
    let objects: Vec<_> = {
        let objects = OBJECTS.lock().unwrap_or_else(PoisonError::into_inner);
        objects.iter().filter_map(Weak::upgrade).collect()
    };
    for object in objects {
        // An object that can't be locked can't be used by anybody, either.
        if let Ok(false) = object.mend(process, Instant::now().checked_add(PATIENCE)) {
            // Should there be no thread, those who wait go on at their next look, a second later.
            let _ = std::thread::Builder::new()
                .name("firebox-mending".to_owned())
                .spawn(move || object.mend(process, None));
        }
    }
}

/// Does `mending` with an object's numbers.
pub(super) fn within<const KIND: u32>(
    monitor: &Monitor<KIND>,
    deadline: Option<Instant>,
    mending: impl FnOnce(&mut Inside),
) -> Result<bool, Error> {
    let Some(mut inside) = monitor.enter_by(deadline)? else { return Ok(false) };
    mending(&mut inside);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::{Barrier, Semaphore};
    use super::*;

    /// A number that no process has.
    const NOBODY: u32 = 0x7FFF_FFFF;

    #[test]
    fn an_object_whose_holder_is_stopped_is_mended_when_it_goes_on() {
        let (semaphore, barrier) = (Semaphore::new(1).unwrap(), Barrier::new(2).unwrap());
        semaphore.add_holder(NOBODY);
        assert_eq!(semaphore.available().unwrap(), 0);
        std::thread::scope(|scope| {
            let (in_it, held) = std::sync::mpsc::channel();
            let (go_on, stopped) = std::sync::mpsc::channel::<()>();
            let holder = semaphore.clone();
            scope.spawn(move || {
                holder.with_lock(|| {
                    in_it.send(()).unwrap();
                    stopped.recv().unwrap();
                });
            });
            held.recv().unwrap();
            let begun = Instant::now();
            mend(NOBODY);
            assert!(begun.elapsed() < Duration::from_secs(10), "whoever reaps goes on");
            go_on.send(()).unwrap();
        });
        let begun = Instant::now();
        while semaphore.available().unwrap() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!barrier.is_broken(), "it was none of its");
    }
}
