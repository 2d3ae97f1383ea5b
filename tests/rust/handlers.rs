//! Handlers: retries, dead letters, long work; against real servers, through the Rust API.

use crate::support::Server;
use nats_eventbus::{ConsumerConfig, Handled, ProducerConfig, SendOptions};
use std::time::Duration;

fn group(name: &str) -> ConsumerConfig {
    ConsumerConfig { group: name.into(), ..ConsumerConfig::default() }
}

#[tokio::test]
async fn a_poisoned_message_is_tried_max_deliver_times_and_then_a_dead_letter() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let options = SendOptions {
        key: Some("doc-7".into()),
        id: Some("evt-1".into()),
        headers: vec![("tenant".into(), "t1".into())],
        ..SendOptions::default()
    };
    p.send(b"poison", options).await.unwrap();
    p.send(b"reject", SendOptions::default()).await.unwrap();
    p.send(b"fine", SendOptions::default()).await.unwrap();
    let backoff = nats_eventbus::Backoff { initial: Duration::from_millis(20), ..Default::default() };
    let config = ConsumerConfig { max_deliver: Some(3), backoff, ..group("g") };
    let c = bus.consumer("t", config).await.unwrap();
    let mut tries = 0;
    while bus.metrics().dead_letters < 2 || tries < 3 {
        for m in c.fetch(1, Duration::from_millis(100)).await.unwrap() {
            match &m.body[..] {
                b"poison" => {
                    tries += 1;
                    c.finish(&m, Handled::Failed(format!("try {tries}\nfailed")));
                }
                b"reject" => c.finish(&m, Handled::Rejected("never".into())),
                _ => c.finish(&m, Handled::Done),
            }
        }
    }
    assert_eq!(tries, 3, "exactly max_deliver tries");
    assert_eq!(bus.stream("t_STREAM_DLQ").info().await.unwrap().messages, 2);
    let dlq = bus.consumer("dlq.t_STREAM.g", group("reader")).await.unwrap();
    let letters = dlq.fetch(2, Duration::from_secs(5)).await.unwrap();
    let poison = letters.iter().find(|m| &m.body[..] == b"poison").unwrap();
    for (name, want) in [
        ("Dlq-Reason", "try 3 failed"),
        ("Dlq-Attempts", "3"),
        ("Dlq-Failures", "3"),
        ("Dlq-Topic", "t"),
        ("Dlq-Group", "g"),
        ("Dlq-Stream", "t_STREAM"),
        ("Dlq-Sequence", "1"),
        ("Dlq-Id", "evt-1"),
        ("Sharding-Key", "doc-7"),
        ("tenant", "t1"),
    ] {
        assert_eq!(poison.header(name), Some(want), "{name}");
    }
    assert!(poison.header("Dlq-Time").is_some());
}

#[tokio::test]
async fn a_handler_longer_than_ack_wait_is_not_delivered_twice() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    bus.producer("t", ProducerConfig::default())
        .unwrap()
        .send(b"long", SendOptions::default())
        .await
        .unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let durable = r#"{"stream_name":"t_STREAM","config":{"durable_name":"g","filter_subject":"t","ack_policy":"explicit","ack_wait":1500000000}}"#;
    client.request("$JS.API.CONSUMER.DURABLE.CREATE.t_STREAM.g", durable.into()).await.unwrap();
    let c = bus.consumer("t", group("g")).await.unwrap();
    let m = c.next().await.unwrap().unwrap();
    // More than two ack waits: only a redelivery could end this wait.
    assert!(tokio::time::timeout(Duration::from_secs(4), c.next()).await.is_err(), "delivered twice");
    c.ack_confirmed(m.token, Duration::from_secs(2)).await.unwrap();
    assert_eq!(bus.metrics().redelivered, 0);
}

/// Leaving: a running handler finishes, however long, without its message going to another worker meanwhile.
#[tokio::test]
async fn a_handler_that_outlives_ack_wait_while_leaving_is_not_delivered_twice() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"long", SendOptions::default()).await.unwrap();
    let config = ConsumerConfig { ack_wait: Some(Duration::from_millis(1500)), ..group("g") };
    let c = bus.consumer("t", config.clone()).await.unwrap();
    c.handle();
    let m = c.next().await.unwrap().unwrap();
    c.close().await.unwrap();
    let other = bus.consumer("t", config).await.unwrap();
    assert!(other.fetch(1, Duration::from_secs(4)).await.unwrap().is_empty(), "delivered twice");
    c.finish(&m, Handled::Done);
    assert!(other.fetch(1, Duration::from_millis(500)).await.unwrap().is_empty());
    assert_eq!(bus.metrics().redelivered, 0);
}
