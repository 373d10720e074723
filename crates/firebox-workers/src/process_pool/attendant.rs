//! The thread that attends to one worker process.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Started, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select, unbounded};
use firebox_core::panic_message;
use rustix::io::Errno;
use rustix::process::Signal;

use super::boxes::PayloadBox;
use super::errand::{Errand, Next};
use super::serve::{From, now};
use super::settings::Settings;
use super::shared::{ProcessParcel, Shared};
use crate::error::{Error, ErrorKind};
use crate::pool::incident::{Cause, Incident};
use crate::process::call::MOST_WORKS;
use crate::process::child::{Child, Ended, LOOK, StoppedSince};
use crate::process::control_page::Begun;
use crate::process::entry;
use crate::process::frame::{FrameBuffer, Header, INLINE, Kind, NoFrame};
#[cfg(feature = "tracing")]
use crate::process::log;
use crate::process::task::TaskHead;
use crate::process::wire::{Reader, Writer, Written};
use crate::sync::crossing::{self, MOST_FILES};

/// How long a worker may take until it says that it is there: for a program of any size on a machine that is
/// busy.
const START: Duration = Duration::from_secs(60);

/// How often a place's worker may die in a row, with no answer between.
const DEATHS_IN_A_ROW: u32 = 5;

/// How long the second start in a row is put off. It doubles with each.
const BACK_OFF: Duration = Duration::from_millis(10);

/// How long a worker has to end by itself.
const END: Duration = Duration::from_secs(1);

/// The bytes of a head, at most.
const HEAD: usize = 128;

/// The fate of a task that was out.
enum Heard {
    /// An answer: in the frame, or so many bytes in the outbox.
    Reply { body: usize, boxed: u64, files: Vec<OwnedFd> },
    /// The task took too long.
    TimedOut(Duration),
    /// Its result can't be taken.
    Refused(Error),
    /// The worker is dead.
    Dead(Ended),
}

/// An attendant's thread, and where it says whether it could start its worker.
pub(super) type BegunAttendant = (JoinHandle<()>, Started<Result<(), Error>>);

/// A thread's view of its worker.
pub(super) struct Attendant {
    id: usize,
    shared: Arc<Shared>,
    child: Option<Child>,
    /// Tells of the ends of processes, by the number of their start.
    ended: (Sender<u64>, Receiver<u64>),
    starts: u64,
    /// How many workers have died here in a row, and what became of the last.
    in_a_row: u32,
    last: Option<Incident>,
    inbox: PayloadBox,
    outbox: PayloadBox,
    /// The numbers of the work that the worker keeps, the oldest first.
    works: Vec<u64>,
    /// The number of the task that is out.
    task: u64,
    payload: Vec<u8>,
    message: Vec<u8>,
    buffer: FrameBuffer,
}

impl Attendant {
    /// Begins a thread that starts a worker, says whether it could, and attends to it.
    ///
    /// # Errors
    /// [`ErrorKind::Spawn`] if the system gives no thread.
    pub(super) fn begin(id: usize, shared: Arc<Shared>) -> Result<BegunAttendant, Error> {
        let (say, started) = sync_channel(1);
        let name = format!("{}-{id}", shared.launch.name);
        let attendant = Attendant::new(id, shared);
        // The worker ends with this thread, by the kernel's hand: so it is this one that starts it.
        let thread = thread::Builder::new().name(name).spawn(move || attendant.attend(&say));
        let no_thread = |error| Error::from(ErrorKind::Spawn).on_worker(id).caused_by(error);
        Ok((thread.map_err(no_thread)?, started))
    }

    fn new(id: usize, shared: Arc<Shared>) -> Self {
        Attendant {
            id,
            shared,
            child: None,
            ended: unbounded(),
            starts: 0,
            in_a_row: 0,
            last: None,
            inbox: PayloadBox::default(),
            outbox: PayloadBox::default(),
            works: Vec::new(),
            task: 0,
            payload: Vec::new(),
            message: Vec::new(),
            buffer: FrameBuffer::new(),
        }
    }

    fn attend(mut self, say: &SyncSender<Result<(), Error>>) {
        match self.start() {
            Ok(()) => self.shared.places().left += 1,
            Err(NoStart::Died(incident)) => {
                let _ = say.send(Err(Error::new(ErrorKind::NoProcess, incident.to_string())));
                return;
            }
            Err(NoStart::Error(error)) => {
                let _ = say.send(Err(error));
                return;
            }
        }
        let _ = say.send(Ok(()));
        while let Some(ProcessParcel(errand)) = self.next() {
            // Unwind safety: of what a panic of the user's own code may leave half done, the worker is ended,
            // and the errand answers when it is dropped.
            let carried = catch_unwind(AssertUnwindSafe(|| self.carry(errand)));
            match carried {
                Ok(true) => {}
                Ok(false) => return,
                Err(payload) => {
                    let what = format!("its parent: a panic with its task: {}", panic_message(payload));
                    if let Some(child) = &mut self.child {
                        let ended = child.end(Some(Cause::Garbage(what)));
                        self.bury(&ended, None, None);
                    }
                }
            }
        }
        self.leave();
    }

    /// Starts a worker, and waits until it is there.
    fn start(&mut self) -> Result<(), NoStart> {
        self.starts += 1;
        let (number, ended) = (self.starts, self.ended.0.clone());
        let started = self.shared.launch.start(self.id, move || {
            let _ = ended.send(number);
        });
        let mut child = started.map_err(NoStart::Error)?;
        let process = child.pidfd().try_clone_to_owned().map_err(|error| {
            let error = Error::new(ErrorKind::NoProcess, "a handle of a worker").caused_by(error);
            NoStart::Error(error.on_worker(self.id))
        })?;
        {
            let mut places = self.shared.places();
            if places.is_terminated {
                return Err(NoStart::Error(Error::from(ErrorKind::Lost)));
            }
            places.settle(self.id, Some((child.pid(), process)));
        }
        let ready = child.until_ready(START, &mut self.buffer);
        if let Err(ended) = ready {
            self.shared.places().settle(self.id, None);
            return Err(NoStart::Died(self.incident(child.pid(), &ended, None, None)));
        }
        self.child = Some(child);
        // A new worker has nothing of what the one before had.
        (self.inbox, self.outbox) = (PayloadBox::default(), PayloadBox::default());
        self.works.clear();
        Ok(())
    }

    /// The next task; `None` once there are no more.
    fn next(&mut self) -> Option<ProcessParcel> {
        loop {
            if let Ok(parcel) = self.shared.again.1.try_recv() {
                return Some(parcel);
            }
            if let Ok(parcel) = self.shared.waiting.try_recv() {
                return Some(parcel);
            }
            let shared = Arc::clone(&self.shared);
            select! {
                recv(shared.waiting) -> parcel => match parcel {
                    Ok(parcel) => return Some(parcel),
                    Err(_) => {
                        // Under one lock with those who give up and leave their tasks to others.
                        let mut places = shared.places();
                        if let Ok(parcel) = shared.again.1.try_recv() {
                            return Some(parcel);
                        }
                        places.left -= 1;
                        return None;
                    }
                },
                recv(shared.again.1) -> parcel => return parcel.ok(),
                recv(self.ended.1) -> number => {
                    if number == Ok(self.starts) && let Some(child) = &mut self.child {
                        let ended = child.end(None);
                        self.bury(&ended, None, None);
                        // A worker is there when the next task comes.
                        if !self.is_terminated() {
                            let _ = self.living();
                        }
                    }
                }
            }
        }
    }

    fn is_terminated(&self) -> bool {
        self.shared.places().is_terminated
    }

    /// The incident of a worker that ended.
    fn incident(
        &self,
        pid: u32,
        ended: &Ended,
        errand: Option<&dyn Errand>,
        begun: Option<Begun>,
    ) -> Incident {
        Incident {
            worker: self.id,
            pid,
            cause: ended.cause.clone(),
            task: errand.map(|errand| errand.terms().index),
            part: begun.and_then(|begun| begun.part),
            last_line: ended.last_line.clone(),
            private_memory: self.shared.launch.private_memory,
        }
    }

    /// Takes note of a worker that has ended, and of what it had begun.
    fn bury(&mut self, ended: &Ended, errand: Option<&dyn Errand>, begun: Option<Begun>) -> Option<Incident> {
        let child = self.child.take()?;
        let incident = self.incident(child.pid(), ended, errand, begun);
        {
            let mut places = self.shared.places();
            places.settle(self.id, None);
            if places.is_terminated {
                return None;
            }
        }
        self.shared.statistics().note(&incident);
        self.in_a_row += 1;
        self.last = Some(incident.clone());
        Some(incident)
    }

    /// Sees to it that there is a worker. `false` if this place gives up.
    fn living(&mut self) -> bool {
        while self.child.is_none() {
            if self.in_a_row >= DEATHS_IN_A_ROW {
                return false;
            }
            if let Some(doubled) = self.in_a_row.checked_sub(2) {
                thread::sleep(BACK_OFF * 2_u32.pow(doubled));
            }
            if self.is_terminated() {
                return false;
            }
            let incident = match self.start() {
                Ok(()) => {
                    self.shared.statistics().replacements += 1;
                    continue;
                }
                Err(NoStart::Died(incident)) => {
                    self.shared.statistics().replacements += 1;
                    incident
                }
                Err(NoStart::Error(error)) => {
                    let ended = Ended { cause: Cause::NotStarted(error.to_string()), last_line: None };
                    self.incident(0, &ended, None, None)
                }
            };
            if self.is_terminated() {
                return false;
            }
            self.in_a_row += 1;
            self.shared.statistics().note(&incident);
            self.last = Some(incident);
        }
        true
    }

    /// Sees a task to its answer. `false` if this place takes no tasks any more.
    fn carry(&mut self, mut errand: Box<dyn Errand>) -> bool {
        let settings = match errand.terms().settings.clone() {
            Ok(settings) => settings,
            Err(error) => {
                errand.fail(None, error);
                return true;
            }
        };
        loop {
            if !errand.is_wanted() || self.is_terminated() {
                return true;
            }
            if !self.living() {
                return self.give_up(errand);
            }
            let begun = Instant::now();
            match self.send(&*errand, &settings) {
                Ok(()) => {}
                Err(NotSent::Error(error)) => {
                    errand.fail(None, error);
                    return true;
                }
                // It is gone: that is heard as everything else is.
                Err(NotSent::Gone) => {}
            }
            let heard = self.listen(&*errand, begun);
            let (ended, garbage) = match heard {
                Heard::Reply { body, boxed, files } => match self.hear(&mut *errand, body, boxed, files) {
                    Ok(next) => {
                        self.in_a_row = 0;
                        self.inbox.shrink();
                        self.outbox.shrink();
                        if next == Next::Done {
                            self.shared.statistics().tasks += 1;
                            return true;
                        }
                        continue;
                    }
                    Err(what) => (None, Some(what)),
                },
                Heard::Refused(error) => {
                    errand.fail(Some(self.id), error);
                    return true;
                }
                Heard::TimedOut(limit) => {
                    if let Some(child) = &self.child {
                        let ended = Ended { cause: Cause::TimedOut(limit), last_line: None };
                        let begun = child.control().begun();
                        let incident = self.incident(child.pid(), &ended, Some(&*errand), begun);
                        let error = Error::from(ErrorKind::TimedOut(limit)).caused_by(incident);
                        // First what somebody waits for.
                        errand.fail(Some(self.id), error);
                    }
                    if let Some(child) = &mut self.child {
                        let ended = child.end(Some(Cause::TimedOut(limit)));
                        let begun = child.control().begun();
                        self.bury(&ended, Some(&*errand), begun);
                    }
                    // The task was answered.
                    self.in_a_row = 0;
                    self.living();
                    return true;
                }
                Heard::Dead(ended) => (Some(ended), None),
            };
            let Some(child) = &mut self.child else { continue };
            let ended = match (ended, garbage) {
                (Some(ended), _) => ended,
                (None, what) => child.end(what.map(Cause::Garbage)),
            };
            // Read after its end, when nobody writes any more.
            let begun = child.control().begun();
            let Some(incident) = self.bury(&ended, Some(&*errand), begun) else { return true };
            match errand.died(begun, &incident) {
                Next::Again => {}
                Next::Done => return true,
                Next::Quarantined => {
                    self.shared.statistics().quarantined += 1;
                    // The task was answered, and it is known what the workers died of.
                    self.in_a_row = 0;
                    self.living();
                    return true;
                }
            }
        }
    }

    /// Sends a task to the worker.
    fn send(&mut self, errand: &dyn Errand, settings: &Settings) -> Result<(), NotSent> {
        let Some(child) = &self.child else { return Err(NotSent::Gone) };
        let crossing = |message: String| NotSent::Error(Error::new(ErrorKind::Crossing, message));
        let is_known = settings.number == 0 || self.works.contains(&settings.number);
        // Functions are made of nothing, and settings that the worker keeps don't go again.
        let with_settings = settings.number == 0 || !is_known;
        let (written, files) = loop {
            self.payload.clear();
            let mut writer = Writer::new(&mut self.payload, INLINE - HEAD, self.inbox.memory());
            if with_settings {
                writer.put(&settings.bytes);
            }
            // Unwind safety: what was written is cleared before anything else is.
            let (written, files) =
                crossing::collect(|| catch_unwind(AssertUnwindSafe(|| errand.write(&mut writer))));
            let failed = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(payload) => Some(format!("a panic while it was written: {}", panic_message(payload))),
            };
            if let Some(error) = failed {
                return Err(crossing(format!("it cannot be sent to another process: {error}")));
            }
            match writer.finish() {
                Written::Needs(bytes) => {
                    self.inbox.grow("a task", bytes, self.shared.most_bytes).map_err(NotSent::Error)?;
                }
                written => break (written, files),
            }
        };
        let settings_files = if with_settings { &settings.files[..] } else { &[] };
        if settings_files.len() + files.len() > MOST_FILES {
            let got = settings_files.len() + files.len();
            return Err(crossing(format!(
                "expected at most {MOST_FILES} shared objects in one task, got {got}"
            )));
        }
        let forget = match settings.number != 0 && !is_known && self.works.len() >= MOST_WORKS {
            true => self.works.remove(0),
            false => 0,
        };
        let (inbox, outbox) = (self.inbox.to_tell(), self.outbox.to_tell());
        let head = TaskHead {
            entry: entry::offset(errand.entry()).map_err(crossing)?,
            work: settings.number,
            forget,
            settings: with_settings.then_some((settings.bytes.len() as u64, settings_files.len() as u32)),
            inbox: inbox.map(|(bytes, _)| bytes),
            outbox: outbox.map(|(bytes, _)| bytes),
        };
        self.message.clear();
        head.write(&mut self.message).map_err(|error| crossing(error.to_string()))?;
        let boxed = match written {
            Written::Shared(bytes) => bytes as u64,
            _ => {
                self.message.extend_from_slice(&self.payload);
                0
            }
        };
        let mut fds: Vec<BorrowedFd<'_>> =
            [inbox, outbox].into_iter().flatten().filter_map(|(_, file)| file).collect();
        fds.extend(settings_files.iter().chain(&files).map(|file| file.as_fd()));
        // The worker has no task, and writes nothing there.
        child.control().clear();
        self.task += 1;
        let header = Header { kind: Kind::Task, task: self.task, boxed };
        match child.channel().send(header, &self.message, &fds) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(NotSent::Gone),
            // A worker reads each task before it answers, so that there is room.
            Err(Errno::AGAIN) => {
                if let Some(child) = &mut self.child {
                    child.end(Some(Cause::Garbage("it does not read its tasks".to_owned())));
                }
                return Err(NotSent::Gone);
            }
            Err(error) => {
                let error =
                    Error::new(ErrorKind::System, "sending a task").caused_by(std::io::Error::from(error));
                return Err(NotSent::Error(error));
            }
        }
        self.inbox.told();
        self.outbox.told();
        if settings.number != 0 && !is_known {
            self.works.push(settings.number);
        }
        Ok(())
    }

    /// Waits for what becomes of the task that is out.
    fn listen(&mut self, errand: &dyn Errand, sent: Instant) -> Heard {
        let Some(child) = &mut self.child else { unreachable!("a task is out with a worker") };
        if let Some(ended) = child.ended() {
            return Heard::Dead(ended.clone());
        }
        let sent_at = now();
        let limit = errand.terms().limit;
        let mut deadline = limit.and_then(|limit| sent.checked_add(limit));
        let mut look = sent + LOOK;
        let mut stopped = StoppedSince::default();
        loop {
            let until = deadline.map_or(look, |deadline| deadline.min(look));
            let happened = child.wait(Some(until.saturating_duration_since(Instant::now())));
            match child.channel().receive(&mut self.buffer) {
                Ok(frame) => match frame.header.kind {
                    Kind::Reply if frame.header.task == self.task => {
                        let (body, boxed) = (frame.body.len(), frame.header.boxed);
                        return Heard::Reply { body, boxed, files: frame.fds };
                    }
                    Kind::Need if frame.header.task == self.task => {
                        let bytes = usize::try_from(frame.header.boxed).unwrap_or(usize::MAX);
                        if bytes <= self.outbox.len() {
                            let has = self.outbox.len();
                            let what = format!("it needs {bytes} bytes for a result, and has {has}");
                            return Heard::Dead(child.end(Some(Cause::Garbage(what))));
                        }
                        let grown = self.outbox.grow("a result", bytes, self.shared.most_bytes);
                        let task = self.task;
                        let header = |boxed| Header { kind: Kind::Outbox, task, boxed };
                        if let Err(error) = grown {
                            // It gives up the old one in any case.
                            let _ = child.channel().send(header(0), &[], &[]);
                            return Heard::Refused(error);
                        }
                        if let Some((bytes, Some(file))) = self.outbox.to_tell() {
                            // One that is gone is heard of in the next turn.
                            let _ = child.channel().send(header(bytes), &[], &[file]);
                        }
                        self.outbox.told();
                    }
                    Kind::Log =>
                    {
                        #[cfg(feature = "tracing")]
                        if let Err(error) = log::emit(Some(self.id), child.pid(), frame.body) {
                            let what = format!("a record of its log: {error}");
                            return Heard::Dead(child.end(Some(Cause::Garbage(what))));
                        }
                    }
                    other => {
                        let what = format!("expected the answer to task {}, got {other:?}", self.task);
                        return Heard::Dead(child.end(Some(Cause::Garbage(what))));
                    }
                },
                Err(NoFrame::NotYet) if happened.end => return Heard::Dead(child.end(None)),
                Err(NoFrame::NotYet) => {}
                Err(NoFrame::Closed) => return Heard::Dead(child.closed()),
                Err(NoFrame::Garbage(what)) => return Heard::Dead(child.end(Some(Cause::Garbage(what)))),
            }
            let time = Instant::now();
            if let (Some(limit), Some(end)) = (limit, deadline)
                && end <= time
            {
                // What the worker says of later than now is nothing.
                let progress = child.control().progress().min(now());
                let told = sent + Duration::from_nanos(progress.saturating_sub(sent_at));
                match told.checked_add(limit).filter(|&renewed| renewed > time) {
                    Some(renewed) => deadline = Some(renewed),
                    None => return Heard::TimedOut(limit),
                }
            }
            if look <= time {
                look = time + LOOK;
                if !errand.is_wanted() {
                    child.control().cancel();
                }
                if stopped.look(child, time) {
                    return Heard::Dead(child.end(Some(Cause::Stopped)));
                }
            }
        }
    }

    /// Hands an answer to the errand, or says what is wrong with it.
    fn hear(
        &mut self,
        errand: &mut dyn Errand,
        body: usize,
        boxed: u64,
        files: Vec<OwnedFd>,
    ) -> Result<Next, String> {
        let pid = self.child.as_ref().map_or(0, Child::pid);
        let from = From { worker: self.id, pid };
        let mut reader = match boxed {
            0 => Reader::slice(self.buffer.body(body)),
            boxed => self.outbox.reader(boxed).map_err(|error| error.to_string())?,
        };
        // Unwind safety: an errand takes an answer whole or not at all.
        let heard =
            catch_unwind(AssertUnwindSafe(|| crossing::supply(files, || errand.hear(from, &mut reader))));
        match heard {
            Ok(heard) => heard.map_err(|error| format!("its answer: {error}")),
            Err(payload) => Err(format!("its answer: a panic while it was read: {}", panic_message(payload))),
        }
    }

    /// Leaves the task to the other places, or, as the last one, answers it and all others.
    fn give_up(&mut self, mut errand: Box<dyn Errand>) -> bool {
        if self.is_terminated() {
            return true;
        }
        let Some(incident) = self.last.clone() else { return true };
        {
            let mut places = self.shared.places();
            places.left -= 1;
            if places.left > 0 {
                // It can't be closed: we have both ends.
                let _ = self.shared.again.0.send(ProcessParcel(errand));
                return false;
            }
        }
        let error = Error::from(ErrorKind::GaveUp(incident));
        errand.fail(None, error.clone());
        let again = self.shared.again.1.clone();
        for ProcessParcel(mut errand) in again.try_iter().chain(self.shared.waiting.iter()) {
            errand.fail(None, error.clone());
        }
        false
    }

    /// Ends the worker, for which there is nothing left to do.
    fn leave(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.hang_up();
        if !child.ends_within(END) {
            child.signal(Signal::KILL);
        }
        child.end(None);
        self.shared.places().settle(self.id, None);
    }
}

/// Why there is no new worker.
enum NoStart {
    /// The system gave none.
    Error(Error),
    /// It ended before it was there.
    Died(Incident),
}

/// Why a task was not sent.
enum NotSent {
    /// It can't be.
    Error(Error),
    /// The worker is gone, or about to be.
    Gone,
}

#[cfg(test)]
mod tests;
