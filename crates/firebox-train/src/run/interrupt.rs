//! Signals that ask a run to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind};
use crate::run::signal::Signal;

/// A request to stop, which signals or the program make.
///
/// ```
/// use firebox_train::run::{Interrupt, Signal};
///
/// let interrupt = Interrupt::never();
/// assert_eq!(interrupt.requested(), None);
/// // By hand, as a button in a program of one's own would.
/// interrupt.clone().request(Signal::Int);
/// assert_eq!(interrupt.requested(), Some(Signal::Int));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Never asked, unless by [`request`](Interrupt::request).
    pub fn never() -> Self {
        Self::default()
    }

    /// An interrupt that SIGINT and SIGTERM make.
    ///
    /// They no longer end the process by themselves; but a second one of them does, as ever.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the system refuses the handlers.
    pub fn on_signals() -> Result<Self, Error> {
        let interrupt = Self::default();
        let again = Arc::new(AtomicBool::new(false));
        for signal in [Signal::Int, Signal::Term] {
            let number = signal.number();
            let refused = |error| {
                Error::new(ErrorKind::Io, format!("no handler for {}", signal.name())).caused_by(error)
            };
            // In this order: the first signal finds `again` unset, sets it, and is remembered.
            signal_hook::flag::register_conditional_default(number, Arc::clone(&again)).map_err(refused)?;
            signal_hook::flag::register(number, Arc::clone(&again)).map_err(refused)?;
            signal_hook::flag::register_usize(number, Arc::clone(&interrupt.0), number as usize)
                .map_err(refused)?;
        }
        Ok(interrupt)
    }

    /// Asks by hand.
    pub fn request(&self, signal: Signal) {
        self.0.store(signal.number() as usize, Ordering::SeqCst);
    }

    /// The signal that asked last, if any.
    pub fn requested(&self) -> Option<Signal> {
        let number = self.0.load(Ordering::SeqCst);
        [Signal::Int, Signal::Term].into_iter().find(|signal| signal.number() as usize == number)
    }
}
