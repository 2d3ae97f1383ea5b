//! Whose answer an answer is: reply topics that are used again, and answers that are nobody's. Contract lines are named at
//! the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, until};
use futures_util::StreamExt;
use nats_eventbus::{ErrorKind, Producer, ProducerConfig, SendOptions};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Where the messages of a topic ask to be answered, as somebody else sees them; who may answer, too.
async fn replies(
    server: &Server,
    topic: &'static str,
    answer: Option<&'static str>,
) -> Arc<Mutex<Vec<String>>> {
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut sub = client.subscribe(topic).await.unwrap();
    // Its own message came back: the server knows both subscriptions. A flush would not show that.
    let mut echo = client.subscribe("echo").await.unwrap();
    client.publish("echo", "".into()).await.unwrap();
    echo.next().await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = seen.clone();
    tokio::spawn(async move {
        while let Some(m) = sub.next().await {
            let reply = m.reply.unwrap();
            if let Some(answer) = answer {
                client.publish(reply.clone(), answer.into()).await.unwrap();
            }
            all.lock().unwrap().push(reply.to_string());
        }
    });
    seen
}

async fn send(p: &Producer) -> u64 {
    p.send(b"x", SendOptions::default()).await.unwrap().unwrap().sequence
}

/// Publishing: one outcome: the ack of one message is never taken for that of another, whose reply topic it was.
#[tokio::test]
async fn a_reply_topic_is_used_again_only_once_nothing_more_can_come_to_it() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let quick =
        bus.producer("t", ProducerConfig { ack_timeout: MS(100), ..ProducerConfig::default() }).unwrap();
    // Both have looked their stream up; what the second waits for is behind any further attempt of the first.
    assert_eq!((send(&quick).await, send(&p).await), (1, 2));
    let seen = replies(&server, "t", None).await;
    for n in 3..=11 {
        assert_eq!(send(&p).await, n);
    }
    until(|| seen.lock().unwrap().len() >= 9).await;
    let first = seen.lock().unwrap().remove(0);
    assert!(seen.lock().unwrap().drain(..).all(|r| r == first), "one at a time: one topic");

    // Several attempts, each of which is answered: what comes after the first answer finds nobody.
    let before = bus.metrics().retried;
    server.pause();
    let late = tokio::spawn({
        let quick = quick.clone();
        async move { send(&quick).await }
    });
    until(|| bus.metrics().retried >= before + 2).await;
    server.resume();
    assert_eq!(late.await.unwrap(), 12);
    for n in 13..=21 {
        assert_eq!(send(&p).await, n);
    }
    until(|| seen.lock().unwrap().len() >= 9 + 3).await;
    assert_eq!(server.stored("t_STREAM").await, 21);
    let seen = seen.lock().unwrap();
    let attempts = seen.iter().filter(|r| **r == first).count();
    assert!(attempts >= 3, "all attempts of one message: {attempts}");
    let after: HashSet<_> = seen.iter().skip(attempts).collect();
    assert!(after.len() == 1 && !after.contains(&first), "{seen:?}");
}

/// Publishing: one honest outcome, also where a service answers on a stream's topic: only the stream says what is stored.
#[tokio::test]
async fn what_somebody_else_answers_is_no_outcome() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    send(&p).await;
    let seen = replies(&server, "t", Some("hello")).await;
    let mut sequences = HashSet::from([1]);
    for _ in 0..100 {
        sequences.insert(send(&p).await);
    }
    for sent in p.send_many(&[b"x"; 900], &SendOptions::default()).await.unwrap() {
        sequences.insert(sent.unwrap().unwrap().sequence);
    }
    assert_eq!((sequences.len(), server.stored("t_STREAM").await), (1001, 1001));
    // Answered twice: by now no topic is used again.
    until(|| seen.lock().unwrap().len() >= 1000).await;
    let last: HashSet<_> = seen.lock().unwrap().drain(900..).collect();
    assert_eq!(last.len(), 100);
}

/// Publishing: unknown where no ack came, and the error says who answered instead.
#[tokio::test]
async fn a_service_in_a_streams_place() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let config =
        ProducerConfig { delivery_timeout: MS(2000), ack_timeout: MS(200), ..ProducerConfig::default() };
    let p = bus.producer("t", config).unwrap();
    send(&p).await;
    let _seen = replies(&server, "t", Some("hello")).await;
    server.api("STREAM.DELETE.t_STREAM", "").await;
    let e = p.send(b"x", SendOptions::default()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PublishUnknown);
    assert!(e.to_string().contains("another service answers on this topic"), "{e}");
}
