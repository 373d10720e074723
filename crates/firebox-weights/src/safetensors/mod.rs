//! safetensors files.

use std::fs;
use std::path::Path;

use ::safetensors::Dtype;
use ::safetensors::tensor::TensorView;
use firebox_core::files::replace_shared;

use self::header::{Entry, METADATA};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind};
use crate::raw_tensor::RawTensor;
use crate::state_dict::StateDict;

mod header;

impl StateDict {
    /// The dictionary as the bytes of a safetensors file, with the metadata `{"format": "pt"}`.
    ///
    /// The format has one name for a tensor: what shares memory here is written for each name, in full. What
    /// is [unsupported](Self::unsupported) is not written.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a tensor called `__metadata__`.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let views = self
            .iter()
            .map(|(key, tensor)| {
                if key == METADATA {
                    return Err(format_error(format!("{key}: no name for a tensor in safetensors")));
                }
                let dtype = to_safetensors(tensor.dtype());
                let view = TensorView::new(dtype, tensor.shape().to_vec(), tensor.as_bytes())
                    .map_err(|error| format_error(key.to_owned()).caused_by(error))?;
                Ok((key, view))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        // Some readers insist on it. One pair: a table of more would have an order of its own in each run.
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        ::safetensors::serialize(views, Some(metadata))
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
        let (entries, bytes) = header::read(bytes).map_err(refused)?;
        let mut dict = StateDict::default();
        for (key, Entry { dtype, shape, data }) in entries {
            match from_safetensors(&dtype) {
                Some(dtype) => {
                    // A copy of its own: one tensor that is kept must not keep the whole file.
                    let tensor = RawTensor::checked(bytes[data].to_vec().into(), shape, dtype)
                        .map_err(|error| format_error(format!("{key}: {error}")))?;
                    dict.insert(key, tensor);
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

    /// Writes a safetensors file, in the place of one that may be there.
    ///
    /// At every moment one of them is there whole. Equal dictionaries give equal files.
    ///
    /// ```
    /// use firebox_weights::{RawTensor, StateDict};
    ///
    /// # let folder = std::env::temp_dir().join(format!("firebox-weights-write-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("fc.safetensors");
    /// let mut weights = StateDict::default();
    /// weights.insert("fc.weight", RawTensor::new(&[1f32, 2.0, 3.0, 4.0], [2, 2])?);
    /// weights.write(&path)?;
    /// assert_eq!(StateDict::read(&path)?, weights);
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

fn format_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, message)
}

fn io_error(message: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, message).at_path(path).caused_by(error)
}

fn to_safetensors(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

fn from_safetensors(dtype: &str) -> Option<DType> {
    Some(match dtype {
        "F64" => DType::F64,
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "I64" => DType::I64,
        "I32" => DType::I32,
        "I16" => DType::I16,
        "I8" => DType::I8,
        "U64" => DType::U64,
        "U32" => DType::U32,
        "U16" => DType::U16,
        "U8" => DType::U8,
        "BOOL" => DType::Bool,
        _ => return None,
    })
}
