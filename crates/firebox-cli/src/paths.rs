//! Paths of files and folders that a program is told.

use std::path::{Path, PathBuf};
use std::{fs, io};

use firebox_train::BoxError;

/// The path that means the same from any folder.
///
/// ```
/// let path = firebox_cli::paths::absolute(std::path::Path::new("data"))?;
/// assert!(path.is_absolute() && path.ends_with("data"));
/// # Ok::<(), firebox_cli::BoxError>(())
/// ```
///
/// # Errors
/// If the path is empty, or nobody knows the current folder.
pub fn absolute(path: &Path) -> Result<PathBuf, BoxError> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The entries of a folder, by name; none where there is no folder.
///
/// ```
/// assert!(firebox_cli::paths::files_in(std::path::Path::new("no such folder"))?.is_empty());
/// # Ok::<(), firebox_cli::BoxError>(())
/// ```
///
/// # Errors
/// If the folder is there and can't be read.
pub fn files_in(folder: &Path) -> Result<Vec<PathBuf>, BoxError> {
    let unreadable = |error: io::Error| format!("{}: {error}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(unreadable)?,
    };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}
