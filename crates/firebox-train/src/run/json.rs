//! JSON objects that say the version of their form.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The version of the files in a run folder, which each of them says.
///
/// | version | since it |
/// |---|---|
/// | 1 | the first one |
/// | 2 | the weights of linear maps have PyTorch's layout |
/// | 3 | the metrics of an epoch in progress are sums of several kinds, not means alone |
///
/// ```
/// assert_eq!(firebox_train::run::FORMAT_VERSION, 3);
/// ```
pub const FORMAT_VERSION: u32 = 3;

/// Reads an object and checks its version.
pub(crate) fn from_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("not JSON: {error}"))?;
    let version = value.get("format_version").and_then(Value::as_u64);
    if version != Some(u64::from(FORMAT_VERSION)) {
        let got = version.map_or("none".to_owned(), |version| version.to_string());
        return Err(format!("expected format_version {FORMAT_VERSION}, got {got}"));
    }
    serde_json::from_value(value).map_err(|error| format!("unexpected contents: {error}"))
}

/// An object with its version, as a file's contents.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    Ok(format!("{:#}\n", versioned(serde_json::to_value(value)?)).into_bytes())
}

/// An object with its version.
pub(crate) fn versioned(mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.insert("format_version".to_owned(), FORMAT_VERSION.into());
    }
    value
}
