//! Reading many keys: all values now, and what becomes of them; by the ordered reader.

use super::{
    Kv,
    entry::KvEntry,
    names::{check_key, check_pattern},
};
use crate::{
    error::{Error, Result},
    host::mailbox::PutBack,
    jetstream::ordered::{Begin, Plan, Read, read},
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Mutex, mpsc};

/// What a watch tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Keys, which may hold wildcards; empty for all.
    pub keys: Vec<String>,
    /// Whether all revisions come first, instead of the last one of each key.
    pub history: bool,
    /// Whether only what is written from now on comes.
    pub updates_only: bool,
    /// Whether entries come without their values.
    pub names_only: bool,
    /// The first revision to come.
    pub from_revision: Option<u64>,
}

/// The entries of a bucket, one after another; it ends with its bus.
#[derive(Clone, Debug)]
pub struct KvWatch {
    bucket: Arc<str>,
    state: Arc<Mutex<State>>,
    caught_up: Arc<AtomicBool>,
    /// Whether it ends with what is there.
    bounded: bool,
}

#[derive(Debug)]
struct State {
    reader: mpsc::Receiver<Result<Read>>,
    /// Taken for a caller who was gone.
    returned: Option<Arc<KvEntry>>,
}

impl KvWatch {
    /// Whether all entries that were there when the watch began have been handed out.
    pub fn caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// The next entry; none at the end. Dropping the future skips none.
    ///
    /// # Errors
    /// `NotFound` when the bucket is deleted.
    pub async fn next(&self) -> Result<Option<Arc<KvEntry>>> {
        Ok(self.take().await?.map(|(entry, _)| entry))
    }

    /// Hosts: the same, and what puts it back. Until that is called or dropped, no other entry is taken.
    pub(crate) async fn take(&self) -> Result<Option<(Arc<KvEntry>, PutBack)>> {
        let mut state = self.state.clone().lock_owned().await;
        let entry = match state.returned.take() {
            Some(entry) => entry,
            None => match self.read(&mut state.reader).await? {
                Some(entry) => Arc::new(entry),
                None => return Ok(None),
            },
        };
        let again = entry.clone();
        let put_back = move || state.returned = Some(again);
        Ok(Some((entry, Box::new(put_back))))
    }

    async fn read(&self, reader: &mut mpsc::Receiver<Result<Read>>) -> Result<Option<KvEntry>> {
        loop {
            if self.bounded && self.caught_up() {
                return Ok(None);
            }
            match reader.recv().await {
                // What is listed must be whole.
                None if self.bounded => return Err(Error::closed("bus")),
                None => return Ok(None),
                Some(Err(e)) => return Err(e),
                Some(Ok(Read::CaughtUp)) => self.caught_up.store(true, Ordering::Release),
                Some(Ok(Read::Message(d))) => {
                    if let Some(entry) = KvEntry::of(&self.bucket, *d) {
                        return Ok(Some(KvEntry { initial: !self.caught_up(), ..entry }));
                    }
                }
            }
        }
    }
}

impl Kv {
    /// Watches keys: their values now, then every change.
    ///
    /// # Errors
    /// `Config` for a pattern that is none, and for options that exclude one another.
    pub fn watch(&self, options: &WatchOptions) -> Result<KvWatch> {
        options.keys.iter().try_for_each(|k| check_pattern(k))?;
        let begin = match (options.from_revision, options.updates_only, options.history) {
            (None, false, false) => Begin::LastPerSubject,
            (None, false, true) => Begin::First,
            (None, true, false) => Begin::New,
            (Some(n), false, false) => Begin::Sequence(n),
            _ => {
                let text = "watch: history, updates_only and from_revision exclude one another: give one";
                return Err(Error::config(text));
            }
        };
        Ok(self.entries(&options.keys, begin, options.names_only, false))
    }

    /// All revisions of a key that the bucket keeps, oldest first.
    ///
    /// # Errors
    /// `Config` for a key that is none.
    pub fn history(&self, key: &str) -> Result<KvWatch> {
        check_key(key)?;
        Ok(self.entries(&[key.to_owned()], Begin::First, false, true))
    }

    /// The keys that have a value, or those of them that match a pattern.
    ///
    /// # Errors
    /// `Config` for a pattern that is none; `Timeout` or `Connection` when the server does not answer.
    pub async fn keys(&self, pattern: Option<&str>) -> Result<Vec<String>> {
        pattern.map_or(Ok(()), check_pattern)?;
        let patterns: Vec<String> = pattern.map(str::to_owned).into_iter().collect();
        let all = self.entries(&patterns, Begin::LastPerSubject, true, true);
        let (mut keys, mut seen) = (Vec::new(), HashSet::new());
        while let Some(entry) = all.next().await? {
            match entry.is_value() {
                true if seen.insert(entry.key.clone()) => keys.push(entry.key.clone()),
                true => {}
                false => {
                    if seen.remove(&entry.key) {
                        keys.retain(|k| *k != entry.key);
                    }
                }
            }
        }
        Ok(keys)
    }

    fn entries(&self, patterns: &[String], begin: Begin, headers_only: bool, bounded: bool) -> KvWatch {
        let filters = match patterns {
            [] => vec![self.subject(">")],
            some => some.iter().map(|p| self.subject(p)).collect(),
        };
        let plan = Plan { stream: self.stream.to_string(), filters, begin, headers_only };
        let state = State { reader: read(&self.shared, plan), returned: None };
        let state = Arc::new(Mutex::new(state));
        KvWatch { bucket: self.bucket.clone(), state, caught_up: Arc::default(), bounded }
    }
}
