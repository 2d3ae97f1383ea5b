//! Streams that are lost, and made again. Contract lines are named at the tests.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use crate::support::{Server, next, until};
use nats_eventbus::{Backoff, Bus, ConsumerConfig, ErrorKind, Handled, ProducerConfig, SendOptions};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, topic: &str, body: &str) -> nats_eventbus::Result<String> {
    let p = bus.producer(topic, ProducerConfig::default())?;
    Ok(p.send(body.as_bytes(), SendOptions::default()).await?.unwrap().stream.to_string())
}

/// Streams: a lost stream is declared again by a living producer, and what was sent meanwhile is stored.
#[tokio::test]
async fn a_living_producer_declares_a_lost_stream_again() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("lost.a", ProducerConfig::default()).unwrap();
    p.send(b"1", SendOptions::default()).await.unwrap();
    for round in 0..2 {
        let gone = server.api("STREAM.DELETE.lost_a_STREAM", "").await;
        assert!(gone["error"].is_null(), "{gone}");
        let bodies: Vec<_> = (0..200).map(|n| n.to_string()).collect();
        let keyed = SendOptions { key: Some("k".into()), ..SendOptions::default() };
        for sent in p.send_many(&bodies, &keyed).await.unwrap() {
            assert!(!sent.unwrap().unwrap().duplicate, "round {round}");
        }
        assert_eq!(server.stored("lost_a_STREAM").await, 200);
    }
    let c = bus.consumer("lost.a", group()).await.unwrap();
    for n in 0..200 {
        assert_eq!(next(&c).await.body, n.to_string().as_bytes(), "in the order of their key");
    }
}

/// Streams: … an operator's that was made again is found; without `declare` its absence is the error.
#[tokio::test]
async fn a_stream_made_again_is_found() {
    let server = Server::jetstream();
    server.make("op.>", json!({"name": "OLD"})).await;
    let bus = server.bus(true).await;
    let settings = ProducerConfig {
        declare: Some(false),
        delivery_timeout: Duration::from_secs(15),
        ..ProducerConfig::default()
    };
    let p = bus.producer("op.a", settings.clone()).unwrap();
    p.send(b"1", SendOptions::default()).await.unwrap();
    server.api("STREAM.DELETE.OLD", "").await;
    let sending = tokio::spawn({
        let p = p.clone();
        async move { p.send(b"2", SendOptions::default()).await }
    });
    until(|| bus.metrics().retried > 1).await;
    server.make("op.>", json!({"name": "NEW"})).await;
    assert_eq!(&*sending.await.unwrap().unwrap().unwrap().stream, "NEW");
    server.api("STREAM.DELETE.NEW", "").await;
    let hasty = ProducerConfig { delivery_timeout: Duration::from_secs(2), ..settings };
    let hasty = bus.producer("op.a", hasty).unwrap();
    server.make("op.>", json!({"name": "NEW"})).await;
    hasty.send(b"3", SendOptions::default()).await.unwrap();
    server.api("STREAM.DELETE.NEW", "").await;
    let e = hasty.send(b"4", SendOptions::default()).await.unwrap_err();
    assert!(e.kind() == ErrorKind::PublishRejected && e.message().contains("declare one"), "{e}");
}

/// Answers as JetStream does: with this stream, whatever is asked.
async fn answer_api(bus: &Bus, stream: Arc<Mutex<Value>>) {
    let api = bus.respond("api.>", "server").await.unwrap();
    tokio::spawn(async move {
        while let Some(d) = api.next().await.unwrap() {
            let answer = json!({"total": 1, "streams": [{"config": *stream.lock().unwrap()}]});
            api.reply(&d, Ok(answer.to_string().as_bytes())).unwrap();
        }
    });
}

/// Streams: … one made again with too short a dedupe window is the config error, as for a new producer.
#[tokio::test]
async fn a_stream_made_again_with_a_short_window_is_a_config_error() {
    let server = Server::core();
    let other = server.bus(false).await;
    let config = |window: u64| json!({"name": "S", "subjects": ["t"], "duplicate_window": window * 1_000_000_000, "num_replicas": 1});
    let stream = Arc::new(Mutex::new(config(120)));
    answer_api(&other, stream.clone()).await;
    let bus = server.connect(json!({"jetstream": true, "api_prefix": "api"})).await.unwrap();
    let taker = other.respond("t", "server").await.unwrap();
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let first = tokio::spawn({
        let p = p.clone();
        async move { p.send(b"1", SendOptions::default()).await }
    });
    taker.reply(&next(&taker).await, Ok(br#"{"stream":"S","seq":1}"#)).unwrap();
    assert_eq!(first.await.unwrap().unwrap().unwrap().sequence, 1);
    // From now on nothing takes the topic's messages, and what is found has another window.
    *stream.lock().unwrap() = config(1);
    taker.close().await.unwrap();
    let keyed = SendOptions { key: Some("k".into()), ..SendOptions::default() };
    for sent in p.send_many(&["2", "3", "4"], &keyed).await.unwrap() {
        let e = sent.unwrap_err();
        assert_eq!((e.kind(), e.stream_name()), (ErrorKind::Config, Some("S")));
        assert!(e.message().contains("delivery_timeout"), "{e}");
    }
    *stream.lock().unwrap() = config(120);
    let taker = other.respond("t", "server").await.unwrap();
    let again = tokio::spawn(async move { p.send(b"5", SendOptions::default()).await });
    taker.reply(&next(&taker).await, Ok(br#"{"stream":"S","seq":2}"#)).unwrap();
    assert_eq!(again.await.unwrap().unwrap().unwrap().sequence, 2, "the next send looks it up");
}

/// Consuming: the stream of dead letters, once lost, is declared again with the next letter.
#[tokio::test]
async fn a_lost_stream_of_dead_letters_is_declared_again() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    for body in ["1", "2"] {
        send(&bus, "t", body).await.unwrap();
    }
    let c = bus.consumer("t", group()).await.unwrap();
    for n in 1..=2 {
        c.finish(&next(&c).await, Handled::Rejected("no".into()));
        until(|| bus.metrics().dead_letters == n).await;
        assert_eq!(server.stored("t_STREAM_DLQ").await, 1);
        server.api("STREAM.DELETE.t_STREAM_DLQ", "").await;
    }
}

/// Consuming: the stream of the records of failures, once lost, is declared again with the next record.
#[tokio::test]
async fn a_lost_stream_of_records_is_declared_again() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", "x").await.unwrap();
    let backoff =
        Backoff { initial: Duration::from_millis(10), max: Duration::from_millis(10), ..Backoff::default() };
    let c = bus.consumer("t", ConsumerConfig { backoff, ..group() }).await.unwrap();
    c.handle();
    for n in 0..2 {
        let d = next(&c).await;
        assert_eq!(d.failures, n);
        c.finish(&d, Handled::Failed("boom".into()));
        // Its record is stored before it comes again.
        let again = next(&c).await;
        assert_eq!(server.stored("t_STREAM_ATTEMPTS").await, 1);
        server.api("STREAM.DELETE.t_STREAM_ATTEMPTS", "").await;
        c.put_back(vec![again]);
    }
}
