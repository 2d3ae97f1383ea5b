//! Reads a stream in order and settles nothing: a consumer of its own, made again behind the last message after every
//! loss, so that the reader sees no gap and no repeat.
//!
//! One task per reader. It ends with its reader, with the bus, or when the stream is gone.

use super::{
    api,
    status::{Action, action},
};
use crate::{
    bus::shared::Shared,
    connection::State,
    error::{Error, ErrorKind, Result},
    message::{Delivery, Meta},
};
use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Messages asked for at a time, and the most that wait for the reader.
const BATCH: usize = 512;
const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The server removes the consumer after this time without a pull.
const INACTIVE: Duration = Duration::from_secs(60);
/// The wait before the consumer is made again.
const AGAIN: Duration = Duration::from_millis(100);

/// Where reading begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// With the first message of the stream.
    First,
    /// With what is stored from now on.
    New,
    /// With the last message of each subject.
    LastPerSubject,
    /// With this sequence.
    Sequence(u64),
}

/// What to read.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) stream: String,
    /// Subjects, which may hold wildcards; empty for all.
    pub(crate) filters: Vec<String>,
    pub(crate) begin: Begin,
    pub(crate) headers_only: bool,
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum Read {
    Message(Box<Delivery>),
    /// Everything that was stored when reading began has been read. Comes once.
    CaughtUp,
}

/// Starts reading. The channel ends with the bus; an error is the last it gives.
pub(crate) fn read(shared: &Arc<Shared>, plan: Plan) -> mpsc::Receiver<Result<Read>> {
    let (out, reader) = mpsc::channel(BATCH);
    let this =
        Reader { shared: shared.clone(), plan, out, last: 0, caught_up: false, begun: false, silent: 0 };
    shared.spawn(this.run());
    reader
}

struct Reader {
    shared: Arc<Shared>,
    plan: Plan,
    out: mpsc::Sender<Result<Read>>,
    /// The sequence of the last message read.
    last: u64,
    caught_up: bool,
    /// Whether a consumer was made: from then on an outage is waited out.
    begun: bool,
    /// Consumers in a row that gave no sign of life although the connection stood.
    silent: u32,
}

/// How one consumer ended.
enum End {
    /// The reader is gone.
    Unread,
    /// A new consumer may work.
    Again,
    Failed(Error),
}

#[derive(Deserialize)]
struct Made {
    #[serde(default)]
    num_pending: u64,
}

impl Reader {
    async fn run(mut self) {
        loop {
            match self.one_consumer().await {
                End::Unread => return,
                End::Failed(e) => {
                    let _ = self.out.send(Err(e)).await;
                    return;
                }
                End::Again => tokio::select! {
                    () = self.out.closed() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                },
            }
        }
    }

    fn config(&self, name: &str) -> Value {
        let mut config = json!({
            "name": name, "ack_policy": "none", "mem_storage": true, "num_replicas": 1, "max_deliver": 1,
            "inactive_threshold": u64::try_from(INACTIVE.as_nanos()).unwrap_or(u64::MAX),
            "headers_only": self.plan.headers_only,
        });
        let (policy, start) = match self.plan.begin {
            _ if self.last > 0 => ("by_start_sequence", Some(self.last + 1)),
            Begin::First => ("all", None),
            Begin::New => ("new", None),
            Begin::LastPerSubject => ("last_per_subject", None),
            Begin::Sequence(n) => ("by_start_sequence", Some(n.max(1))),
        };
        config["deliver_policy"] = policy.into();
        if let Some(start) = start {
            config["opt_start_seq"] = start.into();
        }
        match &self.plan.filters[..] {
            [] => {}
            [one] => config["filter_subject"] = one.as_str().into(),
            several => config["filter_subjects"] = several.into(),
        }
        config
    }

    async fn one_consumer(&mut self) -> End {
        let link = &self.shared.link;
        if link.state() == State::Closed {
            return End::Failed(link.failure().unwrap_or_else(|| Error::closed("bus")));
        }
        let client = &self.shared.client;
        let (inbox, name) = (client.new_inbox(), nuid::next().to_string());
        let mut epoch = self.shared.link.watch();
        let Ok(mut sub) = client.subscribe(format!("{inbox}.*")).await else { return End::Again };
        let query = json!({"stream_name": self.plan.stream, "config": self.config(&name)});
        let call = format!("CONSUMER.CREATE.{}.{name}", self.plan.stream);
        let made: Made = match self.shared.api(&call, &query).await {
            Ok(made) => made,
            Err(e) if self.begun && matches!(e.kind(), ErrorKind::Timeout | ErrorKind::Connection) => {
                return End::Again;
            }
            Err(e) => return End::Failed(e.stream(&*self.plan.stream)),
        };
        self.begun = true;
        if made.num_pending == 0 && !self.catch_up().await {
            return End::Unread;
        }
        let (mut asked, mut expected) = (0, 1);
        loop {
            if asked <= BATCH / 2 {
                self.pull(&name, &inbox, BATCH - asked);
                asked = BATCH;
            }
            let next = tokio::select! {
                next = tokio::time::timeout(HEARTBEAT * 3, sub.next()) => next,
                _ = epoch.changed() => return End::Again,
                () = self.out.closed() => {
                    self.remove(&name, &mut sub).await;
                    return End::Unread;
                }
            };
            let Ok(Some(m)) = next else { return self.unheard(&name) };
            self.silent = 0;
            if m.status.is_some() {
                match self.status(&m, &mut asked) {
                    None => continue,
                    Some(end) => return end,
                }
            }
            asked = asked.saturating_sub(1);
            let Some((delivery, number)) = delivery(m) else { continue };
            if number != expected {
                // One was lost on its way.
                return End::Again;
            }
            expected += 1;
            if !self.hand_over(delivery).await {
                return End::Unread;
            }
        }
    }

    /// Nothing came, not even a heartbeat. Twice in a row the pulls do not reach the server: a right is missing.
    fn unheard(&mut self, name: &str) -> End {
        self.silent += 1;
        if self.silent < 2 {
            return End::Again;
        }
        let call = format!("CONSUMER.MSG.NEXT.{}.{name}", self.plan.stream);
        let to = api::subject(&self.shared.config, &call);
        let text = "pulls of messages are not answered: check the right to publish to the topic named";
        End::Failed(Error::new(ErrorKind::Timeout, text).topic(to).stream(&*self.plan.stream))
    }

    /// What a status ends; none while the consumer continues.
    fn status(&self, m: &Message, asked: &mut usize) -> Option<End> {
        let code = m.status.map_or(0, |s| s.as_u16());
        let text = m.description.as_deref().unwrap_or_default();
        let pending = m.headers.as_ref().and_then(|h| h.get("Nats-Pending-Messages")?.as_str().parse().ok());
        match action(code, text, pending) {
            Action::Alive => None,
            Action::Release(n) => {
                *asked = n.map_or(0, |n| asked.saturating_sub(n));
                None
            }
            Action::Oversize(n) => {
                *asked = asked.saturating_sub(n);
                None
            }
            Action::Again | Action::Check => Some(End::Again),
            Action::Fail => {
                let e = Error::new(ErrorKind::Config, "the server refuses to be read").server(text);
                Some(End::Failed(e.stream(&*self.plan.stream)))
            }
        }
    }

    fn pull(&self, name: &str, inbox: &str, messages: usize) {
        let to = api::subject(&self.shared.config, &format!("CONSUMER.MSG.NEXT.{}.{name}", self.plan.stream));
        let body = format!(
            "{{\"batch\":{messages},\"expires\":{},\"idle_heartbeat\":{}}}",
            EXPIRES.as_nanos(),
            HEARTBEAT.as_nanos()
        );
        self.shared.pipeline.plain(to.into(), Some(format!("{inbox}.0").into()), None, body.into());
    }

    /// False when the reader is gone.
    async fn hand_over(&mut self, delivery: Delivery) -> bool {
        let meta = delivery.meta.as_ref();
        self.last = meta.map_or(self.last, |m| m.sequence);
        let is_last = meta.is_some_and(|m| m.pending == 0);
        self.out.send(Ok(Read::Message(Box::new(delivery)))).await.is_ok()
            && (!is_last || self.catch_up().await)
    }

    async fn catch_up(&mut self) -> bool {
        std::mem::replace(&mut self.caught_up, true) || self.out.send(Ok(Read::CaughtUp)).await.is_ok()
    }

    async fn remove(&self, name: &str, sub: &mut Subscriber) {
        let _ = sub.unsubscribe().await;
        let call = format!("CONSUMER.DELETE.{}.{name}", self.plan.stream);
        if let Err(e) = self.shared.api::<Value>(&call, &Value::Null).await {
            tracing::debug!(error = %e, "a reader's consumer is left to its inactive threshold");
        }
    }
}

/// A message with its metadata, and its number among those of its consumer.
fn delivery(m: Message) -> Option<(Delivery, u64)> {
    let reply = m.reply.clone()?;
    let meta = Meta::parse(&reply)?;
    let number = reply.rsplit('.').nth(2)?.parse().ok()?;
    let delivery = Delivery { meta: Some(meta), ..Delivery::new(m) };
    Some((delivery, number))
}
