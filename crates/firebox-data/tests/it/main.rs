//! The loader, its parts and its data sets, by what they promise.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and say why")]

mod architecture;
mod assembly;
mod dataset;
mod formats;
mod loader;
#[cfg(all(feature = "processes", target_os = "linux"))]
mod processes;
mod ranks;
mod samplers;
mod streams;

#[cfg(all(feature = "processes", target_os = "linux"))]
firebox_workers::test_worker!();

/// Layouts, as the file that [`assembly`] takes from the crate finds them there.
mod collate {
    pub(crate) use firebox_data::Collate;
    pub(crate) use firebox_data::collate::Slots;
}

/// Threads' counters, as that file finds them in its crate, but for loom.
mod sync {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
}
