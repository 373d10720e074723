//! Records as lines for a person.

use firebox_train::event::Record;

/// An epoch or an evaluation, of a run of so many epochs, in a line.
pub(crate) fn pass(record: &Record, epochs: u64) -> String {
    format!(
        "epoch {}/{epochs} {:>5}: {}, {:.1} s, {:.0} samples/s, {:.1} s waiting for data",
        record.epoch + 1,
        record.split,
        values(record),
        record.seconds,
        record.samples_per_s,
        record.data_wait_s,
    )
}

/// The values of a record, by name.
pub(crate) fn values(record: &Record) -> String {
    let values = record.metrics.values().map(|(name, value)| format!("{name} {}", number(value)));
    values.collect::<Vec<_>>().join(", ")
}

/// A number with four digits after the point, or four in all where these would say nothing.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 | 1e-3..1e9 => format!("{value:.4}"),
        _ if value.is_finite() => format!("{value:.3e}"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_only_digits_that_say_something() {
        let numbers =
            [0.0, 1.0, -2.5, 0.00123, 0.00012, -1e-7, 123456.789, 1e9, 1e308, f64::NAN, f64::INFINITY];
        let expected = [
            "0.0000",
            "1.0000",
            "-2.5000",
            "0.0012",
            "1.200e-4",
            "-1.000e-7",
            "123456.7890",
            "1.000e9",
            "1.000e308",
            "NaN",
            "inf",
        ];
        assert_eq!(numbers.map(number), expected);
    }
}
