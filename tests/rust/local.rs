//! `local://`: one embedded server per folder, shared by its owners, stopped by the last, revived when it dies.
#![allow(clippy::unwrap_used)] // helpers of tests may

use crate::support;
use crate::support::until;
use nats_eventbus::{Bus, Config, ConsumerConfig, ProducerConfig, SendOptions, State};
use std::{path::Path, time::Duration};

async fn open(dir: &Path) -> Bus {
    let settings = serde_json::json!({"servers": format!("local://{}", dir.display())});
    Bus::connect(Config::load(settings, |_| None).unwrap(), &[support::binary()]).await.unwrap()
}

fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[tokio::test]
async fn two_owners_share_one_server_and_the_last_one_stops_it() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path()).await, open(dir.path()).await);
    assert_eq!(one.server(), two.server());
    assert!(one.config().jetstream, "the default of local://");
    one.producer("t", ProducerConfig::default()).unwrap().send(b"x", SendOptions::default()).await.unwrap();
    let port = one.server().port;
    one.close().await.unwrap();
    assert!(listens(port), "the other owner still needs it");
    let group = ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() };
    let c = two.consumer("t", group).await.unwrap();
    assert_eq!(&c.next().await.unwrap().unwrap().body[..], b"x");
    two.close().await.unwrap();
    assert!(!listens(port), "the last owner stops it");
    let again = open(dir.path()).await;
    assert_eq!(again.stream("t_STREAM").info().await.unwrap().messages, 1, "kept in the folder");
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_is_revived_and_nothing_acked_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"before", SendOptions::default()).await.unwrap();
    let state = std::fs::read(dir.path().join(".nats-eventbus/server.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let killed = std::process::Command::new("kill").args(["-9", &state["pid"].to_string()]).status().unwrap();
    assert!(killed.success());
    let ack = tokio::time::timeout(Duration::from_secs(15), p.send(b"after", SendOptions::default())).await;
    ack.expect("an outcome").unwrap();
    until(|| bus.state() == State::Connected).await;
    assert_eq!(bus.stream("t_STREAM").info().await.unwrap().messages, 2);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_one_is_a_config_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for servers in ["local://".to_owned(), format!("local://{}", file.path().display())] {
        let config = Config::load(serde_json::json!({"servers": servers}), |_| None).unwrap();
        assert_eq!(Bus::connect(config, &[support::binary()]).await.unwrap_err().code(), "config");
    }
}
