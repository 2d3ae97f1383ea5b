//! Fair shares and bounded bytes. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next, until};
use nats_eventbus::{Bus, ConsumerConfig, ProducerConfig, SendOptions, Settle};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, bodies: &[Vec<u8>]) {
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    for result in p.send_many(bodies, &SendOptions::default()).await.unwrap() {
        result.unwrap();
    }
}

/// Workers of slow jobs share them: equal workers differ by at most two.
#[tokio::test]
async fn workers_of_slow_jobs_share_them() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let jobs = 48;
    send(&bus, &vec![b"job".to_vec(); jobs]).await;
    let done: Vec<_> = (0..4).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let mut runs = Vec::new();
    for counter in &done {
        let (worker, counter) = (server.bus(true).await, counter.clone());
        let c = worker.consumer("t", group()).await.unwrap();
        runs.push((
            worker,
            tokio::spawn(async move {
                c.run(async |_| {
                    tokio::time::sleep(MS(100)).await;
                    counter.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, String>(())
                })
                .await
            }),
        ));
    }
    let shares = || done.iter().map(|n| n.load(Ordering::SeqCst)).collect::<Vec<_>>();
    until(|| shares().iter().sum::<usize>() == jobs).await;
    let shares = shares();
    assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 2, "{shares:?}");
    for (worker, run) in runs {
        worker.close().await.unwrap();
        run.await.unwrap().unwrap();
    }
}

/// Prefetch is by credit, in bytes as well: large messages come a few at a time, and one of any size comes.
#[tokio::test]
async fn prefetch_is_bounded_in_bytes() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, &vec![vec![b'x'; 100_000]; 30]).await;
    for (prefetch_bytes, most) in [(450_000, 4), (1000, 1)] {
        let group = format!("g{most}");
        let config =
            ConsumerConfig { group, prefetch: Some(30), prefetch_bytes, ..ConsumerConfig::default() };
        let other = server.bus(true).await;
        let c = other.consumer("t", config).await.unwrap();
        c.handle();
        let begun = Instant::now();
        for n in 0..10 {
            let d = next(&c).await;
            until(|| other.metrics().received > n || begun.elapsed() > MS(100)).await;
            assert!(other.metrics().received <= n + most, "{} at {n}", other.metrics().received);
            c.settle(d.token, &Settle::Ack);
        }
        assert_eq!(other.metrics().redelivered, 0);
        c.handled();
        other.close().await.unwrap();
    }
}

/// `max_processing` starts with the handler: what waits longer than that is handled once, as it is.
#[tokio::test]
async fn the_clock_of_max_processing_starts_with_the_handler() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, &vec![b"job".to_vec(); 12]).await;
    let config =
        ConsumerConfig { prefetch: Some(12), max_processing: MS(1000), ack_wait: Some(MS(600)), ..group() };
    let c = bus.consumer("t", config).await.unwrap();
    c.handle();
    for _ in 0..12 {
        let d = next(&c).await;
        assert_eq!(d.attempt(), 1);
        tokio::time::sleep(MS(250)).await;
        c.settle(d.token, &Settle::Ack);
    }
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
    assert_eq!(bus.metrics().redelivered, 0);
}

/// An iteration that is left keeps nothing from others: after an ack wait without a take what is buffered is given back.
/// It goes on with the next take.
#[tokio::test]
async fn an_iteration_that_is_left_gives_back_what_is_buffered() {
    let server = Server::jetstream();
    let (bus, other) = (server.bus(true).await, server.bus(true).await);
    send(&bus, &vec![b"x".to_vec(); 20]).await;
    let config = ConsumerConfig { prefetch: Some(30), ack_wait: Some(MS(800)), ..group() };
    let left = bus.consumer("t", config).await.unwrap();
    let first = next(&left).await;
    left.settle(first.token, &Settle::Ack);
    // It has all of them, and asks for more.
    until(|| bus.metrics().received == 20).await;
    let second = other.consumer("t", group()).await.unwrap();
    let mut got = 0;
    while got < 19 {
        for d in second.fetch(19, MS(5000)).await.unwrap() {
            assert!(d.attempt() >= 2, "given back");
            second.settle(d.token, &Settle::Ack);
            got += 1;
        }
    }
    send(&bus, &[b"again".to_vec()]).await;
    let d = tokio::select! { d = next(&left) => d, d = next(&second) => d };
    assert_eq!(&d.body[..], b"again");
}

/// Closing a consumer ends every extension: what was taken and not settled comes again after its ack wait.
#[tokio::test]
async fn closing_ends_every_extension() {
    let server = Server::jetstream();
    let (bus, other) = (server.bus(true).await, server.bus(true).await);
    send(&bus, &[b"x".to_vec()]).await;
    let c = bus.consumer("t", ConsumerConfig { ack_wait: Some(MS(800)), ..group() }).await.unwrap();
    let kept = next(&c).await;
    c.close().await.unwrap();
    let closed = Instant::now();
    let again = next(&other.consumer("t", group()).await.unwrap()).await;
    assert!(again.attempt() >= 2 && again.body == kept.body, "{again:?}");
    assert!(closed.elapsed() < MS(5000), "{:?}", closed.elapsed());
}

/// Once handlers have ended, an iteration of the same consumer holds as many messages as it likes.
#[tokio::test]
async fn an_iteration_after_handlers_is_an_iteration() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, &vec![b"x".to_vec(); 12]).await;
    let c = bus.consumer("t", group()).await.unwrap();
    c.handle();
    let first = next(&c).await;
    c.handled();
    let mut kept = vec![first];
    while kept.len() < 12 {
        kept.push(next(&c).await);
    }
    for d in kept {
        assert!(c.settle(d.token, &Settle::Ack));
    }
    server.reaches("t", json!({"num_ack_pending": 0, "num_pending": 0})).await;
}
