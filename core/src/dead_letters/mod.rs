//! Dead letters: listed, replayed to their one group, discarded.
//!
//! A stream's dead letters live in `<STREAM>_DLQ` under `dlq.<STREAM>.<group>`. A replay is a copy under
//! `dlq.<STREAM>.<group>.replay`, which the group's consumers read besides their topic; no other group reads it. The copy
//! is stored and acked before the letter is removed, so a crash in between loses nothing.

mod cursor;
mod letter;

pub use cursor::{DeadLetterCursor, Letter};
pub use letter::DeadLetter;
pub(crate) use letter::{
    ATTEMPTS, FAILURES, GROUP, ID, REASON, SEQUENCE, STREAM, TIME, TOPIC, TRUNCATED, is_ours, read_headers,
    restored,
};

use crate::{
    bus::shared::Shared,
    config::ProducerConfig,
    error::{Error, ErrorKind, Result},
    jetstream::{
        codes,
        names::{letters_stream, letters_subject, letters_topic, replays_topic, stream_to_declare},
    },
    publish::Producer,
    topic::{check_group, check_name, check_subscribe, covers},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// An action on all dead letters.
#[derive(Clone, Copy)]
enum Action {
    Replay,
    Discard,
}

/// The dead letters of a topic and a group.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    shared: Arc<Shared>,
    topic: String,
    group: String,
    stream: Arc<OnceCell<String>>,
    replays: Arc<OnceCell<Producer>>,
}

#[derive(Deserialize)]
struct Stored {
    message: StoredMessage,
}
#[derive(Deserialize)]
struct StoredMessage {
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl DeadLetters {
    pub(crate) fn open(shared: &Arc<Shared>, topic: &str, group: &str, stream: Option<&str>) -> Result<Self> {
        check_subscribe(topic)?;
        check_group(group)?;
        stream.map_or(Ok(()), |name| check_name("stream", name))?;
        if !shared.config.jetstream {
            return Err(Error::config("dead letters need JetStream: connect with jetstream on").topic(topic));
        }
        Ok(Self {
            shared: shared.clone(),
            topic: topic.to_owned(),
            group: group.to_owned(),
            stream: Arc::new(OnceCell::new_with(stream.map(str::to_owned))),
            replays: Arc::default(),
        })
    }

    /// The topic, with wildcards.
    pub fn topic(&self) -> &str {
        &self.topic
    }
    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    fn named(&self, e: Error) -> Error {
        e.topic(&*self.topic).group(&*self.group)
    }

    async fn stream(&self) -> Result<&str> {
        let find = async {
            let found = self.shared.streams(Some(&self.topic)).await.map_err(|e| self.named(e))?;
            let covering = |s: &&crate::StreamInfo| s.subjects.iter().any(|have| covers(have, &self.topic));
            // The stream may be gone while its dead letters still exist, so derive the name it was declared with.
            let declared = || stream_to_declare(&self.topic, self.shared.config.stream_layout).0;
            Ok(found.iter().find(covering).map_or_else(declared, |s| s.name.clone()))
        };
        self.stream.get_or_try_init(|| find).await.map(String::as_str)
    }

    /// The current last position. A loop that replays letters must stop here, because a message that fails again becomes a
    /// new letter.
    pub async fn last(&self) -> Result<u64> {
        match self.shared.stream(&letters_stream(self.stream().await?)).await {
            Ok(info) => Ok(info.last_sequence),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(0),
            Err(e) => Err(self.named(e)),
        }
    }

    /// The first letter after a position (0: the first letter). None when there is none.
    ///
    /// # Errors
    /// `Timeout` or `Connection` when the server does not answer.
    pub async fn next_after(&self, position: u64) -> Result<Option<DeadLetter>> {
        let stream = self.stream().await?;
        let subject = letters_topic(stream, &self.group);
        let mut after = position;
        loop {
            let query = json!({"seq": after + 1, "next_by_subj": subject});
            let Some(m) = self.get(&letters_stream(stream), &query).await? else { return Ok(None) };
            after = m.seq;
            let letter = self.read(&m)?;
            if covers(&self.topic, &letter.topic) {
                return Ok(Some(letter));
            }
        }
    }

    async fn get(&self, stream: &str, query: &serde_json::Value) -> Result<Option<StoredMessage>> {
        match self.shared.api::<Stored>(&format!("STREAM.MSG.GET.{stream}"), query).await {
            Ok(found) => Ok(Some(found.message)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(self.named(e).stream(stream)),
        }
    }

    fn read(&self, m: &StoredMessage) -> Result<DeadLetter> {
        let bytes = |text: &str| {
            STANDARD.decode(text).map_err(|e| {
                self.named(Error::new(ErrorKind::Decode, format!("the server's answer is not base64: {e}")))
            })
        };
        let headers = bytes(&m.hdrs)?;
        Ok(DeadLetter::read(m.seq, read_headers(&headers), bytes(&m.data)?.into()))
    }

    /// Sends a letter to its group again, and to no other group, with a new attempt count. Then removes it.
    ///
    /// A consumer of the group receives the original message. Workers that use another client do not receive it.
    ///
    /// # Errors
    /// `NotFound` when its body was too large to be stored and the stream no longer has it.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<()> {
        let stream = self.stream().await?;
        let mut whole = letter.clone();
        if letter.truncated.is_some() {
            let Some(m) = self.get(stream, &json!({"seq": letter.sequence})).await? else {
                let text =
                    "the letter's body was too large to be stored, and the stream no longer has the message";
                return Err(self.named(Error::new(ErrorKind::NotFound, text)).stream(stream));
            };
            let original = self.read(&m)?;
            whole = DeadLetter { body: original.body, headers: original.headers, ..whole };
        }
        let open = async {
            let settings = ProducerConfig { declare: Some(false), ..ProducerConfig::default() };
            Producer::open(&self.shared, &replays_topic(stream, &self.group), settings)
        };
        let producer = self.replays.get_or_try_init(|| open).await?;
        let id = format!("replay.{stream}.{}.{}", self.group, letter.position);
        producer.send(&whole.body, whole.options(id)).await?;
        // If another replay has removed it, that replay's copy had the same id, so there is only one copy.
        self.remove(letter.position).await.map(drop)
    }

    /// Removes a letter. False when it was already removed.
    pub async fn discard(&self, letter: &DeadLetter) -> Result<bool> {
        self.remove(letter.position).await
    }

    async fn remove(&self, position: u64) -> Result<bool> {
        let stream = letters_stream(self.stream().await?);
        let query = json!({"seq": position, "no_erase": true});
        match self.shared.api::<serde_json::Value>(&format!("STREAM.MSG.DELETE.{stream}"), &query).await {
            Ok(_) => Ok(true),
            Err(e) if is_absent(&e) => Ok(false),
            // Another process may have removed it. This code has many causes, so check.
            Err(e) if e.err_code() == Some(codes::DELETE_FAILED) => {
                match self.get(&stream, &json!({"seq": position})).await? {
                    None => Ok(false),
                    Some(_) => Err(self.named(e).stream(stream)),
                }
            }
            Err(e) => Err(self.named(e).stream(stream)),
        }
    }

    /// Replays all current letters. Returns how many.
    ///
    /// # Errors
    /// The first failure ends it. The letters before it are replayed.
    pub async fn replay_all(&self) -> Result<u64> {
        self.each(Action::Replay).await
    }

    /// Removes all current letters. Returns how many.
    ///
    /// # Errors
    /// The first failure ends it. The letters before it are removed.
    pub async fn discard_all(&self) -> Result<u64> {
        self.each(Action::Discard).await
    }

    /// Handles the letters that exist at the start. A replay that fails again becomes a new letter, so a loop over all
    /// letters would never end.
    async fn each(&self, action: Action) -> Result<u64> {
        let (list, mut done) = (self.list(), 0);
        while let Some(letter) = list.next().await? {
            done += match action {
                Action::Replay => self.replay(&letter).await.map(|()| 1)?,
                Action::Discard => u64::from(self.discard(&letter).await?),
            };
        }
        Ok(done)
    }
}

/// Whether an error says that there is no such message, or no dead-letter stream yet.
fn is_absent(e: &Error) -> bool {
    matches!(e.err_code(), Some(codes::STREAM_NOT_FOUND | codes::NO_MESSAGE | codes::NO_SEQUENCE))
}

impl Shared {
    /// Declares the dead-letter stream of a stream: retention by limits, for 30 days.
    pub(crate) async fn declare_dead_letters(&self, stream: &str) -> Result<crate::StreamInfo> {
        let (name, subject) = (letters_stream(stream), letters_subject(stream));
        let config = json!({
            "name": name, "subjects": [subject], "storage": "file", "retention": "limits", "discard": "old",
            "max_age": 30 * 24 * 3600 * 1_000_000_000_u64, "num_replicas": self.config.replicas,
        });
        self.declare_stream_as(&name, &[subject], &config).await
    }
}
