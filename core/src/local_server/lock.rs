//! Kernel file locks that show which processes are alive: one for the directory, and one for each owner.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::{POLL, failed, file, random, until, unusable};
use crate::error::Result;

/// A file locked by this process. Dropping it unlocks the file explicitly, because a fork may have copied the handle.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
    pub(super) path: PathBuf,
    pub(super) process: u32,
    /// Whether to remove the file with the lock: an owner's file.
    remove: bool,
}

impl FileLock {
    /// Locks a file. None when another process holds the lock for longer than `timeout`.
    pub(super) fn take(path: &Path, timeout: Duration, remove: bool) -> Result<Option<Self>> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let (file, mut got) = (file.map_err(|e| unusable(path, &e))?, Ok(()));
        let free = until(timeout, || {
            got = file.try_lock();
            !matches!(got, Err(TryLockError::WouldBlock))
        });
        match got {
            Err(TryLockError::Error(e)) => Err(unusable(path, &e)),
            _ => Ok(free.then(|| Self { file, path: path.into(), process: std::process::id(), remove })),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = if self.remove { fs::remove_file(&self.path) } else { Ok(()) };
            let _ = self.file.unlock();
        }
    }
}

/// Locks the directory for a change.
pub(super) fn exclusive(dir: &Path, timeout: Duration) -> Result<FileLock> {
    let path = file(dir, "lock");
    FileLock::take(&path, timeout, false)?.ok_or_else(|| failed(format!("{} stays locked", path.display())))
}

/// Locks a new file in `owners/`. A process that can lock it knows that its owner is gone.
pub(super) fn register(dir: &Path) -> Result<FileLock> {
    let path = file(dir, "owners").join(format!("{}-{:016x}", std::process::id(), random()));
    FileLock::take(&path, POLL, true)?.ok_or_else(|| failed(format!("{} is locked", path.display())))
}

/// Whether any owner is alive. Removes the files of dead owners. An owner whose file cannot be checked counts as alive.
pub(super) fn live_owners(dir: &Path) -> bool {
    let owners = fs::read_dir(file(dir, "owners")).into_iter().flatten().flatten();
    // Counts all of them, because taking a dead owner's lock removes its file.
    owners.filter(|owner| !matches!(FileLock::take(&owner.path(), Duration::ZERO, true), Ok(Some(_)))).count()
        > 0
}

#[cfg(test)]
mod tests {
    use super::{super::folder::prepare, *};
    use crate::error::ErrorKind;

    #[test]
    fn only_live_owners_count_and_a_file_is_no_directory() -> Result<()> {
        let dir = prepare(&std::env::temp_dir().join(format!("local-server-{:x}", random())))?;
        let (owner, dead) = (register(&dir)?, file(&dir, "owners/1-dead"));
        fs::write(&dead, "").map_err(|e| unusable(&dead, &e))?;
        let refused = prepare(&dead).map_err(|e| (e.kind(), e.to_string()));
        assert!(matches!(refused, Err((ErrorKind::Config, text)) if text.contains("1-dead")));
        assert!(live_owners(&dir) && !dead.exists());
        drop(owner);
        assert!(!live_owners(&dir));
        fs::remove_dir_all(&dir).map_err(|e| unusable(&dir, &e))
    }
}
