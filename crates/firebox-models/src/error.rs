//! Errors of configs, inputs and outputs.

use std::fmt::{self, Display};

use firebox_core::Kind;
pub use firebox_core::OutOfRange;
pub(crate) use firebox_core::check;

/// An error of this crate, about a config, an input or an output.
///
/// ```
/// use burn::tensor::Device;
/// use firebox_models::ErrorKind;
/// use firebox_models::layers::LinearConfig;
///
/// let error = LinearConfig::new(0, 2).init(&Device::default()).unwrap_err();
/// assert_eq!(error.to_string(), "LinearConfig.in_features: expected at least 1, got 0");
/// assert!(matches!(error.kind(), ErrorKind::OutOfRange(setting) if setting.got == "0"));
/// ```
pub type Error = firebox_core::Error<ErrorKind>;

/// The kinds of [`Error`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebox_models::layers::LinearConfig;
/// use firebox_models::{ErrorKind, Forward};
///
/// let device = Device::default();
/// let linear = LinearConfig::new(4, 2).init(&device)?;
/// let error = linear.check_input(&Tensor::<2>::zeros([3, 5], &device)).unwrap_err();
/// assert_eq!(error.kind(), &ErrorKind::Input);
/// # Ok::<(), firebox_models::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, such as a config's field, has a value that it cannot have.
    OutOfRange(OutOfRange),
    /// A model gave NaN or an infinite number.
    Value,
    /// An input that does not fit: its shape, or a token beyond the vocabulary.
    Input,
}

impl Kind for ErrorKind {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ErrorKind::OutOfRange(setting) => setting.fmt(f),
            _ => Ok(()),
        }
    }
}

impl From<OutOfRange> for ErrorKind {
    fn from(setting: OutOfRange) -> Self {
        ErrorKind::OutOfRange(setting)
    }
}

/// An error of an input: `layer` wants what is `expected`, and `got` came.
pub(crate) fn input_error(layer: &str, expected: impl Display, got: impl Display) -> Error {
    Error::new(ErrorKind::Input, format!("{layer}: expected {expected}, got {got}"))
}

/// The words that an error of a part is given by the whole.
pub(crate) trait OfPart {
    /// The error with the name of the config that the faulty one was made from.
    ///
    /// Their fields have the same names.
    fn in_config(self, made: &str, from: &str) -> Self;

    /// The error with a layer's place, such as `Cnn.fc1`, for its own name.
    fn in_layer(self, place: &str) -> Self;

    /// Adds something after the message.
    fn with_note(self, note: impl Display) -> Self;
}

impl OfPart for Error {
    fn in_config(self, made: &str, from: &str) -> Self {
        self.map_kind(|kind| match kind {
            ErrorKind::OutOfRange(setting) => {
                let field = setting.field.replacen(made, from, 1);
                ErrorKind::OutOfRange(OutOfRange { field, ..setting.clone() })
            }
            kind => kind.clone(),
        })
    }

    fn in_layer(self, place: &str) -> Self {
        self.map_message(|message| {
            let name = message.find(['.', ':']).unwrap_or(0);
            format!("{place}{}", &message[name..])
        })
    }

    fn with_note(self, note: impl Display) -> Self {
        self.map_message(|message| format!("{message}{note}"))
    }
}

/// The most elements of a config's tensors: of eight bytes each they fill memory.
const MOST_ELEMENTS: usize = isize::MAX as usize / 8;

/// Fails if a tensor of these fields' sizes, `factor` times, cannot be.
///
/// The error names the field that is too much beside those before it.
pub(crate) fn check_product(config: &str, factor: usize, sizes: &[(&str, usize)]) -> Result<(), Error> {
    let mut most = MOST_ELEMENTS / factor;
    for &(field, size) in sizes {
        let allowed = format_args!("at most {most}, for its tensors have to fit into memory");
        check(size <= most, format_args!("{config}.{field}"), allowed, size)?;
        most /= size.max(1);
    }
    Ok(())
}

/// Goes on with what fits, and panics with the error's message if it doesn't.
///
/// That is for where no error can be returned, as in a forward pass.
#[track_caller]
pub(crate) fn fitting<T>(checked: Result<T, Error>) -> T {
    checked.unwrap_or_else(|error| panic!("{error}"))
}
