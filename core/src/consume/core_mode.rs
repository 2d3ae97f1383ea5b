//! Core mode: a queue subscription emptied as fast as messages come, with what does not fit dropped and counted.

use super::Inner;
use crate::{
    error::{Error, ErrorKind, Result},
    host::mailbox::Post,
    message::Delivery,
};
use async_nats::Subscriber;
use futures_util::{FutureExt, StreamExt};
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::sync::watch;

const BATCH: usize = 1024;

pub(super) async fn start(inner: &Arc<Inner>) -> Result<()> {
    let topic = inner.topic.to_string();
    let failed = |e: async_nats::SubscribeError| {
        Error::new(ErrorKind::Connection, "the topic could not be subscribed")
            .topic(&*inner.topic)
            .server(e.to_string())
    };
    let sub = inner.shared.client.queue_subscribe(topic, inner.config.group.clone()).await.map_err(failed)?;
    // A message published after this returns is received: the server has seen the subscription. Twice, because a denial comes
    // another way than the answer of the first.
    for _ in 0..2 {
        inner.shared.round_trip(inner.shared.config.api_timeout).await?;
    }
    if let Some(e) = inner.failure.lock().clone() {
        return Err(e);
    }
    let (weak, stop) = (Arc::downgrade(inner), inner.stop.subscribe());
    inner.shared.spawn(tokio::task::unconstrained(run(weak, sub, stop)));
    Ok(())
}

async fn run(inner: Weak<Inner>, mut sub: Subscriber, mut stop: watch::Receiver<bool>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let first = tokio::select! {
            m = sub.next() => m,
            () = super::inner::stopped(&mut stop) => {
                // What is buffered is still handed out; core mode promises nothing for what is on its way.
                let _ = sub.unsubscribe().await;
                None
            }
        };
        let Some(first) = first else { break };
        batch.push(Delivery::new(first));
        while batch.len() < BATCH
            && let Some(Some(m)) = sub.next().now_or_never()
        {
            batch.push(Delivery::new(m));
        }
        let Some(inner) = inner.upgrade() else { return };
        let metrics = &inner.shared.metrics;
        metrics.received.add(batch.len() as u64);
        let mut post = Post::default();
        let mut b = inner.buffer.lock();
        let room = inner.config.pending_limit.saturating_sub(b.len());
        if batch.len() > room {
            inner.shared.link.slow_consumer(&inner.topic);
            metrics.slow_consumer.add((batch.len() - room) as u64);
            batch.truncate(room);
        }
        b.push(&mut batch, Instant::now(), Duration::MAX, &mut post);
        drop(b);
        drop(post);
    }
    if let Some(inner) = inner.upgrade() {
        inner.finish(inner.ending());
    }
}
