//! The connection: which servers it may use, and what it signs in with after a loss. Contract lines are named at the tests.

#![allow(clippy::unwrap_used)] // helpers of tests

use crate::support::{Server, until};
use nats_eventbus::{ErrorKind, ProducerConfig, SendOptions, State};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn quick() -> Value {
    json!({"initial": 0.05, "max": 0.2})
}

/// Connection: state is observable: connected, disconnected, connected again, closed.
#[tokio::test]
async fn states() {
    let mut server = Server::core();
    let bus = server.bus(false).await;
    assert_eq!(bus.state(), State::Connected);
    server.kill();
    until(|| bus.state() == State::Disconnected).await;
    server.restart();
    until(|| bus.state() == State::Connected).await;
    assert_eq!(bus.metrics().reconnects, 1);
    bus.close().await.unwrap();
    assert_eq!(bus.state(), State::Closed);
}

/// Connection: reconnects for ever, with exponential backoff, capped: the waits are those of the setting.
#[tokio::test]
async fn reconnecting_backs_off_and_goes_on() {
    let mut server = Server::core();
    let backoff = json!({"initial": 0.1, "factor": 2, "max": 0.4, "jitter": 0});
    let bus = server.connect(json!({"reconnect": backoff})).await.unwrap();
    server.kill();
    // Whoever listens there now hangs up at once.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", server.port())).await.unwrap();
    let mut calls = Vec::new();
    while calls.len() < 8 {
        let call = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await;
        calls.push(Instant::now());
        drop(call.expect("no call").unwrap());
    }
    drop(listener);
    let waits: Vec<_> = calls.windows(2).map(|w| w[1] - w[0]).collect();
    // Uncapped they were longer, each of them.
    let (least, most) = (Duration::from_millis(390), Duration::from_millis(900));
    assert!(waits[4..].iter().all(|w| *w >= least) && waits[4..].iter().any(|w| *w < most), "{waits:?}");
    server.restart();
    until(|| bus.state() == State::Connected).await;
}

/// Connection: `tls://` anywhere in the pool means TLS everywhere: a server without it is not used.
#[tokio::test]
async fn tls_anywhere_is_tls_everywhere() {
    let plain = Server::core();
    let pool = format!("{},tls://127.0.0.1:1", plain.url());
    let e = plain.connect(json!({"servers": pool})).await.unwrap_err();
    assert!(e.code().starts_with("connection"), "{e:?}");
    let e = plain.connect(json!({"tls": {}})).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
}

/// Connection: credentials files are read again on every reconnect: rotated ones are picked up.
#[tokio::test]
async fn credentials_are_read_again() {
    let keys: Value = serde_json::from_str(include_str!("../shared/nkeys.json")).unwrap();
    let takes =
        |n: usize| format!("authorization {{ users = [ {{nkey: {}}} ] }}", keys["users"][n]["public"]);
    let seed = |n: usize| keys["users"][n]["seed"].as_str().unwrap().to_owned();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), seed(0)).unwrap();
    let mut server = Server::start(&[], &takes(0));
    let bus = server.connect(json!({"nkey": file.path(), "reconnect": quick()})).await.unwrap();
    server.kill();
    server.reconfigure(&takes(1));
    server.restart();
    until(|| bus.state() != State::Connected).await;
    let short = ProducerConfig { delivery_timeout: Duration::from_millis(600), ..ProducerConfig::default() };
    let p = bus.producer("t", short).unwrap();
    assert_eq!(p.send(b"x", SendOptions::default()).await.unwrap_err().kind(), ErrorKind::NotSent);
    std::fs::write(file.path(), seed(1)).unwrap();
    until(|| bus.state() == State::Connected).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    p.flush().await.unwrap();
}
