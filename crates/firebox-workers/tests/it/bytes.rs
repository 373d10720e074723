//! Workers that only bytes reach, under the suite that every kind of workers passes.
//!
//! They are a model of workers in other processes: a task goes over as bytes, with the name of its work, and
//! a result comes back as bytes. The caller's side keeps the duty to answer. That they need nothing but what
//! the crate makes public shows that the traits carry them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use firebox_core::panic_message;
use firebox_workers::stream::{ChunkResult, Chunked};
use firebox_workers::task::{Answer, Answered, Answers, Job};
use firebox_workers::workers::Runs;
use firebox_workers::{Error, ErrorKind, Work, Worker, Workers};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::conformance::{Subject, wait_until};

/// A task on its way: what crosses, and what stays.
struct Parcel {
    /// The name of the work: what the other side calls with the task.
    serve: fn(&[u8], Worker<'_>) -> Vec<u8>,
    task: Vec<u8>,
    ledger: Box<dyn Ledger>,
    limit: Option<Duration>,
}

/// The other side: makes the work, runs the task, and gives the result, or a panic's message.
fn serve<T, W>(task: &[u8], worker: Worker<'_>) -> Vec<u8>
where
    T: DeserializeOwned,
    W: Work<T, Output: Serialize> + Default,
{
    let run = || W::default().run(serde_json::from_slice(task).unwrap(), worker);
    serde_json::to_vec(&catch_unwind(AssertUnwindSafe(run)).map_err(panic_message)).unwrap()
}

/// [`serve`] for a chunk.
fn serve_chunk<T, W>(tasks: &[u8], worker: Worker<'_>) -> Vec<u8>
where
    T: DeserializeOwned,
    W: Work<T, Output: Serialize> + Default,
{
    let tasks: Vec<T> = serde_json::from_slice(tasks).unwrap();
    let ChunkResult { results, error, took } = Chunked(W::default()).run(tasks, worker);
    let panicked = error.map(|error| match error.kind() {
        ErrorKind::Panicked(text) => text.clone(),
        other => panic!("{other:?}"),
    });
    serde_json::to_vec(&(results, panicked, took)).unwrap()
}

/// The caller's side of a task that is out.
trait Ledger: Send {
    fn is_wanted(&self) -> bool;
    fn reply(self: Box<Self>, worker: usize, reply: &[u8]);
    fn give_up(self: Box<Self>, worker: usize, limit: Duration);
}

struct Entry<R> {
    answer: Answer<R>,
    decode: fn(&[u8]) -> Result<R, String>,
}

impl<R: Send> Ledger for Entry<R> {
    fn is_wanted(&self) -> bool {
        self.answer.is_wanted()
    }

    fn reply(self: Box<Self>, worker: usize, reply: &[u8]) {
        let task = self.answer.task();
        let panicked = |text| Error::from(ErrorKind::Panicked(text)).at_index(task).on_worker(worker);
        self.answer.give(Some(worker), (self.decode)(reply).map_err(panicked));
    }

    fn give_up(self: Box<Self>, worker: usize, limit: Duration) {
        let error = Error::from(ErrorKind::TimedOut(limit)).at_index(self.answer.task()).on_worker(worker);
        self.answer.give(Some(worker), Err(error));
    }
}

/// The result of [`serve`].
fn decode<R: DeserializeOwned>(reply: &[u8]) -> Result<R, String> {
    serde_json::from_slice(reply).unwrap()
}

/// The result of [`serve_chunk`].
fn decode_chunk<R: DeserializeOwned>(reply: &[u8]) -> Result<ChunkResult<R>, String> {
    let (results, panicked, took): (_, Option<String>, _) = serde_json::from_slice(reply).unwrap();
    let error = panicked.map(|text| Error::from(ErrorKind::Panicked(text)));
    Ok(ChunkResult { results, error, took })
}

/// The task of a worker, and until when it may run.
struct Running {
    ledger: Box<dyn Ledger>,
    limit: Option<Duration>,
    end: Option<Instant>,
}

impl Running {
    fn new(ledger: Box<dyn Ledger>, limit: Option<Duration>) -> Self {
        Running { ledger, limit, end: limit.and_then(|limit| Instant::now().checked_add(limit)) }
    }

    fn renew(&mut self) -> bool {
        self.end = self.limit.and_then(|limit| Instant::now().checked_add(limit));
        self.ledger.is_wanted()
    }
}

#[derive(Default)]
struct Seat {
    running: Mutex<Option<Running>>,
    dismissed: AtomicBool,
}

impl Seat {
    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap()
    }

    fn work(&self, id: usize, parcels: Receiver<Parcel>) {
        for Parcel { serve, task, ledger, limit } in parcels {
            if ledger.is_wanted() {
                *self.running() = Some(Running::new(ledger, limit));
                let progress = || self.running().as_mut().is_some_and(Running::renew);
                let reply = serve(&task, Worker::new(id, &progress));
                if let Some(running) = self.running().take() {
                    running.ledger.reply(id, &reply);
                }
            }
            if self.dismissed.load(Ordering::Acquire) {
                return;
            }
        }
    }
}

struct Place {
    seat: Arc<Seat>,
    thread: thread::JoinHandle<()>,
}

struct Remote {
    queue: Option<Sender<Parcel>>,
    parcels: Receiver<Parcel>,
    places: Mutex<Vec<Place>>,
    limit: Option<Duration>,
    closed: AtomicBool,
}

impl Remote {
    fn place(&self, id: usize) -> Place {
        let (seat, parcels) = (Arc::new(Seat::default()), self.parcels.clone());
        let here = Arc::clone(&seat);
        Place { seat, thread: thread::spawn(move || here.work(id, parcels)) }
    }

    /// Gives up the tasks that are too late, and their workers.
    fn look_after(&self) {
        for (id, place) in self.places.lock().unwrap().iter_mut().enumerate() {
            let is_late = |running: &mut Running| running.end.is_some_and(|end| end <= Instant::now());
            let late = place.seat.running().take_if(is_late);
            if let Some(Running { ledger, limit: Some(limit), .. }) = late {
                ledger.give_up(id, limit);
                place.seat.dismissed.store(true, Ordering::Release);
                *place = self.place(id);
            }
        }
    }

    fn end(&mut self) {
        self.queue = None;
        wait_until(|| {
            self.look_after();
            self.places.lock().unwrap().iter().all(|place| place.thread.is_finished())
        });
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.queue = None;
        self.parcels.try_iter().for_each(drop);
        self.end();
    }
}

impl Workers for Remote {
    type Parcel = Parcel;

    fn capacity(&self) -> usize {
        self.places.lock().unwrap().len()
    }

    fn try_send(&self, parcel: Parcel) -> Result<(), Parcel> {
        match self.queue.as_ref().filter(|_| !self.is_closed()).map(|queue| queue.try_send(parcel)) {
            Some(Err(TrySendError::Full(parcel))) => Err(parcel),
            _ => Ok(()),
        }
    }

    fn send(&self, mut parcel: Parcel) {
        while let Err(refused) = self.try_send(parcel) {
            parcel = refused;
            self.look_after();
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn receive<R: Send + 'static>(&self, answers: &Answers<R>) -> Option<Answered<R>> {
        if self.limit.is_none() {
            return answers.wait(None);
        }
        loop {
            match answers.wait(Some(Duration::from_millis(5))) {
                Some(answered) => return Some(answered),
                None => self.look_after(),
            }
        }
    }

    fn try_receive<R: Send + 'static>(&self, answers: &Answers<R>) -> Option<Answered<R>> {
        self.look_after();
        answers.take()
    }

    fn limit(&self) -> Option<Duration> {
        self.limit
    }

    fn grow(&self, workers: usize) -> Result<(), Error> {
        let mut places = self.places.lock().unwrap();
        while !places.is_empty() && places.len() < workers {
            let place = self.place(places.len());
            places.push(place);
        }
        Ok(())
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Only data crosses, and work that can be made anew: no closure is such.
impl<T, W> Runs<T, W> for Remote
where
    T: Serialize + DeserializeOwned,
    W: Work<T, Output: Serialize + DeserializeOwned> + Default,
{
    fn pack(&self, job: Job<T, W>) -> Parcel {
        let limit = job.limit();
        let (task, _, answer) = job.into_parts();
        let task = serde_json::to_vec(&task).unwrap();
        Parcel { serve: serve::<T, W>, task, ledger: Box::new(Entry { answer, decode }), limit }
    }

    fn pack_chunk(&self, job: Job<Vec<T>, Chunked<W>>) -> Parcel {
        let limit = job.limit();
        let (tasks, _, answer) = job.into_parts();
        let task = serde_json::to_vec(&tasks).unwrap();
        Parcel {
            serve: serve_chunk::<T, W>,
            task,
            ledger: Box::new(Entry { answer, decode: decode_chunk }),
            limit,
        }
    }
}

struct Bytes;

impl Subject for Bytes {
    type Workers = Remote;

    fn with_limit(workers: usize, limit: Option<Duration>) -> Remote {
        let (queue, parcels) = bounded(300);
        let (places, closed) = (Mutex::default(), AtomicBool::new(false));
        let remote = Remote { queue: Some(queue), parcels, places, limit, closed };
        let places = (0..workers).map(|id| remote.place(id)).collect();
        *remote.places.lock().unwrap() = places;
        remote
    }

    fn join(mut workers: Remote) {
        workers.end();
    }
}

mod no_worker {
    crate::conformance::conformance!(super::Bytes, 0);
}

mod one_worker {
    crate::conformance::conformance!(super::Bytes, 1);
}

mod two_workers {
    crate::conformance::conformance!(super::Bytes, 2);
}
