//! Values of flags: names, and numbers for clap's `value_parser`, which says what it expected in a few words.

use clap::ValueEnum;
use firebox_models::layers::Cell;
use serde::{Deserialize, Serialize};

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

/// A number from 0 to 1, such as a probability.
///
/// ```
/// assert_eq!(firebox_cli::parse::up_to_one("1"), Ok(1.0));
/// assert!(firebox_cli::parse::up_to_one("-0.1").is_err() && firebox_cli::parse::up_to_one("nan").is_err());
/// ```
///
/// # Errors
/// A word about what was expected.
pub fn up_to_one(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// A number above 0, up to 1.
///
/// ```
/// assert_eq!(firebox_cli::parse::above_zero_up_to_one("1"), Ok(1.0));
/// assert!(firebox_cli::parse::above_zero_up_to_one("0").is_err());
/// ```
///
/// # Errors
/// A word about what was expected.
pub fn above_zero_up_to_one(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 1.0);
    number.ok_or_else(|| "expected a number above 0, up to 1".to_owned())
}

/// A finite number of at least 0.
///
/// ```
/// assert_eq!(firebox_cli::parse::at_least_zero("0"), Ok(0.0));
/// assert!(firebox_cli::parse::at_least_zero("inf").is_err());
/// ```
///
/// # Errors
/// A word about what was expected.
pub fn at_least_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| "expected a number of at least 0".to_owned())
}

/// The recurrent cell that a flag names: `rnn`, `lstm` or `gru`.
///
/// ```
/// use clap::{Args, Parser};
/// use firebox_cli::parse::CellName;
/// use firebox_models::layers::Cell;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Parser, Serialize, Deserialize)]
/// struct Recipe {
///     /// The recurrent cell
///     #[arg(long, value_enum, default_value = "lstm")]
///     cell: CellName,
/// }
///
/// let recipe = Recipe::parse_from(["mine", "--cell", "rnn"]);
/// assert_eq!(Cell::from(recipe.cell), Cell::Tanh);
/// // As JSON it has the flag's name.
/// assert_eq!(serde_json::to_value(&recipe)?["cell"], "rnn");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum CellName {
    /// A tanh of the input and the state before
    Rnn,
    /// Long short-term memory
    Lstm,
    /// Gated recurrent unit
    Gru,
}

impl From<CellName> for Cell {
    fn from(name: CellName) -> Self {
        match name {
            CellName::Rnn => Cell::Tanh,
            CellName::Lstm => Cell::Lstm,
            CellName::Gru => Cell::Gru,
        }
    }
}
