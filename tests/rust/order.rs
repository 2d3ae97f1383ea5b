//! Order per key and of a whole stream, retries included; what prefetch bounds. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next, until};
use nats_eventbus::{
    Backoff, Bus, Consumer, ConsumerConfig, Delivery, Handled, Order, ProducerConfig, SendOptions, Settle,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

fn group(order: Option<Order>) -> ConsumerConfig {
    let backoff = Backoff { initial: Duration::from_millis(20), ..Backoff::default() };
    ConsumerConfig { group: "g".into(), order, backoff, ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, messages: &[(&str, &str)]) {
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    for (key, body) in messages {
        let options = SendOptions { key: Some((*key).into()), ..SendOptions::default() };
        p.send(body.as_bytes(), options).await.unwrap();
    }
}

fn body(d: &Delivery) -> String {
    String::from_utf8_lossy(&d.body).into_owned()
}

async fn nothing(c: &Consumer) -> bool {
    c.fetch(1, Duration::from_millis(150)).await.unwrap().is_empty()
}

/// Consuming: `order="key"` keeps each key in order through retries; other keys go on.
#[tokio::test]
async fn a_retry_holds_up_its_key_alone() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, &[("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")]).await;
    let c = bus.consumer("t", group(Some(Order::Key))).await.unwrap();
    let (a1, b1) = (next(&c).await, next(&c).await);
    assert_eq!((body(&a1), body(&b1)), ("a1".into(), "b1".into()));
    assert!(nothing(&c).await, "one of a key at a time");
    c.finish(&a1, Handled::RetryAfter(Duration::from_secs(3)));
    c.finish(&b1, Handled::Done);
    let b2 = next(&c).await;
    assert_eq!(body(&b2), "b2", "another key goes on");
    c.finish(&b2, Handled::Done);
    assert!(nothing(&c).await, "what is behind the retry waits");
    let a1 = next(&c).await;
    assert_eq!((body(&a1), a1.attempt()), ("a1".into(), 2));
    c.finish(&a1, Handled::Done);
    for want in ["a2", "a3"] {
        let d = next(&c).await;
        assert_eq!(body(&d), want);
        c.finish(&d, Handled::Done);
    }
}

/// Consuming: a prefetch filled by a key that waits for its retry does not keep the retry out.
#[tokio::test]
async fn a_full_prefetch_lets_the_retry_in() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, &(0..30).map(|_| ("k", "x")).collect::<Vec<_>>()).await;
    let c = bus.consumer("t", ConsumerConfig { prefetch: Some(4), ..group(Some(Order::Key)) }).await.unwrap();
    c.handle();
    let mut order = Vec::new();
    while order.len() < 30 {
        let d = next(&c).await;
        if d.attempt() == 1 && d.meta.as_ref().unwrap().sequence % 5 == 1 {
            c.finish(&d, Handled::Failed("once".into()));
            continue;
        }
        order.push(d.meta.as_ref().unwrap().sequence);
        c.finish(&d, Handled::Done);
    }
    assert_eq!(order, (1..=30).collect::<Vec<u64>>());
}

/// Consuming: a retry that another worker of the group took does not stop the key for ever.
#[tokio::test]
async fn a_retry_taken_by_another_worker_lets_the_key_go_on() {
    let server = Server::jetstream();
    let (one, two) = (server.bus(true).await, server.bus(true).await);
    send(&one, &[("k", "1"), ("k", "2")]).await;
    let c = one.consumer("t", group(Some(Order::Key))).await.unwrap();
    let first = next(&c).await;
    until(|| one.metrics().received == 2).await;
    c.settle(first.token, &Settle::Nak(Some(Duration::from_millis(300))));
    let other = two.consumer("t", group(None)).await.unwrap();
    // Whoever gets it; the one that holds the lane goes on in either case.
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for (name, c) in [("c", &c), ("other", &other)] {
            for d in c.fetch(1, Duration::from_millis(100)).await.unwrap() {
                seen.push((name, body(&d)));
                c.settle(d.token, &Settle::Ack);
            }
        }
    }
    assert!(seen.contains(&("c", "2".into())), "{seen:?}");
}

/// Consuming: lanes of many keys at once: each in order, with failures everywhere.
#[tokio::test]
async fn keys_stay_in_order_with_many_handlers_and_failures() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let keys: Vec<String> = (0..10).map(|k| format!("k{k}")).collect();
    let messages: Vec<_> = (0..300).map(|n| (keys[n % 10].as_str(), "x")).collect();
    send(&bus, &messages).await;
    let config = ConsumerConfig { concurrency: 8, prefetch: Some(40), ..group(Some(Order::Key)) };
    let c = bus.consumer("t", config).await.unwrap();
    c.handle();
    let done: Arc<Mutex<HashMap<String, Vec<u64>>>> = Arc::default();
    let workers = (0..8).map(|_| {
        let (c, done) = (c.clone(), done.clone());
        tokio::spawn(async move {
            while let Ok(Some(d)) = c.next().await {
                let sequence = d.meta.as_ref().unwrap().sequence;
                tokio::time::sleep(Duration::from_micros(fastrand::u64(0..2000))).await;
                if d.attempt() == 1 && sequence % 7 == 0 {
                    c.finish(&d, Handled::Failed("once".into()));
                } else {
                    done.lock().unwrap().entry(d.key().unwrap().into()).or_default().push(sequence);
                    c.finish(&d, Handled::Done);
                }
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    until(|| done.lock().unwrap().values().map(Vec::len).sum::<usize>() >= 300).await;
    c.close().await.unwrap();
    for w in workers {
        w.await.unwrap();
    }
    for (key, sequences) in &*done.lock().unwrap() {
        assert!(sequences.is_sorted() && sequences.len() == 30, "{key}: {sequences:?}");
    }
}

/// Consuming: `order="stream"` keeps the whole group, all its processes, in order (max ack pending 1).
#[tokio::test]
async fn the_whole_group_is_in_order() {
    let server = Server::jetstream();
    let (one, two) = (server.bus(true).await, server.bus(true).await);
    send(&one, &(0..20).map(|_| ("k", "x")).collect::<Vec<_>>()).await;
    let a = one.consumer("t", group(Some(Order::Stream))).await.unwrap();
    let b = two.consumer("t", group(Some(Order::Stream))).await.unwrap();
    let mut order = Vec::new();
    while order.len() < 20 {
        let (c, d) = tokio::select! {
            d = a.next() => (&a, d),
            d = b.next() => (&b, d),
        };
        let d = d.unwrap().unwrap();
        let sequence = d.meta.as_ref().unwrap().sequence;
        if d.attempt() == 1 && sequence % 4 == 0 {
            c.finish(&d, Handled::Failed("once".into()));
            continue;
        }
        order.push(sequence);
        c.finish(&d, Handled::Done);
    }
    assert_eq!(order, (1..=20).collect::<Vec<u64>>());
    let info = server.api("CONSUMER.INFO.t_STREAM.g", "").await;
    assert_eq!(info["config"]["max_ack_pending"], 1);
}

/// Consuming: prefetch by credit: with handlers, unsettled messages are never more than it.
#[tokio::test]
async fn handlers_never_hold_more_than_the_prefetch() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send_many(&[b"x"; 500], &SendOptions::default()).await.unwrap();
    let c = bus.consumer("t", ConsumerConfig { prefetch: Some(16), ..group(None) }).await.unwrap();
    c.handle();
    for n in 0..100 {
        let d = next(&c).await;
        if n % 10 == 0 {
            let m = bus.metrics();
            assert!(m.received - m.settled <= 16, "{m:?}");
        }
        c.finish(&d, Handled::Done);
    }
}

/// Consuming: prefetch where none was given: a slow handler holds what it runs, and one more. How it follows the pace is
/// `consumer::prefetch`'s own tests.
#[tokio::test]
async fn a_slow_handler_holds_no_more_than_the_default_prefetch() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send_many(&[b"x"; 1000], &SendOptions::default()).await.unwrap();
    let c = bus.consumer("t", group(None)).await.unwrap();
    c.handle();
    for settled in 0..3 {
        let d = next(&c).await;
        until(|| bus.metrics().received == 2 + settled).await;
        tokio::time::sleep(Duration::from_millis(100)).await; // the work
        assert_eq!(server.group("t", "g").await["num_ack_pending"], 2, "by the server's count");
        c.finish(&d, Handled::Done);
    }
}

/// Consuming: at least once, and not twice while it is here: what the server delivers again goes on under its new ack.
#[tokio::test]
async fn what_is_delivered_again_while_it_is_here_is_handled_once() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send_many(&[b"x"; 5], &SendOptions::default()).await.unwrap();
    let c = bus.consumer("t", ConsumerConfig { prefetch: Some(10), ..group(None) }).await.unwrap();
    let first = next(&c).await;
    until(|| bus.metrics().received == 5).await;
    // Somebody else asks for all of them again: the one that is handled, and the four that wait.
    let other = async_nats::connect(server.url()).await.unwrap();
    for n in 1..=5 {
        let ack = format!("$JS.ACK.t_STREAM.g.1.{n}.{n}.0.0");
        other.publish(ack, "-NAK".into()).await.unwrap();
    }
    other.flush().await.unwrap();
    until(|| bus.metrics().redelivered == 5).await;
    c.ack_confirmed(first.token, Duration::from_secs(5)).await.unwrap();
    let mut seen = vec![first.meta.unwrap().sequence];
    while seen.len() < 5 {
        let d = next(&c).await;
        seen.push(d.meta.as_ref().unwrap().sequence);
        c.ack_confirmed(d.token, Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(seen, [1, 2, 3, 4, 5]);
    assert!(nothing(&c).await);
}
