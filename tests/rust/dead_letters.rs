//! Dead letters: listed, replayed to their one group, discarded. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next, until};
use nats_eventbus::{Bus, Consumer, ConsumerConfig, ErrorKind, Handled, ProducerConfig, SendOptions};
use std::time::Duration;

fn group(name: &str) -> ConsumerConfig {
    ConsumerConfig { group: name.into(), ..ConsumerConfig::default() }
}

async fn reject_all(bus: &Bus, c: &Consumer, n: u64) {
    // One after the other, so that the letters are in order.
    for _ in 0..n {
        let before = bus.metrics().dead_letters;
        c.finish(&next(c).await, Handled::Rejected("no".into()));
        until(|| bus.metrics().dead_letters == before + 1).await;
    }
}

async fn send(bus: &Bus, topic: &str, id: &str, body: &[u8]) {
    let p = bus.producer(topic, ProducerConfig::default()).unwrap();
    let options = SendOptions {
        id: Some(id.into()),
        key: Some("doc".into()),
        headers: vec![("tenant".into(), "t1".into())],
        ..SendOptions::default()
    };
    p.send(body, options).await.unwrap();
}

/// Consuming: a dead letter can be listed, and replayed to its group alone.
#[tokio::test]
async fn a_replay_reaches_its_group_alone_as_the_message_it_was() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", "evt-1", b"one").await;
    send(&bus, "t", "evt-2", b"two").await;
    let (c, other) =
        (bus.consumer("t", group("g")).await.unwrap(), bus.consumer("t", group("other")).await.unwrap());
    reject_all(&bus, &c, 2).await;
    for _ in 0..2 {
        other.finish(&next(&other).await, Handled::Done);
    }
    let dlq = bus.dead_letters("t", "g", None).unwrap();
    let letter = dlq.next_after(0).await.unwrap().unwrap();
    assert_eq!(
        (letter.topic.as_str(), letter.stream.as_str(), letter.sequence, letter.group.as_str()),
        ("t", "t_STREAM", 1, "g")
    );
    assert_eq!(
        (
            letter.reason.as_str(),
            letter.attempts,
            &letter.body[..],
            letter.id.as_deref(),
            letter.key.as_deref()
        ),
        ("no", 1, &b"one"[..], Some("evt-1"), Some("doc"))
    );
    assert_eq!(letter.headers, [("tenant".to_owned(), "t1".to_owned())]);
    dlq.replay(&letter).await.unwrap();
    let d = next(&c).await;
    assert_eq!(
        (d.topic.as_str(), &d.body[..], d.id(), d.key()),
        ("t", &b"one"[..], Some("evt-1"), Some("doc"))
    );
    assert_eq!((d.header("tenant"), d.header("Dlq-Reason")), (Some("t1"), None));
    assert_eq!((d.attempt(), d.meta.as_ref().unwrap().sequence), (1, 1), "a new count of attempts");
    c.finish(&d, Handled::Done);
    assert!(other.fetch(1, Duration::from_millis(200)).await.unwrap().is_empty(), "no other group sees it");
    let left = dlq.next_after(0).await.unwrap().unwrap();
    assert_eq!(left.id.as_deref(), Some("evt-2"), "what was replayed is listed no more");
    assert!(dlq.next_after(left.position).await.unwrap().is_none());
}

/// Consuming: a replay that fails again is a dead letter again, not lost in the dedupe window.
#[tokio::test]
async fn a_replay_that_fails_again_is_a_dead_letter_again() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", "evt-1", b"one").await;
    let dlq = bus.dead_letters("t", "g", None).unwrap();
    assert!(dlq.next_after(0).await.unwrap().is_none(), "there are none yet, and that is no error");
    assert_eq!((dlq.replay_all().await.unwrap(), dlq.discard_all().await.unwrap()), (0, 0));
    let c = bus.consumer("t", group("g")).await.unwrap();
    reject_all(&bus, &c, 1).await;
    for _ in 0..3 {
        assert_eq!(dlq.replay_all().await.unwrap(), 1);
        reject_all(&bus, &c, 1).await;
        let letter = dlq.next_after(0).await.unwrap().unwrap();
        assert_eq!((letter.sequence, letter.topic.as_str(), letter.id.as_deref()), (1, "t", Some("evt-1")));
    }
    assert_eq!(dlq.discard_all().await.unwrap(), 1);
    assert!(dlq.next_after(0).await.unwrap().is_none());
}

/// Consuming: replays wait for a worker of the group that comes later, and are retried like any message.
#[tokio::test]
async fn a_replay_waits_for_its_group() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", "evt-1", b"one").await;
    let c = bus.consumer("t", group("g")).await.unwrap();
    reject_all(&bus, &c, 1).await;
    c.close().await.unwrap();
    let dlq = bus.dead_letters("t", "g", None).unwrap();
    let letter = dlq.next_after(0).await.unwrap().unwrap();
    dlq.replay(&letter).await.unwrap();
    dlq.replay(&letter).await.unwrap(); // the same again is the same
    let later = bus.consumer("t", group("g")).await.unwrap();
    let d = next(&later).await;
    later.finish(&d, Handled::RetryAfter(Duration::from_millis(20)));
    let d = next(&later).await;
    assert_eq!(d.attempt(), 2);
    later.finish(&d, Handled::Done);
    assert!(later.fetch(1, Duration::from_millis(200)).await.unwrap().is_empty());
}

/// Consuming: the letters of a topic are those of its topic, where a stream holds several.
#[tokio::test]
async fn letters_are_listed_by_topic_and_discarded_one_by_one() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    bus.declare_stream("S", &["w.>".into()]).await.unwrap();
    for n in 0..4 {
        send(&bus, &format!("w.{}", n % 2), &format!("evt-{n}"), b"x").await;
    }
    let c = bus.consumer("w.*", group("g")).await.unwrap();
    reject_all(&bus, &c, 4).await;
    let dlq = bus.dead_letters("w.1", "g", None).unwrap();
    let first = dlq.next_after(0).await.unwrap().unwrap();
    assert_eq!(first.id.as_deref(), Some("evt-1"));
    assert!(dlq.discard(&first).await.unwrap());
    assert!(!dlq.discard(&first).await.unwrap(), "it was removed already");
    assert_eq!(dlq.discard_all().await.unwrap(), 1);
    assert_eq!(bus.dead_letters("w.*", "g", None).unwrap().discard_all().await.unwrap(), 2);
}

/// Consuming: a letter too large for its reason is kept without its body, and replayed from the stream.
#[tokio::test]
async fn a_letter_too_large_is_replayed_from_the_stream() {
    let server = Server::start(&["-js"], "max_payload: 2048");
    let bus = server.bus(true).await;
    let body = vec![b'x'; 1600];
    send(&bus, "t", "evt-1", &body).await;
    let c = bus.consumer("t", group("g")).await.unwrap();
    c.finish(&next(&c).await, Handled::Rejected("a long reason. ".repeat(40)));
    until(|| bus.metrics().dead_letters == 1).await;
    let dlq = bus.dead_letters("t", "g", None).unwrap();
    let letter = dlq.next_after(0).await.unwrap().unwrap();
    assert_eq!((letter.truncated, letter.body.len()), (Some(1600), 0));
    dlq.replay(&letter).await.unwrap();
    let d = next(&c).await;
    assert_eq!((d.body.len(), d.header("tenant")), (1600, Some("t1")));
    c.finish(&d, Handled::Done);
}

#[tokio::test]
async fn dead_letters_need_jetstream() {
    let server = Server::core();
    let bus = server.bus(false).await;
    assert_eq!(bus.dead_letters("t", "g", None).unwrap_err().kind(), ErrorKind::Config);
}

/// Consuming: dead letters outlive their stream, one that was declared for a topic with wildcards too.
#[tokio::test]
async fn letters_of_a_wildcard_are_found_when_its_stream_is_gone() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let c = bus.consumer("w.*.done", group("g")).await.unwrap();
    send(&bus, "w.1.done", "evt-1", b"one").await;
    reject_all(&bus, &c, 1).await;
    server.api("STREAM.DELETE.w_ANY_done_STREAM", "").await;
    let dlq = bus.dead_letters("w.*.done", "g", None).unwrap();
    let letter = dlq.next_after(0).await.unwrap().unwrap();
    assert_eq!((letter.topic.as_str(), letter.stream.as_str()), ("w.1.done", "w_ANY_done_STREAM"));
    assert!(dlq.discard(&letter).await.unwrap());
    assert!(!dlq.discard(&letter).await.unwrap(), "it is gone already");
}
