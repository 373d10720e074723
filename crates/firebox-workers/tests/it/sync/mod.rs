//! Shared objects, across real processes that are killed at the worst places.

mod arrays;
mod barrier;
mod event;
mod lock;
mod pipe;
mod process;
mod queue;
mod semaphore;

use std::time::Duration;

/// Far beyond what anything here takes, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(30);

/// Too short for anything that has to wait for something that never comes.
const MOMENT: Duration = Duration::from_millis(50);

/// Stays for ever, for somebody to be killed.
fn stay() -> ! {
    loop {
        std::thread::park();
    }
}
