//! What a server puts on a topic by itself never reaches a handler as an event. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next};
use async_nats::HeaderMap;
use nats_eventbus::{Bus, Consumer, ConsumerConfig, Delivery, Settle};
use serde_json::json;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const MS: fn(u64) -> Duration = Duration::from_millis;

async fn declare(server: &Server, config: serde_json::Value) {
    let made = server.api("STREAM.CREATE.OWN", &config.to_string()).await;
    assert!(made["error"].is_null(), "{made}");
}

async fn publish(server: &Server, subject: &str, headers: &[(&str, &str)], body: &str) {
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut all = HeaderMap::new();
    headers.iter().for_each(|(name, value)| all.insert(*name, *value));
    let ack = client.request_with_headers(subject.to_owned(), all, body.to_owned().into()).await.unwrap();
    let ack: serde_json::Value = serde_json::from_slice(&ack.payload).unwrap();
    assert!(ack["error"].is_null(), "{ack}");
}

async fn consumer(bus: &Bus) -> Consumer {
    let config = ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() };
    bus.consumer("own.>", config).await.unwrap()
}

/// Waits until the durable has this many deliveries and nothing pending.
async fn delivered(server: &Server, count: u64) {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let info = server.api("CONSUMER.INFO.OWN.g", "").await;
        if info["delivered"]["consumer_seq"].as_u64() >= Some(count) && info["num_ack_pending"] == 0 {
            return;
        }
        assert!(Instant::now() < end, "{info}");
        tokio::time::sleep(MS(20)).await;
    }
}

fn text(d: &Delivery) -> &str {
    std::str::from_utf8(&d.body).unwrap()
}

/// Consuming: a delete marker is settled, and no handler sees it (server 2.11 and later).
#[tokio::test]
async fn a_delete_marker_reaches_no_handler() {
    let server = Server::jetstream();
    let marker = json!({"name": "OWN", "subjects": ["own.>"], "subject_delete_marker_ttl": 60_000_000_000_u64, "max_msgs_per_subject": 1});
    declare(&server, marker).await;
    let bus = server.bus(true).await;
    let c = consumer(&bus).await;
    publish(&server, "own.a", &[("Nats-TTL", "1s")], "event").await;
    let d = next(&c).await;
    assert_eq!(text(&d), "event");
    assert!(c.settle(d.token, &Settle::Ack));
    delivered(&server, 2).await;
    assert!(c.fetch(1, MS(100)).await.unwrap().is_empty());
    let last = server.api("STREAM.MSG.GET.OWN", r#"{"last_by_subj":"own.a"}"#).await;
    assert_eq!(last["message"]["seq"], 2, "the marker is there: {last}");
}

/// Consuming: a schedule reaches no handler, its event does, also where an ack would delete it before it fires (server
/// 2.12 and later).
#[tokio::test]
async fn a_schedule_reaches_no_handler_and_its_event_does() {
    for retention in ["limits", "workqueue"] {
        let server = Server::jetstream();
        let flags = json!({"name": "OWN", "subjects": ["own.>"], "allow_msg_schedules": true, "retention": retention});
        declare(&server, flags).await;
        let bus = server.bus(true).await;
        let c = consumer(&bus).await;
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 2;
        let when = format!("@at {}", rfc3339(at));
        let schedule = [("Nats-Schedule", when.as_str()), ("Nats-Schedule-Target", "own.event")];
        publish(&server, "own.timer", &schedule, "fired").await;
        let d = next(&c).await;
        assert_eq!((d.topic.as_str(), text(&d)), ("own.event", "fired"), "{retention}");
        assert!(c.settle(d.token, &Settle::Ack));
        assert!(c.fetch(1, MS(100)).await.unwrap().is_empty());
    }
}

/// Seconds since 1970 as the servers write a time.
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut left) = (1970, days);
    let leap = |y: u64| (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{:02}-{:02}T{h:02}:{m:02}:{s:02}Z", month + 1, left + 1)
}
