//! The kernel's file locks that say who lives: the directory's own, and one for each owner.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{POLL, failed, file, random, until, unusable};
use crate::error::Result;

/// A file locked by this process. Unlocked explicitly, as a fork elsewhere may have copied the handle.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    pub(super) path: PathBuf,
    pub(super) process: u32,
    /// An owner's file ends with the lock.
    remove: bool,
}

impl Held {
    /// None when somebody else holds it for longer than `patience`.
    pub(super) fn take(path: &Path, patience: Duration, remove: bool) -> Result<Option<Self>> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let (file, mut got) = (file.map_err(|e| unusable(path, &e))?, Ok(()));
        let free = until(patience, || {
            got = file.try_lock();
            !matches!(got, Err(TryLockError::WouldBlock))
        });
        match got {
            Err(TryLockError::Error(e)) => Err(unusable(path, &e)),
            _ => Ok(free.then(|| Self { file, path: path.into(), process: std::process::id(), remove })),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = if self.remove { fs::remove_file(&self.path) } else { Ok(()) };
            let _ = self.file.unlock();
        }
    }
}

/// The right to change anything in the directory.
pub(super) fn exclusive(dir: &Path, patience: Duration) -> Result<Held> {
    let path = file(dir, "lock");
    Held::take(&path, patience, false)?.ok_or_else(|| failed(format!("{} stays locked", path.display())))
}

/// Locks a new file in `owners/`: whoever can lock it knows that its owner is gone.
pub(super) fn register(dir: &Path) -> Result<Held> {
    let path = file(dir, "owners").join(format!("{}-{:016x}", std::process::id(), random()));
    Held::take(&path, POLL, true)?.ok_or_else(|| failed(format!("{} is locked", path.display())))
}

/// Whether any owner lives; removes the files of dead ones. One that cannot be examined counts as alive.
pub(super) fn live_owners(dir: &Path) -> bool {
    let owners = fs::read_dir(file(dir, "owners")).into_iter().flatten().flatten();
    // Counts to the end, as taking a dead one's lock is what removes its file.
    owners.filter(|owner| !matches!(Held::take(&owner.path(), Duration::ZERO, true), Ok(Some(_)))).count() > 0
}

#[cfg(test)]
mod tests {
    use super::{super::prepare, *};
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
