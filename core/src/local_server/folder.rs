//! The folder of an embedded server: its files, its errors, and waiting on it.

use crate::error::{Error, ErrorKind, Result};
use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

pub(super) const POLL: Duration = Duration::from_millis(20);

/// Creates the folder if necessary and returns its absolute path.
pub(super) fn prepare(dir: &Path) -> Result<PathBuf> {
    if dir.exists() && !dir.is_dir() {
        return Err(Error::config(format!("local://{}: this is a file, not a directory", dir.display())));
    }
    fs::create_dir_all(dir.join(".nats-eventbus/owners")).map_err(|e| unusable(dir, &e))?;
    dir.canonicalize().map_err(|e| unusable(dir, &e))
}

pub(super) fn unusable(path: &Path, e: &io::Error) -> Error {
    Error::config(format!("local server directory: cannot use {}: {e}", path.display()))
}

pub(super) fn failed(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Connection, format!("local nats-server: {why}"))
}

/// The path of one of our files in the folder.
pub(super) fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(".nats-eventbus").join(name)
}

/// Polls until `done`, or the timeout. True when it is done.
pub(super) fn until(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

/// A random number. Forked processes share the hasher's keys, so pid and time make it differ.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
}
