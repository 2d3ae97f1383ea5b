//! Issue 4, item 4: `ws://` and `wss://` against a real server's WebSocket listener.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests may

use crate::support::{Server, certs::Authority, free_port, next};
use nats_eventbus::{Bus, Config, ConsumerConfig, ErrorKind, EventKind, ProducerConfig, Result, SendOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

async fn connect(settings: Value) -> Result<Bus> {
    Bus::connect(Config::load(settings, |_| None)?, &[]).await
}

/// Stores and receives, before and after a reconnect.
async fn works(bus: &Bus) {
    let (p, group) = (bus.producer("t.x", ProducerConfig::default()).unwrap(), "g".to_owned());
    let config = ConsumerConfig { group, ..ConsumerConfig::default() };
    for _ in 0..2 {
        // Larger than a frame of the client's.
        assert!(p.send(&vec![7; 300_000], SendOptions::default()).await.unwrap().is_some());
        bus.force_reconnect().await.unwrap();
    }
    let c = bus.consumer("t.x", config).await.unwrap();
    for _ in 0..2 {
        let d = next(&c).await;
        assert_eq!(d.body.len(), 300_000);
        c.ack_confirmed(d.token, std::time::Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test]
async fn plain_with_a_password() {
    let port = free_port();
    let config = format!(
        "websocket {{ listen: \"127.0.0.1:{port}\", no_tls: true }}\nauthorization {{ users = [ {{user: app, password: right}} ] }}"
    );
    let mut server = Server::start(&["-js"], &config);
    let url = format!("ws://app:right@127.0.0.1:{port}");
    let bus =
        connect(json!({"servers": url, "jetstream": true, "reconnect": {"initial": 0.02, "max": 0.05}}))
            .await
            .unwrap();
    works(&bus).await;
    let events = bus.events();
    server.kill();
    server.restart();
    let deadline = std::time::Duration::from_secs(10);
    let again = async { while events.next().await.expect("an event").kind != EventKind::Reconnected {} };
    tokio::time::timeout(deadline, again).await.expect("a reconnect");
    bus.close().await.unwrap();
    let e = connect(json!({"servers": format!("ws://app:wrong@127.0.0.1:{port}")})).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Auth, "{e}");
    let e =
        connect(json!({"servers": format!("ws://127.0.0.1:{port}"), "require_tls": true})).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config, "{e}");
}

#[tokio::test]
async fn encrypted() {
    let (dir, port) = (TempDir::new().unwrap(), free_port());
    let authority = Authority::new(dir.path());
    authority.issue("server", &["127.0.0.1", "localhost"]);
    let tls = authority.tls("server", "");
    let server = Server::start(&["-js"], &format!("websocket {{ listen: \"127.0.0.1:{port}\", {tls} }}"));
    let (url, ca) = (format!("wss://127.0.0.1:{port}"), authority.path("ca.pem"));
    let bus = connect(json!({"servers": url, "jetstream": true, "tls": {"ca": ca}})).await.unwrap();
    works(&bus).await;
    bus.close().await.unwrap();
    let e = connect(json!({"servers": url})).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls, "an unknown authority: {e}");
    drop(server);
}
