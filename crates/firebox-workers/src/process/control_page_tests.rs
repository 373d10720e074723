//! The page's words. Its protocol is tested by loom, which takes the page's file with words of its own.

use std::sync::atomic::{AtomicU64, Ordering};

use super::control_page::{Begun, ControlPage, WORDS};

const ALONE: u64 = 1 << 63;

#[test]
fn every_part_is_told_and_a_cleared_page_tells_none() {
    let words = [const { AtomicU64::new(7) }; WORDS];
    let page = ControlPage::new(&words);
    page.clear();
    assert_eq!((page.begun(), page.progress(), page.is_wanted()), (None, 0, true));
    for part in [None, Some(0), Some(1), Some(255), Some(usize::MAX >> 2)] {
        for alone in [false, true] {
            page.begin(Begun { part, alone });
            assert_eq!(page.begun(), Some(Begun { part, alone }));
        }
    }
    page.tell_progress(5);
    page.cancel();
    assert_eq!((page.progress(), page.is_wanted()), (5, false));
}

#[test]
fn any_bits_are_a_part_or_none() {
    let words = [const { AtomicU64::new(0) }; WORDS];
    for bits in [0, 1, ALONE, ALONE | 1, u64::MAX] {
        words[0].store(bits, Ordering::Relaxed);
        let _ = ControlPage::new(&words).begun();
    }
    words[0].store(ALONE, Ordering::Relaxed);
    assert_eq!(ControlPage::new(&words).begun(), None);
}
