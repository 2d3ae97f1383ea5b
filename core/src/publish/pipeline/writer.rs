//! The writer: hands queued messages to the client in batches, and puts back what a lost connection leaves.

use super::{
    Pipeline,
    core_batch::Batch,
    message_ids::MessageIds,
    outbound::{EndsWith, Outbound, Outgoing},
    outbox::Queued,
};
use crate::host::mailbox::{Body, Post};
use async_nats::{Client, HeaderMap, Subject, client::PublishErrorKind, header::NATS_MESSAGE_ID};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Turns that the client gets after a batch of several messages. It writes them while more messages arrive, which saves a
/// wake-up for the next few.
const TURNS: usize = 2;
/// The longest that a deferrable message waits for others.
const GATHER: Duration = Duration::from_millis(1);
/// Bytes handed to the client before it must flush. The client bounds its own queue by messages only.
const UNWRITTEN: usize = 16 << 20;

impl Pipeline {
    pub(super) async fn write(self: Arc<Self>, client: Client) {
        let (mut batch, mut items) = (Vec::new(), Vec::new());
        let mut core = Batch::default();
        let ids = self.state().ids.clone();
        let mut epoch = self.link.watch();
        loop {
            if !self.link.is_connected() {
                if epoch.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let (now_epoch, now) = (self.link.epoch(), Instant::now());
            self.change(|state| {
                core = state.outbox.take(&mut batch);
                for queued in batch.drain(..) {
                    match queued {
                        Queued::Core(n) => items.push(Item::Core(n)),
                        Queued::Unanswered { message, reply } => {
                            items.push(Item::One(Outgoing { message, reply, slot: None }));
                        }
                        Queued::Slot(id) => {
                            items.extend(state.hand_over(id, now_epoch, now).map(Item::One));
                        }
                    }
                }
            });
            if !items.is_empty() {
                let turns = if matches!(&items[..], [Item::One(_) | Item::Core(1)]) { 0 } else { TURNS };
                self.hand_over(&client, &ids, &mut items, &mut core).await;
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            self.writer_sleeps.store(true, Ordering::SeqCst);
            if self.state.lock().outbox.is_empty() {
                self.work.notified().await;
            }
            self.writer_sleeps.store(false, Ordering::SeqCst);
            self.gather().await;
        }
    }

    /// Waits for more deferrable messages. The wait ends when they are worth a write, when something urgent is queued, or
    /// when answers arrive, because their receivers send and settle more.
    async fn gather(&self) {
        let stop = self.stop_gathering.notified();
        self.gathering.store(true, Ordering::SeqCst);
        if !self.state.lock().outbox.must_write_now() {
            tokio::select! {
                biased;
                () = stop => {}
                () = tokio::time::sleep(GATHER) => {}
            }
        }
        self.gathering.store(false, Ordering::SeqCst);
    }

    /// Gives a batch to the client. What a lost connection leaves goes back to the front of the queue.
    async fn hand_over(&self, client: &Client, ids: &MessageIds, batch: &mut Vec<Item>, core: &mut Batch) {
        let (mut ended, mut refused) = (Vec::new(), Vec::new());
        let mut items = batch.drain(..);
        while let Some(item) = items.next() {
            if !self.link.is_connected() {
                self.put_back(std::iter::once(item).chain(items), core);
                break;
            }
            let Outgoing { message, reply, slot } = match item {
                Item::One(outgoing) => outgoing,
                Item::Core(n) => {
                    let sent = self.hand_over_core(client, n, core).await;
                    if sent < n {
                        self.put_back(std::iter::once(Item::Core(n - sent)).chain(items), core);
                        break;
                    }
                    continue;
                }
            };
            let len = message.body.len();
            let published = publish(client, ids, message, reply).await;
            self.written(client, len).await;
            match (slot, published) {
                (Some((id, _)), Published::TooLarge) => refused.push(id),
                (Some((id, EndsWith::HandOver)), Published::HandedOver) => ended.push(id),
                _ => {}
            }
        }
        if !ended.is_empty() || !refused.is_empty() {
            let mut post = Post::default();
            self.change(|s| {
                ended.into_iter().for_each(|id| s.settle(id, Body::Sent(Ok(None)), &mut post));
                refused.into_iter().for_each(|id| s.refuse_too_large(id, &mut post));
            });
        }
    }

    /// Gives core messages to the client, and returns how many it got before the connection was lost.
    async fn hand_over_core(&self, client: &Client, n: usize, core: &mut Batch) -> usize {
        for sent in 0..n {
            if !self.link.is_connected() {
                return sent;
            }
            let Some((topic, body)) = core.next() else { return n };
            let len = body.len();
            if let Err(e) = client.publish(topic, body).await {
                tracing::debug!(error = %e, "a message was not handed over");
            }
            self.written(client, len).await;
        }
        n
    }

    /// Waits until the client has written its queue, when the queue holds too many bytes: a server that stalls must not
    /// fill the client's memory.
    async fn written(&self, client: &Client, len: usize) {
        // Only the writer changes this count.
        let unwritten = self.unwritten.load(Ordering::Relaxed) + len;
        self.unwritten.store(if unwritten > UNWRITTEN { 0 } else { unwritten }, Ordering::Relaxed);
        if unwritten > UNWRITTEN {
            let mut epoch = self.link.watch();
            let lost = async { while self.link.is_connected() && epoch.changed().await.is_ok() {} };
            tokio::select! {
                result = client.flush() => drop(result),
                () = lost => {}
            }
        }
    }

    fn put_back(&self, rest: impl Iterator<Item = Item>, core: &mut Batch) {
        self.change(|s| {
            let mut front = Vec::new();
            for item in rest {
                match item {
                    Item::One(Outgoing { slot: Some((id, _)), .. }) => {
                        s.undo_hand_over(id);
                        front.push(Queued::Slot(id));
                    }
                    Item::One(Outgoing { message, reply, slot: None }) => {
                        front.push(Queued::Unanswered { message, reply });
                    }
                    Item::Core(n) => {
                        front.extend(core.by_ref().take(n).map(|(topic, body)| Queued::Unanswered {
                            message: Outbound { topic, body, headers: None, id: None },
                            reply: None,
                        }));
                    }
                }
            }
            s.outbox.put_back(front);
        });
    }
}

/// What is on its way to the client.
enum Item {
    One(Outgoing),
    /// The next `n` core messages of the batch.
    Core(usize),
}

/// Whether the client took a message. A client that is full or closed has no effect here: the slot's deadline decides.
enum Published {
    HandedOver,
    /// The message is over the limit of the current server, so the client did not take it.
    TooLarge,
}

/// The only place where a message leaves.
async fn publish(client: &Client, ids: &MessageIds, message: Outbound, reply: Option<Subject>) -> Published {
    let Outbound { topic, body, headers, id } = message;
    let result = if headers.is_none() && id.is_none() {
        match reply {
            Some(reply) => client.publish_with_reply(topic, reply, body).await,
            None => client.publish(topic, body).await,
        }
    } else {
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().flat_map(|h| h.iter()) {
            map.append(name.clone(), value.clone());
        }
        if let Some(id) = id {
            map.insert(NATS_MESSAGE_ID, ids.text(id));
        }
        match reply {
            Some(reply) => client.publish_with_reply_and_headers(topic, reply, map, body).await,
            None => client.publish_with_headers(topic, map, body).await,
        }
    };
    let Err(e) = result else { return Published::HandedOver };
    tracing::debug!(error = %e, "a message was not handed over");
    if e.kind() == PublishErrorKind::MaxPayloadExceeded { Published::TooLarge } else { Published::HandedOver }
}
