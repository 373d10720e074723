//! safetensors files.

use std::fs;
use std::path::Path;

use burn::tensor::{BoolStore, Bytes, DType, TensorData};
use firebox_core::files::replace_shared;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::error::{Error, ErrorKind};
use crate::safetensors_header::{self, Entry};
use crate::state_dict::StateDict;

impl StateDict {
    /// The dictionary as the bytes of a safetensors file, with the metadata `{"format": "pt"}`.
    ///
    /// The format has one name for a tensor: what shares memory here is written for each name, in full. What
    /// is [unsupported](Self::unsupported) is not written.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a tensor type that the format lacks, such as a quantised one, and for a
    /// tensor called
    /// `__metadata__`.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let views = self
            .iter()
            .map(|(key, data)| {
                if key == METADATA {
                    return Err(format_error(format!("{key}: no name for a tensor in safetensors")));
                }
                let dtype = to_safetensors(data.dtype()).ok_or_else(|| {
                    format_error(format!("{key}: no safetensors type for {:?}", data.dtype()))
                })?;
                let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
                    .map_err(|error| format_error(key.to_owned()).caused_by(error))?;
                Ok((key, view))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        // Some readers insist on it. One pair: a table of more would have an order of its own in each run.
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        safetensors::serialize(views, Some(metadata))
            .map_err(|error| format_error("safetensors").caused_by(error))
    }

    /// The dictionary in the bytes of a safetensors file.
    ///
    /// Tensors of a type that is unknown here, such as 8-bit floats, are in
    /// [`unsupported`](Self::unsupported).
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if they are none, or have no tensor that can be read but others.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let refused = |error: String| format_error(format!("not a safetensors file: {error}"));
        if bytes.starts_with(b"PK\x03\x04") {
            return Err(refused("got PyTorch's zip format, which read_pytorch reads".to_owned()));
        }
        let (entries, bytes) = safetensors_header::read(bytes).map_err(refused)?;
        let mut dict = StateDict::default();
        for (key, Entry { dtype, shape, data }) in entries {
            match from_safetensors(&dtype) {
                Some(dtype) => {
                    let bytes = Bytes::from_bytes_vec(bytes[data].to_vec());
                    let data = checked(bytes, shape, dtype)
                        .map_err(|error| format_error(format!("{key}: {error}")))?;
                    dict.insert(key, data);
                }
                None => dict.insert_unsupported(key, format!("a tensor of {dtype}")),
            }
        }
        if let (None, Some((key, what))) = (dict.iter().next(), dict.unsupported().next()) {
            return Err(format_error(format!("expected tensors that can be read, got {key} ({what})")));
        }
        Ok(dict)
    }

    /// Reads a safetensors file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Format`], with the file's path.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|error| io_error("cannot be read", path, error))?;
        Self::from_safetensors(&bytes).map_err(|error| error.at_path(path))
    }

    /// Writes a safetensors file, in the place of one that may be there: at every moment one of them is there
    /// whole. Equal dictionaries give equal files.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Format`], with the file's path.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let bytes = self.to_safetensors().map_err(|error| error.at_path(path))?;
        let written = replace_shared(path, &bytes);
        written.map_err(|error| io_error("cannot be written", path, error))
    }
}

/// The header's key that is no tensor's.
pub(crate) const METADATA: &str = "__metadata__";

fn format_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, message)
}

fn io_error(message: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, message).at_path(path).caused_by(error)
}

/// A tensor of bytes from a file. A bool's byte may only be 0 or 1: any other is no value of Rust's.
pub(crate) fn checked(bytes: Bytes, shape: Vec<usize>, dtype: DType) -> Result<TensorData, String> {
    if dtype.is_bool()
        && let Some(byte) = bytes.iter().find(|&&byte| byte > 1)
    {
        return Err(format!("expected bools of 0 or 1, got {byte}"));
    }
    TensorData::try_from_bytes(bytes, shape, dtype).map_err(|error| error.to_string())
}

const DTYPES: [(DType, Dtype); 13] = [
    (DType::F64, Dtype::F64),
    (DType::F32, Dtype::F32),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::I64, Dtype::I64),
    (DType::I32, Dtype::I32),
    (DType::I16, Dtype::I16),
    (DType::I8, Dtype::I8),
    (DType::U64, Dtype::U64),
    (DType::U32, Dtype::U32),
    (DType::U16, Dtype::U16),
    (DType::U8, Dtype::U8),
    (DType::Bool(BoolStore::Native), Dtype::BOOL),
];

fn to_safetensors(dtype: DType) -> Option<Dtype> {
    DTYPES.iter().find(|(burn, _)| *burn == dtype).map(|&(_, safe)| safe)
}

fn from_safetensors(dtype: &str) -> Option<DType> {
    DTYPES.iter().find(|(_, safe)| safe.to_string() == dtype).map(|&(burn, _)| burn)
}
