//! Streams, requests and topics. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, next};
use nats_eventbus::{Bus, Config, Consumer, ConsumerConfig, ErrorKind, ProducerConfig, SendOptions, topic};
use serde_json::json;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, topic: &str, config: ProducerConfig) -> nats_eventbus::Result<u64> {
    let ack = bus.producer(topic, config)?.send(b"x", SendOptions::default()).await?;
    Ok(ack.unwrap().sequence)
}

/// Streams: found by subject first, so an operator's stream covering the topic is used, and none is declared.
#[tokio::test]
async fn an_operators_stream_is_used() {
    let server = Server::jetstream();
    server.make("coze.workflow.>", json!({"name": "WIDE"})).await;
    let bus = server.bus(true).await;
    send(&bus, "coze.workflow.42.done", ProducerConfig::default()).await.unwrap();
    let c = bus.consumer("coze.workflow.*.done", group()).await.unwrap();
    assert_eq!(c.stream().map(|s| &**s), Some("WIDE"));
    assert_eq!(next(&c).await.topic.as_str(), "coze.workflow.42.done");
    let names: Vec<_> = bus.streams().await.unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["WIDE"]);
}

/// Streams: one that is missing is declared as the platform declares it, and so is a durable.
#[tokio::test]
async fn declared_as_the_platform_does() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "a.b", ProducerConfig::default()).await.unwrap();
    bus.consumer("a.b", group()).await.unwrap();
    let stream = server.api("STREAM.INFO.a_b_STREAM", "").await["config"].clone();
    for (field, want) in [
        ("subjects", json!(["a.b"])),
        ("storage", json!("file")),
        ("retention", json!("limits")),
        ("max_age", json!(86_400_000_000_000_u64)),
        ("max_msgs", json!(1_000_000)),
        ("max_bytes", json!(1 << 30)),
        ("num_replicas", json!(1)),
        ("duplicate_window", json!(120_000_000_000_u64)),
    ] {
        assert_eq!(stream[field], want, "{field}");
    }
    let durable = server.group("a.b", "g").await["config"].clone();
    for (field, want) in [
        ("durable_name", json!("g")),
        ("filter_subject", json!("a.b")),
        ("ack_policy", json!("explicit")),
        ("ack_wait", json!(30_000_000_000_u64)),
        ("max_deliver", json!(-1)),
    ] {
        assert_eq!(durable[field], want, "{field}");
    }
}

/// Streams: declared with `NATS_STREAM_REPLICAS`: one server alone refuses 3, in its own words.
#[tokio::test]
async fn declared_with_the_replicas_of_the_environment() {
    let server = Server::jetstream();
    let env = |name: &str| (name == "NATS_STREAM_REPLICAS").then(|| "3".to_owned());
    let settings = json!({"servers": server.url(), "jetstream": true});
    let bus = Bus::connect(Config::load(settings.clone(), env).unwrap(), &[]).await.unwrap();
    let e = send(&bus, "t", ProducerConfig::default()).await.unwrap_err();
    assert!(e.server_text().unwrap().contains("replicas"), "{e}");
    let e = bus.consumer("t", group()).await.unwrap_err();
    assert!(e.server_text().unwrap().contains("replicas"), "{e}");
}

/// Streams: `declare: false` makes a stream's absence an error, for one handle or the whole connection.
#[tokio::test]
async fn without_declaring_absence_is_an_error() {
    let server = Server::jetstream();
    let strict = server.connect(json!({"jetstream": true, "declare": false})).await.unwrap();
    for (bus, declare, name) in [(server.bus(true).await, Some(false), "here"), (strict, None, "there")] {
        let config = ProducerConfig { declare, ..ProducerConfig::default() };
        let sent = send(&bus, name, config.clone()).await.unwrap_err();
        let consumed = bus.consumer(name, ConsumerConfig { declare, ..group() }).await.unwrap_err();
        for e in [sent, consumed] {
            assert_eq!((e.kind(), e.topic_name()), (ErrorKind::NotFound, Some(name)));
            assert!(e.message().contains("declare"), "{e}");
        }
        server.make(name, json!({})).await;
        assert_eq!(send(&bus, name, config).await.unwrap(), 1, "one that is there is used");
    }
}

/// Streams: a stream is never altered unless asked: sending, consuming and declaring leave an odd one as it is.
#[tokio::test]
async fn a_stream_is_never_altered() {
    let server = Server::jetstream();
    let odd = json!({"max_msgs": 17, "storage": "memory", "duplicate_window": 40_000_000_000_u64, "description": "theirs"});
    server.make("t", odd).await;
    let before = server.api("STREAM.INFO.t_STREAM", "").await["config"].clone();
    let bus = server.bus(true).await;
    send(&bus, "t", ProducerConfig::default()).await.unwrap();
    let c = bus.consumer("t", group()).await.unwrap();
    c.ack_confirmed(next(&c).await.token, SECOND).await.unwrap();
    bus.declare_stream("t_STREAM", &["t".into()]).await.unwrap();
    let e = bus.declare_stream("t_STREAM", &["t".into(), "more".into()]).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert_eq!(server.api("STREAM.INFO.t_STREAM", "").await["config"], before);
}

/// Answers each request with a name, and writes the requests down.
fn answering(responder: Consumer, name: &'static str, seen: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(d) = responder.next().await.unwrap() {
            seen.lock().unwrap().push(String::from_utf8_lossy(&d.body).into_owned());
            responder.reply(&d, Ok(name.as_bytes())).unwrap();
        }
    })
}

async fn ask(bus: &Bus, body: &str) -> String {
    let none = SendOptions::default();
    let reply = bus.request("ask", body.as_bytes(), &none, 5 * SECOND).await.unwrap();
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// Request and reply: responders of one group share the load: each request is answered by exactly one.
#[tokio::test]
async fn responders_share() {
    let server = Server::core();
    let (one, two) = (server.bus(false).await, server.bus(false).await);
    let seen = Arc::new(Mutex::new(Vec::new()));
    for (bus, name) in [(&one, "a"), (&two, "b")] {
        answering(bus.respond("ask", "agents").await.unwrap(), name, seen.clone());
    }
    let mut by = HashSet::new();
    for n in 0..200 {
        by.insert(ask(&one, &n.to_string()).await);
    }
    assert_eq!(by, HashSet::from(["a".to_owned(), "b".to_owned()]));
    let mut numbers: Vec<u32> = seen.lock().unwrap().iter().map(|s| s.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..200));
}

/// Request and reply: closing one lets its running requests finish, and leaves new ones to the others at once.
#[tokio::test]
async fn closing_a_responder_lets_running_requests_finish() {
    let server = Server::core();
    let (bus, other) = (server.bus(false).await, server.bus(false).await);
    let slow = bus.respond("ask", "agents").await.unwrap();
    let early = tokio::spawn({
        let bus = bus.clone();
        async move { ask(&bus, "x").await }
    });
    let running = next(&slow).await;
    slow.close().await.unwrap();
    let quick = other.respond("ask", "agents").await.unwrap();
    answering(quick, "quick", Arc::default());
    for _ in 0..20 {
        assert_eq!(ask(&bus, "x").await, "quick");
    }
    assert!(!early.is_finished());
    slow.reply(&running, Ok(b"slow")).unwrap();
    assert_eq!(early.await.unwrap(), "slow");
}

/// Topics: `$`-prefixed and `_INBOX` roots are refused for publishing, requesting and building.
#[tokio::test]
async fn the_servers_own_roots_are_refused() {
    let server = Server::core();
    let bus = server.bus(false).await;
    for name in ["$SYS.REQ.x", "$JS.API.INFO", "$KV.agents.k", "_INBOX.abc", "_INBOX"] {
        let sent = bus.producer(name, ProducerConfig::default()).map(drop);
        let asked = bus.request(name, b"x", &SendOptions::default(), SECOND).await.map(drop);
        let built = topic(&name.split('.').collect::<Vec<_>>()).map(drop);
        for result in [sent, asked, built] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidTopic, "{name}");
        }
    }
}

/// Topics: a token with `.`, `*`, `>`, white space or control characters is an error, not an escape.
#[test]
fn a_bad_token_is_an_error_and_not_escaped() {
    for bad in ["", ".", "a.b", "*", ">", "a*", "a b", "a\t", "a\r\nPUB x", "\0", "\u{7f}", "\u{2003}"] {
        let e = topic(&["coze", bad, "done"]).unwrap_err();
        assert!(e.kind() == ErrorKind::InvalidTopic && e.message().contains("token 2"), "{bad:?}: {e}");
    }
}

/// Streams: messages can be purged, all or some, and the consumers listed.
#[tokio::test]
async fn purged_and_asked_for_its_consumers() {
    let server = Server::jetstream();
    server.make("p.>", json!({"name": "P"})).await;
    let bus = server.bus(true).await;
    for topic in ["p.a", "p.a", "p.a", "p.b", "p.b"] {
        send(&bus, topic, ProducerConfig::default()).await.unwrap();
    }
    let c = bus.consumer("p.a", group()).await.unwrap();
    next(&c).await;
    let stream = bus.stream("P");
    let [consumer] = &stream.consumers().await.unwrap()[..] else { panic!("not one") };
    assert_eq!((&*consumer.name, &*consumer.stream, consumer.durable), ("g", "P", true));
    assert_eq!((&consumer.topics[..], consumer.ack_wait), (&["p.a".to_owned()][..], 30 * SECOND));
    assert!(consumer.ack_pending > 0 && !consumer.paused, "{consumer:?}");
    assert_eq!(stream.purge(Some("p.b"), None, None).await.unwrap(), 2);
    assert_eq!(stream.purge(None, None, Some(2)).await.unwrap(), 1);
    assert_eq!(stream.purge(None, Some(1), None).await.unwrap(), 1);
    assert_eq!(stream.info().await.unwrap().messages, 1);
    assert_eq!(stream.purge(None, None, None).await.unwrap(), 1);
    for (keep, before) in [(Some(1), Some(1)), (Some(0), None), (None, Some(0))] {
        assert_eq!(stream.purge(None, keep, before).await.unwrap_err().kind(), ErrorKind::Config);
    }
    let gone = bus.stream("NONE");
    assert_eq!(gone.purge(None, None, None).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(gone.consumers().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(bus.stream("no.name").consumers().await.unwrap_err().kind(), ErrorKind::Config);
}
