//! The sections of the bench.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use firebox_workers::sync::SealedArray;
use firebox_workers::workers::Runs;
use firebox_workers::{Packed, Pool, Work, WorkersExt};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

const WORKERS: usize = 2;
const TASKS: u64 = 1_000_000;
const LARGE_TASKS: usize = 1000;
const LARGE_BYTES: usize = 1_000_000;
const ROUND_TRIPS: u64 = 2000;
/// As many different payloads take turns.
const PAYLOADS: usize = 64;

const MULTIPROCESSING: &str = "multiprocessing";
const FUTURES: &str = "concurrent.futures";
const JOBLIB: &str = "joblib";
const POOLS: [&str; 3] = [MULTIPROCESSING, FUTURES, JOBLIB];

type Section = fn(usize, &mut Python);
const SECTIONS: [(&str, Section); 9] = [
    ("squares", squares),
    ("bytes", bytes),
    ("round-trip", round_trip),
    ("crossing", crossing),
    ("start", start),
    ("memory", memory),
    ("idle", idle),
    ("cores", cores),
    ("waiting", waiting),
];

pub(crate) fn main() {
    firebox_workers::init();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let rounds = arguments.iter().find_map(|arg| arg.parse().ok()).unwrap_or(5);
    let words = arguments.into_iter().filter(|arg| arg.parse::<usize>().is_err());
    let (wanted, peers): (Vec<_>, Vec<_>) =
        words.partition(|word| SECTIONS.iter().any(|(name, _)| name == word));
    let mut python = Python { peers, server: None };
    for (name, section) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            section(rounds, &mut python);
        }
    }
}

fn square(x: u64) -> u64 {
    x * x
}

fn squares(rounds: usize, python: &mut Python) {
    let (processes, threads) = (Pool::processes(WORKERS).unwrap(), Pool::threads(WORKERS).unwrap());
    println!("a million tasks x → x², {WORKERS} workers:");
    let ours = || all_squares(&processes, square);
    let sides = vec![side("Pool::processes", ours), side("Pool::threads", || all_squares(&threads, square))];
    compare("squares", rounds, sides, &POOLS, python);
}

fn all_squares<P: Runs<u64, W>, W: Work<u64, Output = u64>>(pool: &P, work: W) -> f64 {
    seconds(|| {
        let squares = pool.map(work, 0..TASKS).unwrap();
        assert_eq!((squares.len() as u64, squares.last()), (TASKS, Some(&((TASKS - 1) * (TASKS - 1)))));
    })
}

/// Bytes that cross as bytes and are lent until then, as Python's are.
#[derive(Clone)]
struct Payload(Arc<Vec<u8>>);

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Payload;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Payload, E> {
                Ok(Payload(Arc::new(bytes.to_vec())))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Payload, E> {
                Ok(Payload(Arc::new(bytes)))
            }
        }

        from.deserialize_byte_buf(Bytes)
    }
}

fn payloads(bytes: usize) -> Vec<Payload> {
    (0..PAYLOADS).map(|payload| Payload(Arc::new(vec![payload as u8; bytes]))).collect()
}

fn echo(payload: Payload) -> Payload {
    payload
}

fn bytes(rounds: usize, python: &mut Python) {
    let (processes, threads) = (Pool::processes(WORKERS).unwrap(), Pool::threads(WORKERS).unwrap());
    let payloads = payloads(LARGE_BYTES);
    println!("a thousand tasks of 1 MB, the same bytes back, {WORKERS} workers:");
    let sides = vec![
        side("Pool::processes, imap", || all_echoes(&processes, echo, &payloads)),
        side("Pool::processes, map", || {
            seconds(|| assert_eq!(processes.map(echo, turns(&payloads)).unwrap().len(), LARGE_TASKS))
        }),
        side("Pool::threads, imap", || all_echoes(&threads, echo, &payloads)),
    ];
    compare("bytes", rounds, sides, &POOLS, python);
}

fn turns(payloads: &[Payload]) -> impl Iterator<Item = Payload> {
    payloads.iter().cycle().take(LARGE_TASKS).cloned()
}

fn all_echoes<P, W>(pool: &P, work: W, payloads: &[Payload]) -> f64
where
    P: Runs<Payload, W>,
    W: Work<Payload, Output = Payload>,
{
    seconds(|| {
        let results = pool.imap(work, turns(payloads), 4 * WORKERS);
        let size: usize = results.map(|result| result.unwrap().0.len()).sum();
        assert_eq!(size, LARGE_TASKS * LARGE_BYTES);
    })
}

fn round_trip(rounds: usize, python: &mut Python) {
    let (processes, threads) = (Pool::processes(WORKERS).unwrap(), Pool::threads(WORKERS).unwrap());
    println!("one small task after the other, a round trip:");
    let ours = || one_by_one(&processes, square);
    let sides = vec![side("Pool::processes", ours), side("Pool::threads", || one_by_one(&threads, square))];
    compare("round-trip", rounds, sides, &POOLS[..2], python);
}

fn one_by_one<P: Runs<u64, W>, W: Work<u64, Output = u64>>(pool: &P, work: W) -> f64 {
    let mut dispatch = pool.dispatch(Arc::new(work), 1);
    let taken = seconds(|| {
        for task in 0..ROUND_TRIPS {
            dispatch.send(task).unwrap();
            black_box(dispatch.receive().unwrap().1.unwrap());
        }
    });
    taken / ROUND_TRIPS as f64
}

fn length(payload: Payload) -> u64 {
    payload.0.len() as u64
}

fn payload_of(bytes: u64) -> Payload {
    Payload(Arc::new(vec![1; bytes as usize]))
}

fn last(elements: SealedArray<u8>) -> u64 {
    elements.last().copied().unwrap_or(0).into()
}

/// The cost of crossing, one task at a time, so that both ways are paid in full.
fn crossing(rounds: usize, _: &mut Python) {
    let pool = Pool::processes(1).unwrap();
    println!("one task at a time to one process, µs: there; back; there and back; a sealed array, there");
    for bytes in [0, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000] {
        let tasks = (20_000_000 / bytes.max(10_000)).clamp(3, 1000);
        let payload = Payload(Arc::new(vec![1; bytes]));
        let sealed = SealedArray::from_slice(&payload.0).unwrap();
        let there = each(rounds, tasks, &mut || pool.submit((length, payload.clone())).wait().unwrap());
        let back = each(rounds, tasks, &mut || pool.submit((payload_of, bytes as u64)).wait().unwrap());
        let both = each(rounds, tasks, &mut || pool.submit((echo, payload.clone())).wait().unwrap());
        let handle = each(rounds, tasks, &mut || pool.submit((last, sealed.clone())).wait().unwrap());
        println!("  {bytes:>11} bytes: {there:9.1} {back:9.1} {both:9.1} {handle:9.1}");
    }
    println!("the same for 1 MB there and back, by its type, µs:");
    let payload = Payload(Arc::new(vec![1; LARGE_BYTES]));
    let text = "a".repeat(LARGE_BYTES);
    let (bytes, floats) = (vec![1_u8; LARGE_BYTES], vec![1.0_f32; LARGE_BYTES / 4]);
    let same = |name: &str, taken: f64| println!("  {name}: {taken:.1}");
    same(
        "bytes (serialize_bytes)",
        each(rounds, 100, &mut || pool.submit((echo, payload.clone())).wait().unwrap()),
    );
    same("String", each(rounds, 100, &mut || pool.submit((same_text, text.clone())).wait().unwrap()));
    same(
        "Packed<u8>",
        each(rounds, 100, &mut || pool.submit((same_packed, Packed(bytes.clone()))).wait().unwrap()),
    );
    same(
        "Packed<f32>",
        each(rounds, 100, &mut || pool.submit((same_packed, Packed(floats.clone()))).wait().unwrap()),
    );
    same("Vec<u8>", each(rounds, 20, &mut || pool.submit((same_bytes, bytes.clone())).wait().unwrap()));
    same("Vec<f32>", each(rounds, 20, &mut || pool.submit((same_floats, floats.clone())).wait().unwrap()));
}

fn same_text(text: String) -> String {
    text
}

fn same_packed<T>(packed: Packed<T>) -> Packed<T> {
    packed
}

fn same_bytes(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

fn same_floats(floats: Vec<f32>) -> Vec<f32> {
    floats
}

/// The microseconds of one call.
fn each<R>(rounds: usize, calls: usize, call: &mut impl FnMut() -> R) -> f64 {
    black_box(call());
    let round = |_| seconds(|| (0..calls).for_each(|_| drop(black_box(call())))) / calls as f64 * 1e6;
    median((0..rounds).map(round).collect())
}

fn start(rounds: usize, python: &mut Python) {
    for workers in [1, 4] {
        println!("a pool of {workers} made, and as many tasks answered:");
        let sides = vec![
            side("Pool::processes", || first_answers(|| Pool::processes(workers).unwrap(), workers, square)),
            side("Pool::threads", || first_answers(|| Pool::threads(workers).unwrap(), workers, square)),
        ];
        // With one process joblib computes in the caller.
        let peers = if workers == 1 { &POOLS[..2] } else { &POOLS[..] };
        compare(&format!("start-{workers}"), rounds, sides, peers, python);
    }
}

fn first_answers<P, W>(pool: impl FnOnce() -> P, workers: usize, work: W) -> f64
where
    P: Runs<u64, W>,
    W: Work<u64, Output = u64>,
{
    let begun = Instant::now();
    let pool = pool();
    assert_eq!(pool.imap(work, 0..workers as u64, workers).count(), workers);
    begun.elapsed().as_secs_f64()
}

/// Memory that a worker has for itself alone.
fn memory(_: usize, python: &mut Python) {
    let pool = Pool::processes(WORKERS).unwrap();
    pool.map(square, 0..100).unwrap();
    let workers: Vec<f64> = children().map(unshared).collect();
    println!("memory of a worker's own: {:.2} MB", median(workers) / 1e6);
    for peer in POOLS {
        if let Some(answer) = python.ask("memory", peer) {
            println!("  {peer} ({}): {:.2} MB", answer.variant, answer.seconds / 1e6);
        }
    }
}

/// Ticks of the processor (a hundredth of a second each) in 5 s without a task.
fn idle(_: usize, python: &mut Python) {
    let pool = Pool::processes(4).unwrap();
    pool.map(square, 0..1000).unwrap();
    sleep(Duration::from_millis(500));
    let processes: Vec<u32> = [std::process::id()].into_iter().chain(children()).collect();
    let ticks = || processes.iter().copied().map(ticks).sum::<u64>();
    let before = ticks();
    sleep(Duration::from_secs(5));
    println!("an idle pool of 4 processes, parent included: {} ticks in 5 s", ticks() - before);
    for peer in POOLS {
        if let Some(answer) = python.ask("idle", peer) {
            println!("  {peer} ({}), 2 processes: {:.0}", answer.variant, answer.seconds);
        }
    }
}

/// Work that takes about 5 ms of a core.
fn spin(seed: u64) -> u64 {
    (0..3_500_000_u64)
        .fold(seed, |hash, word| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
}

fn cores(rounds: usize, _: &mut Python) {
    const COUNT: u64 = 200;
    let pools = (Pool::processes(WORKERS).unwrap(), Pool::threads(WORKERS).unwrap());
    println!("{COUNT} tasks of about 5 ms of a core, {WORKERS} workers:");
    let alone = || seconds(|| _ = (0..COUNT).map(|task| black_box(spin(task))).max());
    let processes = || seconds(|| _ = pools.0.imap(spin, 0..COUNT, 4 * WORKERS).map(Result::unwrap).max());
    let threads = || seconds(|| _ = pools.1.imap(spin, 0..COUNT, 4 * WORKERS).map(Result::unwrap).max());
    let sides = vec![
        side("Pool::processes", processes),
        side("Pool::threads", threads),
        side("a loop on one core", alone),
    ];
    show(&take_turns(rounds, sides));
}

fn doze(milliseconds: u64) -> u64 {
    sleep(Duration::from_millis(milliseconds));
    milliseconds
}

fn waiting(rounds: usize, _: &mut Python) {
    const COUNT: usize = 3200;
    for workers in [16, 64] {
        let pools = (Pool::processes(workers).unwrap(), Pool::threads(workers).unwrap());
        println!("{COUNT} tasks that wait 5 ms, {workers} workers:");
        let tasks = || std::iter::repeat_n(5, COUNT);
        let processes = || seconds(|| _ = pools.0.imap(doze, tasks(), 4 * workers).map(Result::unwrap).max());
        let threads = || seconds(|| _ = pools.1.imap(doze, tasks(), 4 * workers).map(Result::unwrap).max());
        let sides = vec![side("Pool::processes", processes), side("Pool::threads", threads)];
        show(&take_turns(rounds, sides));
    }
}

/// One of those that take turns, with what measures it once.
struct Side<'s> {
    name: String,
    measure: Box<dyn FnMut() -> f64 + 's>,
}

fn side<'s>(name: &str, measure: impl FnMut() -> f64 + 's) -> Side<'s> {
    Side { name: name.to_owned(), measure: Box::new(measure) }
}

/// A side, and what each of its rounds took.
struct Times(String, Vec<f64>);

/// Ours and Python's in turn, all beside the first one.
fn compare(work: &str, rounds: usize, mut sides: Vec<Side<'_>>, peers: &[&str], python: &mut Python) {
    for side in &mut sides {
        (side.measure)();
    }
    // The first answer is the warm one, too: it names the variant that is the peer's best.
    let labels: Vec<_> = peers
        .iter()
        .filter_map(|peer| Some((*peer, format!("{peer} ({})", python.ask(work, peer)?.variant))))
        .collect();
    let mut times: Vec<_> = sides.iter().map(|side| Times(side.name.clone(), Vec::new())).collect();
    times.extend(labels.iter().map(|(_, label)| Times(label.clone(), Vec::new())));
    for _ in 0..rounds {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            times.1.push((side.measure)());
        }
        for ((peer, _), times) in labels.iter().zip(&mut times[sides.len()..]) {
            times.1.extend(python.ask(work, peer).map(|answer| answer.seconds));
        }
    }
    show(&times);
}

fn take_turns(rounds: usize, mut sides: Vec<Side<'_>>) -> Vec<Times> {
    let mut times: Vec<_> = sides.iter().map(|side| Times(side.name.clone(), Vec::new())).collect();
    for _ in 0..rounds {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            times.1.push((side.measure)());
        }
    }
    times
}

/// Medians, and how many times as long as the first each of the others took.
fn show(sides: &[Times]) {
    let Some((Times(_, first), _)) = sides.split_first() else { return };
    for Times(name, times) in sides {
        let (least, most) =
            times.iter().fold((f64::MAX, 0.0), |(least, most), time| (time.min(least), time.max(most)));
        let ratios = times.iter().zip(first).map(|(time, first)| time / first).collect();
        let [time, least, most] = [median(times.clone()), least, most].map(readable);
        println!("  {name}: {time} ({least} to {most}), {:.2} times as long as the first", median(ratios));
    }
}

fn readable(seconds: f64) -> String {
    let (value, unit) = match seconds {
        ..1e-3 => (seconds * 1e6, "µs"),
        1e-3..1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let digits = (2.0 - value.max(1.0).log10().floor()).max(0.0) as usize;
    format!("{value:.digits$} {unit}")
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The processes that this one has started, Python's left out.
fn children() -> impl Iterator<Item = u32> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|process| {
        stat(*process).get(1).and_then(|parent| parent.parse().ok()) == Some(std::process::id())
            && fs::read_link(format!("/proc/{process}/exe")).ok() == std::env::current_exe().ok()
    })
}

/// The fields of a process after its name.
fn stat(process: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
}

fn ticks(process: u32) -> u64 {
    stat(process)[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// The bytes that a process shares with nobody.
fn unshared(process: u32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    private.map(|line| line.split_ascii_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0).sum()
}

/// `measure.py --serve`, started when it is first asked.
struct Python {
    /// Those that take part; all of them if there are none.
    peers: Vec<String>,
    server: Option<Server>,
}

struct Server {
    process: Child,
    answers: BufReader<ChildStdout>,
}

struct PeersAnswer {
    seconds: f64,
    variant: String,
}

impl Python {
    /// One round of a peer; `None` if it doesn't take part.
    fn ask(&mut self, work: &str, peer: &str) -> Option<PeersAnswer> {
        if !self.peers.is_empty() && !self.peers.iter().any(|wanted| wanted == peer) {
            return None;
        }
        let server = match &mut self.server {
            Some(server) => server,
            none => none.insert(Server::start()?),
        };
        writeln!(server.process.stdin.as_mut().unwrap(), "{work} {peer}").unwrap();
        let mut line = String::new();
        server.answers.read_line(&mut line).unwrap();
        let answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("measure.py, {work}: {error}"));
        let variant = answer["variant"].as_str().unwrap().to_owned();
        Some(PeersAnswer { seconds: answer["seconds"].as_f64().unwrap(), variant })
    }
}

impl Server {
    fn start() -> Option<Server> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/peers");
        let python = folder.join(".venv/bin/python");
        if !python.exists() {
            println!("  Python is left out: benches/peers/compare makes its environment");
            return None;
        }
        let mut command = Command::new(python);
        command.arg(folder.join("processes/measure.py")).arg("--serve");
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Some(Server { process, answers })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Which closes its input first: then it ends, after its pools.
        let _ = self.process.wait();
    }
}
