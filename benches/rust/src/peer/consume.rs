//! Receiving, and consuming what is stored.

use crate::connect;
use async_nats::{
    Client,
    jetstream::{
        self, AckKind, Message,
        consumer::{Consumer, pull},
    },
};
use bytes::Bytes;
use futures_util::StreamExt;
use harness::{
    Result,
    marks::{Marks, Outcome},
    spec::{CREDIT, Spec},
};
use std::time::Duration;

pub async fn core(spec: &Spec) -> Result<Outcome> {
    let client = connect(spec).await?;
    let mut messages = client.subscribe(spec.subject.clone()).await?;
    client.flush().await?;
    harness::ready();
    let mut marks = Marks::new(spec);
    let mut n = 0;
    while messages.next().await.is_some() {
        n += 1;
        if n % 256 == 0 {
            if n % CREDIT == 0 {
                client.publish(spec.credit_subject(), Bytes::new()).await?;
            }
            if n == 256 {
                marks = Marks::new(spec);
            } else if marks.due(n) {
                return Ok(marks.outcome());
            }
        }
    }
    Err("the subscription ended".into())
}

pub async fn bind(client: &Client, stream: &str, durable: &str) -> Result<Consumer<pull::Config>> {
    let js = jetstream::new(client.clone());
    Ok(js.get_consumer_from_stream(durable, stream).await?)
}

/// Acks a message; the last one of a run so that the server's word is waited for.
async fn settle(message: &Message, marks: &mut Marks, n: u64, every: u64) -> Result<bool> {
    if n.is_multiple_of(every) && marks.due(n) {
        message.double_ack().await?;
        marks.close(n);
        return Ok(true);
    }
    message.ack().await?;
    Ok(false)
}

pub async fn stored(spec: &Spec) -> Result<Outcome> {
    let client = connect(spec).await?;
    let consumer = bind(&client, &spec.stream, &spec.durable).await?;
    harness::ready();
    let mut marks = Marks::new(spec);
    let mut n = 0;
    if spec.mode == "fetch" {
        loop {
            let mut batch = consumer.fetch().max_messages(spec.batch).messages().await?;
            while let Some(message) = batch.next().await {
                n += 1;
                if settle(&message?, &mut marks, n, 16).await? {
                    return Ok(marks.outcome());
                }
            }
        }
    }
    let mut messages = consumer.stream().max_messages_per_batch(spec.batch).messages().await?;
    while let Some(message) = messages.next().await {
        n += 1;
        if settle(&message?, &mut marks, n, 16).await? {
            return Ok(marks.outcome());
        }
    }
    Err("the consumer ended".into())
}

pub async fn fetch_one(spec: &Spec) -> Result<Outcome> {
    let client = connect(spec).await?;
    let consumer = bind(&client, &spec.stream, &spec.durable).await?;
    harness::ready();
    let mut marks = Marks::new(spec);
    let mut n = 0;
    loop {
        let mut batch = consumer.fetch().max_messages(1).expires(Duration::from_secs(5)).messages().await?;
        while let Some(message) = batch.next().await {
            n += 1;
            if settle(&message?, &mut marks, n, 1).await? {
                return Ok(marks.outcome());
            }
        }
    }
}

pub async fn fan_out(spec: &Spec) -> Result<Outcome> {
    let client = connect(spec).await?;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for i in 0..spec.consumers {
        let consumer = bind(&client, &spec.stream, &format!("{}-{i}", spec.durable)).await?;
        let mut messages = consumer.stream().max_messages_per_batch(spec.batch).messages().await?;
        let tell = tell.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                if message.ack().await.is_err() || tell.send(()).is_err() {
                    return;
                }
            }
        });
    }
    harness::ready();
    let mut marks = Marks::new(spec);
    let mut n = 0;
    while told.recv().await.is_some() {
        n += 1;
        if n % 16 == 0 && marks.due(n) {
            break;
        }
    }
    Ok(marks.outcome())
}

pub async fn idle(spec: &Spec) -> Result<Outcome> {
    let client = connect(spec).await?;
    let consumer = bind(&client, &spec.stream, &spec.durable).await?;
    let mut messages = consumer.messages().await?;
    let waiting = tokio::spawn(async move {
        while let Some(Ok(message)) = messages.next().await {
            message.ack_with(AckKind::Nak(None)).await.ok();
        }
    });
    let mut marks = Marks::new(spec);
    tokio::time::sleep(Duration::from_secs_f64(spec.warmup)).await;
    marks.open(0);
    tokio::time::sleep(Duration::from_secs_f64(spec.seconds)).await;
    marks.close(0);
    waiting.abort();
    Ok(marks.outcome())
}
