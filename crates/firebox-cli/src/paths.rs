//! Paths of files and folders that a program is told.

use std::path::{Path, PathBuf};

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
