//! Files that are there whole or not at all, also after a loss of power.
//!
//! Every change that a run makes to its folder goes through here, so that the tests can have each of them fail.

#[cfg(test)]
pub(crate) mod fault;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What can be done to files and folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Create,
    Write,
    Sync,
    Cut,
    Rename,
    Link,
    Lock,
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

/// Gives a file that nobody writes to any more a second name. It is copied where the file system has no such names,
/// or no more of them for that file.
pub(crate) fn link_file(from: &Path, to: &Path) -> io::Result<()> {
    match fault::check(Change::Link, to).and_then(|()| fs::hard_link(from, to)) {
        Err(error) if is_unsupported(&error) || error.kind() == ErrorKind::TooManyLinks => {
            fs::copy(from, to)?;
            sync(&OpenOptions::new().write(true).open(to)?, to)
        }
        linked => linked,
    }
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

/// Makes the names in a folder survive a loss of power. Only Unix opens folders, and not every file system syncs them.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let synced = fault::check(Change::Sync, path)
        .and_then(|()| if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) });
    match synced {
        Err(error) if is_unsupported(&error) => Ok(()),
        synced => synced,
    }
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

/// A folder that something has taken the place of, and that can't be removed: where it is now, and why.
pub(crate) type Leftover = (PathBuf, io::Error);

/// Puts the folder or link `new` in the place of the folder `old`, if there is one, and removes that. `aside`, where nothing
/// is, may take it up for a while.
///
/// On Linux and Apple's systems the two are exchanged at once, so that whatever leads to the place finds one of
/// them at every moment. Elsewhere, and on file systems that can't, the place is empty for an instant.
pub(crate) fn replace_folder(new: &Path, old: &Path, aside: &Path) -> io::Result<Option<Leftover>> {
    if old.symlink_metadata().is_err() {
        return rename(new, old).map(|()| None);
    }
    let removed = match exchange(new, old) {
        Ok(()) => new,
        Err(error) if is_unsupported(&error) => {
            rename(old, aside)?;
            if let Err(error) = rename(new, old) {
                let _ = rename(aside, old);
                return Err(error);
            }
            aside
        }
        Err(error) => return Err(error),
    };
    Ok(remove_folder(removed).err().map(|error| (removed.to_owned(), error)))
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    fault::check(Change::Rename, old)?;
    Ok(renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Whether the system says that it has no such operation here, and not that something went wrong with it. What `EPERM` and
/// `EINVAL` mean else, the other way, which comes next, will find out.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        const REFUSALS: [Errno; 6] =
            [Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOLCK, Errno::PERM, Errno::INVAL];
        if Errno::from_io_error(error).is_some_and(|errno| REFUSALS.contains(&errno)) {
            return true;
        }
    }
    // What Windows says to who may not make symbolic links.
    #[cfg(windows)]
    if error.raw_os_error() == Some(1314) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported
}

/// What became of asking for a lock.
#[derive(Debug)]
pub(crate) enum Lock {
    /// It is this process's for as long as the file is open.
    Taken,
    /// Another process has it.
    Busy,
    /// The file system has no locks.
    Unsupported(io::Error),
}

/// Asks for the lock of a file, which no two processes have.
pub(crate) fn lock(file: &File, path: &Path) -> io::Result<Lock> {
    let locked = match fault::check(Change::Lock, path) {
        Ok(()) => file.try_lock(),
        Err(error) => Err(TryLockError::Error(error)),
    };
    match locked {
        Ok(()) => Ok(Lock::Taken),
        Err(TryLockError::WouldBlock) => Ok(Lock::Busy),
        Err(TryLockError::Error(error)) if is_unsupported(&error) => Ok(Lock::Unsupported(error)),
        Err(TryLockError::Error(error)) => Err(error),
    }
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

/// Removes whatever may be there.
pub(crate) fn remove_any(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(there) if there.is_dir() => remove_folder(path),
        _ => remove_file(path),
    }
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
        free(system.f_blocks, system.f_bavail, system.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// A file system without a size, such as one that stands for a server's, doesn't count: it is not full.
#[cfg(unix)]
fn free(blocks: u64, available: u64, bytes: u64) -> Option<u64> {
    (blocks > 0).then(|| available.saturating_mul(bytes))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_does_not_count_is_not_full() {
        assert_eq!(free(0, 0, 4096), None);
        assert_eq!(free(10, 0, 4096), Some(0));
        assert_eq!(free(u64::MAX, u64::MAX, 4096), Some(u64::MAX));
        // The kernel's own has no blocks.
        if cfg!(target_os = "linux") {
            assert_eq!(free_bytes(Path::new("/proc")), None);
        }
        assert!(free_bytes(&std::env::temp_dir()).is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_folder_that_cannot_be_synced_is_no_error_and_one_that_is_gone_is() {
        let folder = tempfile::tempdir().unwrap();
        for errno in [rustix::io::Errno::INVAL, rustix::io::Errno::NOTSUP] {
            let watched = fault::Watched::refusing(folder.path(), Change::Sync, errno);
            sync_folder(folder.path()).unwrap();
            assert_eq!(watched.struck().len(), 1);
        }
        let watched = fault::Watched::refusing(folder.path(), Change::Sync, rustix::io::Errno::IO);
        assert!(sync_folder(folder.path()).is_err());
        drop(watched);
        assert!(sync_folder(&folder.path().join("nowhere")).is_err());
    }

    #[test]
    fn a_folder_takes_the_place_of_another_with_and_without_an_exchange() {
        for exchanged in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let [new, old, aside] = ["new", "old", "aside"].map(|name| folder.path().join(name));
            for (path, text) in [(&new, "new"), (&old, "old")] {
                fs::create_dir(path).unwrap();
                fs::write(path.join("file"), text).unwrap();
            }
            let watched = match exchanged {
                true => fault::Watched::failing(folder.path(), 0..0),
                false => fault::Watched::refusing_once(&old, Change::Rename, rustix::io::Errno::INVAL),
            };
            assert!(replace_folder(&new, &old, &aside).unwrap().is_none());
            assert_eq!(watched.struck().len(), usize::from(!exchanged));
            assert_eq!(fs::read_to_string(old.join("file")).unwrap(), "new");
            assert!(!new.exists() && !aside.exists());
        }
    }
}
