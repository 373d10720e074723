//! A batch's buffer that several threads write, in every order that their steps can take: the loader's own
//! file, with loom's threads, counters and cells in the place of the real ones.

use std::sync::Arc as Shared;
use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::SeqCst;

use firebox_data::collate::{BatchShape, Slots};
use firebox_data::elements::BufferPool;
use firebox_data::{BoxError, Collate};
use loom::cell::UnsafeCell;
use loom::thread;

#[path = "../../src/loader/assembly.rs"]
mod loaders;

use loaders::{Run, runs};

/// A layout of cells that loom watches: two threads that touch one without an order between them end the
/// test.
#[derive(Clone, Default)]
struct Cells {
    /// Buffers that were freed. An ordinary counter: it must put nothing in order.
    freed: Shared<Count>,
    /// Buffers that somebody got.
    got: Shared<Count>,
}

struct Buffer {
    cells: Vec<UnsafeCell<usize>>,
    freed: Shared<Count>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // To free memory is to write to it.
        touch(&self.cells);
        self.freed.fetch_add(1, SeqCst);
    }
}

/// Slots that touch what they borrow once more when they are dropped, as slots may.
struct Rest<'a>(&'a mut [UnsafeCell<usize>]);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        touch(self.0);
    }
}

/// A second panic, while the first unwinds, would end the program without a word.
fn touch(cells: &[UnsafeCell<usize>]) {
    if !std::thread::panicking() {
        cells.iter().for_each(|cell| cell.with_mut(|_| ()));
    }
}

impl Collate for Cells {
    type Buffer = Buffer;
    type Slot<'a> = &'a UnsafeCell<usize>;
    type Slots<'a> = Rest<'a>;
    type Batch = ();

    fn open(&self, shape: BatchShape, _: &BufferPool) -> Buffer {
        let cells = (0..shape.samples).map(|_| UnsafeCell::new(0)).collect();
        Buffer { cells, freed: Shared::clone(&self.freed) }
    }

    fn slots<'a>(&self, buffer: &'a mut Buffer) -> Rest<'a> {
        Rest(&mut buffer.cells)
    }

    fn clear(&self, _: &mut &UnsafeCell<usize>) {}

    fn close(&self, _: Buffer, _: &[usize]) -> Result<(), BoxError> {
        Ok(())
    }

    fn bytes(&self, (): &()) -> usize {
        0
    }
}

impl Slots<Cells> for Rest<'_> {
    fn get(&mut self, sample: usize) -> Option<&UnsafeCell<usize>> {
        self.0.get(sample)
    }

    fn split_at(mut self, samples: usize) -> (Self, Self) {
        let (left, right) = std::mem::take(&mut self.0).split_at_mut(samples);
        (Rest(left), Rest(right))
    }
}

impl Cells {
    /// The runs of a new buffer.
    fn runs(&self, lengths: &[usize]) -> Vec<Run<Cells>> {
        runs(self, self.open(lengths.iter().sum::<usize>().into(), &BufferPool::default()), lengths)
    }

    /// Writes its places into the cells of a run whose first place is `first`.
    fn write(&self, run: &mut Run<Cells>, first: usize, samples: usize) {
        for sample in 0..samples {
            let place = first + sample;
            run.slot(sample).unwrap().with_mut(|cell| write(cell, place + 1));
        }
        assert!(run.slot(samples).is_none(), "a run ends where the next begins");
    }

    /// Ends a run. Who gets the buffer must see in it what all have written.
    fn finish(&self, run: Run<Cells>) {
        if let Some(buffer) = run.finish() {
            for (place, cell) in buffer.cells.iter().enumerate() {
                assert_eq!(cell.with(read), place + 1, "what was written to place {place} is seen");
            }
            self.got.fetch_add(1, SeqCst);
        }
    }

    fn counts(&self) -> (usize, usize) {
        (self.got.load(SeqCst), self.freed.load(SeqCst))
    }
}

#[allow(unsafe_code, reason = "loom gives pointers, and has checked this one")]
fn write(cell: *mut usize, value: usize) {
    // SAFETY: loom calls this while nobody else touches the cell, or ends the test.
    unsafe { *cell = value };
}

#[allow(unsafe_code, reason = "loom gives pointers, and has checked this one")]
fn read(cell: *const usize) -> usize {
    // SAFETY: as above.
    unsafe { *cell }
}

/// Has each run but the last written by a thread of its own, and the last by this one.
fn written_by_as_many_threads(lengths: &'static [usize]) {
    loom::model(move || {
        let layout = Cells::default();
        let mut runs = layout.runs(lengths);
        let mut firsts = Vec::new();
        lengths.iter().fold(0, |first, length| {
            firsts.push(first);
            first + length
        });
        let mut here = runs.pop().unwrap();
        let threads: Vec<_> = runs
            .into_iter()
            .zip(firsts.clone())
            .zip(lengths)
            .map(|((mut run, first), &length)| {
                let layout = layout.clone();
                thread::spawn(move || {
                    layout.write(&mut run, first, length);
                    layout.finish(run);
                })
            })
            .collect();
        layout.write(&mut here, firsts[lengths.len() - 1], lengths[lengths.len() - 1]);
        layout.finish(here);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(layout.counts(), (1, 1), "one thread gets the buffer, and it is freed once");
    });
}

#[test]
fn whoever_ends_the_last_of_two_runs_sees_what_both_have_written() {
    written_by_as_many_threads(&[1, 1]);
    written_by_as_many_threads(&[2, 1]);
}

#[test]
fn whoever_ends_the_last_of_three_runs_sees_what_all_have_written() {
    written_by_as_many_threads(&[1, 1, 1]);
}

#[test]
fn runs_without_samples_count_too() {
    written_by_as_many_threads(&[0, 1]);
    written_by_as_many_threads(&[1, 0]);
    written_by_as_many_threads(&[0, 0]);
}

#[test]
fn a_single_run_is_the_last() {
    loom::model(|| {
        let layout = Cells::default();
        let mut run = layout.runs(&[3]).pop().unwrap();
        let there = layout.clone();
        let thread = thread::spawn(move || {
            there.write(&mut run, 0, 3);
            there.finish(run);
        });
        thread.join().unwrap();
        assert_eq!(layout.counts(), (1, 1));
    });
}

#[test]
fn after_a_run_that_was_dropped_unfinished_nobody_gets_the_buffer_and_all_is_freed() {
    for dropped in 0..3 {
        loom::model(move || {
            let layout = Cells::default();
            let mut runs = layout.runs(&[1, 1, 1]).into_iter();
            let mut end = |mine: usize| {
                let (mut run, layout) = (runs.next().unwrap(), layout.clone());
                move || {
                    run.slot(0).unwrap().with_mut(|cell| write(cell, mine + 1));
                    match mine == dropped {
                        true => drop(run),
                        false => layout.finish(run),
                    }
                }
            };
            let (a, b, c) = (end(0), end(1), end(2));
            let (a, b) = (thread::spawn(a), thread::spawn(b));
            c();
            a.join().unwrap();
            b.join().unwrap();
            drop(runs);
            assert_eq!(layout.counts(), (0, 1));
        });
    }
}

#[test]
fn a_buffer_lives_as_long_as_a_run_that_may_write_to_it() {
    loom::model(|| {
        let layout = Cells::default();
        let mut runs = layout.runs(&[1, 2]).into_iter();
        let (mut first, mut late) = (runs.next().unwrap(), runs.next().unwrap());
        let there = layout.clone();
        let thread = thread::spawn(move || {
            // As a worker that was given up: it writes when everybody else is through, and its run is never
            // finished.
            there.write(&mut late, 1, 2);
            assert_eq!(there.counts(), (0, 0));
        });
        layout.write(&mut first, 0, 1);
        layout.finish(first);
        thread.join().unwrap();
        assert_eq!(layout.counts(), (0, 1));
    });
}

#[test]
fn a_run_may_be_begun_by_one_thread_and_ended_by_another() {
    loom::model(|| {
        let layout = Cells::default();
        let mut runs = layout.runs(&[2, 1]).into_iter();
        let (mut moved, mut stays) = (runs.next().unwrap(), runs.next().unwrap());
        let (pass, passed) = loom::sync::mpsc::channel();
        let begins = thread::spawn(move || {
            moved.slot(0).unwrap().with_mut(|cell| write(cell, 1));
            pass.send(moved).unwrap();
        });
        let there = layout.clone();
        let other = thread::spawn(move || {
            there.write(&mut stays, 2, 1);
            there.finish(stays);
        });
        let mut moved = passed.recv().unwrap();
        moved.slot(1).unwrap().with_mut(|cell| write(cell, 2));
        layout.finish(moved);
        begins.join().unwrap();
        other.join().unwrap();
        assert_eq!(layout.counts(), (1, 1));
    });
}
