//! safetensors files.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use burn::tensor::{BoolStore, DType, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, ErrorKind};
use crate::state_dict::StateDict;

impl StateDict {
    /// The dictionary as the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a tensor type that the format lacks, such as a quantised one.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let views = self
            .iter()
            .map(|(key, data)| {
                let dtype = to_safetensors(data.dtype()).ok_or_else(|| {
                    format_error(format!("{key}: no safetensors type for {:?}", data.dtype()))
                })?;
                let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
                    .map_err(|error| format_error(key.to_owned()).caused_by(error))?;
                Ok((key, view))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        safetensors::serialize(views, None).map_err(|error| format_error("safetensors").caused_by(error))
    }

    /// The dictionary in the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if they are none.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| format_error("not a safetensors file").caused_by(error))?;
        let mut dict = StateDict::default();
        for (key, view) in file.iter() {
            let dtype = from_safetensors(view.dtype())
                .ok_or_else(|| format_error(format!("{key}: no tensor type for {:?}", view.dtype())))?;
            let data = checked(view.data().to_vec(), view.shape().to_vec(), dtype)
                .map_err(|error| format_error(format!("{key}: {error}")))?;
            dict.insert(key, data);
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
        let beside = path.with_added_extension("part");
        let written = File::create(&beside)
            .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&beside, path));
        written.map_err(|error| {
            let _ = fs::remove_file(&beside);
            io_error("cannot be written", path, error)
        })
    }
}

fn format_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Format, message)
}

fn io_error(message: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, message).at_path(path).caused_by(error)
}

/// A tensor of bytes from a file. A bool's byte may only be 0 or 1: any other is no value of Rust's.
pub(crate) fn checked(bytes: Vec<u8>, shape: Vec<usize>, dtype: DType) -> Result<TensorData, String> {
    if dtype.is_bool()
        && let Some(byte) = bytes.iter().find(|&&byte| byte > 1)
    {
        return Err(format!("expected bools of 0 or 1, got {byte}"));
    }
    TensorData::try_from_bytes_vec(bytes, shape, dtype).map_err(|error| error.to_string())
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

fn from_safetensors(dtype: Dtype) -> Option<DType> {
    DTYPES.iter().find(|(_, safe)| *safe == dtype).map(|&(burn, _)| burn)
}
