//! Messages sent and received by the same process.

use crate::{connect, consume::bind};
use async_nats::{Client, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use harness::{
    Result,
    latency::{Latency, now},
    marks::{Marks, Outcome},
    spec::Spec,
};
use std::{
    collections::VecDeque,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, BufReader},
    net::unix::pipe,
    sync::{Notify, mpsc},
};

const STAMP: usize = 8;
/// How far behind the last messages may be, once all are sent.
const GIVE_UP: Duration = Duration::from_secs(10);

fn stamped(stamp: &[u8], size: usize) -> Bytes {
    let mut body = vec![b'x'; size];
    body[..STAMP].copy_from_slice(stamp);
    body.into()
}

/// Receives and acks; tells how long each message took.
fn receive(client: &Client, spec: &Spec, durable: String, as_json: bool) -> mpsc::UnboundedReceiver<u64> {
    let (tell, told) = mpsc::unbounded_channel();
    let (client, stream, batch) = (client.clone(), spec.stream.clone(), spec.batch);
    tokio::spawn(async move {
        let consumer = bind(&client, &stream, &durable).await?;
        let mut messages = consumer.stream().max_messages_per_batch(batch).messages().await?;
        while let Some(message) = messages.next().await {
            let message = message?;
            let mut took = 0;
            if as_json {
                serde_json::from_slice::<serde_json::Value>(&message.payload)?;
            } else {
                let mut stamp = [0; STAMP];
                stamp.copy_from_slice(&message.payload[..STAMP]);
                took = now().saturating_sub(u64::from_le_bytes(stamp));
            }
            message.ack().await?;
            tell.send(took)?;
        }
        Result::<()>::Ok(())
    });
    told
}

/// Sends with at most `window` messages between the two ends, and counts what comes out at the slowest.
async fn closed(
    spec: &Spec,
    js: jetstream::Context,
    mut ends: Vec<mpsc::UnboundedReceiver<u64>>,
    mut body: impl FnMut() -> Bytes + Send + 'static,
) -> Result<Outcome> {
    let got = Arc::new(AtomicU64::new(0));
    let room = Arc::new(Notify::new());
    harness::ready();
    let sender = {
        let (got, room, subject, window) = (got.clone(), room.clone(), spec.subject.clone(), spec.window);
        tokio::spawn(async move {
            let mut sent = 0;
            let mut acks = VecDeque::new();
            loop {
                while sent - got.load(Ordering::Relaxed) >= window {
                    room.notified().await;
                }
                acks.push_back(js.publish(subject.clone(), body()).await?.into_future());
                sent += 1;
                if acks.len() as u64 > window
                    && let Some(ack) = acks.pop_front()
                {
                    ack.await?;
                }
            }
            #[expect(unreachable_code, reason = "names the type of its errors")]
            Result::<()>::Ok(())
        })
    };
    let mut marks = Marks::new(spec);
    let mut n = 0;
    'all: loop {
        for end in &mut ends {
            if end.recv().await.is_none() {
                break 'all;
            }
        }
        n += 1;
        got.store(n, Ordering::Relaxed);
        if n % 16 == 0 {
            room.notify_one();
            if marks.due(n) {
                break;
            }
        }
    }
    sender.abort();
    Ok(marks.outcome())
}

pub async fn journey(spec: &Spec) -> Result<Outcome> {
    let client = connect(spec).await?;
    let js = jetstream::new(client.clone());
    let mut end = receive(&client, spec, spec.durable.clone(), false);
    if spec.rate <= 0.0 {
        let body = stamped(&[0; STAMP], spec.size);
        return closed(spec, js, vec![end], move || body.clone()).await;
    }
    let mut marks = Marks::new(spec);
    marks.open(0);
    let mut sending = tokio::spawn(paced(js, spec.clone()));
    let mut times = Vec::new();
    let mut sent = None;
    loop {
        tokio::select! {
            Some(took) = end.recv() => times.push(took),
            done = &mut sending, if sent.is_none() => sent = Some(done??),
            () = tokio::time::sleep(GIVE_UP), if sent.is_some() => break,
        }
        if sent == Some(times.len()) {
            break;
        }
    }
    marks.close(times.len() as u64);
    let mut outcome = marks.outcome();
    let warm = (spec.warmup * spec.rate) as usize;
    outcome.latency = Latency::of(times.into_iter().skip(warm).collect());
    Ok(outcome)
}

/// Sends at the pacer's times, whatever comes back.
async fn paced(js: jetstream::Context, spec: Spec) -> Result<usize> {
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut input = BufReader::new(pipe::Receiver::from_owned_fd(input)?);
    harness::ready();
    let mut stamp = [0; STAMP];
    let mut sent = 0;
    while input.read_exact(&mut stamp).await.is_ok() {
        let ack = js.publish(spec.subject.clone(), stamped(&stamp, spec.size)).await?;
        tokio::spawn(ack.into_future());
        sent += 1;
    }
    Ok(sent)
}

pub async fn agent(spec: &Spec) -> Result<Outcome> {
    let client = connect(spec).await?;
    let js = jetstream::new(client.clone());
    let ends = (0..3).map(|i| receive(&client, spec, format!("{}-{i}", spec.durable), true)).collect();
    let mut event: serde_json::Value = serde_json::from_str(&spec.body)?;
    let mut at = 0;
    let body = move || {
        at += 1;
        event["meta"]["send_time_ms"] = at.into();
        event.to_string().into()
    };
    closed(spec, js, ends, body).await
}
