//! `report.html` while the run goes on.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Zoned;

use crate::error::{BoxError, Error, ErrorKind};
use crate::page::history::Follower;
use crate::page::html::Report;
use firebox_train::RunDir;
use firebox_train::event::End;
use firebox_train::event::{Callback, Event, RecordKind};

/// Writes a run's `report.html` while it goes on.
///
/// It does so when the run begins or goes on, after each evaluation, and now and then between: how far it is,
/// its metrics, and where the time went. A browser that shows the page asks for it again by itself. At the
/// end it says how the run ended, also by an error or a panic; a [`Report`] of the finished run may take its
/// place. The page of a process that was killed can't: it says by when there would be a newer one.
///
/// A page is made of what is new since the one before: the time and the memory that it takes don't grow with
/// the run. Pages are made by a thread of their own, one at a time, and no more often than makes up a
/// fiftieth of the time: the training thread only says that one is due. Between two pages are at least ten
/// seconds, or what [`every`](LiveReport::every) says, but for evaluations.
///
/// ```
/// use std::time::Duration;
///
/// use firebox_report::LiveReport;
/// use firebox_train::event::{Callback, Event};
/// use firebox_train::{RunDir, Trainer};
///
/// fn shown(trainer: Trainer, run: &RunDir) -> Trainer {
///     let report = LiveReport::new(run, "My first network").every(Duration::from_secs(30));
///     trainer.callback(report.with(|report| Ok(report.facts([("machine", "the small one".to_owned())]))))
/// }
///
/// // By hand: a run that begins, and of which nothing more is heard.
/// # let folder = tempfile::tempdir()?;
/// let run = RunDir::create(folder.path().join("run"))?;
/// std::fs::write(run.metrics(), "{\"kind\": \"step\", \"split\": \"train\", \"step\": 1, \"loss\": 1}\n")?;
/// let mut report = LiveReport::new(&run, "My first network");
/// report.on_event(&Event::Started { done: 1, steps: 10, epochs: 1 })?;
/// drop(report);
/// assert!(std::fs::read_to_string(run.report())?.contains("Ended without a word after step 1"));
/// # Ok::<(), firebox_train::BoxError>(())
/// ```
#[derive(Debug)]
pub struct LiveReport {
    page: Page,
    writer: Option<Writer>,
    /// Steps of the run, those done before this process, and those done.
    steps: (usize, usize, usize),
    epochs: u64,
    epoch: u64,
    begun: Instant,
    /// There was an evaluation that is on no page yet.
    evaluated: bool,
    /// When the last page was begun, and from when on the next one may be.
    asked: Instant,
    rest: Instant,
    /// Why the run stops before its end.
    stopped: Option<String>,
}

/// Where a page is made from, and where it goes.
#[derive(Clone, Debug)]
struct Page {
    title: String,
    metrics: PathBuf,
    path: PathBuf,
    every: Duration,
    /// The least time after which a page is made although nothing was recorded: a step or an evaluation may
    /// take long.
    idle: Duration,
    more: Option<More>,
}

/// Adds to a page.
#[derive(Clone)]
struct More(Arc<dyn Fn(Report) -> Result<Report, BoxError> + Send + Sync>);

impl fmt::Debug for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("More")
    }
}

/// The status of the run on a page.
#[derive(Clone, Debug)]
struct Status {
    text: String,
    done: usize,
    steps: usize,
    /// The run goes on.
    live: bool,
}

/// The thread that makes pages.
#[derive(Debug)]
struct Writer {
    jobs: Sender<Status>,
    /// How long each page took.
    done: Receiver<Result<Duration, Error>>,
    /// It is at one.
    busy: bool,
    thread: JoinHandle<()>,
}

impl LiveReport {
    /// A page in a run's folder, under a title.
    pub fn new(run: &RunDir, title: &str) -> Self {
        let page = Page {
            title: title.to_owned(),
            metrics: run.metrics(),
            path: run.report(),
            every: Duration::from_secs(10),
            idle: STILL_ALIVE,
            more: None,
        };
        let now = Instant::now();
        LiveReport {
            page,
            writer: None,
            steps: (0, 0, 0),
            epochs: 0,
            epoch: 0,
            begun: now,
            evaluated: false,
            asked: now,
            rest: now,
            stopped: None,
        }
    }

    /// The least time between two pages, and after which a browser asks again. Whole seconds, at least one,
    /// for the latter.
    pub fn every(mut self, every: Duration) -> Self {
        self.page.every = every;
        self
    }

    /// Has `more` add to each page: pictures from the run's folder, say.
    ///
    /// It runs on the thread that makes pages. An error of it stops the run.
    pub fn with(mut self, more: impl Fn(Report) -> Result<Report, BoxError> + Send + Sync + 'static) -> Self {
        self.page.more = Some(More(Arc::new(more)));
        self
    }

    fn start(&mut self, done: usize, steps: usize, epochs: u64) -> Result<(), Error> {
        let now = Instant::now();
        (self.steps, self.epochs) = ((steps, done, done), epochs);
        (self.begun, self.asked, self.rest, self.stopped) = (now, now, now, None);
        self.writer = Some(Writer::start(self.page.clone())?);
        self.ask()
    }

    /// Hears of the page that was made last, and has another one made if it is time.
    fn look(&mut self) -> Result<(), Error> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if let Some(seconds) = writer.poll()? {
            self.rest = Instant::now() + 49 * seconds;
        }
        let now = Instant::now();
        let due = self.evaluated || now.duration_since(self.asked) >= self.page.every;
        if due && !writer.busy && now >= self.rest { self.ask() } else { Ok(()) }
    }

    fn ask(&mut self) -> Result<(), Error> {
        (self.asked, self.evaluated) = (Instant::now(), false);
        let status = self.status(&self.going(), true);
        match &mut self.writer {
            Some(writer) => writer.ask(status),
            None => Ok(()),
        }
    }

    /// Waits for the page in hand, and makes one that stays.
    fn close(&mut self, text: &str) -> Result<(), Error> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let status = self.status(text, false);
        writer.finish(&self.page, &status)
    }

    fn status(&self, text: &str, live: bool) -> Status {
        let (steps, _, done) = self.steps;
        Status { text: text.to_owned(), done, steps, live }
    }

    fn going(&self) -> String {
        let (steps, before, done) = self.steps;
        let place = format!("step {done} of {steps}, epoch {} of {}", self.epoch + 1, self.epochs);
        let left = if done > before {
            let each = self.begun.elapsed().as_secs_f64() / (done - before) as f64;
            format!(", about {} left", spoken(each * steps.saturating_sub(done) as f64))
        } else {
            String::new()
        };
        format!("Running: {place}{left}.")
    }
}

impl Drop for LiveReport {
    /// Whatever ends a run, its page must not go on.
    fn drop(&mut self) {
        let how = if thread::panicking() { "Ended by a panic" } else { "Ended without a word" };
        let _ = self
            .close(&format!("{how} after step {}: a resume goes on from the last checkpoint.", self.steps.2));
    }
}

impl Callback for LiveReport {
    fn on_event(&mut self, event: &Event<'_>) -> Result<(), BoxError> {
        match event {
            Event::Started { done, steps, epochs } => self.start(*done, *steps, *epochs)?,
            Event::EpochBegins { state, .. } => self.epoch = state.loader.epoch,
            Event::Recorded(record) => {
                self.steps.2 = record.step;
                self.evaluated |= record.kind == RecordKind::Eval;
                self.look()?;
            }
            Event::Interrupted { signal, step, .. } => {
                self.stopped =
                    Some(format!("Stopped by {} after step {step}: a resume goes on.", signal.name()));
            }
            Event::Ended { end, state } => {
                self.steps.2 = state.step;
                let text = match (self.stopped.take(), end) {
                    (Some(stopped), _) => stopped,
                    (None, End::OutOfTime) => {
                        format!("Out of time after step {}: a resume goes on.", state.step)
                    }
                    (None, End::Stale) => format!("Ended after step {}: it got no better.", state.step),
                    (None, _) => format!("Complete after step {}.", state.step),
                };
                self.close(&text)?;
            }
            Event::Failed { error } => self.close(&format!("Failed after step {}: {error}", self.steps.2))?,
            _ => {}
        }
        Ok(())
    }
}

/// How long a run may be silent before a page says that it goes on.
const STILL_ALIVE: Duration = Duration::from_secs(30);

impl Page {
    fn write(&self, follower: &mut Follower, status: &Status, rest: Duration) -> Result<(), Error> {
        let report = Report::with_history(&self.title, &self.metrics, follower.read()?);
        let report = self.begin(report, status, rest).curves()?.data_wait()?;
        let report = match &self.more {
            Some(More(more)) => more(report).map_err(|error| {
                Error::new(ErrorKind::Callback, "what was to be added to the report").caused_by(error)
            })?,
            None => report,
        };
        let report = if status.live { report.refreshing(self.every) } else { report };
        report.write(&self.path)
    }

    /// How the run stands, and nothing else.
    fn write_bare(&self, status: &Status) -> Result<(), Error> {
        self.begin(Report::new(&self.title), status, Duration::ZERO).write(&self.path)
    }

    /// The line about the run. While it goes on the next page comes within `rest`, and some time for making
    /// it.
    fn begin(&self, report: Report, status: &Status, rest: Duration) -> Report {
        let Status { text, done, steps, live } = status;
        if !live {
            return report.status(text, *done, *steps);
        }
        let now = Zoned::now();
        let written = now.strftime("%F %T");
        // Twice as long as it should take: machines can be slow.
        let wait = rest.saturating_mul(2).saturating_add(STILL_ALIVE);
        match now.checked_add(wait) {
            Ok(until) => {
                let due = format!("a newer page is due by {}", until.strftime("%T"));
                report.status(&format!("{text} Written at {written}; {due}."), *done, *steps).outdated(&until)
            }
            // At the end of the calendar.
            Err(_) => report.status(&format!("{text} Written at {written}."), *done, *steps),
        }
    }

    /// How long no page is made although nothing happens, when one takes so long.
    fn rest(&self, page: Duration) -> Duration {
        self.idle.max(self.every).max(50 * page)
    }
}

impl Writer {
    fn start(page: Page) -> Result<Self, Error> {
        let (jobs, todo) = channel::<Status>();
        let (answers, done) = channel();
        let thread = thread::Builder::new().name("report".to_owned()).spawn(move || {
            let mut follower = Follower::new(&page.metrics);
            let (mut last, mut took) = (None, Duration::ZERO);
            loop {
                let (status, asked) = match todo.recv_timeout(page.rest(took)) {
                    Ok(status) => (status, true),
                    Err(RecvTimeoutError::Timeout) => match last.clone() {
                        Some(status) => (status, false),
                        None => continue,
                    },
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                let begun = Instant::now();
                let written = page.write(&mut follower, &status, page.rest(took));
                if written.is_err() && !status.live {
                    // Whatever is wrong with the rest, the page must not say that the run goes on.
                    let _ = page.write_bare(&status);
                }
                took = begun.elapsed();
                last = Some(status);
                // What is wrong with a page that nobody asked for is wrong with the next one.
                if asked && answers.send(written.map(|()| took)).is_err() {
                    return;
                }
            }
        });
        let thread = thread
            .map_err(|error| Error::new(ErrorKind::Io, "no thread to write the report").caused_by(error))?;
        Ok(Writer { jobs, done, busy: false, thread })
    }

    fn ask(&mut self, status: Status) -> Result<(), Error> {
        self.busy = true;
        self.jobs.send(status).map_err(|_| lost())
    }

    /// The time that the page took which was finished since the last call.
    fn poll(&mut self) -> Result<Option<Duration>, Error> {
        match self.done.try_recv() {
            Ok(answer) => {
                self.busy = false;
                answer.map(Some)
            }
            Err(_) => Ok(None),
        }
    }

    /// Has the thread make the last page, and waits for it.
    fn finish(mut self, page: &Page, status: &Status) -> Result<(), Error> {
        let before = if self.busy { self.done.recv().map_err(|_| lost()) } else { Ok(Ok(Duration::ZERO)) };
        let asked = self.ask(status.clone());
        let last = asked.and_then(|()| self.done.recv().map_err(|_| lost()));
        drop(self.jobs);
        if self.thread.join().is_err() {
            page.write_bare(status)?;
            return Err(lost());
        }
        before?.and(last?).map(drop)
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Io, "the thread that writes the report has panicked")
}

fn spoken(seconds: f64) -> String {
    match seconds {
        0.0..90.0 => format!("{seconds:.0} s"),
        90.0..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_page_is_made_although_nothing_is_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path()).unwrap();
        fs::write(run.metrics(), "").unwrap();
        let mut live = LiveReport::new(&run, "An evaluation that takes long").every(Duration::ZERO);
        live.page.idle = Duration::from_millis(10);
        live.on_event(&Event::Started { done: 3, steps: 14, epochs: 2 }).unwrap();
        let begun = Instant::now();
        // The first is asked for; the others come by themselves.
        for page in 1..=3 {
            while fs::remove_file(run.report()).is_err() {
                assert!(begun.elapsed() < Duration::from_secs(60), "page {page} doesn't come");
                thread::sleep(Duration::from_millis(5));
            }
        }
        drop(live);
        assert!(fs::read_to_string(run.report()).unwrap().contains("Ended without a word after step 3"));
    }
}
