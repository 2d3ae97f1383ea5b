//! Attempts are handlers' attempts: what counts towards a dead letter, and what does not. Contract lines are named at the
//! tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next, until};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::StreamExt;
use nats_eventbus::{Backoff, Bus, Consumer, ConsumerConfig, Delivery, Handled, ProducerConfig, SendOptions};
use parking_lot::Mutex;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn group() -> ConsumerConfig {
    let backoff = Backoff { initial: MS(20), max: MS(20), ..Backoff::default() };
    ConsumerConfig { group: "g".into(), backoff, ack_wait: Some(MS(1000)), ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, count: usize) {
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let bodies: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    for result in p.send_many(&bodies, &SendOptions::default()).await.unwrap() {
        result.unwrap();
    }
}

type Seen = Arc<Mutex<Vec<(String, u64, u64)>>>;

/// Runs a handler that logs body, attempt and failures, and ends as `how` says.
fn run(c: &Consumer, how: impl Fn(&Delivery) -> Handled + Send + Sync + 'static) -> (Seen, JoinHandle<()>) {
    let (seen, c): (Seen, _) = (Arc::default(), c.clone());
    let log = seen.clone();
    let run = tokio::spawn(async move {
        let handler = async |d: Delivery| {
            log.lock().push((String::from_utf8_lossy(&d.body).into_owned(), d.attempt(), d.failures));
            how(&d)
        };
        c.run(handler).await.unwrap();
    });
    (seen, run)
}

async fn letters(bus: &Bus) -> Vec<nats_eventbus::DeadLetter> {
    let all = bus.dead_letters("t", "g", None).unwrap();
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(letter) = all.next_after(at).await.unwrap() {
        at = letter.position;
        out.push(letter);
    }
    out
}

/// Sends one message, which another client is given and gives back more often than `max_deliver` says.
async fn given_back_by_another(server: &Server, bus: &Bus) {
    bus.consumer("t", group()).await.unwrap().close().await.unwrap();
    send(bus, 1).await;
    let other = async_nats::connect(server.url()).await.unwrap();
    let inbox = other.new_inbox();
    let mut sub = other.subscribe(inbox.clone()).await.unwrap();
    for _ in 0..7 {
        let pull = r#"{"batch":1,"expires":5000000000}"#.into();
        other.publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.t_STREAM.g", inbox.clone(), pull).await.unwrap();
        let got = sub.next().await.unwrap();
        other.publish(got.reply.unwrap(), "-NAK".into()).await.unwrap();
    }
}

/// A way to the server that can be cut: what is behind it then has died, as far as others can see.
struct Lifeline {
    url: String,
    task: JoinHandle<()>,
}

impl Lifeline {
    async fn to(server: &Server) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, port) = (format!("nats://{}", listener.local_addr().unwrap()), server.port());
        let task = tokio::spawn(async move {
            let mut ways = tokio::task::JoinSet::new();
            while let Ok((mut here, _)) = listener.accept().await {
                ways.spawn(async move {
                    if let Ok(mut there) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                    }
                });
            }
        });
        Self { url, task }
    }
}

/// Deliveries that were given back do not count: after more closings than `max_deliver` every message is handled.
#[tokio::test]
async fn deploys_make_no_dead_letters() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, 20).await;
    for round in 1..=6 {
        let c = bus.consumer("t", ConsumerConfig { prefetch: Some(20), ..group() }).await.unwrap();
        c.handle();
        let first = next(&c).await;
        assert!(first.attempt() >= round);
        assert_eq!(first.failures, 0);
        // One that closes may be given again what it has given back.
        until(|| bus.metrics().received >= 20 * round).await;
        c.settle(first.token, &nats_eventbus::Settle::Nak(None));
        c.handled();
        c.close().await.unwrap();
    }
    let c = bus.consumer("t", ConsumerConfig { concurrency: 8, ..group() }).await.unwrap();
    let (seen, running) = run(&c, |_| Handled::Done);
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
    assert_eq!(seen.lock().len(), 20);
    assert!(seen.lock().iter().all(|(_, attempt, failures)| *attempt > 6 && *failures == 0));
    assert_eq!(bus.metrics().dead_letters, 0);
    c.close().await.unwrap();
    running.await.unwrap();
}

/// Deliveries to another client that gave them back do not count, however many; handlers' failures do, one by one.
#[tokio::test]
async fn only_failures_count_whatever_others_did() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    given_back_by_another(&server, &bus).await;
    let c = bus.consumer("t", group()).await.unwrap();
    let (seen, running) = run(&c, |_| Handled::Failed("boom".into()));
    until(|| bus.metrics().dead_letters == 1).await;
    let want = [(8, 0), (9, 1), (10, 2)].map(|(attempt, failures)| ("0".to_owned(), attempt, failures));
    assert_eq!(*seen.lock(), want);
    let letters = letters(&bus).await;
    assert_eq!((letters[0].attempts, letters[0].failures, letters[0].reason.as_str()), (10, 3, "boom"));
    c.close().await.unwrap();
    running.await.unwrap();
}

/// A message that was to run alone has not died when its worker closes before a handler began it, or gives it back.
#[tokio::test]
async fn what_was_to_run_alone_and_went_back_has_not_died() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    given_back_by_another(&server, &bus).await;
    for given_back in [false, true, false, true] {
        let c = bus.consumer("t", group()).await.unwrap();
        c.handle();
        let mut taken = Vec::new();
        if given_back {
            taken.push(next(&c).await);
        } else {
            while !marked(&server).await {}
        }
        c.give_back(taken.iter().map(|d| d.token));
        c.handled();
        c.close().await.unwrap();
        // Its mark goes first, and then it comes again.
        assert!(taken.iter().all(|d| d.failures == 0), "{taken:?}");
    }
    let c = bus.consumer("t", group()).await.unwrap();
    c.handle();
    assert_eq!(next(&c).await.failures, 0);
}

/// Whether the record of the only message says that it runs alone.
async fn marked(server: &Server) -> bool {
    let query = r#"{"last_by_subj":"attempts.t_STREAM.g.1"}"#;
    let found = server.api("STREAM.MSG.GET.t_STREAM_ATTEMPTS", query).await;
    let Some(data) = found["message"]["data"].as_str() else { return false };
    let record: serde_json::Value = serde_json::from_slice(&STANDARD.decode(data).unwrap()).unwrap();
    record["started"] == true
}

/// Failures count across the workers of a group, each of which sees only some of the attempts.
#[tokio::test]
async fn failures_count_across_workers() {
    let server = Server::jetstream();
    send(&server.bus(true).await, 1).await;
    for failures in 0..3 {
        let bus = server.bus(true).await;
        let c = bus.consumer("t", group()).await.unwrap();
        c.handle();
        let d = next(&c).await;
        // The one that closes may be given its retry, and give it back.
        assert!(d.attempt() > failures);
        assert_eq!(d.failures, failures);
        c.finish(&d, Handled::Failed(format!("failure {failures}")));
        if failures == 2 {
            until(|| bus.metrics().dead_letters == 1).await;
        }
        bus.close().await.unwrap();
    }
    let bus = server.bus(true).await;
    assert_eq!(letters(&bus).await[0].reason, "failure 2");
}

/// A message that dies with its handlers becomes a dead letter, and says so; what was buffered beside it does not.
#[tokio::test]
async fn what_dies_with_its_handlers_is_found_out() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, 8).await;
    let config = || ConsumerConfig { concurrency: 4, ..group() };
    // A process that dies: its connection is gone, and nothing is said of what it had.
    let mut alone = 0;
    loop {
        let life = Lifeline::to(&server).await;
        let settings = json!({"jetstream": true, "servers": life.url, "drain_timeout": 0.1});
        let worker = server.connect(settings).await.unwrap();
        let c = worker.consumer("t", config()).await.unwrap();
        c.handle();
        let killer = loop {
            let Ok(d) = tokio::time::timeout(MS(4000), c.next()).await else { break None };
            let d = d.unwrap().unwrap();
            if &d.body[..] == b"0" {
                break Some(d);
            }
            c.finish(&d, Handled::Done);
        };
        let Some(d) = killer else {
            worker.close().await.unwrap();
            break;
        };
        if d.attempt() > 3 {
            alone += 1;
            assert!(c.fetch(1, MS(50)).await.unwrap().is_empty(), "it runs alone");
        }
        assert!(d.attempt() < 10, "it is never found out");
        life.task.abort();
    }
    assert_eq!(alone, 3);
    let letters = letters(&bus).await;
    assert_eq!(letters.iter().map(|l| &l.body[..]).collect::<Vec<_>>(), [b"0"]);
    assert_eq!(letters[0].failures, 3);
    assert!(
        letters[0].reason.contains("its process died 3 times while it ran alone"),
        "{}",
        letters[0].reason
    );
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
}

/// A handler's own settling stands, whatever it raises afterwards.
#[tokio::test]
async fn a_handlers_own_settling_stands() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, 1).await;
    let c = bus.consumer("t", ConsumerConfig { max_deliver: Some(1), ..group() }).await.unwrap();
    c.handle();
    let d = next(&c).await;
    assert!(c.settle(d.token, &nats_eventbus::Settle::Ack));
    c.finish(&d, Handled::Failed("after the ack".into()));
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
    c.close().await.unwrap();
    assert_eq!((bus.metrics().dead_letters, bus.metrics().handler_errors), (0, 1));
    assert!(letters(&bus).await.is_empty());
}

/// `RetryAfter` means its delay, also on a durable with a backoff of its own.
#[tokio::test]
async fn retry_after_is_that_delay_on_every_durable() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, 1).await;
    let durable = json!({"stream_name": "t_STREAM", "config": {
        "durable_name": "g", "filter_subject": "t", "ack_policy": "explicit", "max_deliver": 5,
        "backoff": [1_000_000_000_u64, 6_000_000_000_u64],
    }});
    server.api("CONSUMER.DURABLE.CREATE.t_STREAM.g", &durable.to_string()).await;
    let c = bus.consumer("t", ConsumerConfig { ack_wait: None, ..group() }).await.unwrap();
    let mut last: Option<(std::time::Instant, Duration)> = None;
    for delay in [500, 300, 6000] {
        let d = next(&c).await;
        if let Some((at, asked)) = last {
            let took = at.elapsed();
            assert!(took >= asked && took < asked + MS(2000), "{took:?} and not {asked:?}");
        }
        last = Some((std::time::Instant::now(), MS(delay)));
        if delay < 6000 {
            c.finish(&d, Handled::RetryAfter(MS(delay)));
        }
    }
}

/// A handler that takes longer than `max_processing` has failed: its message is tried again, and after `max_deliver` times
/// it is a dead letter that says so.
#[tokio::test]
async fn a_handler_that_takes_too_long_has_failed() {
    let server = Server::jetstream();
    let bus = server.connect(json!({"jetstream": true, "drain_timeout": 0.1})).await.unwrap();
    send(&bus, 1).await;
    let config = ConsumerConfig { max_deliver: Some(2), max_processing: MS(500), concurrency: 4, ..group() };
    let c = bus.consumer("t", config).await.unwrap();
    c.handle();
    for failures in 0..2 {
        let stuck = next(&c).await;
        assert_eq!((stuck.attempt(), stuck.failures), (failures + 1, failures));
        if failures == 1 {
            // Its next delivery becomes the letter, and is not handed out.
            let end = std::time::Instant::now() + MS(10_000);
            while bus.metrics().dead_letters < 1 {
                assert!(c.fetch(1, MS(50)).await.unwrap().is_empty() && std::time::Instant::now() < end);
            }
            c.finish(&stuck, Handled::Done);
        }
    }
    assert!(c.fetch(1, MS(300)).await.unwrap().is_empty(), "no handler gets it again");
    let letters = letters(&bus).await;
    assert_eq!(letters[0].failures, 2);
    assert!(letters[0].reason.contains("longer than max_processing (500ms)"), "{}", letters[0].reason);
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
}

/// Where the durable delivers no more, a message stays with its handler: given back, nobody would have it again.
#[tokio::test]
async fn the_last_delivery_stays_with_its_handler() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, 1).await;
    let durable = json!({"stream_name": "t_STREAM", "config": {
        "durable_name": "g", "filter_subject": "t", "ack_policy": "explicit", "max_deliver": 1, "ack_wait": 1_000_000_000,
    }});
    server.api("CONSUMER.DURABLE.CREATE.t_STREAM.g", &durable.to_string()).await;
    let notices = bus.notices();
    let c = bus.consumer("t", ConsumerConfig { max_processing: MS(500), ..group() }).await.unwrap();
    c.handle();
    let slow = next(&c).await;
    while !notices.next().await.unwrap().text.contains("longer than max_processing") {}
    assert!(
        c.fetch(1, MS(300)).await.unwrap().is_empty() && bus.metrics().settled == 0,
        "it is not given back"
    );
    c.finish(&slow, Handled::Done);
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
    assert_eq!(bus.metrics().settled, 1);
}
