//! The events of TensorBoard as protocol buffers, as far as they are written here.
//!
//! Fields have the numbers of TensorFlow's `event.proto` and `summary.proto`. The older forms of values are
//! written (`simple_value`, `image`, `histo`), which need no tensors; every TensorBoard reads them.

use super::histogram::Histogram;

/// One value of a summary.
pub(super) enum Value<'v> {
    Scalar(f32),
    Image {
        width: u32,
        height: u32,
        /// Channels.
        colors: u8,
        png: &'v [u8],
    },
    Histogram(&'v Histogram),
}

/// The first event of a file.
pub(super) fn version(seconds: f64) -> Vec<u8> {
    event(seconds, 0, 3, b"brain.Event:2")
}

/// The word that this step and later ones, as TensorBoard has read them, are void: they come again.
pub(super) fn restart(seconds: f64, step: usize) -> Vec<u8> {
    const START: u64 = 1;
    let mut log = Message::default();
    log.whole(1, START);
    event(seconds, step, 7, &log.0)
}

/// Values by tag, at a step.
pub(super) fn summary<'v>(
    seconds: f64,
    step: usize,
    values: impl IntoIterator<Item = (String, Value<'v>)>,
) -> Vec<u8> {
    let mut summary = Message::default();
    for (tag, value) in values {
        let mut message = Message::default();
        message.bytes(1, tag.as_bytes());
        match value {
            Value::Scalar(value) => message.float(2, value),
            Value::Image { width, height, colors, png } => {
                let mut image = Message::default();
                image.whole(1, height.into());
                image.whole(2, width.into());
                image.whole(3, colors.into());
                image.bytes(4, png);
                message.bytes(4, &image.0);
            }
            Value::Histogram(histogram) => message.bytes(5, &of_histogram(histogram).0),
        }
        summary.bytes(1, &message.0);
    }
    event(seconds, step, 5, &summary.0)
}

fn of_histogram(histogram: &Histogram) -> Message {
    let Histogram { min, max, count, sum, sum_of_squares, limits, counts } = histogram;
    let mut message = Message::default();
    for (field, value) in [(1, min), (2, max), (3, count), (4, sum), (5, sum_of_squares)] {
        message.double(field, *value);
    }
    message.doubles(6, limits);
    message.doubles(7, counts);
    message
}

/// An event with one of its contents.
fn event(seconds: f64, step: usize, field: u64, contents: &[u8]) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, seconds);
    event.whole(2, step as u64);
    event.bytes(field, contents);
    event.0
}

/// A message of the wire format, field after field: <https://protobuf.dev/programming-guides/encoding>.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// The number of a field, with how its value is written: 0 a varint, 1 eight bytes, 2 a length and bytes,
    /// 5 four bytes.
    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    /// Seven bits a byte, the lowest ones first; all bytes but the last have their highest bit set.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn whole(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn doubles(&mut self, field: u64, values: &[f64]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(field, &bytes);
    }
}
