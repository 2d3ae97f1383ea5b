//! What errors tell, and what nothing ever tells. Contract lines are named at the tests.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod support;

use crate::support::{Server, log, next};
use nats_eventbus::{
    Bus, Config, ConsumerConfig, Error, ErrorKind, ProducerConfig, Result, SendOptions, Settle,
};
use serde_json::{Value, json};
use std::{fmt::Write, time::Duration};

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, topic: &str) -> Result<()> {
    send_with(bus, topic, ProducerConfig::default(), SendOptions::default()).await
}

async fn send_with(bus: &Bus, topic: &str, config: ProducerConfig, options: SendOptions) -> Result<()> {
    bus.producer(topic, config)?.send(&[b'x'; 100], options).await.map(drop)
}

/// The fields that must name what is concerned; `server` its own text.
fn names(e: &Error, kind: ErrorKind, fields: &str) {
    assert_eq!(e.kind(), kind, "{e:?}");
    for field in fields.split(' ') {
        let (has, want) = match field {
            "topic" => (e.topic_name(), Some("t")),
            "stream" => (e.stream_name(), Some("t_STREAM")),
            "group" => (e.group_name(), Some("g")),
            _ => (e.server_text(), e.server_text().filter(|t| !t.is_empty()).or(Some("its text"))),
        };
        assert_eq!(has, want, "{field} of {e:?}");
        assert!(e.to_string().contains(has.unwrap()), "{field} in {e}");
    }
}

/// Errors: a refused message: the kind says what to do, topic, stream and the server's own text are named.
#[tokio::test]
async fn a_refusal_names_topic_stream_and_the_servers_words() {
    let cases = [
        (json!({"max_msgs": 1, "discard": "new"}), ErrorKind::StreamFull),
        (json!({"max_msg_size": 10}), ErrorKind::TooLarge),
    ];
    for (settings, kind) in cases {
        let server = Server::jetstream();
        server.make("t", settings).await;
        let bus = server.bus(true).await;
        let e = match send(&bus, "t").await {
            Ok(()) => send(&bus, "t").await.unwrap_err(),
            Err(e) => e,
        };
        assert_eq!(e.retryable(), kind == ErrorKind::StreamFull);
        names(&e, kind, "topic server stream");
    }
}

/// Errors: a wrong sequence names topic, stream and the server's own text.
#[tokio::test]
async fn a_wrong_sequence_names_topic_stream_and_the_servers_words() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let wrong = SendOptions { expected_last_sequence: Some(7), ..SendOptions::default() };
    let e = send_with(&bus, "t", ProducerConfig::default(), wrong).await.unwrap_err();
    names(&e, ErrorKind::WrongSequence, "topic server stream");
}

/// Errors: an unknown outcome names topic and stream: where to look for it.
#[tokio::test]
async fn an_unknown_outcome_names_topic_and_stream() {
    let server = Server::jetstream();
    server.silence("t").await;
    let bus = server.bus(true).await;
    let short = ProducerConfig { delivery_timeout: Duration::from_secs(2), ..ProducerConfig::default() };
    let e = send_with(&bus, "t", short, SendOptions::default()).await.unwrap_err();
    names(&e, ErrorKind::PublishUnknown, "topic stream");
}

/// Errors: those of consumers name topic, stream and group.
#[tokio::test]
async fn errors_of_consumers_name_topic_stream_and_group() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let c = bus.consumer("t", group()).await.unwrap();
    let other = ConsumerConfig { ack_wait: Some(Duration::from_secs(7)), ..group() };
    names(&bus.consumer("t", other).await.unwrap_err(), ErrorKind::Conflict, "topic stream group");
    server.api("STREAM.DELETE.t_STREAM", "").await;
    names(&c.next().await.unwrap_err(), ErrorKind::NotFound, "topic stream group server");
    names(&bus.stream("t_STREAM").info().await.unwrap_err(), ErrorKind::NotFound, "stream server");
    c.close().await.unwrap();
}

/// Errors: a message settled before names topic and group.
#[tokio::test]
async fn settling_twice_names_topic_and_group() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    send(&bus, "t").await.unwrap();
    let c = bus.consumer("t", group()).await.unwrap();
    let d = next(&c).await;
    c.settle(d.token, &Settle::Ack);
    let e = c.ack_confirmed(d.token, Duration::from_secs(1)).await.unwrap_err();
    names(&e, ErrorKind::Conflict, "topic group");
}

/// Errors: what is closed says so, and names its topic.
#[tokio::test]
async fn what_is_closed_names_its_topic() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.close();
    names(&p.send(b"x", SendOptions::default()).await.unwrap_err(), ErrorKind::Closed, "topic");
    let c = bus.consumer("t", group()).await.unwrap();
    c.close().await.unwrap();
    names(&c.fetch(1, Duration::from_secs(1)).await.unwrap_err(), ErrorKind::Closed, "topic");
}

/// Errors: a request that fails names its topic, and holds the responder's own text.
#[tokio::test]
async fn a_request_that_fails_names_its_topic() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let (none, short) = (SendOptions::default(), Duration::from_millis(100));
    let e = bus.request("t", b"x", &none, Duration::from_secs(5)).await.unwrap_err();
    names(&e, ErrorKind::NoResponders, "topic");
    let responder = bus.respond("t", "g").await.unwrap();
    names(&bus.request("t", b"x", &none, short).await.unwrap_err(), ErrorKind::Timeout, "topic");
    let answering = tokio::spawn(async move {
        for _ in 0..2 {
            let d = next(&responder).await;
            responder.reply(&d, Err("no such agent")).unwrap();
        }
        responder
    });
    let e = bus.request("t", b"x", &none, Duration::from_secs(5)).await.unwrap_err();
    drop(answering);
    names(&e, ErrorKind::RequestFailed, "server topic");
}

/// Errors: one stable code per kind: programs compare them, so they are written down here once more.
#[test]
fn codes_are_stable() {
    let codes = [
        (ErrorKind::Config, "config", false),
        (ErrorKind::Connection, "connection", true),
        (ErrorKind::Auth, "connection.auth", false),
        (ErrorKind::Tls, "connection.tls", false),
        (ErrorKind::Permission, "permission", false),
        (ErrorKind::NotFound, "not_found", false),
        (ErrorKind::Conflict, "conflict", false),
        (ErrorKind::PublishRejected, "publish.rejected", false),
        (ErrorKind::TooLarge, "publish.rejected.too_large", false),
        (ErrorKind::WrongSequence, "publish.rejected.wrong_sequence", false),
        (ErrorKind::StreamFull, "publish.rejected.stream_full", true),
        (ErrorKind::NotSent, "publish.rejected.not_sent", true),
        (ErrorKind::InvalidTopic, "publish.rejected.invalid_topic", false),
        (ErrorKind::InvalidHeader, "publish.rejected.invalid_header", false),
        (ErrorKind::PublishUnknown, "publish.unknown", true),
        (ErrorKind::Backpressure, "backpressure", true),
        (ErrorKind::Timeout, "timeout", true),
        (ErrorKind::NoResponders, "request.no_responders", true),
        (ErrorKind::RequestFailed, "request.failed", false),
        (ErrorKind::Closed, "closed", false),
        (ErrorKind::Decode, "decode", false),
    ];
    for (kind, code, retryable) in codes {
        assert_eq!((kind.code(), kind.retryable()), (code, retryable), "{kind:?}");
    }
}

const HUNTER: &str = "hunter2-TopSecret";
const JWT: &str = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJVU0VSIn0.c2lnbmF0dXJl";

/// All that is said about settings that hold secrets: the setting, or why it is wrong; the bus, or why there is none.
async fn told(settings: Value) -> String {
    let config = match Config::load(settings, |_| None) {
        Ok(config) => config,
        Err(e) => return format!("{e} {e:?} {}", e.to_json()),
    };
    let mut out = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    match Bus::connect(config, &[]).await {
        Ok(bus) => {
            write!(out, "{bus:?} {:?} {:?}", bus.config(), bus.server()).unwrap();
            bus.close().await.unwrap();
        }
        Err(e) => write!(out, "{e} {e:?} {}", e.to_json()).unwrap(),
    }
    out
}

async fn is_kept(settings: Value, secrets: &[&str]) {
    log::start();
    let refuses = Server::start(&[], r#"authorization { users = [ {user: "app", password: "right"} ] }"#);
    let takes_anyone = Server::core();
    // One that refuses, one that takes anyone, and one that is not there.
    for port in [refuses.port(), takes_anyone.port(), 1] {
        let mut settings = settings.clone();
        let servers = settings["servers"].as_str().unwrap_or("nats://HOST");
        settings["servers"] = servers.replace("HOST", &format!("127.0.0.1:{port}")).into();
        let said = told(settings).await;
        let logged = log::all();
        assert!(said.len() > 20 && logged.len() > 20, "the test sees nothing");
        for text in [said, logged] {
            assert!(!secrets.iter().any(|s| text.contains(s)), "told in {text}");
        }
    }
}

fn seed() -> String {
    let keys: Value = serde_json::from_str(include_str!("../shared/nkeys.json")).unwrap();
    keys["users"][0]["seed"].as_str().unwrap().to_owned()
}

/// Errors: no secret in any message, repr or log line, at any level: each way to sign in.
#[tokio::test]
async fn no_secret_is_told() {
    let seed = seed();
    is_kept(json!({"user": "app", "password": HUNTER}), &[HUNTER]).await;
    is_kept(json!({"token": HUNTER}), &[HUNTER]).await;
    is_kept(json!({"nkey": seed}), &[&seed]).await;
    is_kept(json!({"jwt": JWT, "nkey": seed}), &[JWT, &seed]).await;
}

/// Errors: no secret in any message, repr or log line, at any level: one in an address.
#[tokio::test]
async fn no_secret_of_an_address_is_told() {
    for servers in [
        format!("nats://app:{HUNTER}@HOST"),
        format!("nats://{HUNTER}@HOST"),
        format!("nats://app:{HUNTER}@x@HOST"),
        format!("http://app:{HUNTER}@HOST"),
        format!("nats://app:{HUNTER},x@HOST"),
        format!("nats://{HUNTER},x@HOST"),
        format!("app:{HUNTER},x@HOST"),
        format!("nats://:{HUNTER}@HOST"),
        format!("local:///nonexistent,nats://app:{HUNTER}@HOST"),
    ] {
        is_kept(json!({"servers": servers}), &[HUNTER]).await;
    }
}

/// Errors: no secret in any message: mistakes are told without what was mistaken.
#[tokio::test]
async fn no_secret_is_told_of_mistakes() {
    let seed = seed();
    is_kept(json!({"token": HUNTER, "nkey": seed}), &[HUNTER, &seed]).await;
    is_kept(json!({"nkey": format!("{}AA", &seed[..seed.len() - 2])}), &[&seed[..seed.len() - 2]]).await;
}

/// Errors: no secret in any message: a secret of a wrong type is not shown.
#[tokio::test]
async fn no_secret_is_told_of_a_wrong_type() {
    is_kept(json!({"token": [HUNTER]}), &[HUNTER]).await;
    is_kept(json!({"user": "app", "password": 82_736_455}), &["82736455"]).await;
}
