//! The events that callbacks are told, in their order: in a run, in one that goes on, in one that fails, in
//! one that is stopped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::RefCell;
use std::rc::Rc;

use crate::common::{Pulled, SAMPLES, STEPS, config, fit, folder, numbers, seeds};
use burn::tensor::Device;
use firebox_data::LoaderState;
use firebox_data::batches::{BatchStream, Batches};
use firebox_data::elements::Elements;
use firebox_train::event::{End, Event, RecordKind};
use firebox_train::metrics::Metrics;
use firebox_train::run::{Interrupt, Signal};
use firebox_train::task::{Goal, TaskState};
use firebox_train::trainer::LrFinder;
use firebox_train::{Callback, Error, ErrorKind, RunDir, StepContext, Task, Trainer};

type Heard = Rc<RefCell<Vec<String>>>;

/// Writes down what happens, in words. Where a state comes with it, the words have its step.
fn listener(heard: &Heard) -> impl Callback + 'static {
    let heard = Rc::clone(heard);
    move |event: &Event<'_>| {
        heard.borrow_mut().push(match event {
            Event::Started { done, steps, epochs } => format!("started {done}/{steps} of {epochs}"),
            Event::Resumed { path, state, task } => {
                let weights =
                    task.get("model").unwrap().get("layer.weight").unwrap().to_vec::<f32>().unwrap();
                assert!(path.ends_with(format!("step-{}", state.step)) && weights.len() == 3);
                format!("resumed {}", state.step)
            }
            Event::EpochBegins { state, batches } => {
                format!("epoch {} of {batches} begins {}", state.loader.epoch, state.step)
            }
            Event::StepBegins { context, state } => {
                assert_eq!((context.step, context.lr), (state.step, 0.25));
                format!("step begins {}", state.step)
            }
            Event::StepEnds { state } => format!("step ends {}", state.step),
            Event::Validating { state } => format!("validating {}", state.step),
            Event::Validated { state, record, improved } => {
                assert_eq!((state.validated, &*record.split), (Some(state.step), "valid"));
                assert_eq!(state.best[0].step == state.step, *improved);
                format!("validated {}", state.step)
            }
            Event::Recorded(record) => {
                let kind = match record.kind {
                    RecordKind::Step => "step",
                    RecordKind::Epoch => "epoch",
                    RecordKind::Eval => "evaluation",
                };
                format!("{kind} recorded {}", record.step)
            }
            Event::EpochEnds { epoch, state } => {
                assert_eq!(state.loader.epoch, epoch + 1);
                format!("epoch {epoch} ends {}", state.step)
            }
            Event::Saving { state, .. } => format!("saving {}", state.step),
            Event::Saved { path, .. } => format!("saved {}", path.file_name().unwrap().to_str().unwrap()),
            Event::Warning(text) => format!("warning: {text}"),
            Event::Interrupted { signal, step, .. } => format!("{} {step}", signal.name()),
            Event::Finished => "finished".to_owned(),
            Event::Ended { end, state } => format!("ended {end:?} {}", state.step),
            Event::Failed { error } => format!("failed: {error}"),
            _ => unreachable!("an event that this test doesn't know"),
        });
        Ok(())
    }
}

/// The events heard but for checkpoints, which are complete when they are; each was begun, and complete
/// before the next one.
fn without_saves(heard: &Heard) -> Vec<String> {
    let all = heard.borrow();
    let of_saves = all.iter().filter(|words| words.starts_with("sav")).cloned().collect::<Vec<_>>();
    for pair in of_saves.chunks(2) {
        let step = pair[0].strip_prefix("saving ").unwrap();
        assert_eq!(pair[1], format!("saved step-{step}"), "{of_saves:?}");
    }
    all.iter().filter(|words| !words.starts_with("sav")).cloned().collect()
}

/// One epoch's events from the step after `from` on.
fn epoch(epoch: usize, from: usize) -> Vec<String> {
    let mut words = vec![format!("epoch {epoch} of {STEPS} begins {from}")];
    let last = (epoch + 1) * STEPS;
    for step in from..last {
        let done = step + 1;
        words.extend([format!("step begins {step}"), format!("step ends {done}")]);
        words.push(format!("step recorded {done}"));
    }
    words.extend(
        ["epoch recorded", "validating", "evaluation recorded", "validated"].map(|w| format!("{w} {last}")),
    );
    words.push(format!("epoch {epoch} ends {last}"));
    words
}

/// The batch of a step, as an error names it: people count steps and epochs from 1.
fn batch_in_words(step: usize) -> String {
    let (epoch, batch) = (step / STEPS, step % STEPS);
    let samples = numbers(SAMPLES).indices(epoch as u64, batch).unwrap();
    let samples: Vec<_> = samples.iter().map(usize::to_string).collect();
    format!("step {}, epoch {}, batch {batch}, samples {}", step + 1, epoch + 1, samples.join(", "))
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|words| (*words).to_owned()).collect()
}

#[test]
fn a_run_tells_everything_in_order() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let run = folder(place.path(), false);
    let mut task = Pulled::default();
    let outcome = fit(&run, false, &mut task, |trainer| trainer.callback(listener(&heard))).unwrap();
    assert_eq!((outcome.steps, outcome.end), (2 * STEPS, End::Complete));
    let expected = [
        owned(&["started 0/10 of 2"]),
        epoch(0, 0),
        epoch(1, STEPS),
        owned(&["finished", "ended Complete 10"]),
    ];
    assert_eq!(without_saves(&heard), expected.concat());
    let all = heard.borrow();
    // Before the first step, and last but for the words of the end: everything is written when it comes.
    assert_eq!(all[1..3], ["saving 0", "saved step-0"]);
    assert_eq!(all[all.len() - 3], "saved step-10");
    assert!(all.contains(&"saving 2".to_owned()) || all.contains(&"saving 3".to_owned()), "{all:?}");
}

#[test]
fn a_stopped_run_says_so_and_one_that_goes_on_says_what_it_loaded() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let interrupt = Interrupt::never();
    let run = folder(place.path(), false);
    let outcome = fit(&run, false, &mut Pulled::default(), |trainer| {
        let asks = interrupt.clone();
        trainer.interrupt(interrupt).callback(listener(&heard)).callback(move |event: &Event<'_>| {
            if let Event::StepEnds { state } = event
                && state.step == 7
            {
                asks.request(Signal::Term);
            }
            Ok(())
        })
    });
    assert_eq!(outcome.unwrap().end, End::Interrupted(Signal::Term));
    let told = without_saves(&heard);
    let tail = ["step ends 7", "step recorded 7", "SIGTERM 7", "ended Interrupted(Term) 7"];
    assert_eq!(told[told.len() - 4..], tail);
    drop(run);

    let heard = Heard::default();
    let run = folder(place.path(), true);
    fit(&run, true, &mut Pulled::default(), |trainer| trainer.callback(listener(&heard))).unwrap();
    let expected =
        [owned(&["started 7/10 of 2", "resumed 7"]), epoch(1, 7), owned(&["finished", "ended Complete 10"])];
    assert_eq!(without_saves(&heard), expected.concat());

    // Nothing is left to do.
    let heard = Heard::default();
    fit(&run, true, &mut Pulled::default(), |trainer| trainer.callback(listener(&heard))).unwrap();
    let expected = owned(&["started 10/10 of 2", "resumed 10", "finished", "ended Complete 10"]);
    assert_eq!(without_saves(&heard), expected);
}

#[test]
fn a_failing_run_tells_its_error_to_all() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let run = folder(place.path(), false);
    let mut task = Pulled { fails: Some(6), ..Pulled::default() };
    let error = fit(&run, false, &mut task, |trainer| trainer.callback(listener(&heard))).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Task);
    let all = heard.borrow();
    let told: Vec<_> = all.iter().filter(|words| !words.starts_with("sav")).cloned().collect();
    let failed = format!("failed: {}: the data are too heavy", batch_in_words(6));
    assert_eq!(told[told.len() - 2..], ["step begins 6".to_owned(), failed]);
    assert_eq!(all.iter().filter(|words| words.starts_with("failed")).count(), 1);
}

#[test]
fn an_error_before_the_beginning_is_told_too() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let run = folder(place.path(), false);
    let error = fit(&run, true, &mut Pulled::default(), |trainer| trainer.callback(listener(&heard)));
    assert_eq!(*heard.borrow(), [format!("failed: {}", error.unwrap_err())]);
    let heard = Heard::default();
    let error = fit(&run, false, &mut Pulled::default(), |trainer: Trainer| {
        trainer.epochs(0).callback(listener(&heard))
    });
    assert_eq!(*heard.borrow(), [format!("failed: {}", error.unwrap_err())]);
}

/// A callback that fails at one kind of event.
fn failing(at: &'static str) -> impl Callback {
    move |event: &Event<'_>| match format!("{event:?}").starts_with(at) {
        true => Err(format!("no room at {at}").into()),
        false => Ok(()),
    }
}

#[test]
fn an_error_at_every_hook_is_the_runs_error() {
    let _alone = seeds();
    for at in [
        "Started",
        "Saving",
        "Saved",
        "EpochBegins",
        "StepBegins",
        "StepEnds",
        "Recorded",
        "Validating",
        "Validated",
        "EpochEnds",
        "Finished",
        "Ended",
    ] {
        let place = tempfile::tempdir().unwrap();
        let heard = Heard::default();
        let error = fit(&folder(place.path(), false), false, &mut Pulled::default(), |trainer| {
            trainer.callback(failing(at)).callback(listener(&heard))
        });
        let error = error.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Callback);
        assert_eq!(error.to_string(), format!("a callback failed: no room at {at}"));
        assert_eq!(heard.borrow().last().unwrap(), &format!("failed: {error}"), "the others hear of it");
    }
    // That of a resume.
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    fit(&run, false, &mut Pulled::default(), |trainer| trainer).unwrap();
    let error = fit(&run, true, &mut Pulled::default(), |trainer| trainer.callback(failing("Resumed")));
    assert_eq!(error.unwrap_err().to_string(), "a callback failed: no room at Resumed");
    // That of a warning: the run goes on with other settings.
    let heard = Heard::default();
    let error = fit(&run, true, &mut Pulled::default(), |trainer| {
        let mut config = config();
        config.accumulate = 2;
        trainer.config(config).callback(failing("Warning")).callback(listener(&heard))
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Callback);
    assert_eq!(error.to_string(), "a callback failed: no room at Warning");
    assert_eq!(*heard.borrow().last().unwrap(), format!("failed: {error}"));
    // That of a signal, whose checkpoint is there all the same.
    let place = tempfile::tempdir().unwrap();
    let (heard, interrupt) = (Heard::default(), Interrupt::never());
    let asks = interrupt.clone();
    let run = folder(place.path(), false);
    let error = fit(&run, false, &mut Pulled::default(), |trainer| {
        let stops = move |event: &Event<'_>| {
            if let Event::StepEnds { .. } = event {
                asks.request(Signal::Int);
            }
            Ok(())
        };
        trainer
            .interrupt(interrupt)
            .callback(stops)
            .callback(failing("Interrupted"))
            .callback(listener(&heard))
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Callback);
    assert_eq!(error.to_string(), "a callback failed: no room at Interrupted");
    let told = without_saves(&heard);
    assert_eq!(told[told.len() - 2..], ["step recorded 1".to_owned(), format!("failed: {error}")]);
    assert!(run.checkpoints().path().join("step-1").is_dir());
}

#[test]
fn an_error_while_an_error_is_told_is_added_and_nobody_is_left_out() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let mut task = Pulled { fails: Some(1), ..Pulled::default() };
    let error = fit(&folder(place.path(), false), false, &mut task, |trainer| {
        trainer.callback(failing("Failed")).callback(listener(&heard))
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Task, "the run's own error");
    let text = format!("{}: the data are too heavy", batch_in_words(1));
    assert_eq!(error.to_string(), format!("{text}; then a callback failed: no room at Failed"));
    assert_eq!(*heard.borrow().last().unwrap(), format!("failed: {text}"));
}

#[test]
fn a_test_after_the_run_is_recorded_and_nothing_else() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let run = folder(place.path(), false);
    let mut trainer = Trainer::new(&run, &Default::default()).callback(listener(&heard));
    trainer.evaluate(&numbers(8), "test", firebox_train::Task::evaluator(&Pulled::default())).unwrap();
    assert_eq!(*heard.borrow(), ["evaluation recorded 0"]);
}

#[test]
fn a_signal_is_heard_between_the_batches_of_what_follows_a_run() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let run = folder(&place.path().join("whole"), false);
    let interrupt = Interrupt::never();
    let mut trainer = Trainer::new(&run, &Default::default()).interrupt(interrupt.clone());
    let records = || std::fs::read(run.metrics()).unwrap().len();
    let mut judge = Pulled::default();
    trainer.evaluate(&numbers(12), "test", judge.evaluator()).unwrap();
    let (before, mut batches) = (records(), 0);
    let judged = trainer.evaluate(&numbers(12), "test", |batch: Elements<i64>| {
        batches += 1;
        interrupt.request(Signal::Term);
        judge.evaluator()(batch)
    });
    let error = judged.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Interrupted(Signal::Term));
    assert_eq!(error.to_string(), "test data: stopped by SIGTERM, and nothing of it is recorded");
    assert_eq!((batches, records()), (1, before));
    let error = trainer.predict(&numbers(12), |batch| Ok(batch.len())).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Interrupted(Signal::Term));
    // What has stopped a run doesn't stop who looks at what it came to.
    let run = folder(&place.path().join("stopped"), false);
    let mut trainer = Trainer::new(&run, &Default::default()).config(config()).interrupt(interrupt);
    let outcome = trainer.fit(&mut judge, &numbers(SAMPLES), &numbers(8)).unwrap();
    assert_eq!((outcome.steps, outcome.interrupted()), (1, Some(Signal::Term)));
    trainer.evaluate(&numbers(12), "test", judge.evaluator()).unwrap();
    assert_eq!(trainer.predict(&numbers(12), |batch| Ok(batch.len())).unwrap(), [4, 4, 4]);
}

/// A task that panics at one of its methods: in a step at step 6, in an evaluation in its second batch.
struct Panics {
    task: Pulled,
    at: &'static str,
}

impl Panics {
    fn at(&self, at: &str) {
        assert_ne!(self.at, at, "too heavy");
    }
}

impl Task for Panics {
    type Batch = Elements<i64>;

    fn train_step(&mut self, batch: Elements<i64>, context: &StepContext) -> Result<Metrics, Error> {
        if context.step == 6 {
            self.at("step");
        }
        self.task.train_step(batch, context)
    }

    fn evaluator(&self) -> impl FnMut(Elements<i64>) -> Result<Metrics, Error> {
        self.at("evaluator");
        let mut judge = self.task.evaluator();
        let mut batches = 0;
        move |batch| {
            batches += 1;
            if batches == 2 {
                self.at("evaluation");
            }
            judge(batch)
        }
    }

    fn monitor(&self) -> (&str, Goal) {
        self.at("monitor");
        self.task.monitor()
    }

    fn gradient_norm(&self) -> Option<f64> {
        self.task.gradient_norm()
    }

    fn state(&self) -> Result<TaskState, Error> {
        self.at("state");
        let mut state = self.task.state()?;
        if self.at == "saving" {
            state.insert_later("heavy", || match std::thread::current().name() {
                Some("checkpoints") => panic!("too heavy"),
                _ => Ok(Default::default()),
            });
        }
        Ok(state)
    }

    fn load(&mut self, state: &TaskState) -> Result<(), Error> {
        self.at("load");
        self.task.load(state)
    }
}

/// The message of a panic of [`Panics`], which is that of an assertion.
fn heavy(at: &str) -> String {
    format!("panicked: assertion `left != right` failed: too heavy, left: \"{at}\", right: \"{at}\"")
}

fn panics(run: &RunDir, resume: bool, at: &'static str, heard: &Heard) -> Error {
    let mut task = Panics { task: Pulled::default(), at };
    let trainer = Trainer::new(run, &Device::default()).config(config()).schedule(0.25).resume(resume);
    trainer.callback(listener(heard)).fit(&mut task, &numbers(SAMPLES), &numbers(8)).unwrap_err()
}

#[test]
fn a_panic_anywhere_in_a_task_is_an_error_that_is_told_and_the_run_can_go_on() {
    let _alone = seeds();
    let whole = tempfile::tempdir().unwrap();
    let mut expected = Pulled::default();
    fit(&folder(whole.path(), false), false, &mut expected, |trainer| trainer).unwrap();
    let judged: Vec<_> = numbers(8).indices(0, 1).unwrap().iter().map(usize::to_string).collect();
    let evaluation = "after step 5, epoch 1, validation data";
    for (at, text, last) in [
        ("step", format!("{}: the step {}", batch_in_words(6), heavy("step")), 5),
        (
            "evaluation",
            format!(
                "{evaluation}, batch 1, samples {}: the evaluation {}",
                judged.join(", "),
                heavy("evaluation")
            ),
            5,
        ),
        ("evaluator", format!("{evaluation}: the evaluation {}", heavy("evaluator")), 5),
        ("monitor", format!("the run {}", heavy("monitor")), 5),
    ] {
        let place = tempfile::tempdir().unwrap();
        let heard = Heard::default();
        let run = folder(place.path(), false);
        let error = panics(&run, false, at, &heard);
        assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Panic, text), "{at}");
        assert_eq!(heard.borrow().last().unwrap(), &format!("failed: {error}"));
        assert_eq!(heard.borrow().iter().filter(|words| words.starts_with("failed")).count(), 1);
        let (state, _) = run.checkpoints().last().unwrap();
        assert!((last..=6).contains(&state.step), "{at}: the last checkpoint is of step {}", state.step);
        // What was recorded is in the file, and a resume goes on in the same process, by a new task.
        drop(run);
        let run = folder(place.path(), true);
        let mut task = Pulled::default();
        fit(&run, true, &mut task, |trainer| trainer).unwrap();
        assert_eq!(task.weights, expected.weights, "{at}");
        let records = |run: &RunDir| std::fs::read_to_string(run.metrics()).unwrap().lines().count();
        assert_eq!(records(&run), records(&RunDir::open(whole.path()).unwrap()), "{at}");
    }
    for (at, text) in [
        ("state", format!("the task's state {}", heavy("state"))),
        ("saving", "the thread that writes checkpoints panicked: too heavy".to_owned()),
    ] {
        let place = tempfile::tempdir().unwrap();
        let heard = Heard::default();
        let error = panics(&folder(place.path(), false), false, at, &heard);
        assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Panic, text));
        assert_eq!(heard.borrow().last().unwrap(), &format!("failed: {error}"));
    }
    let heard = Heard::default();
    let run = folder(whole.path(), true);
    let error = panics(&run, true, "load", &heard);
    assert_eq!(error.kind(), &ErrorKind::Checkpoint);
    assert!(error.to_string().ends_with(&format!("the task's load {}", heavy("load"))), "{error}");
    assert_eq!(*heard.borrow(), [format!("failed: {error}")]);
}

#[test]
fn a_panic_of_a_callback_is_an_error_and_the_others_hear_of_it() {
    let _alone = seeds();
    let panicking = |at: &'static str| {
        move |event: &Event<'_>| {
            assert!(!format!("{event:?}").starts_with(at), "no room");
            Ok(())
        }
    };
    for at in ["Started", "Saving", "StepEnds", "Recorded", "Validating", "EpochEnds", "Ended"] {
        let place = tempfile::tempdir().unwrap();
        let heard = Heard::default();
        let error = fit(&folder(place.path(), false), false, &mut Pulled::default(), |trainer| {
            trainer.callback(panicking(at)).callback(listener(&heard))
        });
        let error = error.unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (&ErrorKind::Panic, "a callback panicked: no room"));
        assert_eq!(heard.borrow().last().unwrap(), &format!("failed: {error}"), "{at}");
    }
    // While an error is told.
    let place = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let mut task = Pulled { fails: Some(1), ..Pulled::default() };
    let error = fit(&folder(place.path(), false), false, &mut task, |trainer| {
        trainer.callback(panicking("Failed")).callback(listener(&heard))
    });
    let error = error.unwrap_err();
    let text = format!("{}: the data are too heavy", batch_in_words(1));
    assert_eq!(error.to_string(), format!("{text}; then a callback panicked: no room"));
    assert_eq!(*heard.borrow().last().unwrap(), format!("failed: {text}"));
}

/// Batches that panic where a trainer asks for them.
struct Rotten(firebox_data::Loader<firebox_data::Scalar<i64>>, &'static str);

impl Rotten {
    fn at(&self, at: &str) {
        assert_ne!(self.1, at, "too heavy");
    }
}

impl Batches for Rotten {
    type Batch = Elements<i64>;

    fn batches(&self, epoch: u64) -> usize {
        self.at("batches");
        Batches::batches(&self.0, epoch)
    }

    fn samples(&self, epoch: u64) -> usize {
        Batches::samples(&self.0, epoch)
    }

    fn state(&self, epoch: u64) -> LoaderState {
        self.at("state");
        self.0.state(epoch)
    }

    fn check(&self, state: &LoaderState) -> Result<(), firebox_data::Error> {
        self.0.check(state)
    }

    fn indices(&self, _: u64, _: usize) -> Option<Vec<usize>> {
        panic!("asked for indices")
    }

    fn epoch(&self, epoch: u64) -> Box<dyn BatchStream<Elements<i64>> + '_> {
        self.at("epoch");
        Batches::epoch(&self.0, epoch)
    }

    fn resume(
        &self,
        state: &LoaderState,
    ) -> Result<Box<dyn BatchStream<Elements<i64>> + '_>, firebox_data::Error> {
        self.at("epoch");
        Batches::resume(&self.0, state)
    }
}

#[test]
fn a_panic_of_the_data_is_an_error_of_whoever_asks() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    for at in ["batches", "state", "epoch"] {
        let run = folder(&place.path().join(at), false);
        let heard = Heard::default();
        let (train, valid) = (Rotten(numbers(SAMPLES), at), numbers(8));
        let mut trainer = Trainer::new(&run, &Device::default()).config(config()).callback(listener(&heard));
        let error = trainer.fit(&mut Pulled::default(), &train, &valid).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Panic, format!("the run {}", heavy(at))));
        assert_eq!(heard.borrow().last().unwrap(), &format!("failed: {error}"));
        if at != "batches" {
            let error = trainer.evaluate(&train, "test", Pulled::default().evaluator()).unwrap_err();
            assert_eq!(error.to_string(), format!("the evaluation {}", heavy(at)));
            let error = trainer.predict(&train, |_| Ok(())).unwrap_err();
            assert_eq!(error.to_string(), format!("the prediction {}", heavy(at)));
        }
        let error = trainer.find_lr(&LrFinder::new(), &mut Pulled::default(), &train).unwrap_err();
        assert_eq!(error.to_string(), format!("the search {}", heavy(at)));
    }
    // The samples of an error can't be told: it stays what it was.
    let run = folder(&place.path().join("indices"), false);
    let mut task = Pulled { fails: Some(0), ..Pulled::default() };
    let train = Rotten(numbers(SAMPLES), "indices");
    let error = Trainer::new(&run, &Device::default()).fit(&mut task, &train, &numbers(8)).unwrap_err();
    assert_eq!(error.to_string(), "step 1, epoch 1: the data are too heavy");
}

#[test]
fn a_search_that_panics_leaves_the_task_as_it_was() {
    let _alone = seeds();
    let place = tempfile::tempdir().unwrap();
    let trainer = Trainer::new(&folder(place.path(), false), &Device::default());
    let mut task = Panics { task: Pulled { weights: [1.0, 2.0, 3.0], ..Pulled::default() }, at: "step" };
    let error = trainer.find_lr(&LrFinder::new(), &mut task, &numbers(SAMPLES)).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: the step {}", batch_in_words(6), heavy("step")));
    assert_eq!(task.task.weights, [1.0, 2.0, 3.0]);
    // Or says that it isn't.
    let mut task = Panics { task: Pulled { fails: Some(1), ..Pulled::default() }, at: "load" };
    let error = trainer.find_lr(&LrFinder::new(), &mut task, &numbers(SAMPLES)).unwrap_err();
    let text =
        format!("{}: the data are too heavy; then the task's load {}", batch_in_words(1), heavy("load"));
    assert_eq!(error.to_string(), text);
    // And what is predicted or judged is named.
    let error = trainer.predict(&numbers(8), |_| -> Result<(), Error> { panic!("no answer") }).unwrap_err();
    let samples: Vec<_> = numbers(8).indices(0, 0).unwrap().iter().map(usize::to_string).collect();
    let text = format!(
        "data to predict, batch 0, samples {}: the prediction panicked: no answer",
        samples.join(", ")
    );
    assert_eq!((error.kind(), error.to_string()), (&ErrorKind::Panic, text));
}

#[test]
fn a_norm_that_a_task_does_not_tell_is_no_secret() {
    let _alone = seeds();
    /// The same task without its norm.
    struct Silent(Pulled);
    impl Task for Silent {
        type Batch = Elements<i64>;

        fn train_step(&mut self, batch: Elements<i64>, context: &StepContext) -> Result<Metrics, Error> {
            self.0.train_step(batch, context)
        }

        fn evaluator(&self) -> impl FnMut(Elements<i64>) -> Result<Metrics, Error> {
            self.0.evaluator()
        }

        fn monitor(&self) -> (&str, Goal) {
            self.0.monitor()
        }

        fn state(&self) -> Result<TaskState, Error> {
            self.0.state()
        }

        fn load(&mut self, state: &TaskState) -> Result<(), Error> {
            self.0.load(state)
        }
    }
    let warnings = |norm_warning: f64, silent: bool| {
        let place = tempfile::tempdir().unwrap();
        let mut config = config();
        config.norm_warning = norm_warning;
        let mut trainer = Trainer::new(&folder(place.path(), false), &Device::default()).config(config);
        let (train, valid) = (numbers(SAMPLES), numbers(8));
        let outcome = match silent {
            true => trainer.fit(&mut Silent(Pulled::default()), &train, &valid),
            false => trainer.fit(&mut Pulled::default(), &train, &valid),
        };
        outcome.unwrap().warnings
    };
    let text = "norm_warning: the task tells no norm of its gradients (Task::gradient_norm), so that no \
                warning can come";
    assert_eq!(warnings(100.0, true), [text]);
    assert!(warnings(0.0, true).is_empty() && warnings(100.0, false).is_empty());
}
