//! How sends go out: the window, keys, flush, limits. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next, until};
use nats_eventbus::{Bus, ConsumerConfig, ErrorKind, ProducerConfig, SendOptions};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn key(k: &str) -> SendOptions {
    SendOptions { key: Some(k.into()), ..SendOptions::default() }
}

/// What a stream holds of each key, in its order.
async fn by_key(bus: &Bus, topic: &str, count: usize) -> BTreeMap<Option<String>, Vec<u32>> {
    let config = ConsumerConfig { group: "order".into(), ..ConsumerConfig::default() };
    let c = bus.consumer(topic, config).await.unwrap();
    let mut keys: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for _ in 0..count {
        let d = next(&c).await;
        let n = std::str::from_utf8(&d.body).unwrap().parse().unwrap();
        keys.entry(d.key().map(str::to_owned)).or_default().push(n);
    }
    keys
}

/// Publishing: at most `max_in_flight` (default 1000) are unsettled: `send` waits, `send_nowait` is Backpressure.
#[tokio::test]
async fn the_window() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let small = ProducerConfig { max_in_flight: 3, ..ProducerConfig::default() };
    let small = bus.producer("t", small).unwrap();
    let usual = bus.producer("t", ProducerConfig::default()).unwrap();
    for (p, places) in [(&small, 3), (&usual, 1000)] {
        p.send(b"x", SendOptions::default()).await.unwrap();
        server.pause();
        for _ in 0..places {
            p.send_nowait(b"x", SendOptions::default()).unwrap();
        }
        let e = p.send_nowait(b"x", SendOptions::default()).unwrap_err();
        assert_eq!((e.kind(), e.topic_name(), e.retryable()), (ErrorKind::Backpressure, Some("t"), true));
        let waiting = tokio::spawn({
            let p = p.clone();
            async move { p.send(b"x", SendOptions::default()).await }
        });
        assert!(tokio::time::timeout(MS(200), p.flush()).await.is_err(), "a flush waits");
        assert!(!waiting.is_finished(), "a send waits");
        server.resume();
        waiting.await.unwrap().unwrap();
        p.flush().await.unwrap();
    }
    assert_eq!(server.stored("t_STREAM").await, 2 + 3 + 1 + 1000 + 1);
}

/// Publishing: without a key sends are pipelined; of a key one is under way, and other keys are unaffected.
#[tokio::test]
async fn pipelined_without_a_key() {
    let server = Server::jetstream();
    server.silence("t").await;
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig { ack_timeout: MS(100), ..ProducerConfig::default() }).unwrap();
    for n in 0..3 {
        for options in [key("a"), key("b"), SendOptions::default()] {
            p.send_nowait(n.to_string().as_bytes(), options).unwrap();
        }
    }
    // Each that is under way was sent again by now, and nothing but them.
    until(|| bus.metrics().retried >= 10).await;
    assert_eq!(server.stored("t_STREAM").await, 5);
    server.make("t", json!({})).await;
    p.flush().await.unwrap();
    let keys = by_key(&bus, "t", 9).await;
    for k in ["a", "b"] {
        assert_eq!(keys[&Some(k.to_owned())], [0, 1, 2], "{keys:?}");
    }
}

/// Publishing: messages of a key are stored in the order sent, retries included, through a kill.
#[tokio::test]
async fn keys_keep_their_order_through_a_kill() {
    let mut server = Server::jetstream();
    let bus = server.bus(true).await;
    let config = ProducerConfig { max_in_flight: 5000, ack_timeout: MS(200), ..ProducerConfig::default() };
    let p = bus.producer("t", config).unwrap();
    let send = |numbers: std::ops::Range<u32>| {
        numbers.for_each(|n| p.send_nowait(n.to_string().as_bytes(), key(&format!("k{}", n % 7))).unwrap());
    };
    send(0..2500);
    p.flush().await.unwrap();
    // Stopped first: what is under way at the kill has no answer.
    server.pause();
    let before = bus.metrics().retried;
    send(2500..5000);
    until(|| bus.metrics().retried > before).await;
    server.kill();
    server.restart();
    p.flush().await.unwrap();
    assert_eq!(server.stored("t_STREAM").await, 5000);
    for numbers in by_key(&bus, "t", 5000).await.values() {
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

/// Publishing: a wait that was given up stops the wait, not the message: it still counts in `flush`.
#[tokio::test]
async fn a_dropped_send_still_counts_in_flush() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let wrong =
        SendOptions { expected_last_sequence: Some(9), id: Some("evt-1".into()), ..SendOptions::default() };
    p.send(b"x", SendOptions::default()).await.unwrap();
    server.pause();
    assert!(tokio::time::timeout(MS(50), p.send(b"dropped", SendOptions::default())).await.is_err());
    assert!(tokio::time::timeout(MS(50), p.send(b"refused", wrong)).await.is_err());
    assert!(tokio::time::timeout(MS(200), p.flush()).await.is_err(), "both are under way");
    server.resume();
    let e = p.flush().await.unwrap_err();
    assert_eq!((e.kind(), e.message_id()), (ErrorKind::WrongSequence, Some("evt-1")), "nobody was told");
    p.flush().await.unwrap();
    assert_eq!(server.stored("t_STREAM").await, 2);
}

/// Publishing: `send_many` reports per message.
#[tokio::test]
async fn send_many_reports_each() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let large = vec![b'x'; 2 << 20];
    let bodies: [&[u8]; 3] = [b"a", &large, b"c"];
    let results = p.send_many(&bodies, &SendOptions::default()).await.unwrap();
    let told: Vec<_> =
        results.into_iter().map(|r| r.map(|a| a.unwrap().sequence).map_err(|e| e.kind())).collect();
    assert_eq!(told, [Ok(1), Err(ErrorKind::TooLarge), Ok(2)]);
}

/// Publishing: in core mode `flush` is a real PING/PONG: a server that does not answer is a Timeout.
#[tokio::test]
async fn a_flush_in_core_mode_is_a_round_trip() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.flush().await.unwrap();
    server.pause();
    let short = ProducerConfig { delivery_timeout: MS(500), ..ProducerConfig::default() };
    let short = bus.producer("t", short).unwrap();
    short.send(b"x", SendOptions::default()).await.unwrap();
    assert_eq!(short.flush().await.unwrap_err().kind(), ErrorKind::Timeout);
    server.resume();
    p.flush().await.unwrap();
}

async fn stalled(jetstream: bool) {
    let server = Server::jetstream();
    let bus = server.connect(json!({"jetstream": jetstream, "drain_timeout": 0.1})).await.unwrap();
    let config = ProducerConfig { max_in_flight: 50, ..ProducerConfig::default() };
    let p = bus.producer("t", config).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    server.pause();
    let body = vec![b'x'; 256 << 10];
    // 12 MiB are the window's, and some are in the sockets' buffers: long before 64 MiB it must be full.
    for _ in 0..256 {
        if let Err(e) = p.send_nowait(&body, SendOptions::default()) {
            assert_eq!(e.kind(), ErrorKind::Backpressure);
            return;
        }
        tokio::time::sleep(MS(1)).await;
    }
    unreachable!("64 MiB are held");
}

/// Publishing: memory is bounded whatever the caller does: a server that stalls becomes Backpressure.
#[tokio::test]
async fn memory_is_bounded() {
    stalled(true).await;
}

/// Publishing: memory is bounded whatever the caller does, in core mode, too.
#[tokio::test]
async fn memory_is_bounded_in_core_mode() {
    stalled(false).await;
}

/// Publishing: a payload, header or topic the server would refuse is rejected unsent, naming the limit.
#[tokio::test]
async fn what_the_server_would_refuse_names_the_limit() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let limit = bus.server().max_payload;
    let long = SendOptions { headers: vec![("long".into(), "x".repeat(limit))], ..SendOptions::default() };
    for (body, options) in [(vec![0; limit + 1], SendOptions::default()), (vec![0], long)] {
        let e = p.send(&body, options).await.unwrap_err();
        assert_eq!((e.kind(), e.topic_name()), (ErrorKind::TooLarge, Some("t")));
        assert!(e.message().contains(&limit.to_string()), "{e}");
    }
    let e = bus.producer(&"x".repeat(1025), ProducerConfig::default()).unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidTopic && e.message().contains("1024"), "{e}");
    let bad = SendOptions { headers: vec![("tenant".into(), "a\nb".into())], ..SendOptions::default() };
    let e = p.send(b"x", bad).await.unwrap_err();
    assert!(e.kind() == ErrorKind::InvalidHeader && e.message().contains("tenant"), "{e}");
    assert_eq!(bus.metrics().sent, 0);
}
