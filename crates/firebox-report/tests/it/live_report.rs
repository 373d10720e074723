//! The report while a run goes on: when it is written, what it says, and what it costs.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it measures")]

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{Pulled, fit, folder};
use firebox_data::elements::Elements;
use firebox_report::{LiveReport, Report};
use firebox_train::event::Event;
use firebox_train::run::{Interrupt, Signal};
use firebox_train::{ErrorKind, RunDir, Trainer};

const REFRESH: &str = "<meta http-equiv=\"refresh\" content=\"1\">";

fn page(run: &Path) -> String {
    fs::read_to_string(run.join("report.html")).unwrap()
}

/// Waits for a page that says something; pages are made by another thread.
fn wait_for(run: &Path, text: &str) -> String {
    let begun = Instant::now();
    loop {
        let found = fs::read_to_string(run.join("report.html")).unwrap_or_default();
        if found.contains(text) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no {text:?} in {found:.600}");
        sleep(Duration::from_millis(2));
    }
}

fn report(run: &RunDir) -> LiveReport {
    LiveReport::new(run, "A run of <numbers>").every(Duration::ZERO)
}

/// A run whose callback looks at the page when a step is over.
fn watched(
    run: &RunDir,
    resume: bool,
    task: &mut Pulled,
    mut look: impl FnMut(usize, &Path) + 'static,
) -> Result<firebox_train::trainer::Outcome, firebox_train::Error> {
    let path = run.path().to_owned();
    fit(run, resume, task, |trainer| {
        trainer.callback(report(run)).callback(move |event: &Event<'_>| {
            if let Event::Recorded(record) = event {
                look(record.step, &path);
            }
            Ok(())
        })
    })
}

#[test]
fn it_says_how_far_the_run_is_and_in_the_end_how_it_ended() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    watched(&run, false, &mut Pulled::default(), |step, path| {
        // A page was begun when the run was, and another one at a step since.
        if step == 3 {
            let page = wait_for(path, "Running: step ");
            assert!(page.contains(REFRESH) && page.contains("of 10, epoch 1 of 2"), "{page:.900}");
            assert!(page.contains("<h1>A run of &lt;numbers&gt;</h1>") && page.contains(" max=\"10\""));
        }
    })
    .unwrap();
    let last = page(place.path());
    assert!(!last.contains("http-equiv"), "a page that stays is not asked for again");
    assert!(last.contains("Complete after step 10.") && last.contains("<progress value=\"10\" max=\"10\">"));
    for part in ["<h2>Loss</h2>", "<h2>Seen</h2>", "each step", "validation", "Where the time went"] {
        assert!(last.contains(part), "{part}");
    }
    assert!(!last.contains("<h2>Lr</h2>") && !last.contains("<h2>Samples_per_s</h2>"), "of metrics only");
    // The report of the finished run takes its place.
    Report::of("Done", &run.metrics()).unwrap().curve("loss").unwrap().write(&run.report()).unwrap();
    assert!(page(place.path()).contains("<h1>Done</h1>"));
}

#[test]
fn it_goes_on_with_the_run_and_a_short_last_line_is_no_matter() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    watched(&run, false, &mut Pulled { fails: Some(7), ..Pulled::default() }, |_, _| {}).unwrap_err();
    let failed = page(place.path());
    assert!(failed.contains("Failed after step 7: step 8, epoch 2, batch 2, samples "), "{failed:.900}");
    assert!(failed.contains(": the data are too heavy") && !failed.contains("http-equiv"));
    let half = "{\"kind\":\"step\",\"step\":99,\"split\":\"train\",\"lo";
    let metrics = run.metrics();
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text.clone() + half).unwrap();
    Report::of("A killed run", &metrics).unwrap().curves().unwrap().write(&run.report()).unwrap();
    assert!(page(place.path()).contains("<h2>Loss</h2>"));
    watched(&run, true, &mut Pulled::default(), |step, path| {
        if step == 9 {
            wait_for(path, "Running: step ");
        }
    })
    .unwrap();
    assert!(page(place.path()).contains("Complete after step 10."));
    // A line in the middle that is no record is another matter.
    fs::write(&metrics, text.clone() + half + "\n" + &text).unwrap();
    let error = Report::of("A damaged run", &metrics).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::RunDir);
    let line = text.lines().count() + 1;
    assert!(
        error.to_string().contains(&format!("metrics.jsonl: line {line}: expected a JSON object")),
        "{error}"
    );
}

#[test]
fn a_test_of_a_killed_run_is_recorded_behind_its_last_whole_line() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    fit(&run, false, &mut Pulled::default(), |trainer| trainer).unwrap();
    let text = fs::read_to_string(run.metrics()).unwrap();
    fs::write(run.metrics(), text.clone() + "{\"kind\":\"st").unwrap();
    let judge = |numbers: Elements<i64>| {
        Ok(firebox_train::metrics::Metrics::of(numbers.len()).with_mean("loss", 1.0))
    };
    Trainer::new(&run, &Default::default()).evaluate(&crate::common::numbers(8), "test", judge).unwrap();
    let after = fs::read_to_string(run.metrics()).unwrap();
    assert!(after.starts_with(&text) && after[text.len()..].starts_with('{') && after.ends_with("}\n"));
    assert_eq!(after.lines().count(), text.lines().count() + 1);
}

#[test]
fn a_stopped_run_says_so() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let interrupt = Interrupt::never();
    interrupt.request(Signal::Term);
    fit(&run, false, &mut Pulled::default(), |trainer| trainer.interrupt(interrupt).callback(report(&run)))
        .unwrap();
    let page = page(place.path());
    assert!(
        page.contains("Stopped by SIGTERM after step 1: a resume goes on.") && !page.contains("http-equiv")
    );
}

#[test]
fn what_cannot_be_written_is_the_runs_error() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    fs::create_dir(run.report()).unwrap();
    let error =
        fit(&run, false, &mut Pulled::default(), |trainer| trainer.callback(report(&run))).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Callback);
    assert!(error.to_string().contains("report.html: cannot be written"), "{error}");
}

#[test]
fn training_does_not_wait_for_a_page_and_pages_are_a_fiftieth_of_the_time() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    fit(&run, false, &mut Pulled::default(), |trainer| trainer).unwrap();
    let by_hand = || {
        let begun = Instant::now();
        let all = Report::of("a page", &run.metrics()).unwrap();
        all.curves().unwrap().data_wait().unwrap().write(&run.report()).unwrap();
        begun.elapsed()
    };
    // No page of a longer run is faster, though the callback reads what is new only.
    let page = (0..5).map(|_| by_hand()).min().unwrap();
    // As a run of 10,000 steps leaves them.
    let text = fs::read_to_string(run.metrics()).unwrap();
    let line = text.lines().next().unwrap();
    fs::write(run.metrics(), text.clone() + &format!("{line}\n").repeat(10_000)).unwrap();
    let of_all = by_hand();

    // The callback, asked to write as often as it may, told of steps as fast as they come.
    let mut live = report(&run);
    let mut tell = |event: Event<'_>| {
        let begun = Instant::now();
        firebox_train::Callback::on_event(&mut live, &event).unwrap();
        begun.elapsed()
    };
    let started = tell(Event::Started { done: 0, steps: 10_000, epochs: 1 });
    let record = record();
    let (begun, mut all, mut longest, mut calls) = (Instant::now(), Duration::ZERO, Duration::ZERO, 0);
    let mut pages = std::collections::BTreeSet::new();
    while begun.elapsed() < Duration::from_secs(4) {
        let took = tell(Event::Recorded(&record));
        (all, longest, calls) = (all + took, longest.max(took), calls + 1);
        if let Ok(file) = fs::metadata(run.report()) {
            pages.insert(file.modified().unwrap());
        }
        sleep(Duration::from_micros(200));
    }
    drop(live);
    eprintln!(
        "a page takes {page:?}, one of 10,000 records {of_all:?}; the beginning {started:?}; a step {:?} on average, {longest:?} at most \
         ({calls} steps, {} pages in 4 s)",
        all / calls,
        pages.len()
    );
    assert!(all < Duration::from_millis(200), "steps have waited {all:?} of 4 s");
    // The last one made by hand, one at the beginning, and one each fifty pages' time.
    let most = 3 + (Duration::from_secs(4).as_secs_f64() / (40.0 * page.as_secs_f64())) as usize;
    assert!(pages.len() >= 2 && pages.len() <= most, "{} pages, at most {most}", pages.len());
}

/// One step's.
fn record() -> firebox_train::event::Record {
    firebox_train::event::Record {
        kind: firebox_train::event::RecordKind::Step,
        step: 5_000,
        epoch: 0,
        split: "train".to_owned(),
        seconds: 1.0,
        metrics: firebox_train::metrics::Metrics::of(4).with_mean("loss", 1.0),
        lr: Some(0.1),
        gradient_norm: None,
        samples_per_s: 1.0,
        data_wait_s: 0.0,
        data: None,
    }
}

#[test]
fn what_is_added_to_it_is_on_each_page_and_its_error_stops_the_run() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let samples = run.samples();
    run.write_sample("one.txt", b"a sample").unwrap();
    let live = report(&run).with(move |report| {
        let text = fs::read_to_string(samples.join("one.txt"))?;
        Ok(report.texts("Written", [("first", text.as_str())]))
    });
    fit(&run, false, &mut Pulled::default(), |trainer| trainer.callback(live)).unwrap();
    let last = page(place.path());
    assert!(last.contains("<h2>Written</h2><p>first</p>") && last.contains("a sample</pre>"), "{last:.600}");
    assert!(last.contains("Complete after step 10."));

    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let live = report(&run).with(|_| Err("no picture of epoch 1".into()));
    let error = fit(&run, false, &mut Pulled::default(), |trainer| trainer.callback(live)).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Callback);
    assert!(error.to_string().contains("no picture of epoch 1"), "{error}");
}

#[test]
fn a_page_ends_however_the_run_does() {
    let state = || {
        let place = tempfile::tempdir().unwrap();
        let run = folder(place.path(), false);
        fit(&run, false, &mut Pulled::default(), |trainer| trainer).unwrap();
        (place, run)
    };
    let begun = |live: &mut LiveReport| {
        firebox_train::Callback::on_event(live, &Event::Started { done: 3, steps: 14, epochs: 2 }).unwrap();
    };
    // Whoever holds it lets it go, without an event.
    let (place, run) = state();
    let mut live = report(&run);
    begun(&mut live);
    let running = wait_for(place.path(), "Running: step 3 of 14");
    assert!(
        running.contains("a newer page is due by ") && running.contains("There was no newer page by "),
        "{running:.1500}"
    );
    // It takes the place of the line that says that the run goes on.
    assert!(running.contains("line.data=Date.now()<+gone.dataset.from?going:gone.textContent"));
    drop(live);
    let ended = page(place.path());
    assert!(
        ended.contains("Ended without a word after step 3: a resume goes on from the last checkpoint."),
        "{ended:.900}"
    );
    assert!(
        !ended.contains("http-equiv") && !ended.contains("newer page") && ended.contains("<h2>Loss</h2>")
    );
    // By a panic that nobody has caught.
    let (place, run) = state();
    let mut live = report(&run);
    begun(&mut live);
    let thread = std::thread::spawn(move || {
        let _live = live;
        panic!("out of a callback");
    });
    assert!(thread.join().is_err());
    let ended = page(place.path());
    assert!(
        ended.contains("Ended by a panic after step 3: ") && !ended.contains("http-equiv"),
        "{ended:.900}"
    );
    // By an error, which may be that of the page itself: then what can be said is said.
    let error = firebox_train::Error::new(ErrorKind::Task, "the data are too heavy");
    for how in ["an error", "a panic", "no records"] {
        let (place, run) = state();
        let metrics = run.metrics();
        let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let now = fails.clone();
        let mut live = report(&run).with(move |report| match now.load(std::sync::atomic::Ordering::SeqCst) {
            true if how == "a panic" => panic!("no picture"),
            true => Err("no picture".into()),
            false => Ok(report),
        });
        begun(&mut live);
        wait_for(place.path(), "Running: step 3 of 14");
        match how {
            "no records" => fs::remove_file(&metrics).unwrap(),
            _ => fails.store(true, std::sync::atomic::Ordering::SeqCst),
        }
        firebox_train::Callback::on_event(&mut live, &Event::Failed { error: &error }).unwrap_err();
        let ended = page(place.path());
        assert!(ended.contains("Failed after step 3: the data are too heavy"), "{how}: {ended:.900}");
        assert!(!ended.contains("http-equiv") && !ended.contains("Running"), "{how}: {ended:.900}");
    }
}

#[test]
fn any_interval_will_do() {
    let place = tempfile::tempdir().unwrap();
    let run = folder(place.path(), false);
    let live = LiveReport::new(&run, "Rarely").every(Duration::MAX);
    fit(&run, false, &mut Pulled::default(), |trainer| trainer.callback(live)).unwrap();
    assert!(page(place.path()).contains("Complete after step 10."));
}

#[test]
fn pages_of_long_runs_are_no_larger_than_those_of_short_ones() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("metrics.jsonl");
    let of = |steps: usize| {
        let mut text = String::new();
        for step in 1..=steps {
            use std::fmt::Write as _;
            let (epoch, loss) = ((step - 1) / 100, 1.0 / step as f64 + (step % 7) as f64 * 0.01);
            let _ = writeln!(
                text,
                r#"{{"kind":"step","step":{step},"epoch":{epoch},"split":"train","loss":{loss}}}"#
            );
            if step % 100 == 0 {
                let data = r#"{"reading_s":1.0,"skipped":0,"verdict":"compute-bound","seconds":2.0,"workers":1,"timeline":[{"start_s":0.0,"seconds":1.0,"waited_s":0.5}]}"#;
                for (kind, split, data) in [("epoch", "train", data), ("eval", "valid", "null")] {
                    let _ = writeln!(
                        text,
                        r#"{{"kind":"{kind}","step":{step},"epoch":{epoch},"split":"{split}","seconds":2.0,"loss":{loss},"data":{data}}}"#
                    );
                }
            }
        }
        fs::write(&path, text).unwrap();
        let page = place.path().join("report.html");
        let report = Report::of("A run", &path).unwrap().curves().unwrap().data_wait().unwrap();
        report.write(&page).unwrap();
        fs::read_to_string(page).unwrap()
    };
    // Every point of a short one is drawn, that of each of its epochs too.
    let short = of(600);
    let longest = |page: &str| {
        page.split("points=\"").skip(1).map(|line| line.split('"').next().unwrap().split(' ').count()).max()
    };
    assert!(longest(&short) >= Some(600), "{:?}", longest(&short));
    assert_eq!(short.matches("<td>compute-bound</td>").count(), 6);
    let [long, longer] = [30_000, 300_000].map(of);
    assert!(longer.len() < 200_000, "{} bytes of 30,000 steps, {} of 300,000", long.len(), longer.len());
    assert!(
        longer.len() < 2 * long.len(),
        "{} bytes of 30,000 steps, {} of 300,000",
        long.len(),
        longer.len()
    );
    assert!(
        longer.contains("<td>1 to 2800</td>") && longer.contains("<td>3000</td>"),
        "the epochs before the last 200 together"
    );
}
