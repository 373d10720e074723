//! Settings from a file, and what the command line says of them.

use std::path::Path;
use std::{fmt, fs};

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use firebox_train::{Error, ErrorKind};

/// Merges the settings of a file and flags into the defaults.
///
/// Flags come before the file, and the file before the defaults.
///
/// The file is TOML if its name ends so, else JSON, such as the `config.json` of a run. It may leave settings
/// out, but must not have others than `defaults` has.
///
/// ```
/// use firebox_cli::settings::merge_config;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Recipe {
///     lr: f64,
///     epochs: u64,
/// }
///
/// # let folder = tempfile::tempdir()?;
/// let file = folder.path().join("mine.toml");
/// std::fs::write(&file, "lr = 0.5\n")?;
/// let flags = [("epochs".to_owned(), 9.into())];
/// let merged = merge_config(&Recipe { lr: 0.1, epochs: 3 }, &file, flags)?;
/// assert_eq!(merged, Recipe { lr: 0.5, epochs: 9 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Io`] if the file can't be read, [`ErrorKind::Config`] if it is of another form, or has a
/// setting that is unknown or can't have its value.
pub fn merge_config<T: Serialize + DeserializeOwned>(
    defaults: &T,
    file: &Path,
    flags: impl IntoIterator<Item = (String, Value)>,
) -> Result<T, Error> {
    let bad = |text: String| Error::new(ErrorKind::Config, text).at_path(file);
    let text = fs::read_to_string(file)
        .map_err(|error| Error::new(ErrorKind::Io, "cannot be read").at_path(file).caused_by(error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_toml = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    let mut settings = match is_toml {
        true => of_toml(text).map_err(bad)?,
        false => {
            let once: Once =
                serde_json::from_str(text).map_err(|error| bad(format!("not a JSON object: {error}")))?;
            once.0
        }
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
    let given = settings.clone();
    layers.extend(settings);
    layers.extend(flags);
    let merged: T = serde_json::from_value(Value::Object(layers)).map_err(form)?;
    // What a setting has within itself must have been read, too.
    let read = serde_json::to_value(&merged).map_err(form)?;
    match unread("", &Value::Object(given), &read) {
        Some(name) => Err(bad(format!("unexpected settings: nothing is called {name}"))),
        None => Ok(merged),
    }
}

/// TOML has numbers that JSON lacks, and dates, for which no setting has a place: they must not become
/// settings that are absent.
fn of_toml(text: &str) -> Result<Map<String, Value>, String> {
    let table: toml::Table =
        toml::from_str(text).map_err(|error| format!("not TOML: {}", error.message()))?;
    table.into_iter().map(|(name, value)| Ok((name.clone(), json(&name, value)?))).collect()
}

fn json(name: &str, value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Float(number) if number.is_finite() => number.into(),
        toml::Value::Float(number) => return Err(format!("{name}: expected a finite number, got {number}")),
        toml::Value::Datetime(date) => return Err(format!("{name}: expected no date, got {date}")),
        toml::Value::Array(values) => {
            Value::Array(values.into_iter().map(|value| json(name, value)).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let within =
                |(field, value)| Ok((String::clone(&field), json(&format!("{name}.{field}"), value)?));
            Value::Object(table.into_iter().map(within).collect::<Result<_, String>>()?)
        }
    })
}

/// A JSON object that has each name once: of two values one would be passed over.
struct Once(Map<String, Value>);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Once;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Once, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Value>()? {
                    if fields.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{name} is there twice")));
                    }
                }
                Ok(Once(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The first name within what was given that what was read of it lacks. Only objects within objects are
/// looked at: whoever reads something else as an object has its own form for it.
fn unread(place: &str, given: &Value, read: &Value) -> Option<String> {
    let (Value::Object(given), Value::Object(read)) = (given, read) else { return None };
    given.iter().find_map(|(name, given)| {
        let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
        match read.get(name) {
            Some(read) => unread(&place, given, read),
            None if given.is_null() => None,
            None => Some(place),
        }
    })
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
        assert_eq!(merge_config(&defaults, &toml, []).unwrap(), expected);
        let flags = [("epochs".to_owned(), json!(7)), ("lr".to_owned(), json!(0.3))];
        let expected = Settings { lr: 0.3, epochs: 7, name: Some("first".to_owned()) };
        assert_eq!(merge_config(&defaults, &toml, flags).unwrap(), expected);
        let json = folder.path().join("config.json");
        fs::write(&json, r#"{"format_version": 2, "lr": 0.30000000000000004, "name": null}"#).unwrap();
        let expected = Settings { lr: 0.1 + 0.2, epochs: 3, name: None };
        assert_eq!(merge_config(&defaults, &json, []).unwrap(), expected);
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
            let error = merge_config(&defaults, &path, []).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Config);
            let said = error.to_string();
            assert!(said.contains(name) && said.contains(expected), "{said}");
        }
        let error = merge_config(&defaults, &folder.path().join("none.toml"), []).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Io);
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nested {
        inner: Settings,
        clip: Option<f64>,
    }

    #[test]
    fn what_would_be_passed_over_in_silence_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let defaults = || Nested { inner: Settings { lr: 0.1, epochs: 3, name: None }, clip: None };
        for (name, text, expected) in [
            // JSON has no such number: it would be none, which is no clipping at all.
            ("a.toml", "clip = nan", "clip: expected a finite number, got NaN"),
            ("a.toml", "clip = inf", "clip: expected a finite number, got inf"),
            ("a.toml", "inner = { lr = -inf, epochs = 1 }", "inner.lr: expected a finite number, got -inf"),
            ("a.toml", "clip = 2026-01-01", "clip: expected no date, got 2026-01-01"),
            ("a.toml", "clip = 1\nclip = 2", "not TOML: duplicate key"),
            ("a.json", "{\"clip\": 1, \"clip\": 2}", "clip is there twice"),
            ("a.json", "{\"clip\": 1e999}", "not a JSON object: number out of range"),
            ("a.json", "", "not a JSON object"),
            ("a.toml", "[inner]\nlr = 1.0\nepochs = 2\nepoch = 3", "nothing is called inner.epoch"),
            ("a.json", r#"{"inner": {"lr": 1, "epochs": 2, "nam": "x"}}"#, "nothing is called inner.nam"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let error = merge_config(&defaults(), &path, []).unwrap_err();
            let said = error.to_string();
            assert!(*error.kind() == ErrorKind::Config && said.contains(expected), "{text}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        // A mark at the beginning, an extension in capitals, and settings that are as they should be.
        for (name, text) in [
            ("a.TOML", "\u{feff}clip = 2\n[inner]\nlr = 0.5\nepochs = 7\n"),
            ("a.json", "\u{feff}{\"clip\": 2.0, \"inner\": {\"lr\": 0.5, \"epochs\": 7, \"name\": null}}"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let expected = Nested { inner: Settings { lr: 0.5, epochs: 7, name: None }, clip: Some(2.0) };
            assert_eq!(merge_config(&defaults(), &path, []).unwrap(), expected, "{text}");
        }
        // Not UTF-8.
        let path = folder.path().join("a.toml");
        fs::write(&path, b"clip = 1 # \xff").unwrap();
        assert_eq!(merge_config(&defaults(), &path, []).unwrap_err().kind(), &ErrorKind::Io);
    }
}
