//! Publishing, and asking.

use crate::connect;
use async_nats::{Client, HeaderMap, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use harness::{
    Result,
    latency::Latency,
    marks::{Marks, Outcome},
    spec::Spec,
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A round trip, for this client's `flush` only writes: returns once the server has handled all that was published.
async fn barrier(client: &Client, spec: &Spec) -> Result<()> {
    let subject = format!("{}.barrier", spec.subject);
    let mut own = client.subscribe(subject.clone()).await?;
    client.publish(subject, Bytes::new()).await?;
    own.next().await.ok_or("the connection ended")?;
    Ok(())
}

pub async fn core(spec: &Spec) -> Result<Outcome> {
    let client = connect(spec).await?;
    let (subject, body) = (async_nats::Subject::from(spec.subject.as_str()), Bytes::from(spec.payload()));
    harness::ready();
    let mut marks = Marks::new(spec);
    let mut n = 0;
    for (seconds, measured) in [(spec.warmup, false), (spec.seconds, true)] {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < until {
            for _ in 0..256 {
                client.publish(subject.clone(), body.clone()).await?;
            }
            n += 256;
        }
        barrier(&client, spec).await?;
        if measured { marks.close(n) } else { marks.open(n) }
    }
    Ok(marks.outcome())
}

pub async fn stored(spec: &Spec) -> Result<Outcome> {
    let js = jetstream::new(connect(spec).await?);
    let (subject, body) = (async_nats::Subject::from(spec.subject.as_str()), Bytes::from(spec.payload()));
    harness::ready();
    let mut marks = Marks::new(spec);
    let mut pending = VecDeque::with_capacity(spec.window as usize);
    let mut n = 0_u64;
    for (seconds, measured) in [(spec.warmup, false), (spec.seconds, true)] {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        while !n.is_multiple_of(16) || Instant::now() < until {
            let ack = if spec.ids || spec.keys > 0 {
                let mut headers = HeaderMap::new();
                if spec.ids {
                    headers.insert("Nats-Msg-Id", format!("bench.{n:016x}"));
                } else {
                    headers.insert("Sharding-Key", format!("key-{}", n % spec.keys));
                }
                js.publish_with_headers(subject.clone(), headers, body.clone()).await?
            } else {
                js.publish(subject.clone(), body.clone()).await?
            };
            pending.push_back(ack.into_future());
            n += 1;
            if pending.len() as u64 >= spec.window
                && let Some(oldest) = pending.pop_front()
            {
                oldest.await?;
            }
        }
        for ack in pending.drain(..) {
            ack.await?;
        }
        if measured { marks.close(n) } else { marks.open(n) }
    }
    Ok(marks.outcome())
}

pub async fn request(spec: &Spec) -> Result<Outcome> {
    let client = connect(spec).await?;
    let (subject, body) = (async_nats::Subject::from(spec.subject.as_str()), Bytes::from(spec.payload()));
    harness::ready();
    let mut marks = Marks::new(spec);
    let mut times = Vec::new();
    let mut n = 0;
    loop {
        let asked = Instant::now();
        client.request(subject.clone(), body.clone()).await?;
        n += 1;
        if marks.measuring() {
            times.push(asked.elapsed().as_nanos() as u64);
        }
        if marks.due(n) {
            let mut outcome = marks.outcome();
            outcome.latency = Latency::of(times);
            return Ok(outcome);
        }
    }
}
