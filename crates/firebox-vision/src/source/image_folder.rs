//! Folders with a folder for each class.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use firebox_core::BoxError;
use firebox_data::Dataset;
use firebox_data::dataset::{Fingerprint, Lineage, Location};

use super::walk;
use crate::decode::{Encoded, MAX_BYTES};
use crate::error::{Error, ErrorKind, too_large};

/// Images in folders, one for each class, as torchvision's `ImageFolder` has them.
///
/// Classes are the folders at the top, sorted by name. Their images are sorted, too: by folder, however deep,
/// and then by name, so that indices are the same on every machine. Names that end in `.jpg`, `.jpeg`,
/// `.png`, `.bmp`, `.gif`, `.tif`, `.tiff` or `.webp`, in small letters or large ones, are images. Other
/// files, and whatever is hidden, are [counted](Self::ignored). A class without an image is an error.
///
/// An item is a file's bytes and its class. It is read, and decoded, by the loader's workers.
///
/// # Train on a folder
/// ```no_run
/// use firebox_data::Loader;
/// use firebox_vision::{Decode, ImageFolder, transforms::imagenet_train};
///
/// let (augment, normalize) = imagenet_train(224)?;
/// let loader = Loader::builder(ImageFolder::new("photos/train")?)
///     .shuffle(true)
///     .batch_size(64)
///     .transform(Decode::new())
///     .transform(augment)
///     .build_with(normalize.labeled_layout(), normalize)?;
/// for batch in loader.epoch(0) {
///     let (images, classes) = batch?;
///     assert_eq!((images.shape, images.samples), ([3, 224, 224], classes.len()));
/// }
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
///
/// # Ask for classes
/// ```
/// use std::fs;
///
/// use firebox_vision::ImageFolder;
///
/// let folder = tempfile::tempdir()?;
/// for name in ["cat/1.jpg", "ant/2.JPEG", "ant/notes.txt"] {
///     let path = folder.path().join(name);
///     fs::create_dir_all(path.parent().unwrap())?;
///     fs::write(path, "")?;
/// }
/// let images = ImageFolder::new(folder.path())?;
/// assert_eq!((images.classes(), images.targets()), (&["ant", "cat"].map(String::from)[..], vec![0, 1]));
/// assert_eq!(images.ignored(), 1);
/// # Ok::<(), firebox_core::BoxError>(())
/// ```
#[derive(Debug)]
pub struct ImageFolder {
    root: PathBuf,
    classes: Vec<String>,
    files: Vec<(PathBuf, u32)>,
    ignored: usize,
    max_bytes: usize,
    lineage: Lineage,
}

impl ImageFolder {
    /// The images below a folder. All folders are read; no file is.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a folder can't be read, [`ErrorKind::Folder`] if there is no class, or one
    /// without an image.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        let (names, mut ignored) = walk::folders(&root)?;
        if names.is_empty() {
            let text = "image folder: expected a folder for each class, got none";
            return Err(Error::new(ErrorKind::Folder, text).at_path(root));
        }
        let mut files = Vec::new();
        for (class, name) in names.iter().enumerate() {
            let folder = root.join(name);
            let found = walk::images(&folder)?;
            ignored += found.ignored;
            if found.files.is_empty() {
                let text = format!(
                    "class {class}: expected at least one image, got none among {} entries that are not images",
                    found.ignored
                );
                return Err(Error::new(ErrorKind::Folder, text).at_path(folder));
            }
            files.extend(found.files.into_iter().map(|path| (path, class as u32)));
        }
        let classes = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
        Ok(ImageFolder { root, classes, files, ignored, max_bytes: MAX_BYTES, lineage: Lineage::whole() })
    }

    /// Sets the most bytes that a file may have: a larger one is an error of its sample. Default: 256 MiB.
    pub fn with_max_bytes(self, bytes: usize) -> Self {
        ImageFolder { max_bytes: bytes, ..self }
    }

    /// The names of the classes; a class is its place in them.
    ///
    /// What is no Unicode in a name is replaced here, and is right in paths.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of every image.
    pub fn targets(&self) -> Vec<i64> {
        self.files.iter().map(|(_, class)| i64::from(*class)).collect()
    }

    /// The file of an image, if there is such an index.
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.files[..].get(index).map(|(path, _)| path.as_path())
    }

    /// The number of entries that were passed over: hidden ones, and files that are no images by name.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let failed = |error: io::Error| Error::new(ErrorKind::Io, "").at_path(path).caused_by(error);
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        // As it is read: a file may grow, and some files state no size.
        let mut bytes = Vec::new();
        if size <= self.max_bytes as u64 {
            bytes.reserve_exact(size as usize);
            file.take(self.max_bytes as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        }
        let size = size.max(bytes.len() as u64);
        if size > self.max_bytes as u64 {
            let expected = format_args!("at most {} bytes", self.max_bytes);
            return Err(too_large("file", expected, size).at_path(path));
        }
        Ok(bytes)
    }
}

impl Dataset for ImageFolder {
    type Item = (Encoded, i64);

    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<(Encoded, i64), BoxError> {
        let Some((path, class)) = self.files[..].get(index) else {
            let text = format!("image folder: expected an index below {}, got {index}", self.len());
            return Err(Error::new(ErrorKind::Folder, text).at_path(&*self.root).into());
        };
        Ok((Encoded::new(self.read(path)?).named(path), i64::from(*class)))
    }

    fn locate(&self, index: usize) -> Option<Location> {
        self.path(index).map(Location::file)
    }

    /// With the names of all files, and the sizes of up to 256.
    fn fingerprint(&self) -> Fingerprint {
        let mut names = Vec::new();
        for (path, class) in &self.files {
            let name = path.strip_prefix(&self.root).unwrap_or(path);
            for part in name {
                names.extend_from_slice(part.as_encoded_bytes());
                names.push(0);
            }
            names.extend_from_slice(&class.to_le_bytes());
        }
        let description = format!("images of {} classes in folders", self.classes.len());
        Fingerprint::new(self.len(), description).with_contents(names).with_located(self)
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }
}
