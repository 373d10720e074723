//! How processes wait for each other, in every order that their steps can take: the crate's own files, with
//! words of loom's in the place of those in shared memory.

use loom::sync::Arc;
use loom::thread;

#[path = "../../src/sync/waiting/condition.rs"]
mod condition;
#[path = "../../src/sync/waiting/signal.rs"]
mod signal;

/// A word and its waiters, as the files find them in their own crate, but for loom.
mod futex {
    use std::time::Instant;

    use loom::sync::atomic::{AtomicU32, Ordering::SeqCst};
    use loom::sync::{Condvar, Mutex};

    pub(crate) struct Futex {
        value: AtomicU32,
        /// Held as the kernel holds a futex' queue: looking at the word and going to sleep are one step for
        /// who wakes.
        queue: Mutex<()>,
        woken: Condvar,
    }

    impl Futex {
        pub(crate) fn new() -> Self {
            Futex { value: AtomicU32::new(0), queue: Mutex::new(()), woken: Condvar::new() }
        }
    }

    pub(crate) const EVERYBODY: u32 = i32::MAX as u32;

    #[derive(Clone, Copy)]
    pub(crate) struct Word<'m>(pub(crate) &'m Futex);

    impl Word<'_> {
        pub(crate) fn load(self) -> u32 {
            self.0.value.load(SeqCst)
        }

        pub(crate) fn replace(self, current: u32, new: u32) -> bool {
            self.0.value.compare_exchange(current, new, SeqCst, SeqCst).is_ok()
        }

        pub(crate) fn add(self, number: i32) -> u32 {
            self.0.value.fetch_add(number.cast_unsigned(), SeqCst)
        }

        pub(crate) fn wait(self, current: u32, deadline: Option<Instant>) -> bool {
            assert!(deadline.is_none(), "loom has no clock");
            let queue = self.0.queue.lock().unwrap();
            if self.load() == current {
                drop(self.0.woken.wait(queue).unwrap());
            }
            true
        }

        pub(crate) fn wake(self, count: u32) {
            let _queue = self.0.queue.lock().unwrap();
            if count == EVERYBODY {
                self.0.woken.notify_all()
            } else {
                (0..count).for_each(|_| self.0.woken.notify_one())
            }
        }
    }
}

use condition::Condition;
use futex::{EVERYBODY, Futex, Word};
use signal::Signal;

#[test]
fn who_waits_for_a_signal_is_woken_also_if_it_is_cleared_at_once() {
    loom::model(|| {
        let word = Arc::new(Futex::new());
        let other = Arc::clone(&word);
        let setting = thread::spawn(move || {
            let signal = Signal(Word(&other));
            signal.set();
            signal.clear();
            signal.set();
        });
        assert!(Signal(Word(&word)).wait(None));
        setting.join().unwrap();
        assert!(Signal(Word(&word)).is_set());
    });
}

#[test]
fn a_signal_wakes_everybody() {
    loom::model(|| {
        let word = Arc::new(Futex::new());
        let waiting = [(); 2].map(|()| {
            let word = Arc::clone(&word);
            thread::spawn(move || assert!(Signal(Word(&word)).wait(None)))
        });
        Signal(Word(&word)).set();
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
    });
}

#[test]
fn two_who_set_and_clear_leave_a_signal_that_is_one_of_both() {
    loom::model(|| {
        let word = Arc::new(Futex::new());
        let other = Arc::clone(&word);
        let clearing = thread::spawn(move || {
            Signal(Word(&other)).set();
            Signal(Word(&other)).clear();
        });
        Signal(Word(&word)).set();
        clearing.join().unwrap();
        // Set last by this thread, or cleared last by the other one; and each change has counted.
        let changes = Word(&word).load();
        assert!(matches!(changes, 1..=3), "{changes}");
        assert_eq!(Signal(Word(&word)).is_set(), changes % 2 == 1);
    });
}

/// Something under a lock, with a condition to wait for: what a monitor is, but for its memory.
struct Counter {
    count: loom::sync::Mutex<u32>,
    changes: Futex,
    waiting: Futex,
}

impl Counter {
    fn new() -> Arc<Self> {
        let count = loom::sync::Mutex::new(0);
        Arc::new(Counter { count, changes: Futex::new(), waiting: Futex::new() })
    }

    fn condition(&self) -> Condition<'_> {
        Condition { changes: Word(&self.changes), waiting: Word(&self.waiting) }
    }

    fn put(&self, count: u32, wake: u32) {
        let mut inside = self.count.lock().unwrap();
        *inside += count;
        let somebody_waits = self.condition().count();
        drop(inside);
        if somebody_waits {
            self.condition().wake(wake);
        }
    }

    fn take(&self) {
        let mut inside = self.count.lock().unwrap();
        while *inside == 0 {
            let prepared = self.condition().prepare();
            drop(inside);
            self.condition().sleep(prepared, None);
            inside = self.count.lock().unwrap();
        }
        *inside -= 1;
    }
}

#[test]
fn a_change_is_missed_by_nobody_who_waits_for_it() {
    loom::model(|| {
        let counter = Counter::new();
        let other = Arc::clone(&counter);
        let taking = thread::spawn(move || {
            other.take();
            other.take();
        });
        counter.put(1, 1);
        counter.put(1, 1);
        taking.join().unwrap();
        assert_eq!(Word(&counter.waiting).load(), 0);
    });
}

#[test]
fn one_change_for_each_lets_all_go_on() {
    let mut model = loom::model::Builder::new();
    // With three threads, more switches than these take minutes.
    model.preemption_bound = Some(3);
    model.check(|| {
        let counter = Counter::new();
        let taking = [(); 2].map(|()| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || counter.take())
        });
        counter.put(1, 1);
        counter.put(1, 1);
        taking.into_iter().for_each(|taking| taking.join().unwrap());
        assert_eq!(*counter.count.lock().unwrap(), 0);
    });
}

#[test]
fn one_change_for_all_lets_all_go_on() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let counter = Counter::new();
        let taking = [(); 2].map(|()| {
            let counter = Arc::clone(&counter);
            thread::spawn(move || counter.take())
        });
        counter.put(2, EVERYBODY);
        taking.into_iter().for_each(|taking| taking.join().unwrap());
    });
}
