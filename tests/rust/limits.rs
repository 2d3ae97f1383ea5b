//! What streams and servers refuse, and what the errors say. Contract lines are named at the tests.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use crate::support::{Server, next};
use nats_eventbus::{Bus, ConsumerConfig, ErrorKind, ProducerConfig, SendOptions};
use serde_json::json;
use std::time::Duration;

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, topic: &str, body: &str) -> nats_eventbus::Result<String> {
    let p = bus.producer(topic, ProducerConfig::default())?;
    Ok(p.send(body.as_bytes(), SendOptions::default()).await?.unwrap().stream.to_string())
}

/// Publishing: `ttl` on a stream that takes none is a typed error before anything is stored; on one that does it is kept
/// to the millisecond; one that the stream would stretch is refused.
#[tokio::test]
async fn a_time_to_live_is_kept_or_refused() {
    let server = Server::jetstream();
    server.make("ttl.yes", json!({"name": "YES", "allow_msg_ttl": true})).await;
    server.make("ttl.no", json!({"name": "NO"})).await;
    server
        .make("ttl.marked", json!({"name": "MARKED", "subject_delete_marker_ttl": 60_000_000_000_u64}))
        .await;
    let bus = server.bus(true).await;
    let options = |ms| SendOptions { ttl: Some(Duration::from_millis(ms)), ..SendOptions::default() };
    let p = bus.producer("ttl.yes", ProducerConfig::default()).unwrap();
    let sent = p.send(b"x", options(1900)).await;
    if bus.server().version.starts_with("2.10.") {
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::NotSupported, "that server ignores the flag");
        assert_eq!(server.stored("YES").await, 0);
        return;
    }
    sent.unwrap();
    let c = bus.consumer("ttl.yes", group()).await.unwrap();
    assert_eq!(next(&c).await.header("Nats-TTL"), Some("1900ms"));
    for (topic, stream, word) in
        [("ttl.no", "NO", "allow_msg_ttl"), ("ttl.marked", "MARKED", "subject_delete_marker_ttl")]
    {
        let p = bus.producer(topic, ProducerConfig::default()).unwrap();
        // The first is held while the stream is looked up, the second is refused at once.
        for _ in 0..2 {
            let e = p.send(b"x", options(5000)).await.unwrap_err();
            assert_eq!(
                (e.kind(), e.stream_name(), e.topic_name()),
                (ErrorKind::NotSupported, Some(stream), Some(topic))
            );
            assert!(e.message().contains(word), "{e}");
        }
        let all = p.send_many(&["x", "y"], &options(5000)).await.unwrap();
        assert!(
            all.iter().all(|r| r.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotSupported)),
            "{all:?}"
        );
        assert_eq!(server.stored(stream).await, 0);
        p.send(b"x", SendOptions::default()).await.unwrap();
    }
}

/// Publishing: where the stream never acks, the unknown outcome says so.
#[tokio::test]
async fn a_stream_without_acks_is_named() {
    let server = Server::jetstream();
    server.silence("t").await;
    let bus = server.bus(true).await;
    let ms = Duration::from_millis;
    let config =
        ProducerConfig { delivery_timeout: ms(300), ack_timeout: ms(100), ..ProducerConfig::default() };
    let e = bus.producer("t", config).unwrap().send(b"x", SendOptions::default()).await.unwrap_err();
    assert!(e.kind() == ErrorKind::PublishUnknown && e.message().contains("no_ack"), "{e}");
}

/// Publishing: a stream that is full says which of its limits is reached.
#[tokio::test]
async fn a_full_stream_says_which_limit_is_reached() {
    let server = Server::jetstream();
    let full = [
        ("msgs", json!({"max_msgs": 1, "discard": "new"}), "max_msgs messages"),
        ("bytes", json!({"max_bytes": 200, "discard": "new"}), "max_bytes"),
        (
            "subject",
            json!({"max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": true}),
            "max_msgs_per_subject",
        ),
    ];
    let bus = server.bus(true).await;
    for (topic, settings, word) in full {
        server.make(topic, settings).await;
        let body = "x".repeat(90);
        send(&bus, topic, &body).await.unwrap();
        let e = send(&bus, topic, &body).await.unwrap_err();
        assert!(e.kind() == ErrorKind::StreamFull && e.message().contains(word), "{e}");
        assert_eq!(e.err_code(), Some(10077));
    }
}

/// Streams: an error for want of storage says what is reserved, that a topic reserves 1 GiB, and what to do.
#[tokio::test]
async fn want_of_storage_says_what_is_reserved_and_what_to_do() {
    let server = Server::start(&[], "jetstream { max_file_store: 2500MB }");
    let bus = server.bus(true).await;
    for topic in ["a", "b"] {
        send(&bus, topic, "x").await.unwrap();
    }
    let e = send(&bus, "c", "x").await.unwrap_err();
    assert_eq!((e.kind(), e.retryable(), e.err_code()), (ErrorKind::Config, false, Some(10047)));
    for part in ["2 streams reserve 2.00 GiB", "1 GiB", "stream_layout", "max_file_store"] {
        assert!(e.message().contains(part), "{part} in {e}");
    }
}
