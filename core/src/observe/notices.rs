//! Notices: what an operator should read in the logs of a service, whatever its language.
//!
//! Hosts pass them to their own logging. There are few of them: repeated notices are throttled to one a second.

use super::Item;
use crate::{
    connection::{Event, EventKind},
    error::Error,
    host::schema::{choices, record},
};
use std::time::SystemTime;

choices! {
    /// The severity of a notice.
    #![derive(PartialOrd, Ord)]
    pub enum Level {
        /// Normal.
        Info = "info",
        /// An operator should check it.
        Warning = "warning",
        /// Something has stopped working.
        Error = "error",
    }
}

choices! {
    /// What a notice is about.
    #![non_exhaustive]
    pub enum NoticeKind {
        /// The connection: lost, restored, refused, given up.
        Connection = "connection",
        /// A stream was declared.
        StreamDeclared = "stream_declared",
        /// A handler failed, and its message will be redelivered.
        Retry = "retry",
        /// A message became a dead letter, or could not become one.
        DeadLetter = "dead_letter",
        /// Messages were returned unhandled, for other workers.
        GivenBack = "given_back",
        /// The client dropped core messages because a consumer is too slow.
        SlowConsumer = "slow_consumer",
        /// A consumer failed.
        ConsumerFailed = "consumer_failed",
        /// Sends failed, and no caller or listener received the errors.
        FailuresUnseen = "failures_unseen",
        /// A setting is allowed and unwise.
        Setting = "setting",
        /// The bus is closed: no notice follows.
        Closed = "closed",
    }
}

record! {
    /// A line for the logs.
    pub struct Notice {
        /// Its severity.
        level: Level,
        /// What it is about.
        kind: NoticeKind,
        /// What happened, as text without secrets.
        text: String,
        /// The topic concerned.
        topic: Option<String>,
        /// The group concerned.
        group: Option<String>,
        /// The stream concerned.
        stream: Option<String>,
        /// When it happened.
        time: SystemTime,
        /// Earlier notices that this listener missed because it was too slow.
        missed: u64,
    }
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
    /// The notice of a connection event, if operators need one.
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
        // Each setting and each failed consumer deserves a notice of its own.
        let always = matches!(self.kind, NoticeKind::Setting | NoticeKind::ConsumerFailed);
        !always && of(self) == of(other)
    }
    fn set_missed(&mut self, missed: u64) {
        self.missed = missed;
    }
}
