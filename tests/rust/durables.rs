//! Binding to durables that exist. Contract lines are named at the tests.

use crate::support::{Server, until};
use futures_util::StreamExt;
use nats_eventbus::{
    ConsumerConfig, Deliver, ErrorKind, EventKind, Handled, Order, ProducerConfig, SendOptions,
};
use serde_json::json;
use std::time::Duration;

async fn with_durable(settings: &str) -> Server {
    let server = Server::jetstream();
    server.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["t.*"]}"#).await;
    let body = format!(
        r#"{{"stream_name":"S","config":{{"durable_name":"g","ack_policy":"explicit",{settings}}}}}"#
    );
    let made = server.api("CONSUMER.DURABLE.CREATE.S.g", &body).await;
    assert!(made["error"].is_null(), "{made}");
    server
}

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

/// Consuming: an existing durable is bound as it is; settings given that differ are an error naming each field.
#[tokio::test]
async fn what_was_given_and_differs_is_an_error_that_names_each_field() {
    let server = with_durable(r#""filter_subject":"t.a","ack_wait":5000000000,"max_ack_pending":7"#).await;
    let bus = server.bus(true).await;
    let before = server.api("CONSUMER.INFO.S.g", "").await;
    bus.consumer("t.a", group()).await.unwrap().close().await.unwrap();
    let given = ConsumerConfig {
        ack_wait: Some(Duration::from_secs(9)),
        max_ack_pending: Some(70),
        deliver: Some(Deliver::New),
        ..group()
    };
    let e = bus.consumer("t.b", given).await.unwrap_err();
    assert_eq!((e.kind(), e.stream_name(), e.group_name()), (ErrorKind::Conflict, Some("S"), Some("g")));
    for field in ["filter_subject", "ack_wait", "max_ack_pending", "deliver_policy"] {
        assert!(e.message().contains(field), "{field} in {e}");
    }
    let same = ConsumerConfig { ack_wait: Some(Duration::from_secs(5)), max_ack_pending: Some(7), ..group() };
    bus.consumer("t.a", same).await.unwrap();
    let after = server.api("CONSUMER.INFO.S.g", "").await;
    assert_eq!(before["config"], after["config"], "left as it is");
}

/// Consuming: … or updated, if asked.
#[tokio::test]
async fn a_durable_is_updated_when_asked() {
    let server = with_durable(r#""filter_subject":"t.a","description":"ours""#).await;
    let bus = server.bus(true).await;
    let given = ConsumerConfig {
        ack_wait: Some(Duration::from_secs(9)),
        order: Some(Order::Stream),
        update: true,
        ..group()
    };
    bus.consumer("t.b", given.clone()).await.unwrap().close().await.unwrap();
    let config = server.api("CONSUMER.INFO.S.g", "").await["config"].clone();
    assert_eq!(
        (&config["ack_wait"], &config["max_ack_pending"], &config["filter_subject"], &config["description"]),
        (&9_000_000_000_u64.into(), &1.into(), &"t.b".into(), &"ours".into())
    );
    let e = bus.consumer("t.b", ConsumerConfig { deliver: Some(Deliver::Last), ..given }).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.message().contains("deliver_policy"), "{e}");
}

/// Consuming: settings the user did not give adapt to the durable's: its max deliver is our last attempt.
#[tokio::test]
async fn attempts_adapt_to_the_durable() {
    let server = with_durable(r#""filter_subject":"t.a","max_deliver":2"#).await;
    let bus = server.bus(true).await;
    let p = bus.producer("t.a", ProducerConfig::default()).unwrap();
    p.send(b"poison", SendOptions::default()).await.unwrap();
    let backoff = nats_eventbus::Backoff { initial: Duration::from_millis(10), ..Default::default() };
    let c = bus.consumer("t.a", ConsumerConfig { backoff, ..group() }).await.unwrap();
    for _ in 0..2 {
        let d = c.next().await.unwrap().unwrap();
        c.finish(&d, Handled::Failed("boom".into()));
    }
    until(|| bus.metrics().dead_letters == 1).await;
    let e = bus.consumer("t.a", ConsumerConfig { max_deliver: Some(5), ..group() }).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.message().contains("max_deliver"), "{e}");
}

/// Consuming: a new durable begins where asked, and has the settings given.
#[tokio::test]
async fn a_new_durable_has_what_was_given() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"old", SendOptions::default()).await.unwrap();
    let given = ConsumerConfig {
        deliver: Some(Deliver::New),
        ack_wait: Some(Duration::from_secs(7)),
        max_ack_pending: Some(5),
        ..group()
    };
    let c = bus.consumer("t", given).await.unwrap();
    p.send(b"new", SendOptions::default()).await.unwrap();
    assert_eq!(&c.next().await.unwrap().unwrap().body[..], b"new");
    let config = server.api("CONSUMER.INFO.t_STREAM.g", "").await["config"].clone();
    assert_eq!((&config["ack_wait"], &config["max_ack_pending"]), (&7_000_000_000_u64.into(), &5.into()));
}

#[tokio::test]
async fn order_of_the_stream_needs_jetstream() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let e = bus.consumer("t", ConsumerConfig { order: Some(Order::Stream), ..group() }).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config);
    let e = ConsumerConfig { order: Some(Order::Stream), max_ack_pending: Some(2), ..group() }.check();
    assert_eq!(e.unwrap_err().kind(), ErrorKind::Config);
}

/// Consuming: never a silent stall: where nobody tells whether the durable is still there, as in an election, it is asked
/// and pulled again, without waiting long for that word.
#[tokio::test]
async fn silence_about_a_durable_does_not_hold_up_its_consumer() {
    let mut server = Server::start(&[], "jetstream {}");
    let patient = json!({"initial": 30, "max": 30, "jitter": 0});
    let bus = server.connect(json!({"jetstream": true, "reconnect": patient})).await.unwrap();
    let (events, c) = (bus.events(), bus.consumer("t", group()).await.unwrap());
    // It comes back without JetStream: a pull has no responders, and somebody hears the question and says nothing.
    server.kill();
    while events.next().await.unwrap().kind != EventKind::Connecting {}
    server.reconfigure("");
    server.restart();
    let mute = async_nats::connect(server.url()).await.unwrap();
    let mut asked = mute.subscribe("$JS.API.CONSUMER.INFO.>").await.unwrap();
    // Its own message came back: the server knows both subscriptions. A flush would not show that.
    let mut echo = mute.subscribe("echo").await.unwrap();
    mute.publish("echo", "".into()).await.unwrap();
    echo.next().await.unwrap();
    bus.force_reconnect().await.unwrap();
    let mut question = async |within| {
        let next = tokio::time::timeout(Duration::from_secs(within), asked.next());
        next.await.expect("a question").unwrap()
    };
    question(10).await;
    question(10).await;
    assert!(c.fetch(1, Duration::from_millis(1)).await.unwrap().is_empty(), "it goes on");
    drop(bus);
}
