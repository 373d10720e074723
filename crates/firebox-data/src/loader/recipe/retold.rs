//! Failures in a worker process, as data.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use firebox_core::error::ErrorParts;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, ErrorKind, OutOfRange};
use crate::loader::fault::{Action, SampleFailure};

/// An error that comes back as it was, but for its causes, of which the texts are left.
#[derive(Clone, Debug)]
pub(super) struct Retold(pub(super) Error);

/// [`ErrorKind`] as data: each kind has to be here, for this to compile.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ErrorKind")]
enum KindAsData {
    Io,
    Format,
    OutOfRange(#[serde(with = "SettingAsData")] OutOfRange),
    Config,
    State,
    Dataset,
    Shard,
    Transform,
    Collate,
    Panic,
    TimedOut,
    Died,
    Workers,
    Ranks,
}

/// [`OutOfRange`] as data.
#[derive(Serialize, Deserialize)]
#[serde(remote = "OutOfRange")]
struct SettingAsData {
    field: String,
    expected: String,
    got: String,
}

/// [`ErrorParts`] as data. A path is its bytes, which may be no text.
#[derive(Serialize, Deserialize)]
struct Fields {
    #[serde(with = "KindAsData")]
    kind: ErrorKind,
    message: String,
    index: Option<usize>,
    row: Option<usize>,
    place: Option<String>,
    path: Option<Vec<u8>>,
    worker: Option<usize>,
    process: Option<u32>,
    step: Option<usize>,
    causes: Vec<String>,
    path_of_causes: Option<Vec<u8>>,
    then: Vec<String>,
}

impl Serialize for Retold {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let parts = self.0.to_parts();
        let bytes = |path: Option<PathBuf>| path.map(|path| path.into_os_string().into_vec());
        let fields = Fields {
            kind: parts.kind,
            message: parts.message,
            index: parts.index,
            row: parts.row,
            place: parts.place,
            path: bytes(parts.path),
            worker: parts.worker,
            process: parts.process,
            step: parts.step,
            causes: parts.causes,
            path_of_causes: bytes(parts.path_of_causes),
            then: parts.then,
        };
        fields.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Retold {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fields = Fields::deserialize(from)?;
        let path = |bytes: Option<Vec<u8>>| bytes.map(|bytes| PathBuf::from(OsString::from_vec(bytes)));
        Ok(Retold(Error::from(ErrorParts {
            kind: fields.kind,
            message: fields.message,
            index: fields.index,
            row: fields.row,
            place: fields.place,
            path: path(fields.path),
            worker: fields.worker,
            process: fields.process,
            step: fields.step,
            causes: fields.causes,
            path_of_causes: path(fields.path_of_causes),
            then: fields.then,
        })))
    }
}

/// Of the error, of what was done about it, and of where a substitute comes from.
type FailureFields = (Retold, Action, Option<String>);

impl Serialize for SampleFailure {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let SampleFailure { error, action, substitute } = self;
        (Retold(error.clone()), action, substitute).serialize(to)
    }
}

impl<'de> Deserialize<'de> for SampleFailure {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (Retold(error), action, substitute) = FailureFields::deserialize(from)?;
        Ok(SampleFailure { error, action, substitute })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn errors_and_failures_come_back_as_they_were() {
        let file = Error::new(ErrorKind::Format, "cut short").at_path("a.csv");
        let strange = PathBuf::from(std::ffi::OsStr::from_bytes(b"\xFF.png"));
        let (field, expected, got) = ("size".to_owned(), "more".to_owned(), "0".to_owned());
        let errors = [
            Error::new(ErrorKind::Dataset, "the data set failed").at_index(7).at_row(9).caused_by(file),
            Error::new(ErrorKind::Io, "").at_path(strange).on_worker(2).on_process(77),
            Error::from(ErrorKind::OutOfRange(OutOfRange { field, expected, got }))
                .at_step(3)
                .followed_by("no disk"),
            Error::new(ErrorKind::Died, "workers died with it").at_place("row 3".to_owned()),
        ];
        for error in errors {
            let failure = SampleFailure {
                error: error.clone(),
                action: Action::Replaced(4),
                substitute: Some("there".to_owned()),
            };
            let json = serde_json::to_string(&failure).unwrap();
            let back: SampleFailure = serde_json::from_str(&json).unwrap();
            assert_eq!(back.to_string(), failure.to_string());
            assert_eq!(back.error.to_parts(), error.to_parts());
        }
    }
}
