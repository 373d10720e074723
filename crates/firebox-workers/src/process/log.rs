//! Records that a worker, or another process, logs by `tracing`, on their way to the parent's subscriber.
//!
//! A record goes as a message of its own, before the answer to the task that it was made for, and never
//! waits: where the parent doesn't read for a while, as between two tasks, what finds no room is left out,
//! and the next record says how many.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::net::{SendFlags, send};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::frame::{Header, Kind};
use super::wire::{self, WireError};

/// The most bytes of a text in a record.
const MOST_TEXT: usize = 4096;

const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// The level that this process's subscriber wants, as a number: 0 is nothing.
pub(crate) fn wanted() -> u8 {
    LevelFilter::current().into_level().map_or(0, number)
}

fn number(level: Level) -> u8 {
    LEVELS.iter().position(|&other| other == level).map_or(0, |at| at as u8 + 1)
}

/// A record: its level, target, message, fields and spans as text, and how many records were left out before
/// it.
type Fields = (u8, String, String, String, String, u64);

/// Makes the parent's subscriber that of this process, if the program has set none.
pub(super) fn forward(socket: OwnedFd, level: u8) {
    let Some(level) = usize::from(level).checked_sub(1).and_then(|at| LEVELS.get(at)) else { return };
    let forward = Forward {
        socket,
        level: *level,
        left_out: AtomicU64::new(0),
        spans: Mutex::default(),
        next: AtomicU64::new(1),
    };
    // Whoever has set one before wants that one.
    let _ = tracing::subscriber::set_global_default(forward);
}

/// Hands a record of a worker, or of a process that is none, to this process's subscriber.
///
/// # Errors
/// If it is none.
pub(crate) fn emit(worker: Option<usize>, pid: u32, body: &[u8]) -> Result<(), WireError> {
    let (level, origin, message, fields, spans, left_out): Fields = wire::from_slice(body)?;
    macro_rules! event {
        ($level:expr) => {
            tracing::event!(
                target: "firebox_workers::worker", $level,
                worker, pid, origin, spans, fields, left_out, "{message}"
            )
        };
    }
    match level {
        1 => event!(Level::ERROR),
        2 => event!(Level::WARN),
        3 => event!(Level::INFO),
        4 => event!(Level::DEBUG),
        5 => event!(Level::TRACE),
        other => return Err(WireError::new(format!("a level: expected 1 to 5, got {other}"))),
    }
    Ok(())
}

thread_local! {
    /// The spans that this thread is in.
    static IN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// A worker's subscriber.
struct Forward {
    socket: OwnedFd,
    level: Level,
    left_out: AtomicU64,
    /// The names of spans, and how often each is held.
    spans: Mutex<BTreeMap<u64, (&'static str, u64)>>,
    next: AtomicU64,
}

impl Forward {
    fn spans(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (&'static str, u64)>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message of a record, and its other fields as text.
#[derive(Default)]
struct Texts {
    message: String,
    fields: String,
}

impl Visit for Texts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string doesn't fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => {
                let space = if self.fields.is_empty() { "" } else { " " };
                write!(self.fields, "{space}{name}={value:?}")
            }
        };
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MOST_TEXT {
        text.truncate(text.floor_char_boundary(MOST_TEXT));
        text.push('…');
    }
    text
}

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.spans().insert(id, (span.metadata().name(), 1));
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut texts = Texts::default();
        event.record(&mut texts);
        let names: Vec<&str> = {
            let spans = self.spans();
            IN.with_borrow(|within| {
                within.iter().filter_map(|id| spans.get(id).map(|(name, _)| *name)).collect()
            })
        };
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let fields: Fields = (
            number(*event.metadata().level()),
            cut(event.metadata().target().to_owned()),
            cut(texts.message),
            cut(texts.fields),
            cut(names.join(":")),
            left_out,
        );
        let header = Header { kind: Kind::Log, task: 0, boxed: 0 };
        let sent = wire::to_vec(&fields).map(|body| {
            let packet = header.packet(&body);
            send(&self.socket, &packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        });
        if !matches!(sent, Ok(Ok(_))) {
            self.left_out.fetch_add(left_out + 1, Ordering::Relaxed);
        }
    }

    fn enter(&self, span: &Id) {
        IN.with_borrow_mut(|within| within.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        IN.with_borrow_mut(|within| {
            if let Some(at) = within.iter().rposition(|&id| id == span.into_u64()) {
                within.remove(at);
            }
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some((_, held)) = self.spans().get_mut(&span.into_u64()) {
            *held += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut spans = self.spans();
        let Some((_, held)) = spans.get_mut(&span.into_u64()) else { return false };
        *held -= 1;
        let is_over = *held == 0;
        if is_over {
            spans.remove(&span.into_u64());
        }
        is_over
    }
}
