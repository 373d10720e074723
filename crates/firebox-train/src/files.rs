//! Files that are there whole or not at all, also after a loss of power.
//!
//! Every change that a run makes to its folder goes through here, so that the tests can have each of them fail.

#[cfg(test)]
pub(crate) mod fault;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// What can be done to files and folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create,
    Write,
    Sync,
    Cut,
    Rename,
    Link,
    Remove,
}

#[cfg(not(test))]
mod fault {
    /// Disks fail by themselves.
    #[inline(always)]
    pub(super) fn check(_: super::Change, _: &std::path::Path) -> std::io::Result<()> {
        Ok(())
    }
}

/// A file to write to, which is made if it isn't there. What is in it stays.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    fault::check(Change::Create, path)?;
    OpenOptions::new().create(true).write(true).truncate(false).open(path)
}

/// An empty file.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    fault::check(Change::Create, path)?;
    File::create(path)
}

/// A folder, whose parent must be there.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    fault::check(Change::Create, path)?;
    fs::create_dir(path)
}

/// Writes to the file, which is that of the path. If that fails, a part may be there.
pub(crate) fn write(mut file: &File, path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Err(full) = fault::check(Change::Write, path) {
        file.write_all(&contents[..contents.len() / 2])?;
        return Err(full);
    }
    file.write_all(contents)
}

/// Gives a file that nobody writes to any more a second name. On a file system without such names it is
/// copied.
pub(crate) fn link_file(from: &Path, to: &Path) -> io::Result<()> {
    fault::check(Change::Link, to)?;
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    OpenOptions::new().write(true).open(to)?.sync_all()
}

/// Waits until the file's contents are on the disk.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    fault::check(Change::Sync, path)?;
    file.sync_data()
}

/// Makes the file as long as that.
pub(crate) fn cut(file: &File, path: &Path, bytes: u64) -> io::Result<()> {
    fault::check(Change::Cut, path)?;
    file.set_len(bytes)
}

/// Puts a file, folder or link in the place of the file or link that may be there.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault::check(Change::Rename, to)?;
    fs::rename(from, to)
}

/// Writes a new file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, contents: &[u8]) -> io::Result<()> {
    let file = create(path)?;
    write(&file, path, contents)?;
    fault::check(Change::Sync, path)?;
    file.sync_all()
}

/// Makes the names in a folder survive a loss of power. Only Unix opens folders.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    fault::check(Change::Sync, path)?;
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Writes a file in the place of the one that may be there: at every moment one of them is there whole.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let beside = path.with_added_extension("part");
    let written = write_synced(&beside, contents).and_then(|()| rename(&beside, path));
    if written.is_err() {
        let _ = remove_file(&beside);
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
        fault::check(Change::Rename, old)?;
        match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
            Ok(()) => return remove_folder(new),
            // A file system that cannot exchange.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    remove_folder(old)?;
    rename(new, old)
}

/// Removes a folder that may be there.
pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    fault::check(Change::Remove, path)?;
    absent_is_fine(fs::remove_dir_all(path))
}

/// Removes a file or link that may be there.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    fault::check(Change::Remove, path)?;
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
    fault::check(Change::Link, link)?;
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
pub(crate) fn symlink_folder(target: &Path, link: &Path) -> io::Result<()> {
    fault::check(Change::Link, link)?;
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
