//! Tasks in a worker process: what runs there, and what becomes of it here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use firebox_core::panic_message;
use rustix::time::{ClockId, clock_gettime};

use super::remote_error::RemotePanic;
use super::remote_work::{Crosses, RemoteWork};
use crate::error::{Error, ErrorKind};
use crate::process::call::{Call, Outcome};
use crate::process::control_page::{Begun, ControlPage};
use crate::process::wire::{self, Reader, WireError};
use crate::process::worker::take_backtrace;
use crate::stream::chunk::ChunkResult;
use crate::task::work::{Work, Worker};

/// The nanoseconds of a clock that all processes share.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The work of a call.
fn work<T, W: RemoteWork<T>>(call: &mut Call<'_, '_>) -> Result<Rc<W>, WireError> {
    call.work(|settings| W::from_settings(settings).map_err(WireError::new))
}

/// Runs a task, which can look whether somebody waits for it, and note what it begins.
fn run<T, W: Work<T>>(work: &W, task: T, worker: usize, control: ControlPage<'_>) -> W::Output {
    let progress = || {
        control.tell_progress(now());
        control.is_wanted()
    };
    let begin = |part, alone| {
        control.tell_progress(now());
        control.begin(Begun { part: Some(part), alone });
    };
    work.run(task, Worker::new(worker, &progress).with_begin(&begin))
}

/// One task, in a worker. A panic is answered by who calls this.
pub(super) fn serve<T, W>(call: &mut Call<'_, '_>)
where
    T: Crosses,
    W: RemoteWork<T>,
    W::Output: Crosses,
{
    call.begin(None);
    let work = match work::<T, W>(call) {
        Ok(work) => work,
        Err(error) => return call.answer_message(Outcome::Unread, &format!("the work: {error}")),
    };
    let task = match call.read::<T>() {
        Ok(task) => task,
        Err(error) => return call.answer_message(Outcome::Unread, &error.to_string()),
    };
    let result = run(&*work, task, call.worker(), call.control());
    if let Err(error) = call.answer(Outcome::Done, &mut |writer| wire::write(&result, writer)) {
        call.answer_message(Outcome::Unwritten, &error.to_string());
    }
}

/// Why a task of a chunk has no result: an outcome, a message, and a backtrace.
type Failure = (u8, String, Option<String>);

/// A chunk of tasks, in a worker.
pub(super) fn serve_chunk<T, W>(call: &mut Call<'_, '_>)
where
    T: Crosses,
    W: RemoteWork<T>,
    W::Output: Crosses,
{
    let began = Instant::now();
    // Nothing is begun until a task is: the work is made for all of them.
    let work = match work::<T, W>(call) {
        Ok(work) => work,
        Err(error) => return call.answer_message(Outcome::Unread, &format!("the work: {error}")),
    };
    let mut failure: Option<Failure> = None;
    let count = call.read::<u64>().unwrap_or(0);
    let mut results = Vec::new();
    for part in 0..count as usize {
        // Before it is read: that is the task's own code, too.
        call.begin(Some(part));
        // Unwind safety: as for a task on its own.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let task = call.read::<T>()?;
            let control = call.control();
            let progress = || {
                control.tell_progress(now());
                control.is_wanted()
            };
            Ok(work.run(task, Worker::new(call.worker(), &progress)))
        }));
        failure = match ran {
            Ok(Ok(result)) => {
                results.push(result);
                continue;
            }
            Ok(Err(error)) => {
                let error: WireError = error;
                Some((Outcome::Unread as u8, error.to_string(), None))
            }
            Err(payload) => Some((Outcome::Panicked as u8, panic_message(payload), take_backtrace())),
        };
        break;
    }
    let took = began.elapsed().as_nanos() as u64;
    loop {
        let mut unwritten = 0;
        let said = call.answer(Outcome::Done, &mut |writer| {
            wire::write(&(results.len() as u64), writer)?;
            for (part, result) in results.iter().enumerate() {
                unwritten = part;
                wire::write(result, writer)?;
            }
            unwritten = results.len();
            wire::write(&(&failure, took), writer)
        });
        match said {
            Ok(()) => return,
            // Those before it are results all the same.
            Err(error) if unwritten < results.len() => {
                results.truncate(unwritten);
                failure = Some((Outcome::Unwritten as u8, error.to_string(), None));
            }
            Err(error) => return call.answer_message(Outcome::Unwritten, &error.to_string()),
        }
    }
}

/// Who has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct From {
    pub(super) worker: usize,
    pub(super) pid: u32,
}

impl From {
    /// The error of a task that came back without a result.
    fn error(self, outcome: Outcome, message: String, backtrace: Option<String>) -> Error {
        let crossing = |what: &str| Error::new(ErrorKind::Crossing, format!("{what}: {message}"));
        let error = match outcome {
            Outcome::Done | Outcome::Panicked => {
                let panic = RemotePanic { pid: self.pid, backtrace };
                return Error::from(ErrorKind::Panicked(message)).on_worker(self.worker).caused_by(panic);
            }
            Outcome::Unread => crossing("the worker could not read it"),
            Outcome::Unwritten => crossing("the worker could not write its result"),
        };
        error.on_worker(self.worker)
    }
}

fn outcome(number: u8) -> Result<Outcome, WireError> {
    Outcome::of(number).ok_or_else(|| WireError::new(format!("an outcome: expected 0 to 3, got {number}")))
}

/// The answer of [`serve`].
///
/// # Errors
/// If it is no answer.
pub(super) fn hear<R: Crosses>(reader: &mut Reader<'_>, from: From) -> Result<Result<R, Error>, WireError> {
    let [number] = reader.array()?;
    let outcome = outcome(number)?;
    let result = match outcome {
        Outcome::Done => Ok(wire::read::<R>(reader)?),
        Outcome::Panicked => {
            let (message, backtrace) = wire::read(reader)?;
            Err(from.error(outcome, message, backtrace))
        }
        Outcome::Unread | Outcome::Unwritten => Err(from.error(outcome, wire::read(reader)?, None)),
    };
    reader.end()?;
    Ok(result)
}

/// The answers of [`serve_chunk`] to so many tasks.
///
/// # Errors
/// If it is no answer.
pub(super) fn hear_chunk<R: Crosses>(
    reader: &mut Reader<'_>,
    from: From,
    tasks: usize,
) -> Result<ChunkResult<R>, WireError> {
    let [number] = reader.array()?;
    let whole = outcome(number)?;
    if whole != Outcome::Done {
        let (message, backtrace) = match whole {
            Outcome::Panicked => wire::read(reader)?,
            _ => (wire::read(reader)?, None),
        };
        reader.end()?;
        let error = Some(from.error(whole, message, backtrace));
        return Ok(ChunkResult { results: Vec::new(), error, took: Duration::ZERO });
    }
    let count = wire::read::<u64>(reader)?;
    if count > tasks as u64 {
        return Err(WireError::new(format!("results of a chunk: expected at most {tasks}, got {count}")));
    }
    let mut results = Vec::with_capacity(count as usize);
    for _ in 0..count {
        results.push(wire::read::<R>(reader)?);
    }
    let (failure, took): (Option<Failure>, u64) = wire::read(reader)?;
    reader.end()?;
    let error = match failure {
        Some((number, message, backtrace)) => Some(from.error(outcome(number)?, message, backtrace)),
        None => None,
    };
    if results.len() + usize::from(error.is_some()) > tasks || (error.is_none() && results.len() < tasks) {
        return Err(WireError::new(format!("results of a chunk: expected {tasks}, got {}", results.len())));
    }
    Ok(ChunkResult { results, error, took: Duration::from_nanos(took) })
}
