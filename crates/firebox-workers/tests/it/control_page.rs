//! The page between parent and worker, in every order that their steps can take: the crate's
//! own file, with loom's words in the place of the real ones.

use loom::sync::Arc;
use loom::sync::mpsc::channel;
use loom::thread;

#[allow(dead_code, unreachable_pub, reason = "what one side of the page needs, a test of the other doesn't")]
#[path = "../../src/process/control_page.rs"]
mod page;

/// Atomics, as the file finds them in its own crate, but for loom.
mod atomic {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
}

use atomic::{AtomicU64, Ordering};
use page::{Begun, ControlPage, WORDS};

fn words() -> Arc<Vec<AtomicU64>> {
    Arc::new((0..WORDS).map(|_| AtomicU64::new(0)).collect())
}

fn part(part: usize) -> Begun {
    Begun { part: Some(part), alone: false }
}

/// Whenever the parent looks at a worker that is dead: it blames the last part that had been begun, or an
/// earlier one whose successor it can't have seen begin, and never a part of an earlier task.
#[test]
fn no_part_of_an_earlier_task_is_blamed() {
    loom::model(|| {
        let words = words();
        let (task, tasks) = channel::<usize>();
        let (answer, answers) = channel::<()>();
        let there = Arc::clone(&words);
        let worker = thread::spawn(move || {
            let page = ControlPage::new(&there);
            for _ in 0..2 {
                let first = tasks.recv().unwrap();
                page.begin(part(first));
                page.begin(part(first + 1));
                answer.send(()).unwrap();
            }
        });
        let page = ControlPage::new(&words);
        for first in [10, 20] {
            page.clear();
            task.send(first).unwrap();
            // It might die now.
            let begun = page.begun();
            assert!([None, Some(part(first)), Some(part(first + 1))].contains(&begun), "{begun:?}");
            answers.recv().unwrap();
            assert_eq!(page.begun(), Some(part(first + 1)), "its answer comes after all that it began");
        }
        worker.join().unwrap();
    });
}

/// The work before a part's beginning is there for whoever sees that it has begun.
#[test]
fn a_part_that_is_seen_begun_shows_what_was_done_before_it() {
    loom::model(|| {
        let (words, done) = (words(), Arc::new(AtomicU64::new(0)));
        let (there, written) = (Arc::clone(&words), Arc::clone(&done));
        let worker = thread::spawn(move || {
            written.store(1, Ordering::Relaxed);
            ControlPage::new(&there).begin(part(1));
        });
        if ControlPage::new(&words).begun() == Some(part(1)) {
            assert_eq!(done.load(Ordering::Relaxed), 1);
        }
        worker.join().unwrap();
    });
}

/// A task that was cancelled hears of it, and the next one, for which the page is cleared, doesn't.
#[test]
fn a_task_hears_of_its_own_cancellation_only() {
    loom::model(|| {
        let words = words();
        let (task, tasks) = channel::<()>();
        let (answer, answers) = channel::<bool>();
        let there = Arc::clone(&words);
        let worker = thread::spawn(move || {
            let page = ControlPage::new(&there);
            for _ in 0..2 {
                tasks.recv().unwrap();
                page.tell_progress(1);
                answer.send(page.is_wanted()).unwrap();
            }
        });
        let page = ControlPage::new(&words);
        page.clear();
        task.send(()).unwrap();
        page.cancel();
        // Before the word or after it.
        answers.recv().unwrap();
        page.clear();
        assert_eq!(page.progress(), 0, "an earlier task's progress is none of this one's");
        task.send(()).unwrap();
        assert!(answers.recv().unwrap(), "the next task is wanted");
        worker.join().unwrap();
    });
}
