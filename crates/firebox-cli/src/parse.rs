//! Values of flags, for clap's `value_parser`: what they can't be is said in a few words.

/// A whole number of at least 1.
///
/// ```
/// assert_eq!(firebox_cli::parse::at_least_one("3"), Ok(3));
/// assert_eq!(firebox_cli::parse::at_least_one("0"), Err("expected at least 1".to_owned()));
/// ```
///
/// # Errors
/// A word about what was expected.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number".to_owned()),
    }
}

/// A number of features or units, from 1 to 16,384.
///
/// A layer of more has no room in most machines, and its number of weights none in a number.
///
/// ```
/// assert!(firebox_cli::parse::width("512").is_ok() && firebox_cli::parse::width("16385").is_err());
/// ```
///
/// # Errors
/// A word about what was expected.
pub fn width(text: &str) -> Result<usize, String> {
    up_to(text, 16_384)
}

/// A number of layers, from 1 to 256.
///
/// ```
/// assert!(firebox_cli::parse::depth("2").is_ok() && firebox_cli::parse::depth("257").is_err());
/// ```
///
/// # Errors
/// A word about what was expected.
pub fn depth(text: &str) -> Result<usize, String> {
    up_to(text, 256)
}

fn up_to(text: &str, most: usize) -> Result<usize, String> {
    match at_least_one(text)? {
        number if number > most => Err(format!("expected at most {most}")),
        number => Ok(number),
    }
}

/// A finite number above 0.
///
/// ```
/// assert_eq!(firebox_cli::parse::above_zero("1e-3"), Ok(1e-3));
/// assert!(firebox_cli::parse::above_zero("inf").is_err());
/// ```
///
/// # Errors
/// A word about what was expected.
pub fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

/// A number from 0, below 1.
///
/// ```
/// assert_eq!(firebox_cli::parse::share("0.5"), Ok(0.5));
/// assert!(firebox_cli::parse::share("1").is_err());
/// ```
///
/// # Errors
/// A word about what was expected.
pub fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0, below 1".to_owned())
}
