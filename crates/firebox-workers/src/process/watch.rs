//! A worker's standard error, and the moment at which it ends.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ChildStderr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// The longest line that is kept.
const MOST_LINE: usize = 1024;

/// A thread that hands on what a worker writes to its standard error, and keeps the last line.
#[derive(Debug)]
pub(crate) struct Watch {
    last_line: Arc<Mutex<LastLine>>,
    drained: Receiver<()>,
}

impl Watch {
    /// Watches a worker. Once it has ended, and all that it had written is read, `ended` is called.
    ///
    /// # Errors
    /// If the system has no more threads to give.
    pub(super) fn new(
        name: &str,
        stderr: ChildStderr,
        pidfd: OwnedFd,
        ended: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let last_line = Arc::<Mutex<LastLine>>::default();
        let (drain, drained) = channel();
        let lines = Arc::clone(&last_line);
        thread::Builder::new().name(format!("{name}-stderr")).spawn(move || {
            watch(stderr, &pidfd, &lines, || {
                let _ = drain.send(());
                ended();
            });
        })?;
        Ok(Watch { last_line, drained })
    }

    /// The last line of a worker that has ended.
    pub(super) fn last_line(&self) -> Option<String> {
        // It is read to its end within no time, unless our own standard error is held up.
        if self.drained.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
            return None;
        }
        self.last_line.lock().unwrap_or_else(PoisonError::into_inner).get()
    }
}

fn watch(mut stderr: ChildStderr, pidfd: &OwnedFd, lines: &Mutex<LastLine>, ended: impl FnOnce()) {
    let mut buffer = vec![0; 8192];
    let mut open = rustix::io::ioctl_fionbio(&stderr, true).is_ok();
    let hand_on = |bytes: &[u8]| {
        // Ours may be closed: then nobody wants to see it.
        let _ = std::io::stderr().lock().write_all(bytes);
    };
    loop {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        if open {
            fds.push(PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN));
        }
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let has_ended = !fds[0].revents().is_empty();
        drop(fds);
        let mut rest = Vec::new();
        while open {
            match stderr.read(&mut buffer) {
                Ok(0) => open = false,
                Ok(read) => {
                    lines.lock().unwrap_or_else(PoisonError::into_inner).hear(&buffer[..read]);
                    if has_ended {
                        rest.extend_from_slice(&buffer[..read]);
                    } else {
                        hand_on(&buffer[..read]);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    open = error.kind() == std::io::ErrorKind::WouldBlock;
                    break;
                }
            }
            // What somebody else has inherited and goes on to write is not the worker's.
            if has_ended && rest.len() > 1 << 20 {
                break;
            }
        }
        if has_ended {
            // First what others wait for: to hand on the rest may take its time.
            ended();
            return hand_on(&rest);
        }
    }
}

/// The last line among bytes, whole or not.
#[derive(Debug, Default)]
struct LastLine {
    whole: Vec<u8>,
    begun: Vec<u8>,
}

impl LastLine {
    fn hear(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, is_whole) = match line.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (line, false),
            };
            let room = MOST_LINE.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&text[..text.len().min(room)]);
            if is_whole {
                let line = std::mem::take(&mut self.begun);
                if is_message(&line) {
                    self.whole = line;
                }
            }
        }
    }

    fn get(&self) -> Option<String> {
        let last = if self.begun.trim_ascii().is_empty() { &self.whole } else { &self.begun };
        let text = String::from_utf8_lossy(last.trim_ascii()).replace(|c: char| c.is_control(), " ");
        (!text.is_empty()).then_some(text)
    }
}

/// Tells whether a line says something by itself: a blank one, an indented one, as those of a backtrace, and
/// the hints that the standard library puts after a message don't.
fn is_message(line: &[u8]) -> bool {
    let starts_with_text = line.first().is_some_and(|byte| !byte.is_ascii_whitespace());
    starts_with_text && !line.starts_with(b"note: ") && !line.starts_with(b"stack backtrace:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_of(parts: &[&[u8]]) -> Option<String> {
        let mut line = LastLine::default();
        parts.iter().for_each(|part| line.hear(part));
        line.get()
    }

    #[test]
    fn the_last_line_is_kept_however_it_comes() {
        assert_eq!(last_of(&[]), None);
        assert_eq!(last_of(&[b"\n\n  \n"]), None);
        assert_eq!(last_of(&[b"a\nb\n"]).as_deref(), Some("b"));
        assert_eq!(last_of(&[b"a\nb", b"c\n\n"]).as_deref(), Some("bc"));
        assert_eq!(last_of(&[b"a\nhalf"]).as_deref(), Some("half"));
        let hint =
            b"no memory\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        assert_eq!(last_of(&[hint]).as_deref(), Some("no memory"));
        assert_eq!(last_of(&[b"\x1b[1m\xFFbold\n"]).as_deref(), Some(" [1m\u{FFFD}bold"));
    }

    #[test]
    fn a_line_without_an_end_takes_bounded_memory() {
        let mut line = LastLine::default();
        for _ in 0..1000 {
            line.hear(&[b'x'; 4096]);
        }
        assert_eq!(line.get().map(|text| text.len()), Some(MOST_LINE));
    }
}
