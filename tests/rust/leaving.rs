//! Leaving: by closing a consumer or the bus. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next, until};
use nats_eventbus::{Bus, Consumer, ConsumerConfig, ErrorKind, ProducerConfig, SendOptions};
use serde_json::json;
use std::time::{Duration, Instant};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, topic: &str, count: usize) {
    let p = bus.producer(topic, ProducerConfig::default()).unwrap();
    p.send_many(&vec![b"x"; count], &SendOptions::default()).await.unwrap();
}

async fn many(c: &Consumer, count: usize) -> Vec<nats_eventbus::Delivery> {
    let mut got = Vec::new();
    while got.len() < count {
        let more = c.fetch(count - got.len(), MS(10_000)).await.unwrap();
        assert!(!more.is_empty(), "only {} of {count} came", got.len());
        got.extend(more);
    }
    got
}

/// Leaving: acks are flushed before the connection is closed: what was acked last is acked.
#[tokio::test]
async fn acks_are_flushed() {
    let server = Server::jetstream();
    for (topic, consumer_first) in [("one", true), ("two", false)] {
        let bus = server.bus(true).await;
        send(&bus, topic, 300).await;
        let c = bus.consumer(topic, group()).await.unwrap();
        let all = many(&c, 300).await;
        c.ack_many(all.iter().map(|d| d.token));
        if consumer_first {
            c.close().await.unwrap();
        }
        bus.close().await.unwrap();
        server.reaches(topic, json!({"num_ack_pending": 0, "num_pending": 0})).await;
    }
}

/// Leaving: a durable is never deleted, and the next worker goes on where it is.
#[tokio::test]
async fn a_durable_is_never_deleted() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", 3).await;
    let mut born = serde_json::Value::Null;
    for n in 0..3 {
        let bus = server.bus(true).await;
        let c = bus.consumer("t", group()).await.unwrap();
        c.ack_confirmed(next(&c).await.token, MS(5000)).await.unwrap();
        until(|| bus.metrics().received == 3 - n).await;
        match n {
            0 => c.close().await.unwrap(),
            1 => drop(c),
            _ => {}
        }
        bus.close().await.unwrap();
        let created = server.group("t", "g").await["created"].clone();
        assert!(created.is_string() && (born.is_null() || born == created), "{created} and not {born}");
        born = created;
    }
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
}

/// Leaving: closing waits for unsettled sends up to `drain_timeout`; then each has its outcome all the same.
#[tokio::test]
async fn drain_timeout_bounds_closing() {
    let server = Server::jetstream();
    let bus = server.connect(json!({"jetstream": true, "drain_timeout": 0.7})).await.unwrap();
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    server.pause();
    let send = tokio::spawn(async move { p.send(b"x", SendOptions::default()).await });
    until(|| bus.metrics().sent == 2).await;
    let started = Instant::now();
    bus.close().await.unwrap();
    assert!(started.elapsed() > MS(600) && started.elapsed() < MS(4000), "{:?}", started.elapsed());
    assert_eq!(send.await.unwrap().unwrap_err().kind(), ErrorKind::PublishUnknown);
    server.resume();
}

/// Leaving: what was sent is acked before the connection is closed.
#[tokio::test]
async fn closing_waits_for_sends() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    for _ in 0..600 {
        p.send_nowait(b"x", SendOptions::default()).unwrap();
    }
    bus.close().await.unwrap();
    assert_eq!((bus.metrics().acked, server.stored("t_STREAM").await), (600, 600));
}

/// Leaving: with its last handle a consumer leaves as by closing: others have at once what it has not handed out, also
/// what is on its way to it, and also when nothing else keeps the connection.
#[tokio::test]
async fn dropping_a_consumer_gives_back_what_is_on_its_way() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let count = 3000;
    send(&bus, "t", count).await;
    let mut taken = 0;
    for n in 0..6 {
        let leaving = server.bus(true).await;
        let c = leaving.consumer("t", ConsumerConfig { prefetch: Some(1000), ..group() }).await.unwrap();
        for _ in 0..n {
            c.ack_confirmed(next(&c).await.token, MS(5000)).await.unwrap();
            taken += 1;
        }
        drop((c, leaving));
    }
    let started = Instant::now();
    let c = bus.consumer("t", ConsumerConfig { prefetch: Some(4000), ..group() }).await.unwrap();
    let all = many(&c, count - taken).await;
    c.ack_many(all.iter().map(|d| d.token));
    assert!(started.elapsed() < MS(10_000), "{:?}: they waited for the ack wait", started.elapsed());
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
    bus.close().await.unwrap();
}
