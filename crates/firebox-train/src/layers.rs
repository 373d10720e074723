//! Settings from a file, and what the command line says of them.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind};

/// `defaults`, with the settings of a file in their place, and `flags` in the place of those.
///
/// The file is TOML if its name ends so, else JSON, such as the `config.json` of a run. It may leave settings out, but must
/// not have others than `defaults` has.
///
/// # Errors
/// [`ErrorKind::Io`] if the file can't be read, [`ErrorKind::Config`] if it is of another form, or has a setting that is
/// unknown or can't have its value.
pub fn layered<T: Serialize + DeserializeOwned>(
    defaults: &T,
    file: &Path,
    flags: impl IntoIterator<Item = (String, Value)>,
) -> Result<T, Error> {
    let bad = |text: String| Error::new(ErrorKind::Config, text).at_path(file);
    let text = fs::read_to_string(file).map_err(|error| Error::io(file, "cannot be read", error))?;
    let is_toml = file.extension().is_some_and(|extension| extension == "toml");
    let mut settings: Map<String, Value> = match is_toml {
        true => toml::from_str(&text).map_err(|error| bad(format!("not TOML: {}", error.message())))?,
        false => serde_json::from_str(&text).map_err(|error| bad(format!("not a JSON object: {error}")))?,
    };
    settings.remove("format_version");
    let form = |error: serde_json::Error| bad(format!("unexpected settings: {error}"));
    let Value::Object(mut layers) = serde_json::to_value(defaults).map_err(form)? else {
        return Err(bad("settings: expected a struct".to_owned()));
    };
    let strangers: Vec<_> = settings.keys().filter(|name| !layers.contains_key(*name)).cloned().collect();
    if !strangers.is_empty() {
        let known: Vec<_> = layers.keys().map(String::as_str).collect();
        return Err(bad(format!(
            "expected settings among {}, got {}",
            known.join(", "),
            strangers.join(", ")
        )));
    }
    layers.extend(settings);
    layers.extend(flags);
    serde_json::from_value(Value::Object(layers)).map_err(form)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Settings {
        lr: f64,
        epochs: usize,
        name: Option<String>,
    }

    #[test]
    fn flags_come_before_the_file_and_that_before_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let defaults = Settings { lr: 0.1, epochs: 3, name: None };
        let toml = folder.path().join("run.toml");
        fs::write(&toml, "epochs = 5\nname = \"first\"\n").unwrap();
        let expected = Settings { lr: 0.1, epochs: 5, name: Some("first".to_owned()) };
        assert_eq!(layered(&defaults, &toml, []).unwrap(), expected);
        let flags = [("epochs".to_owned(), json!(7)), ("lr".to_owned(), json!(0.3))];
        let expected = Settings { lr: 0.3, epochs: 7, name: Some("first".to_owned()) };
        assert_eq!(layered(&defaults, &toml, flags).unwrap(), expected);
        let json = folder.path().join("config.json");
        fs::write(&json, r#"{"format_version": 2, "lr": 0.30000000000000004, "name": null}"#).unwrap();
        let expected = Settings { lr: 0.1 + 0.2, epochs: 3, name: None };
        assert_eq!(layered(&defaults, &json, []).unwrap(), expected);
    }

    #[test]
    fn what_is_unknown_or_of_another_form_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let defaults = Settings { lr: 0.1, epochs: 3, name: None };
        for (name, text, expected) in [
            ("a.toml", "epoch = 5", "expected settings among epochs, lr, name, got epoch"),
            ("a.toml", "epochs = \"many\"", "unexpected settings: invalid type"),
            ("a.toml", "epochs =", "not TOML"),
            ("a.json", "[1]", "not a JSON object"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let error = layered(&defaults, &path, []).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let said = error.to_string();
            assert!(said.contains(name) && said.contains(expected), "{said}");
        }
        let error = layered(&defaults, &folder.path().join("none.toml"), []).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
