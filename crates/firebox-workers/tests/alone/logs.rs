//! Logs of workers and other processes, as the parent's subscriber has them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, Once};
use std::time::{Duration, Instant};

use firebox_workers::sync::{Event, Process};
use firebox_workers::{Pool, WorkersExt as _};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};

use crate::leftovers::{Alone, alone};

/// A record, by field.
#[derive(Clone, Debug, Default)]
struct Seen {
    level: Option<Level>,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

fn seen() -> MutexGuard<'static, Vec<Seen>> {
    static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
    SEEN.lock().unwrap()
}

struct Keeper;

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "firebox_workers::worker"
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut record = Seen { level: Some(*event.metadata().level()), ..Seen::default() };
        event.record(&mut record);
        seen().push(record);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Waits for the turn of a test, each of which has all records to itself.
fn turn() -> Alone {
    static KEEPER: Once = Once::new();
    let turn = alone();
    KEEPER.call_once(|| tracing::subscriber::set_global_default(Keeper).unwrap());
    seen().clear();
    turn
}

fn talk(x: u64) -> u64 {
    let _within = tracing::info_span!("outer").entered();
    let _deeper = tracing::warn_span!("inner").entered();
    if x == 99 {
        for line in 0..5000 {
            tracing::info!(line, "{}", "x".repeat(2000));
        }
        return x;
    }
    tracing::info!(x, twice = 2 * x, "begun {x}");
    tracing::debug!("nobody wants to know");
    tracing::warn!("done {x}");
    x
}

#[test]
fn records_of_workers_arrive_in_order_with_their_worker_and_bounded() {
    let _turn = turn();
    let pool = Pool::processes(2).unwrap();
    let pids = pool.pids();
    let handles: Vec<_> = (0..20).map(|x| pool.submit((talk, x))).collect();
    for handle in handles {
        handle.wait().unwrap();
    }
    let records = std::mem::take(&mut *seen());
    assert_eq!(records.len(), 40, "two for each task");
    for (worker, pid) in pids.iter().enumerate() {
        let own: Vec<_> =
            records.iter().filter(|record| record.fields["worker"] == worker.to_string()).collect();
        assert!(own.iter().all(|record| record.fields["pid"] == pid.unwrap().to_string()));
        for pair in own.chunks(2) {
            let [begun, done] = pair else { panic!("{own:?}") };
            let x: u64 = begun.fields["message"].strip_prefix("begun ").unwrap().parse().unwrap();
            assert_eq!((begun.level, done.level), (Some(Level::INFO), Some(Level::WARN)));
            assert_eq!(begun.fields["fields"], format!("x={x} twice={}", 2 * x));
            assert_eq!(begun.fields["spans"], "outer:inner");
            assert_eq!(begun.fields["origin"], "alone::logs");
            assert_eq!(done.fields["message"], format!("done {x}"));
        }
    }
    // More at once than there is room for: some are left out, the worker doesn't wait, and it is said how
    // many.
    let pool = Pool::processes(1).unwrap();
    assert_eq!(pool.submit((talk, 99)).wait_timeout(Duration::from_secs(60)).unwrap().unwrap(), 99);
    pool.map(talk, 0..8).unwrap();
    let records = std::mem::take(&mut *seen());
    let lines = records.iter().filter(|record| record.fields["fields"].starts_with("line=")).count() as u64;
    let left_out: u64 = records.iter().map(|record| record.fields["left_out"].parse::<u64>().unwrap()).sum();
    assert_eq!(lines + left_out, 5000);
    assert_eq!(pool.statistics().deaths, 0);
}

fn tells((go_on, panics): (Event, bool)) {
    let _within = tracing::info_span!("outer").entered();
    tracing::info!(panics, "begun");
    tracing::debug!("nobody wants to know");
    go_on.wait();
    for line in 0..20 {
        tracing::warn!(line, "goes on");
    }
    assert!(!panics, "no");
}

#[test]
fn records_of_a_process_arrive_as_they_come_with_its_id() {
    let _turn = turn();
    for panics in [false, true] {
        let go_on = Event::new().unwrap();
        let process = Process::spawn(tells, (go_on.clone(), panics)).unwrap();
        let begun = Instant::now();
        // While the process waits.
        while seen().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no record came");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(process.is_alive());
        go_on.set();
        let exit = process.join();
        assert_eq!((exit.is_success(), exit.panic()), (!panics, panics.then_some("no")));
        // All of them are there when its end is known.
        let records = std::mem::take(&mut *seen());
        assert_eq!(records.len(), 21);
        let own = |record: &Seen| {
            record.fields["pid"] == process.pid().to_string()
                && record.fields["spans"] == "outer"
                && !record.fields.contains_key("worker")
        };
        assert!(records.iter().all(own), "{records:?}");
        assert_eq!(records[0].level, Some(Level::INFO));
        assert_eq!(
            (&*records[0].fields["message"], &*records[0].fields["fields"]),
            ("begun", &*format!("panics={panics}"))
        );
        for (line, record) in records[1..].iter().enumerate() {
            assert_eq!(
                (record.level, &*record.fields["fields"]),
                (Some(Level::WARN), &*format!("line={line}"))
            );
        }
    }
}
