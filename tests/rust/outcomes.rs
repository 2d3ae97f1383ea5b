//! What becomes of every send. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next, until};
use nats_eventbus::{
    Bus, ConsumerConfig, Error, ErrorKind, Producer, ProducerConfig, PubAck, SendOptions, State,
};
use serde_json::json;
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Settings that end soon: the delivery timeout, and the wait for one ack.
fn hasty(delivery: u64, ack: u64) -> ProducerConfig {
    ProducerConfig { delivery_timeout: MS(delivery), ack_timeout: MS(ack), ..ProducerConfig::default() }
}

fn key(k: &str) -> SendOptions {
    SendOptions { key: Some(k.into()), ..SendOptions::default() }
}

fn id(id: &str) -> SendOptions {
    SendOptions { id: Some(id.into()), ..SendOptions::default() }
}

type Sending = JoinHandle<Result<Option<PubAck>, Error>>;

/// A send that somebody else waits for.
fn sending(p: &Producer, body: String, options: SendOptions) -> Sending {
    let p = p.clone();
    tokio::spawn(async move { p.send(body.as_bytes(), options).await })
}

async fn sends(p: &Producer, count: u32, options: impl Fn(u32) -> SendOptions) -> Vec<Sending> {
    let all: Vec<_> = (0..count).map(|n| sending(p, n.to_string(), options(n))).collect();
    tokio::task::yield_now().await;
    all
}

fn plain(_: u32) -> SendOptions {
    SendOptions::default()
}

async fn disconnected(bus: &Bus) {
    until(|| bus.state() == State::Disconnected).await;
}

/// Publishing: JetStream sends carry an id always: given, or generated and different each time.
#[tokio::test]
async fn every_message_carries_an_id() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"x", id("mine")).await.unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    p.send_nowait(b"x", key("k")).unwrap();
    p.flush().await.unwrap();
    p.send_many(&[b"x", b"x"], &SendOptions::default()).await.unwrap();
    let config = ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() };
    let c = bus.consumer("t", config).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(next(&c).await.id().unwrap().to_owned());
    }
    assert_eq!(ids[0], "mine");
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 5);
}

/// Publishing: a lost ack: sent again with the same id until it comes; stored once; the duplicate is reported.
#[tokio::test]
async fn a_lost_ack_is_asked_for_again() {
    let server = Server::jetstream();
    server.silence("t").await;
    let bus = server.bus(true).await;
    let p = bus.producer("t", hasty(30_000, 100)).unwrap();
    let send = sending(&p, "x".into(), SendOptions::default());
    until(|| bus.metrics().retried >= 2).await;
    assert!(!send.is_finished());
    server.make("t", json!({})).await;
    let ack = send.await.unwrap().unwrap().unwrap();
    assert_eq!((ack.sequence, ack.duplicate, server.stored("t_STREAM").await), (1, true, 1));
}

/// Publishing: no responders, as in an election: tried again until a stream answers; if none does, rejected. Without
/// `declare`, for a producer that may declares the stream again.
#[tokio::test]
async fn no_responders_are_asked_again() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    server.make("t", json!({})).await;
    let strict = ProducerConfig { declare: Some(false), ..hasty(2000, 5000) };
    let p = bus.producer("t", ProducerConfig { declare: Some(false), ..ProducerConfig::default() }).unwrap();
    let short = bus.producer("t", strict).unwrap();
    for p in [&p, &short] {
        p.send(b"before", SendOptions::default()).await.unwrap();
    }
    server.api("STREAM.DELETE.t_STREAM", "").await;
    let send = sending(&p, "x".into(), SendOptions::default());
    let mut e = short.send(b"y", SendOptions::default()).await.unwrap_err();
    for _ in 0..10 {
        // The deadline came before the answer to its last attempt.
        if e.kind() == ErrorKind::PublishUnknown {
            e = short.send(b"y", SendOptions::default()).await.unwrap_err();
        }
    }
    assert_eq!((e.kind(), e.topic_name()), (ErrorKind::PublishRejected, Some("t")), "{e}");
    assert!(e.message().contains("no leader") && !send.is_finished());
    server.make("t", json!({})).await;
    assert_eq!(send.await.unwrap().unwrap().unwrap().sequence, 1);
}

/// Publishing: `10158`, the server has not settled this id yet: tried again with the same id.
#[tokio::test]
async fn an_unsettled_id_is_asked_for_again() {
    let server = Server::jetstream();
    server.silence("t").await;
    let (bus, other) = (server.bus(true).await, server.bus(false).await);
    let responder = other.respond("t", "server").await.unwrap();
    let answers = tokio::spawn(async move {
        let mut ids = Vec::new();
        for n in 0..3 {
            let d = responder.next().await.unwrap().unwrap();
            ids.push(d.id().unwrap().to_owned());
            let not_yet = json!({"error": {"code": 503, "err_code": 10158, "description": "not settled"}});
            let answer = if n == 2 { json!({"stream": "S", "seq": 7}) } else { not_yet };
            responder.reply(&d, Ok(answer.to_string().as_bytes())).unwrap();
        }
        ids
    });
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let ack = p.send(b"x", SendOptions::default()).await.unwrap().unwrap();
    assert_eq!((&*ack.stream, ack.sequence), ("S", 7));
    let ids = answers.await.unwrap();
    assert!(ids.iter().all(|i| *i == ids[0]), "{ids:?}");
}

/// Publishing: `delivery_timeout` (default 30 s) must stay below the stream's real dedupe window: a config error.
#[tokio::test]
async fn the_delivery_timeout_is_below_the_streams_window() {
    let server = Server::jetstream();
    server.make("t", json!({"duplicate_window": 10_000_000_000_u64})).await;
    let bus = server.bus(true).await;
    for (config, told) in
        [(hasty(10_000, 5000), "10 s"), (hasty(15_500, 5000), "15.5 s"), (ProducerConfig::default(), "30 s")]
    {
        let e = bus.producer("t", config).unwrap().send(b"x", SendOptions::default()).await.unwrap_err();
        assert_eq!(
            (e.kind(), e.topic_name(), e.stream_name()),
            (ErrorKind::Config, Some("t"), Some("t_STREAM"))
        );
        assert!(e.message().starts_with(&format!("delivery_timeout is {told}")), "{e}");
        assert!(e.message().contains("for 10 s"), "{e}");
    }
    assert_eq!(server.stored("t_STREAM").await, 0);
    let without = ProducerConfig { dedupe: false, ..ProducerConfig::default() };
    for config in [hasty(9000, 5000), without] {
        bus.producer("t", config).unwrap().send(b"x", SendOptions::default()).await.unwrap();
    }
}

/// Publishing: `dedupe: false` leaves ids out; a lost ack is not retried, it is unknown.
#[tokio::test]
async fn without_dedupe_a_lost_ack_is_unknown() {
    let server = Server::jetstream();
    server.silence("t").await;
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig { dedupe: false, ..hasty(2000, 100) }).unwrap();
    let e = p.send(b"x", key("k")).await.unwrap_err();
    assert_eq!((e.kind(), e.topic_name(), e.message_id()), (ErrorKind::PublishUnknown, Some("t"), None));
    assert_eq!((bus.metrics().retried, server.stored("t_STREAM").await), (0, 1));
    let config = ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() };
    let d = next(&bus.consumer("t", config).await.unwrap()).await;
    assert_eq!((d.id(), d.header("Nats-Msg-Id"), d.key()), (None, None, Some("k")));
}

/// Publishing: a retry never stores twice, also of an id given where `dedupe: false` makes none.
#[tokio::test]
async fn an_id_given_is_never_stored_twice() {
    let server = Server::jetstream();
    server.make("t", json!({"no_ack": true, "duplicate_window": 500_000_000})).await;
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig { dedupe: false, ..hasty(3000, 1000) }).unwrap();
    p.send(b"x", id("mine")).await.unwrap_err();
    assert!(server.stored("t_STREAM").await <= 1);
}

/// Publishing: unknown: the deadline passed, it may be stored; its error carries the id to send it again with.
#[tokio::test]
async fn an_unknown_outcome_names_its_id() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", hasty(2000, 300)).unwrap();
    p.send(b"1", SendOptions::default()).await.unwrap();
    server.pause();
    let e = p.send(b"2", SendOptions::default()).await.unwrap_err();
    server.resume();
    assert_eq!((e.kind(), e.code(), e.retryable()), (ErrorKind::PublishUnknown, "publish.unknown", true));
    let ack = p.send(b"2", id(e.message_id().unwrap())).await.unwrap().unwrap();
    assert!(ack.duplicate, "the first attempt had arrived after all");
    assert_eq!(server.stored("t_STREAM").await, 2);
}

/// Publishing: unknown by the deadline, and not later; what was told unknown is not sent again silently.
#[tokio::test]
async fn nothing_is_sent_again_after_its_outcome() {
    let server = Server::jetstream();
    server.silence("t").await;
    let (bus, other) = (server.bus(true).await, server.bus(false).await);
    let config = ConsumerConfig { group: "spy".into(), ..ConsumerConfig::default() };
    let spy = other.consumer("t", config).await.unwrap();
    let p = bus.producer("t", hasty(2000, 100)).unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        let started = Instant::now();
        let e = p.send(b"x", SendOptions::default()).await.unwrap_err();
        let took = started.elapsed();
        assert_eq!(e.kind(), ErrorKind::PublishUnknown);
        assert!(took >= MS(1990) && took < MS(10_000), "{took:?}");
        told.push(e.message_id().unwrap().to_owned());
    }
    let seen: Vec<_> = spy.fetch(100, MS(300)).await.unwrap();
    let of = |id: &str| seen.iter().filter(|d| d.id() == Some(id)).count();
    assert!(of(&told[0]) >= 2 && of(&told[1]) >= 2, "each was tried again");
    let last_of_first = seen.iter().rposition(|d| d.id() == Some(&told[0])).unwrap();
    let first_of_second = seen.iter().position(|d| d.id() == Some(&told[1])).unwrap();
    assert!(last_of_first < first_of_second, "the first was not sent again after its outcome");
}

/// Publishing: never handed to a live connection by its deadline: rejected as not sent, and never stored later.
#[tokio::test]
async fn what_was_never_handed_over_is_not_sent() {
    let mut server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", hasty(2000, 5000)).unwrap();
    p.send(b"1", SendOptions::default()).await.unwrap();
    server.kill();
    disconnected(&bus).await;
    let started = Instant::now();
    let other = bus.producer("other", hasty(2000, 5000)).unwrap();
    let lost = [(&p, key("k")), (&p, SendOptions::default()), (&other, SendOptions::default())];
    for send in lost.map(|(p, options)| sending(p, "lost".into(), options)) {
        let e = send.await.unwrap().unwrap_err();
        assert_eq!((e.kind(), e.retryable()), (ErrorKind::NotSent, true), "{e}");
    }
    assert!(started.elapsed() < MS(10_000));
    server.restart();
    until(|| bus.state() == State::Connected).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    assert_eq!(p.send(b"2", SendOptions::default()).await.unwrap().unwrap().sequence, 2);
    assert_eq!(server.stored("t_STREAM").await, 2);
}

/// Publishing: while disconnected sends are held, and stored once each after the reconnect.
#[tokio::test]
async fn sends_are_held_while_disconnected() {
    let mut server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"first", SendOptions::default()).await.unwrap();
    server.kill();
    disconnected(&bus).await;
    let all = sends(&p, 30, |n| key(&format!("k{}", n % 3))).await;
    p.send_nowait(b"31", SendOptions::default()).unwrap();
    assert!(all.iter().all(|s| !s.is_finished()));
    server.restart();
    for s in all {
        assert!(!s.await.unwrap().unwrap().unwrap().duplicate);
    }
    p.flush().await.unwrap();
    assert_eq!(server.stored("t_STREAM").await, 32);
}

/// Publishing: every send ends in exactly one of three outcomes, once, by its deadline; what was acked is stored.
#[tokio::test]
async fn every_send_has_one_outcome() {
    let mut server = Server::jetstream();
    let bus = server.connect(json!({"jetstream": true, "drain_timeout": 1})).await.unwrap();
    let p = bus.producer("t", ProducerConfig { max_in_flight: 100, ..hasty(4000, 5000) }).unwrap();
    let wrong = SendOptions { expected_last_sequence: Some(1_000_000), ..SendOptions::default() };
    assert_eq!(p.send(b"x", wrong).await.unwrap_err().kind(), ErrorKind::WrongSequence);
    let all = sends(&p, 20_000, plain).await;
    until(|| bus.metrics().acked > 200).await;
    server.kill();
    let started = Instant::now();
    let mut count: HashMap<&str, u64> = HashMap::from([("rejected", 1)]);
    for s in all {
        let outcome = match s.await.unwrap() {
            Ok(Some(_)) => "acked",
            Err(e) if e.kind() == ErrorKind::PublishUnknown => "unknown",
            Err(e) if e.code().starts_with("publish.rejected") => "rejected",
            other => unreachable!("{other:?}"),
        };
        *count.entry(outcome).or_default() += 1;
    }
    assert!(started.elapsed() < MS(12_000), "{:?}", started.elapsed());
    let (m, of) = (bus.metrics(), |name| count.get(name).copied().unwrap_or(0));
    assert_eq!(
        (m.sent, m.acked, m.rejected, m.unknown),
        (20_001, of("acked"), of("rejected"), of("unknown"))
    );
    server.restart();
    let stored = server.stored("t_STREAM").await;
    assert!((of("acked")..=of("acked") + of("unknown")).contains(&stored), "{stored} stored, {count:?}");
}
