//! The signals that ask a run to stop.

use signal_hook::consts::{SIGINT, SIGTERM};

/// A signal that was received.
///
/// ```
/// use firebox_train::run::Signal;
///
/// assert_eq!((Signal::Term.name(), 128 + Signal::Term.number()), ("SIGTERM", 143));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, as Ctrl-C sends it.
    Int,
    /// SIGTERM, as `kill` and schedulers send it.
    Term,
}

impl Signal {
    /// The signal's number: by convention a program that it ended exits with 128 more.
    pub fn number(self) -> i32 {
        match self {
            Signal::Int => SIGINT,
            Signal::Term => SIGTERM,
        }
    }

    /// The signal's name.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Int => "SIGINT",
            Signal::Term => "SIGTERM",
        }
    }
}
