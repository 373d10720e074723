//! A task that is out, as the parent has it until it is answered.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::remote_work::{Crosses, RemoteWork};
use super::serve::{self, From};
use super::settings::Checked;
use crate::error::{Error, ErrorKind};
use crate::pool::incident::Incident;
use crate::process::control_page::Begun;
use crate::process::entry::Entry;
use crate::process::wire::{self, Reader, WireError, Writer};
use crate::stream::chunk::ChunkResult;
use crate::task::answer::Answer;

/// How often a worker may die with the same task before the task is run alone.
const DEATHS_AMONG_OTHERS: u32 = 2;

/// How often in all, before it is given up.
const DEATHS: u32 = DEATHS_AMONG_OTHERS + 1;

/// The next step after a worker has answered, or died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The errand is answered.
    Done,
    /// It is answered: the task is given up.
    Quarantined,
    /// It goes out again, or another part of it.
    Again,
}

/// A task on its way to workers, and the duty to answer it: dropped, it answers that it was lost.
///
/// It has the task itself, and writes it down for each worker that is to have it.
pub(super) trait Errand: Send {
    /// Tells whether anybody waits for it.
    fn is_wanted(&self) -> bool;

    /// The terms that it was handed out with.
    fn terms(&self) -> &Terms;

    /// The function that runs it in a worker.
    fn entry(&self) -> Entry;

    /// Writes down what is to be run now.
    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError>;

    /// Takes what a worker has answered.
    ///
    /// # Errors
    /// If it is no answer; then the errand is as before.
    fn hear(&mut self, from: From, reader: &mut Reader<'_>) -> Result<Next, WireError>;

    /// Takes note that a worker died with it, and what it had begun.
    fn died(&mut self, begun: Option<Begun>, incident: &Incident) -> Next;

    /// Answers with an error.
    fn fail(&mut self, worker: Option<usize>, error: Error);
}

/// Terms that a task is handed out with, and keeps wherever it goes.
pub(super) struct Terms {
    /// The settings of its work.
    pub(super) settings: Checked,
    /// The time that it may take.
    pub(super) limit: Option<Duration>,
    /// Its index in its stream.
    pub(super) index: usize,
}

/// One task.
pub(super) struct TaskErrand<T, W: RemoteWork<T>> {
    task: T,
    terms: Terms,
    /// How often workers died with the task, and with parts of it that it had begun.
    deaths: BTreeMap<Option<usize>, u32>,
    answer: Option<Answer<W::Output>>,
}

impl<T, W: RemoteWork<T>> TaskErrand<T, W> {
    pub(super) fn new(
        task: T,
        settings: Checked,
        answer: Answer<W::Output>,
        limit: Option<Duration>,
    ) -> Self {
        let terms = Terms { settings, limit, index: answer.task() };
        TaskErrand { task, terms, deaths: BTreeMap::new(), answer: Some(answer) }
    }
}

impl<T, W> Errand for TaskErrand<T, W>
where
    T: Crosses,
    W: RemoteWork<T>,
    W::Output: Crosses,
{
    fn is_wanted(&self) -> bool {
        self.answer.as_ref().is_some_and(Answer::is_wanted)
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn entry(&self) -> Entry {
        serve::serve::<T, W>
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        wire::write(&self.task, writer)
    }

    fn hear(&mut self, from: From, reader: &mut Reader<'_>) -> Result<Next, WireError> {
        let result = serve::hear::<W::Output>(reader, from)?;
        if let Some(answer) = self.answer.take() {
            let task = answer.task();
            answer.give(Some(from.worker), result.map_err(|error| error.at_index(task)));
        }
        Ok(Next::Done)
    }

    fn died(&mut self, begun: Option<Begun>, incident: &Incident) -> Next {
        // Who had begun nothing is not to blame.
        let Some(Begun { part, alone }) = begun else { return Next::Again };
        let deaths = self.deaths.entry(part).or_default();
        *deaths += 1;
        // A part can be run apart only by whoever has the task. The task as a whole has been alone all the
        // time.
        let most = match part {
            Some(_) if alone => 1,
            Some(_) => DEATHS_AMONG_OTHERS,
            None => DEATHS,
        };
        if *deaths < most {
            return Next::Again;
        }
        self.fail(Some(incident.worker), Error::from(ErrorKind::Died(incident.clone())));
        Next::Quarantined
    }

    fn fail(&mut self, worker: Option<usize>, error: Error) {
        if let Some(answer) = self.answer.take() {
            let task = answer.task();
            answer.give(worker, Err(error.at_index(task).on_worker(worker)));
        }
    }
}

/// A chunk of small tasks.
pub(super) struct ChunkErrand<T, W: RemoteWork<T>> {
    tasks: Vec<T>,
    /// Those that are to be run now; the results of all before them are here.
    out: Range<usize>,
    results: Vec<W::Output>,
    took: Duration,
    terms: Terms,
    /// How often workers died with a task.
    deaths: BTreeMap<usize, u32>,
    answer: Option<Answer<ChunkResult<W::Output>>>,
}

impl<T, W: RemoteWork<T>> ChunkErrand<T, W> {
    pub(super) fn new(
        tasks: Vec<T>,
        settings: Checked,
        answer: Answer<ChunkResult<W::Output>>,
        limit: Option<Duration>,
    ) -> Self {
        ChunkErrand {
            out: 0..tasks.len(),
            tasks,
            results: Vec::new(),
            took: Duration::ZERO,
            terms: Terms { settings, limit, index: answer.task() },
            deaths: BTreeMap::new(),
            answer: Some(answer),
        }
    }

    /// Which tasks go out together, from this one on: one with which workers have died goes alone.
    fn together(&self, from: usize) -> Range<usize> {
        let mut alone =
            self.deaths.iter().filter(|&(&at, &deaths)| at >= from && deaths >= DEATHS_AMONG_OTHERS);
        match alone.next() {
            Some((&at, _)) if at == from => from..from + 1,
            Some((&at, _)) => from..at,
            None => from..self.tasks.len(),
        }
    }

    fn answer(&mut self, worker: Option<usize>, error: Option<Error>) {
        if let Some(answer) = self.answer.take() {
            let (results, took) = (std::mem::take(&mut self.results), self.took);
            answer.give(worker, Ok(ChunkResult { results, error, took }));
        }
    }
}

impl<T, W> Errand for ChunkErrand<T, W>
where
    T: Crosses,
    W: RemoteWork<T>,
    W::Output: Crosses,
{
    fn is_wanted(&self) -> bool {
        self.answer.as_ref().is_some_and(Answer::is_wanted)
    }

    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn entry(&self) -> Entry {
        serve::serve_chunk::<T, W>
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), WireError> {
        wire::write(&(self.out.len() as u64), writer)?;
        self.tasks[self.out.clone()].iter().try_for_each(|task| wire::write(task, writer))
    }

    fn hear(&mut self, from: From, reader: &mut Reader<'_>) -> Result<Next, WireError> {
        let ChunkResult { results, error, took } =
            serve::hear_chunk::<W::Output>(reader, from, self.out.len())?;
        if self.results.is_empty() {
            self.results = results;
        } else {
            self.results.extend(results);
        }
        self.took += took;
        if error.is_none() && self.results.len() < self.tasks.len() {
            self.out = self.together(self.results.len());
            return Ok(Next::Again);
        }
        self.answer(Some(from.worker), error);
        Ok(Next::Done)
    }

    fn died(&mut self, begun: Option<Begun>, incident: &Incident) -> Next {
        let part = begun.and_then(|begun| begun.part).filter(|&part| part < self.out.len());
        let Some(part) = part else { return Next::Again };
        let at = self.out.start + part;
        let deaths = self.deaths.entry(at).or_default();
        *deaths += 1;
        if *deaths >= DEATHS {
            self.answer(Some(incident.worker), Some(Error::from(ErrorKind::Died(incident.clone()))));
            return Next::Quarantined;
        }
        self.out = self.together(self.out.start);
        Next::Again
    }

    fn fail(&mut self, worker: Option<usize>, error: Error) {
        // As the first task of the chunk that has no result.
        self.answer(worker, Some(error.on_worker(worker)));
    }
}
