//! How messages are handed out, kept and settled. Contract lines are named at the tests.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

use crate::support::{Server, next, until};
use nats_eventbus::{
    Backoff, Bus, Consumer, ConsumerConfig, ErrorKind, Handled, ProducerConfig, SendOptions, Settle,
};
use serde_json::json;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

fn kept(ack_wait: u64) -> ConsumerConfig {
    ConsumerConfig { ack_wait: Some(MS(ack_wait)), ..group() }
}

async fn send(bus: &Bus, topic: &str, count: usize) {
    let p = bus.producer(topic, ProducerConfig::default()).unwrap();
    let bodies: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    p.send_many(&bodies, &SendOptions::default()).await.unwrap();
    p.flush().await.unwrap();
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

/// Consuming: a message is settled only by the user's word: not by being taken, and not by time.
#[tokio::test]
async fn nothing_but_a_word_settles() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", 3).await;
    let c = bus.consumer("t", kept(1500)).await.unwrap();
    let taken = many(&c, 3).await;
    server.reaches("t", json!({"num_ack_pending": 3})).await;
    assert!(c.fetch(1, MS(3500)).await.unwrap().is_empty(), "two ack waits: kept from redelivery");
    server.reaches("t", json!({"num_ack_pending": 3, "num_redelivered": 0})).await;
    for d in taken {
        assert!(c.settle(d.token, &Settle::Ack));
    }
    server.reaches("t", json!({"num_ack_pending": 0})).await;
}

/// Consuming: a message is settled by its handler's end, and not before.
#[tokio::test]
async fn a_handler_settles_by_its_end() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", 1).await;
    let c = bus.consumer("t", group()).await.unwrap();
    c.handle();
    let d = next(&c).await;
    assert!(c.fetch(1, MS(200)).await.unwrap().is_empty());
    server.reaches("t", json!({"num_ack_pending": 1})).await;
    c.finish(&d, Handled::Done);
    server.reaches("t", json!({"num_ack_pending": 0})).await;
}

/// Consuming: failed → retry after backoff, growing; `RetryAfter` → that delay; after 3 attempts → dead letter.
#[tokio::test]
async fn handlers_end_as_they_should_and_when() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", 1).await;
    let backoff =
        Backoff { initial: MS(300), factor: 10.0, jitter: 0.0, max: MS(10_000), ..Backoff::default() };
    let c = bus.consumer("t", ConsumerConfig { backoff, ..group() }).await.unwrap();
    let mut times = Vec::new();
    for attempt in 1..=3 {
        let d = next(&c).await;
        assert_eq!(d.attempt(), attempt);
        times.push(Instant::now());
        c.finish(&d, Handled::Failed("cannot".into()));
    }
    until(|| bus.metrics().dead_letters == 1).await;
    let (first, second) = (times[1] - times[0], times[2] - times[1]);
    assert!(first >= MS(290) && first < MS(2900), "{first:?}");
    assert!(second >= MS(2990), "{second:?}");
    send(&bus, "t", 1).await;
    let d = next(&c).await;
    let asked = Instant::now();
    c.finish(&d, Handled::RetryAfter(MS(700)));
    assert_eq!(next(&c).await.attempt(), 2);
    assert!(asked.elapsed() >= MS(690) && asked.elapsed() < MS(10_000), "{:?}", asked.elapsed());
}

/// Consuming: what is buffered behind a handler of more than two ack waits is handled once, as it is.
#[tokio::test]
async fn what_is_buffered_or_handled_is_kept() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", 5).await;
    let c = bus.consumer("t", kept(1500)).await.unwrap();
    c.handle();
    for n in 0..5 {
        let d = next(&c).await;
        assert_eq!(d.body, n.to_string().as_bytes());
        if n == 0 {
            tokio::time::sleep(MS(3500)).await;
        }
        c.finish(&d, Handled::Done);
    }
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
    assert_eq!(server.group("t", "g").await["delivered"]["consumer_seq"], 5, "each was delivered once");
}

/// Consuming: the ack wait is extended up to `max_processing`: a stuck handler does not hold a message for ever.
#[tokio::test]
async fn a_stuck_handler_holds_a_message_no_longer_than_the_cap() {
    let server = Server::jetstream();
    let (bus, other) = (server.bus(true).await, server.bus(true).await);
    send(&bus, "t", 1).await;
    let config = ConsumerConfig { max_processing: MS(4000), prefetch: Some(1), ..kept(1500) };
    let c = bus.consumer("t", config).await.unwrap();
    c.handle();
    let stuck = next(&c).await;
    let started = Instant::now();
    let free = other.consumer("t", group()).await.unwrap();
    let d = next(&free).await;
    assert_eq!(d.attempt(), 2);
    assert!(started.elapsed() > MS(3800), "not while it was kept: {:?}", started.elapsed());
    free.ack_confirmed(d.token, MS(5000)).await.unwrap();
    c.finish(&stuck, Handled::Done);
}

/// Consuming: a dead letter is stored and confirmed; only then is the original terminated; never the other order.
#[tokio::test]
async fn a_dead_letter_is_confirmed_before_the_original_ends() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let dlq = |no_ack: bool| json!({"name": "t_STREAM_DLQ", "no_ack": no_ack});
    server.make("dlq.t_STREAM.>", dlq(true)).await;
    send(&bus, "t", 1).await;
    let c = bus.consumer("t", kept(2000)).await.unwrap();
    let d = next(&c).await;
    c.finish(&d, Handled::Rejected("cannot".into()));
    // It is stored, but nobody says so: whoever does not wait for that has ended the original by now.
    let end = Instant::now() + MS(5000);
    while server.stored("t_STREAM_DLQ").await == 0 {
        assert!(Instant::now() < end, "no letter");
    }
    assert!(c.fetch(1, MS(300)).await.unwrap().is_empty());
    server.reaches("t", json!({"num_ack_pending": 1})).await;
    assert_eq!(bus.metrics().dead_letters, 0);
    server.make("dlq.t_STREAM.>", dlq(false)).await;
    until(|| bus.metrics().dead_letters == 1).await;
    server.reaches("t", json!({"num_ack_pending": 0})).await;
    assert_eq!(server.stored("t_STREAM_DLQ").await, 1, "one letter");
}

/// Consuming: an ack is immediate, also when the server is not; a confirmed one waits for the server's word.
#[tokio::test]
async fn acks_do_not_wait_and_confirmed_ones_do() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", 301).await;
    let c = bus.consumer("t", ConsumerConfig { prefetch: Some(400), ..group() }).await.unwrap();
    let mut all = many(&c, 301).await;
    let last = all.pop().unwrap();
    server.pause();
    let started = Instant::now();
    assert!(all.iter().all(|d| c.settle(d.token, &Settle::Ack)));
    assert!(started.elapsed() < MS(5000));
    let e = c.ack_confirmed(last.token, MS(300)).await.unwrap_err();
    assert_eq!((e.kind(), e.topic_name(), e.group_name()), (ErrorKind::Timeout, Some("t"), Some("g")));
    server.resume();
    server.reaches("t", json!({"num_ack_pending": 0})).await;
}

/// Consuming: prefetch is by credit, never above the durable's max ack pending, by what is asked of the server.
#[tokio::test]
async fn prefetch_is_never_above_max_ack_pending() {
    let server = Server::jetstream();
    let (bus, other) = (server.bus(true).await, server.bus(false).await);
    send(&bus, "t", 20).await;
    let spy = other.consumer("$JS.API.CONSUMER.MSG.NEXT.t_STREAM.g", group()).await.unwrap();
    let config = ConsumerConfig { prefetch: Some(100), max_ack_pending: Some(5), ..group() };
    let c = bus.consumer("t", config).await.unwrap();
    for _ in 0..20 {
        c.settle(next(&c).await.token, &Settle::Ack);
    }
    let asked = spy.fetch(100, MS(300)).await.unwrap();
    let batch = |d: &nats_eventbus::Delivery| {
        serde_json::from_slice::<serde_json::Value>(&d.body).unwrap()["batch"].as_u64().unwrap()
    };
    assert_eq!(asked.iter().map(batch).max(), Some(5));
}

/// The consumer's world ends while it waits: whichever way it waits, it is told.
async fn ends(what: impl AsyncFn(&mut Server)) {
    for fetching in [false, true] {
        let mut server = Server::jetstream();
        let bus = server.bus(true).await;
        let c = bus.consumer("t", group()).await.unwrap();
        let waiting = tokio::spawn({
            let c = c.clone();
            async move { if fetching { c.fetch(1, MS(30_000)).await.map(drop) } else { c.next().await.map(drop) } }
        });
        server.reaches("t", json!({"num_waiting": 1})).await;
        what(&mut server).await;
        let told = tokio::time::timeout(MS(15_000), waiting).await.expect("a stall").unwrap();
        for e in [told.unwrap_err(), c.next().await.unwrap_err(), c.fetch(1, MS(100)).await.unwrap_err()] {
            assert_eq!((e.kind(), e.topic_name()), (ErrorKind::NotFound, Some("t")), "{e}");
            assert_eq!((e.stream_name(), e.group_name()), (Some("t_STREAM"), Some("g")), "{e}");
        }
    }
}

/// Consuming: the durable is deleted: an error, never a silent stall, never a plain end.
#[tokio::test]
async fn a_consumer_whose_durable_is_gone_says_so() {
    ends(async |server| drop(server.api("CONSUMER.DELETE.t_STREAM.g", "").await)).await;
}

/// Consuming: the stream is deleted: an error, never a silent stall, never a plain end.
#[tokio::test]
async fn a_consumer_whose_stream_is_gone_says_so() {
    ends(async |server| drop(server.api("STREAM.DELETE.t_STREAM", "").await)).await;
}

/// Consuming: all is gone after a reconnect: an error, never a silent stall, never a plain end.
#[tokio::test]
async fn a_consumer_whose_world_is_gone_says_so() {
    ends(async |server| {
        server.kill();
        server.forget();
        server.restart();
    })
    .await;
}

/// Consuming: core mode: no redelivery, and every verb of settling is a no-op, so that the same code runs in both modes.
#[tokio::test]
async fn settling_is_a_no_op_in_core_mode() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let c = bus.consumer("t", group()).await.unwrap();
    send(&bus, "t", 6).await;
    let verbs = [
        Settle::Ack,
        Settle::Nak(None),
        Settle::Nak(Some(MS(1))),
        Settle::Term(Some("x".into())),
        Settle::InProgress,
    ];
    for verb in verbs {
        let d = next(&c).await;
        assert!(!c.settle(d.token, &verb), "{verb:?}");
        c.ack_confirmed(d.token, MS(1)).await.unwrap();
    }
    let d = next(&c).await;
    c.finish(&d, Handled::RetryAfter(MS(1)));
    assert!(c.fetch(1, MS(100)).await.unwrap().is_empty());
    // What asks for a retry has failed: there is none.
    assert_eq!((bus.metrics().settled, bus.metrics().handler_errors), (0, 1));
}

/// Consuming: core mode: a handler's error is counted.
#[tokio::test]
async fn a_handler_error_in_core_mode_is_counted() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let c = bus.consumer("t", group()).await.unwrap();
    send(&bus, "t", 3).await;
    for how in [Handled::Done, Handled::Failed("x".into()), Handled::Rejected("x".into())] {
        c.finish(&next(&c).await, how);
    }
    assert_eq!((bus.metrics().handler_errors, bus.metrics().dead_letters), (2, 0));
}

/// Consuming: a wait that was given up loses no message.
#[tokio::test]
async fn a_dropped_wait_loses_no_message() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let c = bus.consumer("t", group()).await.unwrap();
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    for n in 0..50 {
        let body = n.to_string();
        let wait = tokio::time::timeout(MS(n % 3), c.next());
        let (sent, waited) = tokio::join!(p.send(body.as_bytes(), SendOptions::default()), wait);
        sent.unwrap();
        let d = match waited {
            Ok(d) => d.unwrap().unwrap(),
            Err(_) => next(&c).await,
        };
        assert_eq!(d.body, body.as_bytes());
    }
}

/// The worker of the next test, in a process of its own.
#[tokio::test]
async fn a_worker_to_be_killed() {
    let Ok(servers) = std::env::var("WORKER_OF") else { return };
    let config =
        nats_eventbus::Config::load(json!({"servers": servers, "jetstream": true}), |_| None).unwrap();
    let bus = Bus::connect(config, &[]).await.unwrap();
    let c = bus.consumer("t", ConsumerConfig { prefetch: Some(20), ..kept(500) }).await.unwrap();
    c.handle();
    c.ack_confirmed(next(&c).await.token, MS(5000)).await.unwrap();
    next(&c).await;
    println!("holding");
    std::future::pending::<()>().await;
}

/// Consuming: at least once: what a worker that is killed had taken or buffered comes to another one.
#[tokio::test]
async fn a_crash_loses_nothing_buffered() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", 20).await;
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "consuming::a_worker_to_be_killed", "--nocapture"])
        .env("WORKER_OF", server.url())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("holding")), "it ended");
    server.reaches("t", json!({"num_ack_pending": 19, "num_pending": 0})).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    let mut got = many(&bus.consumer("t", group()).await.unwrap(), 19).await;
    got.sort_by_key(|d| d.meta.as_ref().unwrap().sequence);
    assert!(got.iter().map(|d| d.meta.as_ref().unwrap().sequence).eq(2..=20));
    assert!(got.iter().all(|d| d.attempt() == 2));
}

/// Lets a fetch run until it has taken so many messages.
async fn lets_take(bus: &Bus, fetching: &mut (impl Future + Unpin), count: u64) {
    while bus.metrics().received < count {
        assert!(tokio::time::timeout(MS(20), &mut *fetching).await.is_err(), "it ended");
    }
    // What is received is buffered; now it is taken.
    assert!(tokio::time::timeout(MS(20), fetching).await.is_err(), "it ended");
}

/// Consuming: a fetch that is cut short by a close gives what it has; with nothing it fails with the reason.
#[tokio::test]
async fn a_fetch_that_is_cut_short() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", 2).await;
    let c = bus.consumer("t", group()).await.unwrap();
    let mut fetching = Box::pin(c.fetch(5, MS(30_000)));
    lets_take(&bus, &mut fetching, 2).await;
    c.close().await.unwrap();
    assert_eq!(fetching.await.unwrap().len(), 2);
    assert_eq!(c.fetch(1, MS(30_000)).await.unwrap_err().kind(), ErrorKind::Closed);
}

/// Consuming: a fetch that is given up puts back what it had taken: it is handed out again, first.
#[tokio::test]
async fn a_fetch_that_is_given_up() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t", 2).await;
    let c = bus.consumer("t", group()).await.unwrap();
    let mut fetching = Box::pin(c.fetch(5, MS(30_000)));
    lets_take(&bus, &mut fetching, 2).await;
    drop(fetching);
    assert!(many(&c, 2).await.iter().all(|d| d.attempt() == 1), "they left this consumer");
}
