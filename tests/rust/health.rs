//! `bus.health()`: how a bus is, in and out of trouble; it never fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests may

use crate::support::{Server, clock::in_time, next, until};
use nats_eventbus::{
    Bus, ConsumerConfig, Health, JetStreamHealth, ProducerConfig, SendOptions, State, stream_name,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(3);

async fn health(bus: &Bus) -> Health {
    in_time(SOON + Duration::from_secs(1), bus.health(SOON)).await
}

/// Waits until it is so, with a deadline.
async fn becomes(bus: &Bus, is_so: impl Fn(&Health) -> bool) -> Health {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let h = health(bus).await;
        if is_so(&h) {
            return h;
        }
        assert!(Instant::now() < end, "{h:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn connect(server: &Server, jetstream: bool, reconnect: Value) -> Bus {
    server.connect(json!({"jetstream": jetstream, "reconnect": reconnect})).await.unwrap()
}

fn quick() -> Value {
    json!({"initial": 0.02, "max": 0.05})
}

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

#[track_caller]
fn ill(h: &Health, alive: bool, problem: &str) {
    assert_eq!((h.ok, h.alive, h.problems.len()), (false, alive, 1), "{h:?}");
    assert!(h.problems[0].contains(problem), "{h:?}");
}

#[tokio::test]
async fn a_bus_without_trouble() {
    let server = Server::jetstream();
    for (jetstream, says) in [(true, JetStreamHealth::Ok), (false, JetStreamHealth::Off)] {
        let bus = connect(&server, jetstream, quick()).await;
        let c = bus.consumer("t.x", group()).await.unwrap();
        let h = health(&bus).await;
        assert!(h.ok && h.alive && h.problems.is_empty(), "{h:?}");
        assert_eq!((h.state, h.jetstream, h.reconnects, h.pending_sends), (State::Connected, says, 0, 0));
        assert_eq!(h.server, Some(server.url().replace("nats://", "")));
        assert!(h.rtt.unwrap() > Duration::ZERO && h.rtt.unwrap() < SOON, "{h:?}");
        let [one] = &h.consumers[..] else { panic!("{h:?}") };
        assert_eq!((one.topic.as_str(), one.group.as_str(), &one.error), ("t.x", "g", &None));
        assert_eq!(one.stream, jetstream.then(|| stream_name("t.x")));
        bus.force_reconnect().await.unwrap();
        assert_eq!(health(&bus).await.reconnects, 1);
        c.close().await.unwrap();
        assert!(health(&bus).await.consumers.is_empty(), "closed ones are nobody's concern");
        bus.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_outage_and_its_end() {
    let mut server = Server::jetstream();
    let bus = connect(&server, true, quick()).await;
    let p = bus.producer("t.x", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    server.kill();
    until(|| bus.state() == State::Disconnected).await;
    for _ in 0..3 {
        p.send_nowait(b"x", SendOptions::default()).unwrap();
    }
    let h = health(&bus).await;
    ill(&h, true, "the connection was lost (");
    assert_eq!((h.state, h.jetstream, h.pending_sends), (State::Disconnected, JetStreamHealth::Unknown, 3));
    assert!(h.rtt.is_none() && h.server.is_some(), "{h:?}");
    // What keeps it from coming back is told, too.
    becomes(&bus, |h| h.problems[0].contains("refused")).await;
    server.restart();
    p.flush().await.unwrap();
    let h = health(&bus).await;
    assert!(h.ok && h.alive, "{h:?}");
    assert_eq!((h.reconnects, h.pending_sends), (1, 0));
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_stalls() {
    let server = Server::jetstream();
    let bus = connect(&server, true, quick()).await;
    server.pause();
    let h = health(&bus).await;
    ill(&h, true, "did not answer in time");
    assert_eq!((h.state, h.jetstream), (State::Connected, JetStreamHealth::Unknown));
    assert!(h.rtt.is_none());
    server.resume();
    becomes(&bus, |h| h.ok).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn jetstream_that_is_gone() {
    let mut server = Server::start(&[], "jetstream {}");
    let bus = connect(&server, true, quick()).await;
    server.kill();
    server.reconfigure("");
    server.restart();
    until(|| bus.state() == State::Connected && bus.metrics().reconnects == 1).await;
    let h = health(&bus).await;
    ill(&h, true, "JetStream: JetStream is not enabled on this server: start it with -js");
    assert_eq!(h.jetstream, JetStreamHealth::Failed);
    assert!(h.rtt.is_some());
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_has_failed() {
    let server = Server::jetstream();
    let bus = connect(&server, true, quick()).await;
    let p = bus.producer("t.x", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    let c = bus.consumer("t.x", group()).await.unwrap();
    next(&c).await;
    server.api(&format!("CONSUMER.DELETE.{}.g", stream_name("t.x")), "").await;
    tokio::time::timeout(Duration::from_secs(10), c.next()).await.unwrap().unwrap_err();
    let h = health(&bus).await;
    ill(&h, false, "the consumer of \"t.x\" for \"g\" has failed");
    assert_eq!(h.consumers[0].code.as_deref(), Some("not_found"));
    assert!(h.consumers[0].error.as_deref().unwrap().contains("was deleted"), "{h:?}");
    // Another one takes over.
    let again = bus.consumer("t.x", group()).await.unwrap();
    let h = health(&bus).await;
    assert!(h.ok && h.consumers.len() == 1, "{h:?}");
    again.close().await.unwrap();
    assert!(!health(&bus).await.ok);
    c.close().await.unwrap();
    assert!(health(&bus).await.ok);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_closed_bus() {
    let mut server = Server::core();
    let bus = connect(&server, false, quick()).await;
    bus.close().await.unwrap();
    let h = health(&bus).await;
    ill(&h, false, "the bus is closed: connect again");
    assert_eq!((h.state, h.jetstream), (State::Closed, JetStreamHealth::Off));
    let bus = connect(&server, false, json!({"initial": 0.02, "max": 0.05, "attempts": 2})).await;
    let c = bus.consumer("t", group()).await.unwrap();
    server.kill();
    until(|| bus.state() == State::Closed).await;
    let h = health(&bus).await;
    ill(&h, false, "reconnecting was given up");
    drop(c);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_bus_that_waits_for_its_first_server() {
    let mut server = Server::core();
    server.kill();
    let settings = json!({"retry_on_initial_connect": true, "reconnect": quick()});
    let bus = server.connect(settings).await.unwrap();
    let h = health(&bus).await;
    ill(&h, true, "no server was reached yet");
    assert_eq!(h.state, State::Connecting);
    server.restart();
    until(|| bus.state() == State::Connected).await;
    assert!(health(&bus).await.ok);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn credentials_that_are_refused() {
    let takes = |p: &str| format!("authorization {{ users = [ {{user: app, password: {p}}} ] }}");
    let mut server = Server::start(&[], &takes("right"));
    let settings = json!({"user": "app", "password": "right", "reconnect": quick()});
    let bus = server.connect(settings).await.unwrap();
    server.kill();
    server.reconfigure(&takes("other"));
    server.restart();
    let refused = |h: &Health| h.problems.iter().any(|p| p.contains("refuse the credentials"));
    let h = becomes(&bus, refused).await;
    assert!(h.alive && !h.problems[0].contains("right"), "{h:?}");
    bus.close().await.unwrap();
}

/// A durable that an operator has paused receives nothing: health says so, and until when.
#[tokio::test]
async fn a_paused_durable_is_a_problem() {
    let server = Server::jetstream();
    let bus = connect(&server, true, quick()).await;
    let _c = bus.consumer("t", group()).await.unwrap();
    assert!(health(&bus).await.ok);
    let paused = server.api("CONSUMER.PAUSE.t_STREAM.g", r#"{"pause_until":"2099-01-01T00:00:00Z"}"#).await;
    assert_eq!(paused["paused"], true, "{paused}");
    let h = health(&bus).await;
    assert!(!h.ok && h.alive, "{h:?}");
    assert!(h.problems[0].contains("paused") && h.problems[0].contains("resume"), "{h:?}");
    server.api("CONSUMER.PAUSE.t_STREAM.g", "").await;
    assert!(health(&bus).await.ok);
}
