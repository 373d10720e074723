//! Files that are there whole or not at all, also after a loss of power.
//!
//! Every change to a file or folder goes through here, so that tests can have each of them fail.
//!
//! ```
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("state.json");
//! firebox_core::files::replace(&path, b"{}")?;
//! // Whatever happens from here on, the path leads to one of the two, whole.
//! firebox_core::files::replace(&path, b"{\"step\": 1}")?;
//! # assert_eq!(std::fs::read(&path)?, b"{\"step\": 1}");
//! # Ok::<(), std::io::Error>(())
//! ```

#[cfg(feature = "fault-injection")]
pub mod fault;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The changes that can be made to files and folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file or folder is made, or an existing file opened to be written to.
    Create,
    /// Bytes are written.
    Write,
    /// The disk is waited for.
    Sync,
    /// A file is given another length.
    Cut,
    /// A name leads to something else.
    Rename,
    /// A second name is given.
    Link,
    /// A lock is asked for.
    Lock,
    /// A name is removed.
    Remove,
}

#[cfg(not(feature = "fault-injection"))]
mod fault {
    /// Disks fail by themselves.
    #[inline(always)]
    pub(super) fn check(_: super::Change, _: &std::path::Path) -> std::io::Result<()> {
        Ok(())
    }
}

/// Opens a file to write to, which is made if it isn't there. What is in it stays.
pub fn open(path: &Path) -> io::Result<File> {
    fault::check(Change::Create, path)?;
    OpenOptions::new().create(true).write(true).truncate(false).open(path)
}

/// Creates an empty file, or empties the one that is there.
pub fn create(path: &Path) -> io::Result<File> {
    fault::check(Change::Create, path)?;
    File::create(path)
}

/// Creates a folder, whose parent must be there.
pub fn create_folder(path: &Path) -> io::Result<()> {
    fault::check(Change::Create, path)?;
    fs::create_dir(path)
}

/// Writes to the file, which is that of the path. If that fails, a part may be there.
pub fn write(mut file: &File, path: &Path, contents: &[u8]) -> io::Result<()> {
    if let Err(full) = fault::check(Change::Write, path) {
        file.write_all(&contents[..contents.len() / 2])?;
        return Err(full);
    }
    file.write_all(contents)
}

/// Gives a file that nobody writes to any more a second name.
///
/// It is copied where the file system has no such names, or no more of them for that file.
pub fn link_file(from: &Path, to: &Path) -> io::Result<()> {
    match fault::check(Change::Link, to).and_then(|()| fs::hard_link(from, to)) {
        Err(error) if is_unsupported(&error) || error.kind() == ErrorKind::TooManyLinks => {
            fs::copy(from, to)?;
            sync(&OpenOptions::new().write(true).open(to)?, to)
        }
        linked => linked,
    }
}

/// Waits until the file's contents are on the disk.
pub fn sync(file: &File, path: &Path) -> io::Result<()> {
    fault::check(Change::Sync, path)?;
    file.sync_data()
}

/// Makes the file as long as that.
pub fn cut(file: &File, path: &Path, bytes: u64) -> io::Result<()> {
    fault::check(Change::Cut, path)?;
    file.set_len(bytes)
}

/// Puts a file, folder or link in the place of the file or link that may be there.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fault::check(Change::Rename, to)?;
    fs::rename(from, to)
}

/// Writes a new file and waits until it is on the disk.
pub fn write_synced(path: &Path, contents: &[u8]) -> io::Result<()> {
    fill(&create(path)?, path, contents)
}

fn fill(file: &File, path: &Path, contents: &[u8]) -> io::Result<()> {
    write(file, path, contents)?;
    fault::check(Change::Sync, path)?;
    file.sync_all()
}

/// Makes the names in a folder survive a loss of power.
///
/// Only Unix opens folders, and those only that may be read. Not every file system syncs them. Where it can't
/// be done, it isn't, and that is no error.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    // What a name alone has for its parent.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let synced = fault::check(Change::Sync, path)
        .and_then(|()| if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) });
    match synced {
        Err(error) if is_unsupported(&error) || error.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Writes a file in the place of the one that may be there: at every moment one of them is there whole.
///
/// It is for folders with one writer: what a killed one has left beside the file, with `.part` added to its
/// name, is taken up by the next. Where there may be several, it is [`replace_shared`].
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let beside = with_ending(path, "part");
    let created = create(&beside);
    put(created, &beside, path, contents)
}

/// [`replace`] for files that several programs or threads may write at the same time: the last one's stays,
/// whole.
pub fn replace_shared(path: &Path, contents: &[u8]) -> io::Result<()> {
    static FILES: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let beside = with_ending(path, &format!("{}-{number}.part", std::process::id()));
        match fault::check(Change::Create, &beside).and_then(|()| File::create_new(&beside)) {
            // Of a process that had this number before, or of another machine's.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && beside != path => {}
            created => return put(created, &beside, path, contents),
        }
    }
}

/// A path with a dot and an ending added to its file's name; one without a file's name is left as it is.
///
/// `Path::with_added_extension` does the same from Rust 1.91 on.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    match path.file_name() {
        Some(name) => {
            let mut name = name.to_owned();
            name.push(".");
            name.push(ending);
            path.with_file_name(name)
        }
        None => path.to_owned(),
    }
}

/// Writes to the file beside the path, which was to be created, and puts it in its place.
fn put(created: io::Result<File>, beside: &Path, path: &Path, contents: &[u8]) -> io::Result<()> {
    let written = created.and_then(|file| fill(&file, beside, contents)).and_then(|()| rename(beside, path));
    if written.is_err() {
        let _ = remove_file(beside);
    }
    written?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A folder that something has taken the place of, and that can't be removed: where it is now, and why.
pub type Leftover = (PathBuf, io::Error);

/// Puts the folder or link `new` in the place of the folder `old`, if there is one, and removes that.
///
/// `aside`, where nothing is, may take the old one up for a while.
///
/// On Linux and Apple's systems the two are exchanged at once, so that whatever leads to the place finds one
/// of them at every moment. Elsewhere, and on file systems that can't, the place is empty for an instant.
pub fn replace_folder(new: &Path, old: &Path, aside: &Path) -> io::Result<Option<Leftover>> {
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

/// Tells whether the system says that it has no such operation here, and not that it went wrong.
///
/// What `EPERM` and `EINVAL` mean else, the other way, which comes next, will find out.
pub fn is_unsupported(error: &io::Error) -> bool {
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

/// The answer to asking for a lock.
///
/// ```
/// use firebox_core::files::{self, Lock};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join(".lock");
/// let file = files::open(&path)?;
/// assert!(matches!(files::lock(&file, &path)?, Lock::Taken | Lock::Unsupported(_)));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub enum Lock {
    /// It is this process's for as long as the file is open.
    Taken,
    /// Another process has it.
    Busy,
    /// The file system has no locks.
    Unsupported(io::Error),
}

/// Asks for the lock of a file, which no two processes have.
pub fn lock(file: &File, path: &Path) -> io::Result<Lock> {
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
pub fn remove_folder(path: &Path) -> io::Result<()> {
    fault::check(Change::Remove, path)?;
    absent_is_fine(fs::remove_dir_all(path))
}

/// Removes a file or link that may be there.
pub fn remove_file(path: &Path) -> io::Result<()> {
    fault::check(Change::Remove, path)?;
    absent_is_fine(fs::remove_file(path))
}

/// Removes whatever may be there.
pub fn remove_any(path: &Path) -> io::Result<()> {
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

/// Makes a symbolic link to a folder.
#[cfg(any(unix, windows))]
pub fn symlink_folder(target: &Path, link: &Path) -> io::Result<()> {
    #[cfg(unix)]
    use std::os::unix::fs::symlink;
    #[cfg(windows)]
    use std::os::windows::fs::symlink_dir as symlink;
    fault::check(Change::Link, link)?;
    symlink(target, link)
}

/// The bytes that the file system of a folder has left for this user, if it tells.
pub fn free_bytes(path: &Path) -> Option<u64> {
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

#[cfg(all(test, unix, feature = "fault-injection"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_replaced_stays_and_leaves_nothing_beside_it() {
        for replace in [replace, replace_shared] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.json");
            replace(&path, b"old").unwrap();
            let all = fault::Watched::failing(folder.path(), 0..0);
            replace(&path, b"old").unwrap();
            let changes: Vec<_> = all.seen().into_iter().map(|(change, ..)| change).collect();
            assert_eq!(
                changes,
                [Change::Create, Change::Write, Change::Sync, Change::Rename, Change::Sync],
                "the last one is the folder's"
            );
            drop(all);
            for change in 0..changes.len() {
                let watched = fault::Watched::failing(folder.path(), change..change + 1);
                assert!(replace(&path, b"new").unwrap_err().to_string().contains(fault::TEXT));
                assert_eq!(watched.struck().len(), 1, "change {change}");
                let there = if change < 4 { "old" } else { "new" };
                assert_eq!(fs::read_to_string(&path).unwrap(), there, "change {change}");
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "change {change}");
            }
        }
    }

    #[test]
    fn what_a_killed_writer_has_left_is_taken_up_by_the_only_writer_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [path, part] = ["state.json", "state.json.part"].map(|name| folder.path().join(name));
        fs::write(&part, "half of a longer text").unwrap();
        replace_shared(&path, b"1").unwrap();
        assert_eq!(fs::read_to_string(&part).unwrap(), "half of a longer text");
        replace(&path, b"2").unwrap();
        assert!(!part.exists());
        assert_eq!(fs::read_to_string(&path).unwrap(), "2");
    }

    #[test]
    fn a_name_without_a_folder_is_in_the_current_one() {
        let current = std::env::current_dir().unwrap();
        let folder = tempfile::tempdir_in(&current).unwrap();
        let name = folder.path().file_name().unwrap();
        let file = with_ending(Path::new(name), "json");
        replace_shared(&file, b"{}").unwrap();
        assert_eq!(fs::read_to_string(current.join(&file)).unwrap(), "{}");
        fs::remove_file(&file).unwrap();
    }

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
        for errno in [rustix::io::Errno::INVAL, rustix::io::Errno::NOTSUP, rustix::io::Errno::ACCESS] {
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
