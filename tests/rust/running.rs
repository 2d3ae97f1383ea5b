//! Running handlers with [`Consumer::run`]. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next, until};
use nats_eventbus::{
    Bus, Consumer, ConsumerConfig, Delivery, ErrorKind, Handled, ProducerConfig, SendOptions,
};
use parking_lot::Mutex;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinHandle};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, bodies: &[&str]) {
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    for result in p.send_many(bodies, &SendOptions::default()).await.unwrap() {
        result.unwrap();
    }
}

fn body(d: &Delivery) -> String {
    String::from_utf8_lossy(&d.body).into_owned()
}

/// Starts a run whose handlers count themselves and wait to be let go.
fn waiting(c: &Consumer) -> (Arc<AtomicUsize>, Arc<Semaphore>, JoinHandle<nats_eventbus::Result<()>>) {
    let (running, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (c, seen, gate) = (c.clone(), running.clone(), go.clone());
    let run = tokio::spawn(async move {
        c.run(|_| async {
            seen.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.map(drop)
        })
        .await
    });
    (running, go, run)
}

/// One message at a time by default; `concurrency=N` runs N.
#[tokio::test]
async fn so_many_at_once() {
    let server = Server::jetstream();
    for concurrency in [1, 3] {
        let bus = server.bus(true).await;
        send(&bus, &["x"; 5]).await;
        let c = bus.consumer("t", ConsumerConfig { concurrency, ..group() }).await.unwrap();
        let most = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let (worker, counts) = (c.clone(), most.clone());
        let run = tokio::spawn(async move {
            worker
                .run(|_| async {
                    let now = counts.0.fetch_add(1, Ordering::SeqCst) + 1;
                    counts.1.fetch_max(now, Ordering::SeqCst);
                    // Until as many run as may.
                    let _ = tokio::time::timeout(MS(300), async {
                        while counts.0.load(Ordering::SeqCst) < concurrency {
                            tokio::task::yield_now().await;
                        }
                    })
                    .await;
                    counts.0.fetch_sub(1, Ordering::SeqCst);
                    Handled::Done
                })
                .await
        });
        server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
        assert_eq!(most.1.load(Ordering::SeqCst), concurrency);
        c.close().await.unwrap();
        run.await.unwrap().unwrap();
        bus.close().await.unwrap();
    }
}

/// A handler that returns: ack. That raises, or panics: again after `backoff`, and the others go on. `Reject`: dead
/// letter at once. `RetryAfter`: that delay.
#[tokio::test]
async fn what_a_handlers_end_means() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, &["fine", "fails", "panics", "rejects", "later", "fine"]).await;
    let backoff = nats_eventbus::Backoff { initial: MS(20), ..Default::default() };
    let config = ConsumerConfig { max_deliver: Some(2), backoff, ..group() };
    let c = bus.consumer("t", config).await.unwrap();
    let seen: Arc<Mutex<Vec<(String, u64)>>> = Arc::default();
    let (worker, log) = (c.clone(), seen.clone());
    let run = tokio::spawn(async move {
        worker
            .run(|d| {
                log.lock().push((body(&d), d.attempt()));
                async move {
                    match (&d.body[..], d.attempt()) {
                        (b"fails", _) => Handled::from(Err("no text")),
                        (b"panics", 1) => panic!("at the first try"),
                        (b"rejects", _) => Handled::Rejected("never".into()),
                        (b"later", 1) => Handled::RetryAfter(MS(10)),
                        _ => Handled::Done,
                    }
                }
            })
            .await
    });
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
    until(|| bus.metrics().dead_letters == 2).await;
    bus.close().await.unwrap();
    run.await.unwrap().unwrap();
    let mut seen = seen.lock().clone();
    seen.sort();
    let want = [
        ("fails", 1),
        ("fails", 2),
        ("fine", 1),
        ("fine", 1),
        ("later", 1),
        ("later", 2),
        ("panics", 1),
        ("panics", 2),
        ("rejects", 1),
    ];
    assert_eq!(seen, want.map(|(body, attempt)| (body.to_owned(), attempt)));
    assert_eq!(bus.metrics().handler_errors, 4);
}

/// Leaving: closing the bus lets running handlers finish, and gives the others what is buffered.
#[tokio::test]
async fn closing_lets_running_handlers_finish() {
    let server = Server::jetstream();
    let (bus, other) = (server.bus(true).await, server.bus(true).await);
    send(&bus, &["a", "b"]).await;
    let c = bus.consumer("t", group()).await.unwrap();
    let (running, go, run) = waiting(&c);
    until(|| running.load(Ordering::SeqCst) == 1 && bus.metrics().received == 2).await;
    let closing = tokio::spawn({
        let bus = bus.clone();
        async move { bus.close().await }
    });
    // The buffered one goes to another worker while the first handler runs on.
    let second = other.consumer("t", group()).await.unwrap();
    assert_eq!(body(&next(&second).await), "b");
    assert!(!closing.is_finished());
    go.add_permits(10);
    closing.await.unwrap().unwrap();
    run.await.unwrap().unwrap();
    assert_eq!(running.load(Ordering::SeqCst), 1);
    server.reaches("t", json!({"num_ack_pending": 1, "num_pending": 0})).await;
    other.close().await.unwrap();
}

/// Leaving: what has not finished by `drain_timeout`, another worker has at once; when the run is dropped, so has the
/// consumer itself, which is still open.
#[tokio::test]
async fn what_does_not_finish_goes_to_another_worker() {
    let server = Server::jetstream();
    for dropped in [false, true] {
        let bus = server.connect(json!({"jetstream": true, "drain_timeout": 0.3})).await.unwrap();
        let other = server.bus(true).await;
        send(&bus, &["x"]).await;
        let c = bus.consumer("t", group()).await.unwrap();
        let (running, _go, run) = waiting(&c);
        until(|| running.load(Ordering::SeqCst) == 1).await;
        let started = Instant::now();
        if dropped {
            run.abort();
        } else {
            bus.close().await.unwrap();
            run.await.unwrap().unwrap();
            assert!(started.elapsed() > MS(250), "{:?}", started.elapsed());
        }
        let second = if dropped { c } else { other.consumer("t", group()).await.unwrap() };
        let d = next(&second).await;
        assert!(d.attempt() == 2 && started.elapsed() < MS(5000), "{:?}", started.elapsed());
        second.ack_confirmed(d.token, MS(5000)).await.unwrap();
        other.close().await.unwrap();
        bus.close().await.unwrap();
    }
}

/// A consumer that cannot go on says so, once running handlers have finished.
#[tokio::test]
async fn a_run_that_cannot_go_on_says_so() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, &["x"]).await;
    let c = bus.consumer("t", group()).await.unwrap();
    let (running, go, run) = waiting(&c);
    until(|| running.load(Ordering::SeqCst) == 1).await;
    server.api("CONSUMER.DELETE.t_STREAM.g", "").await;
    until(|| c.take(1, &mut Vec::new()).is_err()).await;
    assert!(!run.is_finished());
    go.add_permits(1);
    assert_eq!(run.await.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
}

/// Core mode: a handler's error is counted; settling is a no-op.
#[tokio::test]
async fn core_mode() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let c = bus.consumer("t", group()).await.unwrap();
    let run = tokio::spawn({
        let c = c.clone();
        async move {
            c.run(async |d| match &d.body[..] {
                b"fails" => Handled::Failed("no".into()),
                b"later" => Handled::RetryAfter(MS(1)),
                _ => Handled::Done,
            })
            .await
        }
    });
    send(&bus, &["fine", "fails", "later"]).await;
    until(|| bus.metrics().handler_errors == 2).await;
    c.close().await.unwrap();
    run.await.unwrap().unwrap();
}
