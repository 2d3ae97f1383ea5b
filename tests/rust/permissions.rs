//! Issue 4, item 5: a denied publish or subscribe fails the very call concerned within 1 s, naming the topic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests may

use crate::support::{Server, clock::in_time, next, until};
use nats_eventbus::{
    Bus, ConsumerConfig, Error, ErrorKind, EventKind, JetStreamHealth, ProducerConfig, Result, SendOptions,
    State, host::Listener,
};
use serde_json::{Value, json};
use std::time::Duration;

fn config(permissions: &str) -> String {
    format!(
        "authorization {{ users = [ {{user: app, password: right, permissions: {{ {permissions} }} }}, {{user: admin, password: right}} ] }}"
    )
}

fn server(permissions: &str) -> Server {
    Server::start(&["-js"], &config(permissions))
}

async fn app(server: &Server, jetstream: bool, more: Value) -> Result<Bus> {
    let mut settings = json!({"user": "app", "password": "right", "jetstream": jetstream});
    settings.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    server.connect(settings).await
}

async fn bus(server: &Server, jetstream: bool) -> Bus {
    app(server, jetstream, json!({})).await.unwrap()
}

async fn within_a_second<T>(what: impl Future<Output = T>) -> T {
    in_time(Duration::from_secs(1), what).await
}

#[track_caller]
fn denied(e: &Error, topic: &str) {
    assert_eq!((e.kind(), e.code()), (ErrorKind::Permission, "permission"), "{e}");
    assert!(e.to_string().contains(topic), "{e} should name {topic}");
}

fn group(name: &str) -> ConsumerConfig {
    ConsumerConfig { group: name.into(), ..ConsumerConfig::default() }
}

#[tokio::test]
async fn stored_sends_to_a_denied_topic_fail_at_once_and_others_go_on() {
    let server = server(r#"publish: {deny: ["t.secret"]}"#);
    let bus = bus(&server, true).await;
    bus.declare_stream("T", &["t.>".to_owned()]).await.unwrap();
    let (secret, open) = (
        bus.producer("t.secret", ProducerConfig::default()).unwrap(),
        bus.producer("t.open", ProducerConfig::default()).unwrap(),
    );
    open.send(b"x", SendOptions::default()).await.unwrap();
    let e = within_a_second(secret.send(b"x", SendOptions::default())).await.unwrap_err();
    denied(&e, "t.secret");
    assert_eq!(e.topic_name(), Some("t.secret"));
    assert!(e.message_id().is_some() && !e.retryable());
    let many = within_a_second(secret.send_many(&vec![b"x"; 1000], &SendOptions::default())).await.unwrap();
    assert!(many.iter().all(|r| r.as_ref().is_err_and(|e| e.kind() == ErrorKind::Permission)));
    secret.send_nowait(b"x", SendOptions::default()).unwrap();
    denied(&within_a_second(secret.flush()).await.unwrap_err(), "t.secret");
    let ack = open.send(b"x", SendOptions::default()).await.unwrap().unwrap();
    assert_eq!(ack.sequence, 2, "nothing of the denied topic is stored");
    assert_eq!(bus.metrics().rejected, 1002);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_denied_call_of_the_api_names_it() {
    let server = server(r#"publish: {deny: ["$JS.API.STREAM.LIST", "$JS.API.CONSUMER.>"]}"#);
    let bus = bus(&server, true).await;
    let p = bus.producer("t.x", ProducerConfig::default()).unwrap();
    let e = within_a_second(p.send(b"x", SendOptions::default())).await.unwrap_err();
    denied(&e, "$JS.API.STREAM.LIST");
    let e = within_a_second(bus.consumer("t.x", group("g"))).await.unwrap_err();
    denied(&e, "$JS.API.STREAM.LIST");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_denied_request_does_not_wait_for_its_time_out() {
    let server = server(r#"publish: {deny: ["ask.secret"]}"#);
    let bus = bus(&server, false).await;
    let none = SendOptions::default();
    let asked = bus.request("ask.secret", b"", &none, Duration::from_secs(30));
    denied(&within_a_second(asked).await.unwrap_err(), "ask.secret");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn core_sends_are_reported_by_flush_or_the_listener() {
    let server = server(r#"publish: {deny: ["t.secret"]}"#);
    let bus = bus(&server, false).await;
    let p = bus.producer("t.secret", ProducerConfig::default()).unwrap();
    for _ in 0..20 {
        assert!(p.send(b"x", SendOptions::default()).await.unwrap().is_none());
        denied(&within_a_second(p.flush()).await.unwrap_err(), "t.secret");
    }
    p.flush().await.unwrap();
    let (tx, rx) = std::sync::mpsc::channel();
    p.on_error(Listener::new(move |e| drop(tx.send(e))));
    p.send_nowait(b"x", SendOptions::default()).unwrap();
    p.flush().await.unwrap();
    denied(&rx.try_recv().expect("told before the flush has ended"), "t.secret");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_denied_subscription_fails_the_opening() {
    let server = server(r#"subscribe: {deny: ["private.>", "shared q"]}"#);
    let bus = bus(&server, false).await;
    for _ in 0..10 {
        let e = within_a_second(bus.consumer("private.a", group("g"))).await.unwrap_err();
        denied(&e, "private.a");
        assert_eq!(e.group_name(), Some("g"));
    }
    denied(&within_a_second(bus.respond("private.b", "g")).await.unwrap_err(), "private.b");
    denied(&within_a_second(bus.consumer("shared", group("q"))).await.unwrap_err(), "shared");
    let allowed = bus.consumer("shared", group("other")).await.unwrap();
    let p = bus.producer("shared", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    assert_eq!(&next(&allowed).await.body[..], b"x");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_denied_inbox_fails_connecting_and_another_prefix_helps() {
    let server = server(r#"subscribe: {deny: ["_INBOX.>"]}"#);
    for jetstream in [false, true] {
        let e = within_a_second(app(&server, jetstream, json!({}))).await.unwrap_err();
        denied(&e, "_INBOX.");
        assert!(e.message().contains("inbox_prefix"), "{e}");
        let bus = app(&server, jetstream, json!({"inbox_prefix": "_INBOX_app"})).await.unwrap();
        if jetstream {
            let p = bus.producer("t.x", ProducerConfig::default()).unwrap();
            p.send(b"x", SendOptions::default()).await.unwrap();
            let c = bus.consumer("t.x", group("g")).await.unwrap();
            let d = next(&c).await;
            c.ack_confirmed(d.token, Duration::from_secs(2)).await.unwrap();
        }
        bus.close().await.unwrap();
    }
    for bad in ["", "a..b", "a.*", "$SYS", "a b", ">"] {
        let e = app(&server, false, json!({"inbox_prefix": bad})).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config, "{bad:?}");
    }
}

#[tokio::test]
async fn nobody_needs_the_right_to_publish_to_inboxes() {
    let server = server(r#"publish: {deny: ["_INBOX.>", "t.secret"]}"#);
    let bus = bus(&server, false).await;
    let events = bus.events();
    let c = bus.consumer("t", group("g")).await.unwrap();
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    within_a_second(p.flush()).await.unwrap();
    assert_eq!(&next(&c).await.body[..], b"x");
    assert!(bus.health(Duration::from_secs(1)).await.rtt.is_some());
    // Nor is anybody told that it is missing.
    let secret = bus.producer("t.secret", ProducerConfig::default()).unwrap();
    secret.send(b"x", SendOptions::default()).await.unwrap();
    let event = within_a_second(events.next()).await.unwrap();
    assert_eq!((event.kind, event.topic.as_deref()), (EventKind::PermissionDenied, Some("t.secret")));
    bus.close().await.unwrap();
}

#[tokio::test]
async fn nobody_needs_the_right_to_ask_for_the_account() {
    let server = server(r#"publish: {deny: ["$JS.API.INFO"]}"#);
    let bus = bus(&server, true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    let events = bus.events();
    let health = bus.health(Duration::from_secs(1)).await;
    assert!(health.ok, "{health:?}");
    assert_eq!(health.jetstream, JetStreamHealth::Unknown);
    assert!(events.take().is_none(), "what is known to be denied is not asked for");
    bus.close().await.unwrap();
    let without = Server::start(&[], &config(r#"publish: {deny: ["$JS.API.INFO"]}"#));
    let e = app(&without, true, json!({})).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
}

#[tokio::test]
async fn a_consumer_that_may_not_pull_or_ack_ends_with_that_error() {
    for (deny, named) in
        [("$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.CONSUMER.MSG.NEXT.T.g"), ("$JS.ACK.>", "$JS.ACK.")]
    {
        let server = server(&format!(r#"publish: {{deny: ["{deny}"]}}"#));
        let bus = bus(&server, true).await;
        bus.declare_stream("T", &["t.>".to_owned()]).await.unwrap();
        let p = bus.producer("t.x", ProducerConfig::default()).unwrap();
        p.send(b"x", SendOptions::default()).await.unwrap();
        let c = bus.consumer("t.x", group("g")).await.unwrap();
        let e = within_a_second(async {
            loop {
                match c.next().await {
                    Ok(d) => assert!(c.settle(d.unwrap().token, &nats_eventbus::Settle::Ack)),
                    Err(e) => return e,
                }
            }
        })
        .await;
        denied(&e, named);
        assert_eq!((e.stream_name(), e.group_name()), (Some("T"), Some("g")));
        bus.close().await.unwrap();
    }
}

#[tokio::test]
async fn rights_lost_while_running_end_the_consumer_and_are_an_event() {
    let server = server("");
    let core = bus(&server, false).await;
    let (c, kept) =
        (core.consumer("t.x", group("g")).await.unwrap(), core.consumer("u.x", group("g")).await.unwrap());
    let events = core.events();
    server.reload(&config(r#"subscribe: {deny: ["t.>"]}, publish: {deny: ["v.>"]}"#));
    let ended = tokio::time::timeout(Duration::from_secs(5), c.next()).await.expect("an end");
    denied(&ended.unwrap_err(), "t.x");
    let event = within_a_second(events.next()).await.unwrap();
    assert_eq!((event.kind, event.topic.as_deref()), (EventKind::PermissionDenied, Some("t.x")));
    assert!(event.cause.unwrap().contains("Permissions Violation"));
    let p = core.producer("v.x", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    denied(&within_a_second(p.flush()).await.unwrap_err(), "v.x");
    let p = core.producer("u.x", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    assert_eq!(&next(&kept).await.body[..], b"x");
    assert_eq!(core.state(), State::Connected);
    core.close().await.unwrap();
}

#[tokio::test]
async fn the_inbox_lost_while_running_fails_what_is_asked() {
    let server = server("");
    let bus = bus(&server, true).await;
    let p = bus.producer("t.x", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    let c = bus.consumer("t.x", group("g")).await.unwrap();
    next(&c).await;
    server.reload(&config(r#"subscribe: {deny: ["_INBOX.>"]}"#));
    let ended = tokio::time::timeout(Duration::from_secs(5), c.next()).await.expect("an end");
    denied(&ended.unwrap_err(), "_INBOX.");
    until(|| bus.metrics().received > 0).await;
    denied(&within_a_second(bus.streams()).await.unwrap_err(), "_INBOX.");
    let none = SendOptions::default();
    let asked = bus.request("nobody", b"", &none, Duration::from_secs(30));
    denied(&within_a_second(asked).await.unwrap_err(), "_INBOX.");
    server.reload(&config(""));
    bus.close().await.unwrap();
}

#[tokio::test]
async fn replays_that_may_not_be_heard_of_harm_nothing() {
    let server = server(r#"subscribe: {deny: ["dlq.>"]}, publish: {deny: ["$JS.API.STREAM.INFO.*_DLQ"]}"#);
    let bus = bus(&server, true).await;
    let c = bus.consumer("t.x", group("g")).await.unwrap();
    let p = bus.producer("t.x", ProducerConfig::default()).unwrap();
    for _ in 0..3 {
        p.send(b"x", SendOptions::default()).await.unwrap();
        let d = next(&c).await;
        c.ack_confirmed(d.token, Duration::from_secs(2)).await.unwrap();
    }
    bus.close().await.unwrap();
}
