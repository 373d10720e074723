//! Which process this is: the program itself, or a worker of one.
//!
//! A worker's role stands in the first of its arguments, the name of the program, where a list of processes
//! shows it. It is not in the environment: that is handed on to whatever the worker starts in turn, and those
//! are no workers.

use std::ffi::OsString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::frame::VERSION;
use crate::error::{Error, ErrorKind};

const PREFIX: &str = "firebox-worker";

/// True if `init` was called here, and has come back.
static INITIALIZED: AtomicBool = AtomicBool::new(false);

/// The name of the test that a worker of a test binary is found in.
static TEST: OnceLock<String> = OnceLock::new();

/// Notes that [`init`](super::init) has come back: this is the program itself.
pub(super) fn note_init() {
    INITIALIZED.store(true, Ordering::Release);
}

/// Notes the module of the test that [`test_worker!`](crate::test_worker) makes.
#[doc(hidden)]
pub fn note_test(module: &'static str) {
    let test = match module.split_once("::") {
        Some((_crate, path)) => format!("{path}::firebox_worker"),
        None => "firebox_worker".to_owned(),
    };
    // Whichever comes first: a worker is found in any of them.
    let _ = TEST.set(test);
}

/// Lets a test binary be a worker of itself: once, at the root of the binary.
///
/// It makes a test named `firebox_worker`, which does nothing but in a worker process: that is the test
/// binary started again for this one test.
///
/// ```
/// // tests/it/main.rs
/// firebox_workers::test_worker!();
///
/// // And in any test: `let pool = Pool::processes(1)?;`
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! test_worker {
    () => {
        #[test]
        fn firebox_worker() {
            $crate::__private::serve_in_test();
        }

        const _: () = {
            extern "C" fn note() {
                $crate::__private::note_test(::core::module_path!());
            }

            // SAFETY: the section holds functions that are called before `main`; this one sets a value.
            #[allow(unsafe_code, reason = "the harness has no place to call something first")]
            #[used]
            #[unsafe(link_section = ".init_array")]
            static NOTE: extern "C" fn() = note;
        };
    };
}

/// A worker's role, as its parent has given it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Role {
    /// The process that started it.
    pub(crate) parent: u32,
    pub(crate) version: u16,
}

impl Role {
    /// The role of this process; `None` if it is nobody's worker.
    pub(crate) fn here() -> Option<Role> {
        Self::parse(std::env::args_os().next()?.to_str()?)
    }

    fn parse(name: &str) -> Option<Role> {
        let mut parts = name.split('/');
        if parts.next() != Some(PREFIX) {
            return None;
        }
        let (version, parent) = (parts.next()?, parts.next()?);
        Some(Role { parent: parent.parse().ok()?, version: version.parse().ok()? })
    }

    /// The name under which a worker is started.
    pub(super) fn name(label: &str) -> OsString {
        format!("{PREFIX}/{VERSION}/{}/{label}", std::process::id()).into()
    }
}

/// The arguments of a worker: in a test binary those that run the one test.
pub(super) fn arguments() -> Vec<&'static str> {
    match in_test() {
        Some(test) => vec![test, "--exact", "--nocapture", "--test-threads=1", "--include-ignored"],
        None => Vec::new(),
    }
}

/// The test that a worker is found in, in a test binary.
pub(super) fn in_test() -> Option<&'static str> {
    TEST.get().map(String::as_str).filter(|_| !INITIALIZED.load(Ordering::Acquire))
}

/// Fails where no worker can be started.
///
/// # Errors
/// [`ErrorKind::NoProcess`], with what to call, and where.
pub(crate) fn check() -> Result<(), Error> {
    let message = if Role::here().is_some() {
        "worker processes: expected to be started by the program itself, got a call within one of them"
    } else if TEST.get().is_none() && !INITIALIZED.load(Ordering::Acquire) {
        "worker processes: expected firebox_workers::init() as the first call in main (in a test binary, \
         firebox_workers::test_worker!() at its root), got none"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::NoProcess, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_told_by_the_name_alone() {
        let name = Role::name("decode-3").into_string().unwrap();
        assert_eq!(Role::parse(&name), Some(Role { parent: std::process::id(), version: VERSION }));
        for other in
            ["", "firebox-worker", "firebox-worker/1", "firebox-worker/1/x", "a/1/2", "/firebox-worker/1/2"]
        {
            assert_eq!(Role::parse(other), None, "{other:?}");
        }
    }
}
