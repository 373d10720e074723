//! The message of a panic that was caught.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The text of a caught panic's payload: its message, in one line.
///
/// What stands on lines of its own, such as the two sides of an `assert_eq!`, comes after commas.
///
/// ```
/// let payload = std::panic::catch_unwind(|| panic!("no such row: {}", 3)).unwrap_err();
/// assert_eq!(firebox_core::panic_message(payload), "no such row: 3");
/// ```
pub fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let text = match payload.downcast_ref::<String>() {
        Some(text) => Some(&**text),
        None => payload.downcast_ref::<&'static str>().copied(),
    };
    let text = text.map_or("a panic whose payload is not text".to_owned(), one_line);
    // A payload may be anything, and panic again when it is dropped: whoever asks has somebody to answer.
    // That panic's own payload is let be, for there would be no end to it.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
    text
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_of(panic: impl FnOnce()) -> String {
        panic_message(catch_unwind(AssertUnwindSafe(panic)).unwrap_err())
    }

    #[test]
    fn a_panic_has_one_line_whatever_it_says() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("at the end of the message");
            }
        }
        let rows = 3;
        assert_eq!(message_of(|| panic!("no such pixel")), "no such pixel");
        assert_eq!(message_of(|| panic!("row {rows}")), "row 3");
        assert_eq!(
            message_of(|| assert_eq!(rows, 4, "matmul: inner dimensions")),
            "assertion `left == right` failed: matmul: inner dimensions, left: 3, right: 4"
        );
        assert_eq!(message_of(|| std::panic::panic_any(7)), "a panic whose payload is not text");
        assert_eq!(message_of(|| std::panic::panic_any(Bomb)), "a panic whose payload is not text");
    }
}
