//! The writer: hands what is queued to the client, in batches, and takes back what a lost connection leaves.

use super::{
    Pipeline,
    names::Ids,
    plain::Batch,
    slot::{Out, Outgoing, Wire},
};
use crate::host::mailbox::{Body, Post};
use async_nats::{Client, HeaderMap, Subject, client::PublishErrorKind, header::NATS_MESSAGE_ID};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Turns that the client has after a batch of several messages: it writes what it has, and meanwhile more of them come,
/// instead of a wake-up for the next few.
const TURNS: usize = 2;
/// How long at most what is patient waits for more of its like.
const GATHER: Duration = Duration::from_millis(1);
/// Bytes handed to the client until it must have written them: its own queue is bounded by messages only.
const UNWRITTEN: usize = 16 << 20;

impl Pipeline {
    pub(super) async fn write(self: Arc<Self>, client: Client) {
        let (mut batch, mut items) = (Vec::new(), Vec::new());
        let mut plain = Batch::default();
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
                std::mem::swap(&mut state.out, &mut batch);
                (state.out_bytes, state.pressing) = (0, false);
                plain = state.plain.take();
                for out in batch.drain(..) {
                    match out {
                        Out::Run(n) => items.push(Item::Run(n)),
                        Out::Plain { wire, reply } => {
                            items.push(Item::One(Outgoing { wire, reply, slot: None }));
                        }
                        Out::Slot(id) => items.extend(state.hand_over(id, now_epoch, now).map(Item::One)),
                    }
                }
            });
            if !items.is_empty() {
                let turns = if matches!(&items[..], [Item::One(_) | Item::Run(1)]) { 0 } else { TURNS };
                self.hand_over(&client, &ids, &mut items, &mut plain).await;
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            self.writer_sleeps.store(true, Ordering::SeqCst);
            if self.state.lock().out.is_empty() {
                self.work.notified().await;
            }
            self.writer_sleeps.store(false, Ordering::SeqCst);
            self.gather().await;
        }
    }

    /// Waits for more of what is patient: until there is enough, something else is to be written, or answers have come,
    /// whose readers send and settle more.
    async fn gather(&self) {
        let enough = self.enough.notified();
        self.gathering.store(true, Ordering::SeqCst);
        if !self.state.lock().in_a_hurry() {
            tokio::select! {
                biased;
                () = enough => {}
                () = tokio::time::sleep(GATHER) => {}
            }
        }
        self.gathering.store(false, Ordering::SeqCst);
    }

    /// Gives a batch to the client; what a lost connection leaves goes back to the front of the queue.
    async fn hand_over(&self, client: &Client, ids: &Ids, batch: &mut Vec<Item>, plain: &mut Batch) {
        let (mut core, mut refused) = (Vec::new(), Vec::new());
        let mut items = batch.drain(..);
        while let Some(item) = items.next() {
            if !self.link.is_connected() {
                self.give_back(std::iter::once(item).chain(items), plain);
                break;
            }
            let Outgoing { wire, reply, slot } = match item {
                Item::One(outgoing) => outgoing,
                Item::Run(n) => {
                    let sent = self.hand_over_run(client, n, plain).await;
                    if sent < n {
                        self.give_back(std::iter::once(Item::Run(n - sent)).chain(items), plain);
                        break;
                    }
                    continue;
                }
            };
            let len = wire.body.len();
            let too_large = publish(client, ids, wire, reply).await;
            self.written(client, len).await;
            match slot {
                Some((id, _)) if too_large => refused.push(id),
                Some((id, true)) => core.push(id),
                _ => {}
            }
        }
        if !core.is_empty() || !refused.is_empty() {
            let mut post = Post::default();
            self.change(|s| {
                core.into_iter().for_each(|id| s.settle(id, Body::Sent(Ok(None)), &mut post));
                refused.into_iter().for_each(|id| s.refuse(id, &mut post));
            });
        }
    }

    /// Gives core messages to the client; how many, before the connection was lost.
    async fn hand_over_run(&self, client: &Client, n: usize, plain: &mut Batch) -> usize {
        for sent in 0..n {
            if !self.link.is_connected() {
                return sent;
            }
            let Some((topic, body)) = plain.next() else { return n };
            let len = body.len();
            if let Err(e) = client.publish(topic, body).await {
                tracing::debug!(error = %e, "a message was not handed over");
            }
            self.written(client, len).await;
        }
        n
    }

    /// Waits for the client where too much is with it that it has not written: a server that stalls must not fill it.
    async fn written(&self, client: &Client, len: usize) {
        // The writer's own count: no other changes it.
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

    fn give_back(&self, rest: impl Iterator<Item = Item>, plain: &mut Batch) {
        self.change(|s| {
            let mut front = Vec::new();
            for item in rest {
                match item {
                    Item::One(Outgoing { slot: Some((id, _)), .. }) => {
                        s.take_back(id);
                        front.push(Out::Slot(id));
                    }
                    Item::One(Outgoing { wire, reply, slot: None }) => front.push(Out::Plain { wire, reply }),
                    Item::Run(n) => front.extend(plain.by_ref().take(n).map(|(topic, body)| Out::Plain {
                        wire: Wire { topic, body, headers: None, id: None },
                        reply: None,
                    })),
                }
            }
            s.pressing |= !front.is_empty();
            s.out.splice(0..0, front);
        });
    }
}

/// What is on its way to the client.
enum Item {
    One(Outgoing),
    /// So many of the batch of core messages.
    Run(usize),
}

/// The only place a message leaves by. A full or closed client is not an outcome: the slot's deadline is.
///
/// True when the message is over the limit of the server connected to now: then it was not handed over.
async fn publish(client: &Client, ids: &Ids, wire: Wire, reply: Option<Subject>) -> bool {
    let Wire { topic, body, headers, id } = wire;
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
    let Err(e) = result else { return false };
    tracing::debug!(error = %e, "a message was not handed over");
    e.kind() == PublishErrorKind::MaxPayloadExceeded
}
