//! Panics of others' code, as errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

use firebox_core::panic_message;

use crate::error::{Error, ErrorKind};

/// The result of `work`, with a panic in it as an [`ErrorKind::Panic`] that has its message: "`name`
/// panicked: …".
///
/// Unwind safety is asserted, and this is why it holds: whatever a panic may have left half done isn't looked
/// at again. Every use of this function ends what it is a part of with the error. A fit's own state is
/// dropped with it; its task is asked for nothing more; a callback that has panicked is told
/// [`Failed`](crate::event::Event::Failed) and nothing else. What outlives a fit in the trainer is a file of
/// records, each written by one call, and plain numbers. Panics of rayon's threads arrive in the thread that
/// waits for them, and so here as well.
pub(crate) fn caught<R>(name: &str, work: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        Err(Error::new(ErrorKind::Panic, format!("{name} panicked: {}", panic_message(payload))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panicking(panic: impl FnOnce()) -> Error {
        caught("it", || {
            panic();
            Ok(())
        })
        .unwrap_err()
    }

    #[test]
    fn a_panic_is_an_error_of_one_line_whatever_it_says() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("at the end of the message");
            }
        }
        let rows = 3;
        for (error, text) in [
            (panicking(|| panic!("no such pixel")), "it panicked: no such pixel"),
            (panicking(|| panic!("row {rows}")), "it panicked: row 3"),
            (
                panicking(|| assert_eq!(rows, 4, "matmul: inner dimensions")),
                "it panicked: assertion `left == right` failed: matmul: inner dimensions, left: 3, right: 4",
            ),
            (panicking(|| std::panic::panic_any(7)), "it panicked: a panic whose payload is not text"),
            (panicking(|| std::panic::panic_any(Bomb)), "it panicked: a panic whose payload is not text"),
        ] {
            assert_eq!((error.kind(), error.to_string().as_str()), (&ErrorKind::Panic, text));
        }
        assert_eq!(caught("it", || Ok(5)).unwrap(), 5);
    }
}
