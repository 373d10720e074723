//! Mending: the things done for the others when a process has ended.
//!
//! A lock is given on by the kernel. What a process held of anything else stands in a table, which the parent
//! mends when it reaps the process: it takes the dead one out of each table that it knows.
//!
//! It knows those of all objects that it has, or had: an object's memory stays in the list here, also without
//! a handle in this process, as long as a child that was given it lives, or any child has it mapped.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::sync::memory::shared::Shared;
use crate::sync::waiting::monitor::{Inside, Monitor};

/// Takes back what a process had of an object, and wakes who may go on now; `false` if that takes longer than
/// until the deadline.
pub(in crate::sync) type Mend = fn(Shared, process: u32, deadline: Option<Instant>) -> Result<bool, Error>;

/// An object that has to hear of processes that end.
struct Object {
    shared: Shared,
    mend: Mend,
    /// The living children that it was given; those that came by it otherwise are found by their mappings.
    given: BTreeSet<u32>,
}

impl Object {
    /// Tells whether somebody in this process has it: a handle, or a message that is still to be sent.
    fn is_here(&self) -> bool {
        Arc::strong_count(self.shared.memory()) > 1
    }
}

/// The objects of this process, and its children.
struct Known {
    objects: Vec<Object>,
    children: BTreeSet<u32>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { objects: Vec::new(), children: BTreeSet::new() });

/// How long one who reaps waits for a lock whose holder is stopped, before a thread of its own does.
const PATIENCE: Duration = Duration::from_millis(100);

fn known() -> MutexGuard<'static, Known> {
    // Nothing panics under this lock.
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has an object hear of processes that end.
pub(in crate::sync) fn watch(shared: &Shared, mend: Mend) {
    let mut known = known();
    if !known.objects.iter().any(|object| Arc::ptr_eq(object.shared.memory(), shared.memory())) {
        known.objects.push(Object { shared: shared.clone(), mend, given: BTreeSet::new() });
    }
}

/// Notes that a child is given an object, which it may not have mapped yet.
pub(in crate::sync) fn give(shared: &Shared, process: u32) {
    let Known { objects, children } = &mut *known();
    let object = objects.iter_mut().find(|object| Arc::ptr_eq(object.shared.memory(), shared.memory()));
    if let Some(object) = object.filter(|_| children.contains(&process)) {
        object.given.insert(process);
    }
}

/// Notes that this process has a child, whose end [`mend`] hears of.
pub(crate) fn note_child(process: u32) {
    known().children.insert(process);
}

/// The last part of a handle, which goes after its memory: it forgets objects that nobody has any more.
#[derive(Debug)]
pub(in crate::sync) struct Sweep;

impl Drop for Sweep {
    fn drop(&mut self) {
        sweep();
    }
}

/// Forgets the objects that neither this process nor a child of it has.
fn sweep() {
    let (doubtful, children) = {
        let Known { objects, children } = &mut *known();
        if children.is_empty() {
            return objects.retain(Object::is_here);
        }
        let doubtful = objects.iter().filter(|object| !object.is_here() && object.given.is_empty());
        (doubtful.map(|object| object.shared.inode()).collect::<BTreeSet<u64>>(), children.clone())
    };
    if doubtful.is_empty() {
        return;
    }
    // Not under the lock: that many files may take their time.
    let mapped: BTreeSet<u64> = children.into_iter().flat_map(|child| mapped(child, &doubtful)).collect();
    let unused = |object: &Object| {
        let inode = object.shared.inode();
        let is_sure = doubtful.contains(&inode) && !mapped.contains(&inode);
        is_sure && !object.is_here() && object.given.is_empty()
    };
    known().objects.retain(|object| !unused(object));
}

/// Which of these memory files a process has mapped.
fn mapped(process: u32, inodes: &BTreeSet<u64>) -> BTreeSet<u64> {
    let maps = match std::fs::read(format!("/proc/{process}/maps")) {
        Ok(maps) => String::from_utf8_lossy(&maps).into_owned(),
        // One that doesn't let itself be looked at may have any of them; one that has ended has none.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return inodes.clone(),
        Err(_) => return BTreeSet::new(),
    };
    let of_files = maps.lines().filter(|line| line.contains("/memfd:"));
    let numbers = of_files.filter_map(|line| line.split_ascii_whitespace().nth(4)?.parse().ok());
    numbers.filter(|inode| inodes.contains(inode)).collect()
}

/// Takes back what a process had of everything shared.
///
/// It is called when the process has ended and before it is reaped, while nobody else can have its id.
pub(crate) fn mend(process: u32) {
    // Not under the lock: an object's lock may take its time.
    let objects: Vec<(Shared, Mend)> =
        known().objects.iter().map(|object| (object.shared.clone(), object.mend)).collect();
    for (shared, mend) in objects {
        // An object that can't be locked can't be used by anybody, either.
        if let Ok(false) = mend(shared.clone(), process, Instant::now().checked_add(PATIENCE)) {
            // Should there be no thread, those who wait go on at their next look, a second later.
            let _ = std::thread::Builder::new().name("firebox-mending".to_owned()).spawn(move || {
                let _sweep = Sweep;
                mend(shared, process, None)
            });
        }
    }
    {
        let Known { objects, children } = &mut *known();
        children.remove(&process);
        objects.iter_mut().for_each(|object| _ = object.given.remove(&process));
    }
    sweep();
}

/// Does `mending` with an object's numbers.
pub(in crate::sync) fn within<const KIND: u32>(
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
    use super::*;
    use crate::sync::{Barrier, Semaphore, crossing};

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

    #[test]
    fn an_object_without_handles_is_forgotten_unless_a_living_child_was_given_it() {
        let has = |inode: u64| {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().any(|line| line.split_ascii_whitespace().nth(4) == Some(&inode.to_string()))
        };
        // Another number that no process has.
        const CHILD: u32 = NOBODY - 1;
        for is_given in [false, true] {
            let semaphore = Semaphore::new(1).unwrap();
            let inode = semaphore.inode();
            assert!(has(inode));
            if is_given {
                note_child(CHILD);
                let written = || crossing::encode(&(&semaphore, semaphore.clone())).unwrap();
                drop(crossing::to_process(CHILD, written));
            }
            let clone = semaphore.clone();
            drop(semaphore);
            assert!(has(inode), "a clone is a handle");
            drop(clone);
            if is_given {
                assert!(has(inode), "for the child's sake");
                mend(CHILD);
            }
            // Another test that mends has all objects in its hands while it does.
            let begun = Instant::now();
            while has(inode) {
                assert!(begun.elapsed() < Duration::from_secs(10));
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn memory_files_that_a_process_has_mapped_are_found() {
        let [one, other] = [(); 2].map(|()| Semaphore::new(1).unwrap());
        let gone = {
            let gone = Semaphore::new(1).unwrap();
            gone.inode()
        };
        let asked = BTreeSet::from([one.inode(), gone]);
        assert_eq!(mapped(std::process::id(), &asked), BTreeSet::from([one.inode()]));
        assert_eq!(mapped(NOBODY, &asked), BTreeSet::new());
        drop(other);
    }
}
