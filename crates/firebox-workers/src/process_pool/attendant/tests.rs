//! An attendant whose worker is played by a test: one that says, and writes, what it likes.

use std::os::fd::AsFd as _;

use crossbeam_channel::bounded;
use rustix::net::SendFlags;

use super::*;
use crate::process::control_page::BYTES;
use crate::process::frame::Channel;
use crate::process::launch::Launch;
use crate::process::wire;
use crate::process_pool::errand::{ChunkErrand, TaskErrand};
use crate::process_pool::{RemoteWork, settings};
use crate::sync::memory::{Access, Memory};
use crate::task::answer::{Answer, Answers, Mailbox};

const MOST_BYTES: usize = 1 << 20;

type Row = (u32, String, Vec<Option<u64>>);

fn row(x: u64) -> Row {
    (x as u32, "x".repeat(x as usize), vec![Some(x), None])
}

/// An attendant, and its worker's ends.
struct Stage {
    attendant: Attendant,
    worker: Channel,
    control: Memory,
    buffer: FrameBuffer,
}

impl Stage {
    fn new() -> Self {
        let shared = Shared::new(Launch::default(), MOST_BYTES, bounded(1).1);
        let mut attendant = Attendant::new(0, Arc::new(shared));
        let (here, there) = Channel::pair().unwrap();
        let control = Memory::new("test", BYTES).unwrap();
        let view = memory_of(control.as_fd().try_clone_to_owned().unwrap(), BYTES);
        attendant.child = Some(Child::played(here, control));
        Stage { attendant, worker: Channel::new(there), control: view, buffer: FrameBuffer::new() }
    }

    /// Sends an errand, and gives the worker's view of the outbox, if it gets one.
    fn send(&mut self, errand: &dyn Errand, outbox: usize) -> Option<Memory> {
        self.attendant.outbox.grow("a result", outbox, MOST_BYTES).unwrap();
        let settings = errand.terms().settings.clone().unwrap();
        assert!(self.attendant.send(errand, &settings).is_ok());
        let frame = self.worker.receive(&mut self.buffer).unwrap();
        assert_eq!(frame.header.kind, Kind::Task);
        frame.fds.into_iter().next().map(|file| memory_of(file, outbox))
    }

    /// Hears what the worker has said, and gives what came of it.
    fn hear(&mut self, errand: &mut dyn Errand) -> Result<Next, String> {
        match self.attendant.listen(errand, Instant::now()) {
            Heard::Reply { body, boxed, files } => self.attendant.hear(errand, body, boxed, files),
            Heard::TimedOut(limit) => Err(format!("took longer than {limit:?}")),
            Heard::Refused(error) => Err(format!("refused: {error}")),
            Heard::Dead(ended) => Err(ended.cause.to_string()),
        }
    }
}

fn memory_of(file: OwnedFd, bytes: usize) -> Memory {
    Memory::receive(file, bytes, Access::Shared).unwrap()
}

/// An errand for one task, and where its answer comes.
fn one<W: RemoteWork<u64, Output = Row>>(work: W, task: u64) -> (Box<dyn Errand>, Answers<Row>) {
    let (mailbox, answers) = Mailbox::new(1);
    let limit = Some(Duration::from_secs(10));
    let errand = TaskErrand::<u64, W>::new(task, settings::check(&work), Answer::new(5, mailbox), limit);
    (Box::new(errand), answers)
}

/// An errand for a chunk.
fn chunk<W: RemoteWork<u64, Output = Row>>(work: W, tasks: Vec<u64>) -> Box<dyn Errand> {
    // Nobody takes the answer, but somebody could.
    let (mailbox, answers) = Mailbox::new(1);
    std::mem::forget(answers);
    Box::new(ChunkErrand::<u64, W>::new(tasks, settings::check(&work), Answer::new(5, mailbox), None))
}

/// A worker's answer to a task.
fn answer_to_one(x: u64) -> Vec<u8> {
    [vec![0], wire::to_vec(&row(x)).unwrap()].concat()
}

/// A worker's answer to a chunk.
fn answer_to_chunk(tasks: &[u64]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(wire::to_vec(&(tasks.len() as u64)).unwrap());
    tasks.iter().for_each(|&x| bytes.extend(wire::to_vec(&row(x)).unwrap()));
    let failure: Option<(u8, String, Option<String>)> = None;
    bytes.extend(wire::to_vec(&(failure, 7_u64)).unwrap());
    bytes
}

fn header(kind: Kind, task: u64, boxed: u64) -> Header {
    Header { kind, task, boxed }
}

#[test]
fn an_answer_is_heard_in_a_message_and_in_shared_memory() {
    let mut stage = Stage::new();
    for (task, shared) in [(30, false), (40, true)] {
        let (mut errand, answers) = one(row, task);
        let outbox = stage.send(&*errand, 4096).unwrap();
        let answer = answer_to_one(task);
        let number = stage.attendant.task;
        if shared {
            outbox.write(0, &answer);
            stage.worker.send(header(Kind::Reply, number, answer.len() as u64), &[], &[]).unwrap();
        } else {
            stage.worker.send(header(Kind::Reply, number, 0), &answer, &[]).unwrap();
        }
        assert_eq!(stage.hear(&mut *errand), Ok(Next::Done));
        assert_eq!(answers.wait(None).unwrap().result.unwrap(), row(task));
    }
    let mut errand = chunk(row, vec![1, 2, 3]);
    drop(stage.send(&*errand, 4096));
    let number = stage.attendant.task;
    stage.worker.send(header(Kind::Reply, number, 0), &answer_to_chunk(&[1, 2, 3]), &[]).unwrap();
    assert_eq!(stage.hear(&mut *errand), Ok(Next::Done));
}

#[test]
fn what_is_no_answer_is_named() {
    type Says = fn(&Channel, u64);
    let says: [(Says, &str); 9] = [
        (|worker, task| worker.send(header(Kind::Reply, task, 0), &[], &[]).unwrap(), "bytes more, got 0"),
        (
            |worker, task| worker.send(header(Kind::Reply, task, 0), &[9], &[]).unwrap(),
            "expected 0 to 3, got 9",
        ),
        (
            |worker, task| worker.send(header(Kind::Reply, task + 1, 0), &[0], &[]).unwrap(),
            "the answer to task",
        ),
        (|worker, task| worker.send(header(Kind::Ready, task, 0), &[], &[]).unwrap(), "got Ready"),
        (
            |worker, task| worker.send(header(Kind::Reply, task, 1 << 62), &[], &[]).unwrap(),
            "in shared memory",
        ),
        (|worker, task| worker.send(header(Kind::Need, task, 5), &[], &[]).unwrap(), "it needs 5 bytes"),
        (
            |worker, task| worker.send(header(Kind::Need, task, 1 << 50), &[], &[]).unwrap(),
            "a result: expected at most",
        ),
        (
            |worker, _| _ = rustix::net::send(worker, b"hello", SendFlags::empty()).unwrap(),
            "a packet: expected",
        ),
        (
            |worker, _| rustix::net::shutdown(worker, rustix::net::Shutdown::Both).unwrap(),
            "it closed its socket",
        ),
    ];
    for (say, text) in says {
        let mut stage = Stage::new();
        let (mut errand, answers) = one(row, 3);
        drop(stage.send(&*errand, 4096));
        say(&stage.worker, stage.attendant.task);
        let error = stage.hear(&mut *errand).unwrap_err();
        assert!(error.contains(text), "{error}");
        // The errand still has its task, and its duty.
        assert!(errand.is_wanted() && answers.take().is_none());
    }
}

#[test]
fn a_worker_that_does_not_read_its_tasks_is_ended() {
    let mut stage = Stage::new();
    let (errand, answers) = one(row, 3);
    let settings = errand.terms().settings.clone().unwrap();
    let mut sent = 0;
    while stage.attendant.send(&*errand, &settings).is_ok() {
        sent += 1;
        assert!(sent < 100_000, "a socket without an end");
    }
    let Heard::Dead(ended) = stage.attendant.listen(&*errand, Instant::now()) else { panic!("it is dead") };
    assert_eq!(ended.cause, Cause::Garbage("it does not read its tasks".to_owned()));
    assert!(errand.is_wanted() && answers.take().is_none());
}

/// Ten thousand workers that say and write what nobody should.
#[test]
fn a_worker_that_writes_garbage_everywhere_is_heard_without_harm() {
    let mut random = Random(11);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut stage = Stage::new();
        let is_chunk = random.below(2) == 0;
        let tasks: Vec<u64> = (0..1 + random.below(4) as u64).collect();
        let (mut errand, _answers) = match is_chunk {
            true => (chunk(row, tasks.clone()), None),
            false => {
                let (errand, answers) = one(row, 20);
                (errand, Some(answers))
            }
        };
        let bytes = 4096 << random.below(3);
        let outbox = stage.send(&*errand, bytes).unwrap();
        let number = stage.attendant.task;
        // The page, whole.
        for word in stage.control.words64(0, BYTES / 8) {
            if random.below(100) == 0 {
                word.store(
                    (random.below(1 << 31) as u64) << random.below(34),
                    std::sync::atomic::Ordering::Relaxed,
                );
            }
        }
        for _ in 0..1 + random.below(3) {
            let mut answer = if is_chunk { answer_to_chunk(&tasks) } else { answer_to_one(20) };
            random.mutate(&mut answer);
            let kinds =
                [Kind::Reply, Kind::Reply, Kind::Reply, Kind::Need, Kind::Log, Kind::Ready, Kind::Task];
            let kind = kinds[random.below(kinds.len())];
            let length = [answer.len() as u64, bytes as u64, u64::MAX, random.below(1 << 30) as u64];
            let boxed = match random.below(3) {
                0 => length[random.below(4)],
                _ => 0,
            };
            outbox.write(0, &answer[..answer.len().min(bytes)]);
            let fds = vec![stage.control.as_fd(); random.below(8).saturating_sub(5)];
            if random.below(4) == 0 {
                let mut packet = vec![0; 32];
                random.mutate(&mut packet);
                packet.extend(answer);
                let _ = rustix::net::send(&stage.worker, &packet, SendFlags::NOSIGNAL);
            } else {
                let _ = stage.worker.send(header(kind, number, boxed), &answer, &fds);
            }
        }
        rustix::net::shutdown(&stage.worker, rustix::net::Shutdown::Write).unwrap();
        let begun = Instant::now();
        match stage.hear(&mut *errand) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
        let begun_part = stage.attendant.child.as_ref().and_then(|child| child.control().begun());
        let ended = Ended { cause: Cause::Unknown, last_line: None };
        let incident = stage.attendant.incident(1, &ended, Some(&*errand), begun_part);
        let _ = errand.died(begun_part, &incident);
        assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
        assert!(stage.attendant.outbox.len() <= MOST_BYTES, "no more is given than may be");
    }
    // Of all kinds there are many, or the test would show nothing.
    assert!(taken > 300 && refused > 3000, "{taken} taken, {refused} refused");
}

/// Random numbers that a worker's answers are made of.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, self.below(256) as u8),
            }
        }
    }
}
