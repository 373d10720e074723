//! The IDX files of MNIST and its relatives, plain or gzip.
//!
//! The format is Yann LeCun's: two zero bytes, a type code, the number of dimensions, each dimension as a
//! big-endian 32-bit number, then the elements in row-major order. Unsigned bytes are read (code 8), which
//! is what all the image sets use; the other types are refused by name.

use std::io::{ErrorKind as IoKind, Read};
use std::path::Path;

use bytes::Bytes;
#[cfg(feature = "processes")]
use {
    crate::dataset::FingerprintFields,
    firebox_workers::sync::SealedArray,
    serde::{Deserialize, Serialize},
    std::fmt,
};

use crate::collate::product;
use crate::dataset::{Dataset, Fingerprint, Lineage};
use crate::error::{BoxError, Error, ErrorKind};
use crate::formats::gzip::{open, undecodable};

const UNSIGNED_BYTE: u8 = 8;

/// The contents of an IDX file.
#[derive(Clone, Debug)]
pub struct Idx {
    /// The dimensions, outermost first; a file without any has one element.
    pub shape: Vec<usize>,
    /// The elements in row-major order: as many as the product of the dimensions.
    pub values: Bytes,
}

impl Idx {
    /// Reads a file; whether it is compressed is seen from its first bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if it cannot be read, [`ErrorKind::Format`] if it is not an IDX file of unsigned
    /// bytes, or is shorter or longer than its dimensions say. The error names the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        open(path).and_then(Self::parse).map_err(|error| error.at_path(path))
    }

    fn parse(mut file: impl Read) -> Result<Self, Error> {
        let mut magic = [0; 4];
        fill(&mut file, &mut magic, "the magic number")?;
        let [0, 0, UNSIGNED_BYTE, rank] = magic else {
            let elements = match magic {
                [0, 0, code, _] => name(code).map(|name| format!(": elements are {name}")),
                _ => None,
            };
            return Err(format_error(format!(
                "not an IDX file of unsigned bytes: expected magic 00 00 08 and a rank, got {}{}",
                magic.map(|byte| format!("{byte:02x}")).join(" "),
                elements.unwrap_or_default(),
            )));
        };
        let mut shape = Vec::with_capacity(usize::from(rank));
        for _ in 0..rank {
            let mut dimension = [0; 4];
            fill(&mut file, &mut dimension, "the dimensions")?;
            shape.push(u32::from_be_bytes(dimension) as usize);
        }
        let expected =
            product(&shape).ok_or_else(|| format_error(format!("impossible dimensions {shape:?}")))?;
        // The header is not to be trusted with an allocation: the vector grows with what is really there.
        // One byte more than expected is asked for, to see whether the file ends where it should.
        let mut values = Vec::new();
        file.take((expected as u64).saturating_add(1)).read_to_end(&mut values).map_err(undecodable)?;
        if values.len() != expected {
            let got = if values.len() > expected { "more".to_owned() } else { values.len().to_string() };
            return Err(format_error(format!(
                "expected {expected} bytes for dimensions {shape:?}, got {got}"
            )));
        }
        Ok(Idx { shape, values: values.into() })
    }
}

fn fill(file: &mut impl Read, buffer: &mut [u8], what: &str) -> Result<(), Error> {
    file.read_exact(buffer).map_err(|error| match error.kind() {
        IoKind::UnexpectedEof => format_error(format!("not an IDX file: it ends before {what}")),
        _ => undecodable(error),
    })
}

/// The type that a code stands for.
fn name(code: u8) -> Option<&'static str> {
    match code {
        9 => Some("signed bytes"),
        11 => Some("16-bit integers"),
        12 => Some("32-bit integers"),
        13 => Some("32-bit floats"),
        14 => Some("64-bit floats"),
        _ => None,
    }
}

fn format_error(message: String) -> Error {
    Error::new(ErrorKind::Format, message)
}

/// An image with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledImage {
    /// `height · width` grey values, row after row. A view of the data set's memory, not a copy.
    pub pixels: Bytes,
    /// The class.
    pub label: u8,
}

/// Grey images and their classes from a pair of IDX files, held in memory.
///
/// ```no_run
/// use firebox_data::Dataset;
/// use firebox_data::formats::idx::LabelledImages;
///
/// let digits = LabelledImages::open("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", 10)?;
/// println!("{} images of {:?}", digits.len(), digits.size());
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LabelledImages {
    images: Bytes,
    labels: Bytes,
    height: usize,
    width: usize,
    /// Hashed once, for all loaders.
    fingerprint: Fingerprint,
    lineage: Lineage,
}

impl LabelledImages {
    /// Reads both files.
    ///
    /// # Errors
    /// What [`Idx::read`] says, and [`ErrorKind::Format`] if the images don't have three dimensions, the
    /// labels don't have one, they disagree in number, or a label is not below `classes`.
    pub fn open(images: impl AsRef<Path>, labels: impl AsRef<Path>, classes: usize) -> Result<Self, Error> {
        let (images_path, labels_path) = (images.as_ref(), labels.as_ref());
        let images = Idx::read(images_path)?;
        let [count, height, width] = images.shape[..] else {
            let text = format!("expected images, which have 3 dimensions, got dimensions {:?}", images.shape);
            return Err(format_error(text).at_path(images_path));
        };
        let labels = Idx::read(labels_path)?;
        let wrong = match labels.shape[..] {
            [labels] if labels == count => None,
            [labels] => Some(format!("expected {count} labels for {}, got {labels}", images_path.display())),
            _ => Some(format!("expected labels, which have 1 dimension, got dimensions {:?}", labels.shape)),
        };
        let wrong = wrong.or_else(|| {
            let index = labels.values.iter().position(|&label| usize::from(label) >= classes)?;
            Some(format!("label {index}: expected a class below {classes}, got {}", labels.values[index]))
        });
        match wrong {
            Some(text) => Err(format_error(text).at_path(labels_path)),
            None => {
                let fingerprint = Fingerprint::new(count, format!("labelled images of {height}×{width}"))
                    .with_contents(&images.values)
                    .with_contents(&labels.values);
                Ok(LabelledImages {
                    images: images.values,
                    labels: labels.values,
                    height,
                    width,
                    fingerprint,
                    lineage: Lineage::whole(),
                })
            }
        }
    }

    /// The same images in memory that all processes can have.
    ///
    /// # Errors
    /// [`ErrorKind::Workers`] if there is no room for it.
    #[cfg(feature = "processes")]
    pub fn seal(&self) -> Result<SealedImages, Error> {
        let seal = |bytes: &Bytes| {
            SealedArray::from_slice(bytes)
                .map_err(|error| Error::new(ErrorKind::Workers, "images for all processes").caused_by(error))
        };
        Ok(SealedImages {
            images: seal(&self.images)?,
            labels: seal(&self.labels)?,
            size: [self.height, self.width],
            fingerprint: self.fingerprint.to_fields(),
            lineage: self.lineage.clone(),
        })
    }

    /// The height and width of every image.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }
}

/// Images in memory that all processes can have: settings of a [`Recipe`](crate::Recipe), that go to a worker
/// process without being copied, or read and hashed again.
///
/// ```no_run
/// use firebox_data::formats::fashion_mnist;
///
/// let images = fashion_mnist::train("datasets/fashion-mnist")?.seal()?;
/// // In this process and in any other that has `images`:
/// let images = images.open();
/// # Ok::<(), firebox_data::Error>(())
/// ```
#[cfg(feature = "processes")]
#[derive(Clone, Serialize, Deserialize)]
pub struct SealedImages {
    images: SealedArray<u8>,
    labels: SealedArray<u8>,
    size: [usize; 2],
    fingerprint: FingerprintFields,
    /// Within a process the images are the ones that were sealed: parts of them are found to overlap.
    #[serde(skip, default = "Lineage::whole")]
    lineage: Lineage,
}

/// The fields that cross: a recipe's settings are compared by it.
#[cfg(feature = "processes")]
impl fmt::Debug for SealedImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedImages")
            .field("images", &self.images)
            .field("labels", &self.labels)
            .field("size", &self.size)
            .field("fingerprint", &self.fingerprint)
            .finish()
    }
}

#[cfg(feature = "processes")]
impl SealedImages {
    /// The images, which are not copied.
    pub fn open(&self) -> LabelledImages {
        struct Bytewise(SealedArray<u8>);
        impl AsRef<[u8]> for Bytewise {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let bytes = |array: &SealedArray<u8>| Bytes::from_owner(Bytewise(array.clone()));
        let [height, width] = self.size;
        LabelledImages {
            images: bytes(&self.images),
            labels: bytes(&self.labels),
            height,
            width,
            fingerprint: Fingerprint::of_fields(self.fingerprint.clone()),
            lineage: self.lineage.clone(),
        }
    }
}

impl Dataset for LabelledImages {
    type Item = LabelledImage;

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn get(&self, index: usize) -> Result<LabelledImage, BoxError> {
        let Some(label) = self.labels.get(index).copied() else {
            let text = format!("images: expected an index below {}, got {index}", self.len());
            return Err(Error::new(ErrorKind::Dataset, text).into());
        };
        let pixels = self.height * self.width;
        Ok(LabelledImage { label, pixels: self.images.slice(index * pixels..(index + 1) * pixels) })
    }

    /// With a hash of all images and labels.
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }
}
