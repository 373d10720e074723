//! Walks of folders, in one order on every machine.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};

/// Endings of names that are images, in lower case.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "gif", "tif", "tiff", "webp"];

/// The images below a folder.
#[derive(Default)]
pub(super) struct Found {
    /// Sorted as torchvision's are: by folder, then by name.
    pub(super) files: Vec<PathBuf>,
    /// Hidden files and folders, other files, and links that lead in a circle.
    pub(super) ignored: usize,
}

/// The folders in a folder, sorted by name, and the number of other entries.
pub(super) fn folders(root: &Path) -> Result<(Vec<OsString>, usize), Error> {
    let (mut names, mut ignored) = (Vec::new(), 0);
    for (name, path) in entries(root)? {
        let is_folder = !is_hidden(&name) && fs::metadata(&path).is_ok_and(|entry| entry.is_dir());
        match is_folder {
            true => names.push(name),
            false => ignored += 1,
        }
    }
    names.sort();
    Ok((names, ignored))
}

/// All images in a folder and its folders; links are followed.
pub(super) fn images(folder: &Path) -> Result<Found, Error> {
    let canonical = fs::canonicalize(folder).map_err(|error| failed(folder, error))?;
    let (mut found, mut by_folder) = (Found::default(), Vec::new());
    walk(folder, &mut vec![canonical], &mut by_folder, &mut found.ignored)?;
    // As text, in which "a/b" is after "a" and "a-b".
    by_folder.sort_by(|(left, _), (right, _)| left.as_os_str().cmp(right.as_os_str()));
    for (folder, mut names) in by_folder {
        names.sort();
        found.files.extend(names.into_iter().map(|name| folder.join(name)));
    }
    Ok(found)
}

/// `within` has the folders that lead here, without links.
fn walk(
    folder: &Path,
    within: &mut Vec<PathBuf>,
    by_folder: &mut Vec<(PathBuf, Vec<OsString>)>,
    ignored: &mut usize,
) -> Result<(), Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let entry = entry.map_err(|error| failed(folder, error))?;
        let name = entry.file_name();
        if is_hidden(&name) {
            *ignored += 1;
            continue;
        }
        let path = folder.join(&name);
        let mut kind = entry.file_type().map_err(|error| failed(&path, error))?;
        let is_link = kind.is_symlink();
        if is_link {
            match fs::metadata(&path) {
                Ok(target) => kind = target.file_type(),
                // A link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&path, error)),
            }
        }
        if kind.is_dir() {
            let canonical = match (is_link, within.last()) {
                (false, Some(parent)) => parent.join(&name),
                _ => fs::canonicalize(&path).map_err(|error| failed(&path, error))?,
            };
            if within.contains(&canonical) {
                *ignored += 1;
                continue;
            }
            within.push(canonical);
            walk(&path, within, by_folder, ignored)?;
            within.pop();
        } else if kind.is_file() && is_image(&name) {
            names.push(name);
        } else {
            *ignored += 1;
        }
    }
    by_folder.push((folder.to_owned(), names));
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<(OsString, PathBuf)>, Error> {
    let entries = fs::read_dir(folder).map_err(|error| failed(folder, error))?;
    let entries = entries.map(|entry| entry.map(|entry| (entry.file_name(), entry.path())));
    entries.collect::<io::Result<_>>().map_err(|error| failed(folder, error))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_image(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "").at_path(path).caused_by(error)
}
