//! Files that are there whole or not at all, also after a loss of power.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Writes a new file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

/// Makes the names in a folder survive a loss of power. Only Unix opens folders.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Writes a file in the place of the one that may be there: at every moment one of them is there whole.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let beside = path.with_added_extension("part");
    let written = write_synced(&beside, contents).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Puts the folder `new` in the place of `old`, if there is one, and removes that.
///
/// On Linux and Apple's systems the two are exchanged at once, so that whatever leads to the place finds one of
/// them at every moment. Elsewhere the place is empty for an instant.
pub(crate) fn replace_folder(new: &Path, old: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    if old.exists() {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
            Ok(()) => return fs::remove_dir_all(new),
            // A file system that cannot exchange.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    remove_folder(old)?;
    fs::rename(new, old)
}

/// Removes a folder that may be there.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_dir_all(path))
}

/// Removes a file or link that may be there.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(path))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(unix)]
pub(crate) fn symlink_folder(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
pub(crate) fn symlink_folder(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_dir(target, link)
}

/// The bytes that the file system of a folder has left for this user, if it tells.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let system = rustix::fs::statvfs(path).ok()?;
        Some(system.f_bavail.saturating_mul(system.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}
