//! Notices: what an operator should read in the logs of a service, whatever its language.
//!
//! Hosts hand them to their own logging. They are few: what may come in floods is told once a second.

use super::Item;
use crate::{
    connection::{Event, EventKind},
    error::Error,
};
use serde::{Serialize, Serializer};
use std::time::{SystemTime, UNIX_EPOCH};

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It is as it should be.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Something does not go on.
    Error,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoticeKind {
    /// The connection: lost, made again, refused, given up.
    Connection,
    /// A stream was declared.
    StreamDeclared,
    /// A handler failed, and its message will come again.
    Retry,
    /// A message became a dead letter, or could not be made one.
    DeadLetter,
    /// Messages were given back unbegun, for other workers.
    GivenBack,
    /// Core messages were dropped because a consumer is too slow.
    SlowConsumer,
    /// A consumer cannot go on.
    ConsumerFailed,
    /// Sends failed, and their failures were never asked for.
    FailuresUnseen,
    /// A setting is allowed and still unwise.
    Setting,
    /// The bus is closed: nothing follows.
    Closed,
}

/// Something to read in the logs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Notice {
    /// How much it matters.
    pub level: Level,
    /// What it is about.
    pub kind: NoticeKind,
    /// What happened, in words; never a secret.
    pub text: String,
    /// The topic concerned.
    pub topic: Option<String>,
    /// The group concerned.
    pub group: Option<String>,
    /// The stream concerned.
    pub stream: Option<String>,
    /// When; for hosts in seconds since 1970.
    #[serde(serialize_with = "seconds")]
    pub time: SystemTime,
    /// Notices before this one that this listener was too slow for.
    pub missed: u64,
}

fn seconds<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
}

impl Notice {
    pub(crate) fn new(level: Level, kind: NoticeKind, text: impl Into<String>) -> Self {
        let (topic, group, stream) = (None, None, None);
        Self { level, kind, text: text.into(), topic, group, stream, time: SystemTime::now(), missed: 0 }
    }
    pub(crate) fn warning(kind: NoticeKind, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, kind, text)
    }
    pub(crate) fn topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_owned());
        self
    }
    pub(crate) fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }
    pub(crate) fn stream(mut self, stream: Option<&str>) -> Self {
        self.stream = stream.map(str::to_owned);
        self
    }
    /// An error as a notice, with what it names.
    pub(crate) fn of_error(level: Level, kind: NoticeKind, e: &Error) -> Self {
        let mut this = Self::new(level, kind, e.to_string());
        this.topic = e.topic_name().map(str::to_owned);
        this.group = e.group_name().map(str::to_owned);
        this.stream = e.stream_name().map(str::to_owned);
        this
    }
    /// What an event of the connection is to the logs; none for what is no news.
    pub(crate) fn of_event(event: &Event) -> Option<Self> {
        let server = event.server.as_deref().unwrap_or("the server");
        let cause = event.cause.as_deref().unwrap_or("for no reason given");
        let (level, kind, text) = match event.kind {
            EventKind::Disconnected => {
                (Level::Warning, NoticeKind::Connection, format!("lost {server}: {cause}; reconnecting"))
            }
            EventKind::Reconnected => {
                (Level::Info, NoticeKind::Connection, format!("reconnected to {server}"))
            }
            EventKind::AuthFailed => {
                (Level::Warning, NoticeKind::Connection, format!("{server} refuses the credentials: {cause}"))
            }
            EventKind::LameDuck => {
                (Level::Info, NoticeKind::Connection, format!("{server} is about to shut down"))
            }
            EventKind::SlowConsumer => (Level::Warning, NoticeKind::SlowConsumer, cause.to_owned()),
            EventKind::PermissionDenied => (Level::Warning, NoticeKind::Connection, cause.to_owned()),
            EventKind::Closed => (Level::Info, NoticeKind::Closed, cause.to_owned()),
            EventKind::Connecting | EventKind::Connected => return None,
        };
        let mut this = Self::new(level, kind, text);
        this.topic.clone_from(&event.topic);
        Some(this)
    }
}

impl Item for Notice {
    fn is_last(&self) -> bool {
        self.kind == NoticeKind::Closed
    }
    fn repeats(&self, other: &Self) -> bool {
        let of = |n: &Self| (n.kind, n.topic.clone(), n.group.clone(), n.stream.clone());
        // Each setting, and each consumer that fails, is news of its own.
        let always = matches!(self.kind, NoticeKind::Setting | NoticeKind::ConsumerFailed);
        !always && of(self) == of(other)
    }
    fn set_missed(&mut self, missed: u64) {
        self.missed = missed;
    }
}
