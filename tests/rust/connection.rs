//! Issue 4, items 1 and 2: the reconnect policy, and what happens to a connection as events.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests may

use crate::support::{Server, free_port, next, until};
use nats_eventbus::{
    Bus, Config, ConsumerConfig, ErrorKind, Event, EventKind, Events, ProducerConfig, SendOptions, State,
};
use serde_json::{Value, json};
use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

fn quick() -> Value {
    json!({"initial": 0.02, "max": 0.05})
}

async fn within<T>(seconds: u64, what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), what).await.expect("in time")
}

/// The next event of a kind, whatever comes before it.
async fn event(events: &Events, kind: EventKind) -> Event {
    within(10, event_of(events, kind)).await
}

async fn event_of(events: &Events, kind: EventKind) -> Event {
    loop {
        let e = events.next().await.expect("another event");
        if e.kind == kind {
            return e;
        }
    }
}

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

#[tokio::test]
async fn a_loss_and_a_reconnect_are_told_with_cause_and_server() {
    let (mut server, other) = (Server::core(), Server::core());
    let bus = server.connect(json!({"reconnect": quick()})).await.unwrap();
    let events = bus.events();
    let shown = server.url().replace("nats://", "");
    server.kill();
    let e = event(&events, EventKind::Disconnected).await;
    assert_eq!(e.server.as_deref(), Some(&*shown));
    assert!(e.cause.is_some() && e.time.elapsed().unwrap() < Duration::from_secs(5));
    let e = event(&events, EventKind::Connecting).await;
    assert_eq!(e.server.as_deref(), Some(&*shown));
    assert!(e.cause.is_some_and(|c| !c.is_empty()));
    server.restart();
    let e = event(&events, EventKind::Reconnected).await;
    assert_eq!((e.server.as_deref(), e.missed), (Some(&*shown), 0));
    assert_eq!(bus.state(), State::Connected);
    bus.close().await.unwrap();
    let e = event(&events, EventKind::Closed).await;
    assert_eq!(e.cause.as_deref(), Some("closed by its owner"));
    assert!(within(1, events.next()).await.is_none(), "the last event is the last");
    drop(other);
}

#[tokio::test]
async fn a_listener_that_blocks_or_panics_harms_nothing() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let (told, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (t, c) = (told.clone(), count.clone());
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let _blocked = bus.on_event(move |_| {
        let _ = held.lock().unwrap().recv();
    });
    let _panics = bus.on_event(move |_| {
        t.fetch_add(1, Ordering::SeqCst);
        panic!("a listener's own mistake");
    });
    let unsubscribe = bus.on_event(move |_| {
        c.fetch_add(1, Ordering::SeqCst);
    });
    for n in 1..=3 {
        within(5, bus.force_reconnect()).await.unwrap();
        until(|| told.load(Ordering::SeqCst) >= 2 * n && count.load(Ordering::SeqCst) >= 2 * n).await;
    }
    unsubscribe();
    let before = count.load(Ordering::SeqCst);
    within(5, bus.force_reconnect()).await.unwrap();
    until(|| told.load(Ordering::SeqCst) >= 8).await;
    assert_eq!(count.load(Ordering::SeqCst), before);
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    within(2, p.flush()).await.unwrap();
    drop(let_go);
    within(5, bus.close()).await.unwrap();
}

#[tokio::test]
async fn a_forced_reconnect_says_why_and_loses_no_stored_send() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let events = bus.events();
    let p = bus.producer("t.x", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    let sending = tokio::spawn(async move {
        let all = p.send_many(&vec![b"x"; 500], &SendOptions::default()).await.unwrap();
        all.into_iter().flatten().count()
    });
    within(5, bus.force_reconnect()).await.unwrap();
    assert_eq!((bus.state(), bus.metrics().reconnects), (State::Connected, 1));
    assert_eq!(within(10, sending).await.unwrap(), 500);
    let e = event(&events, EventKind::Disconnected).await;
    assert_eq!(e.cause.as_deref(), Some("a reconnect was asked for"));
    bus.close().await.unwrap();
    assert_eq!(bus.force_reconnect().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn giving_up_is_an_event_and_an_error_on_every_waiter() {
    let mut server = Server::jetstream();
    let settings = json!({"jetstream": true, "reconnect": {"initial": 0.02, "max": 0.05, "attempts": 3}});
    let bus = server.connect(settings).await.unwrap();
    let (events, p) = (bus.events(), bus.producer("t.x", ProducerConfig::default()).unwrap());
    p.send(b"x", SendOptions::default()).await.unwrap();
    let c = bus.consumer("t.x", group()).await.unwrap();
    next(&c).await;
    let responder = bus.respond("ask", "g").await.unwrap();
    // What is sent now reaches a server that does not answer, and is lost with it.
    server.pause();
    let none = SendOptions::default();
    let silent = async || {
        let asked = bus.request("nobody", b"", &none, Duration::from_millis(100));
        asked.await.unwrap_err().kind() == ErrorKind::Timeout
    };
    while !silent().await {}
    let (p2, b2) = (p.clone(), bus.clone());
    let sent = tokio::spawn(async move { p2.send(b"y", SendOptions::default()).await });
    let asked = tokio::spawn(async move {
        b2.request("nobody", b"", &SendOptions::default(), Duration::from_secs(60)).await
    });
    until(|| bus.metrics().sent == 2).await;
    tokio::task::yield_now().await;
    server.kill();
    let closed = event(&events, EventKind::Closed).await;
    let cause = closed.cause.unwrap();
    assert!(cause.contains("given up") && cause.contains('3') && cause.contains("refused"), "{cause}");
    assert_eq!(bus.state(), State::Closed);
    let e = within(1, sent).await.unwrap().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::PublishUnknown, "{e}");
    assert!(e.message().contains("given up"), "{e}");
    for e in [
        within(1, asked).await.unwrap().unwrap_err(),
        within(1, c.next()).await.unwrap_err(),
        within(1, responder.next()).await.unwrap_err(),
        within(1, bus.streams()).await.unwrap_err(),
        within(1, p.send(b"z", SendOptions::default())).await.unwrap_err(),
        bus.producer("t", ProducerConfig::default()).unwrap_err(),
        within(1, bus.consumer("t", group())).await.unwrap_err(),
        within(1, bus.force_reconnect()).await.unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::Connection, "{e}");
        assert!(e.message().contains("given up"), "{e}");
    }
    assert!(within(1, events.next()).await.is_none());
    within(5, bus.close()).await.unwrap();
}

#[tokio::test]
async fn the_first_connection_may_come_later() {
    let mut server = Server::jetstream();
    server.kill();
    let settings = json!({"jetstream": true, "retry_on_initial_connect": true, "reconnect": quick()});
    let started = Instant::now();
    let bus = server.connect(settings).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "it returns at once");
    assert_eq!(bus.state(), State::Connecting);
    let events = bus.events();
    event(&events, EventKind::Connecting).await;
    let p = bus.producer("t.x", ProducerConfig::default()).unwrap();
    let sending = tokio::spawn(async move { p.send(b"x", SendOptions::default()).await });
    server.restart();
    assert!(event(&events, EventKind::Connected).await.server.is_some());
    assert!(within(10, sending).await.unwrap().unwrap().is_some());
    bus.close().await.unwrap();
}

#[tokio::test]
async fn waiting_for_a_first_server_can_be_given_up_or_closed() {
    let servers = format!("nats://127.0.0.1:{}", free_port());
    let settings = |attempts: Value| {
        json!({"servers": servers, "retry_on_initial_connect": true,
               "reconnect": {"initial": 0.02, "max": 0.02, "attempts": attempts}})
    };
    let connect = async |s: Value| Bus::connect(Config::load(s, |_| None).unwrap(), &[]).await.unwrap();
    let bus = connect(settings(json!(2))).await;
    let events = bus.events();
    until(|| bus.state() == State::Closed).await;
    while let Some(e) = within(1, events.next()).await {
        assert!(e.kind != EventKind::Closed || e.cause.unwrap().contains("given up"));
    }
    bus.close().await.unwrap();
    let bus = connect(settings(Value::Null)).await;
    within(2, bus.close()).await.unwrap();
    assert_eq!(bus.state(), State::Closed);
}

#[tokio::test]
async fn every_server_is_tried_the_lost_one_last() {
    let (mut one, two) = (Server::core(), Server::core());
    let dead = format!("nats://127.0.0.1:{}", free_port());
    // A server that takes connections and says nothing: it costs connect_timeout.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("nats://{}", silent.local_addr().unwrap());
    let settings = json!({"servers": one.url(), "reconnect": quick(), "connect_timeout": 1});
    let bus = one.connect(settings).await.unwrap();
    bus.close().await.unwrap();
    let pool = format!("{dead},{silent},{}", one.url());
    let settings = json!({"servers": pool, "reconnect": quick(), "connect_timeout": 1});
    let bus = one.connect(settings).await.unwrap();
    one.kill();
    until(|| bus.state() == State::Disconnected).await;
    one.restart();
    until(|| bus.state() == State::Connected).await;
    bus.close().await.unwrap();
    let pool = format!("{},{}", one.url(), two.url());
    let bus = one.connect(json!({"servers": pool, "reconnect": quick()})).await.unwrap();
    for _ in 0..4 {
        let before = bus.server().port;
        within(5, bus.force_reconnect()).await.unwrap();
        until(|| bus.server().port != before).await;
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_dead_peer_is_noticed() {
    let server = Server::core();
    let bus = server.connect(json!({"ping_interval": 0.1})).await.unwrap();
    let events = bus.events();
    server.pause();
    let started = Instant::now();
    let e = event(&events, EventKind::Disconnected).await;
    assert!(started.elapsed() < Duration::from_secs(5), "three pings");
    assert!(e.cause.unwrap().contains("did not answer"));
    server.resume();
    event(&events, EventKind::Reconnected).await;
    bus.close().await.unwrap();
}

/// With the settings as they are: within 20 s, whether something is sent or not.
#[tokio::test]
async fn a_dead_peer_is_noticed_within_20_s() {
    let server = Server::jetstream();
    let (idle, busy) = (server.bus(false).await, server.bus(true).await);
    let p = busy.producer("t.x", ProducerConfig::default()).unwrap();
    p.send(b"x", SendOptions::default()).await.unwrap();
    let (of_idle, of_busy) = (idle.events(), busy.events());
    server.pause();
    let started = Instant::now();
    p.send_nowait(b"x", SendOptions::default()).unwrap();
    for events in [of_idle, of_busy] {
        let e = within(20, event_of(&events, EventKind::Disconnected)).await;
        assert!(e.cause.unwrap().contains("did not answer"));
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
    server.resume();
    // The stalled server took the send, or it is sent again: stored once.
    within(15, p.flush()).await.unwrap();
    assert_eq!(server.stored(&nats_eventbus::stream_name("t.x")).await, 2);
    for bus in [idle, busy] {
        until(|| bus.state() == State::Connected).await;
        bus.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_lame_duck_is_told() {
    let server = Server::start(&[], "lame_duck_duration: \"30s\", lame_duck_grace_period: \"1s\"");
    let bus = server.bus(false).await;
    let events = bus.events();
    server.lame_duck();
    let shown = server.url().replace("nats://", "");
    assert_eq!(event(&events, EventKind::LameDuck).await.server.as_deref(), Some(&*shown));
    bus.close().await.unwrap();
}

#[tokio::test]
async fn dropped_messages_are_told() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let events = bus.events();
    let c = bus.consumer("t", ConsumerConfig { pending_limit: 2, ..group() }).await.unwrap();
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send_many(&vec![b"x"; 50], &SendOptions::default()).await.unwrap();
    let e = event(&events, EventKind::SlowConsumer).await;
    assert_eq!(e.topic.as_deref(), Some("t"));
    drop(c);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn names_are_resolved_within_the_connect_timeout() {
    let server = Server::core();
    let settings = json!({"servers": "nats://nowhere.invalid:4222", "connect_timeout": 0.5});
    let started = Instant::now();
    let e = server.connect(settings).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(e.kind(), ErrorKind::Connection);
    assert!(e.message().contains("host name") && e.message().contains("nowhere.invalid"), "{e}");
    let pool = format!("nats://nowhere.invalid:4222,{}", server.url());
    let bus = server.connect(json!({"servers": pool, "connect_timeout": 3})).await.unwrap();
    within(5, bus.force_reconnect()).await.unwrap();
    bus.close().await.unwrap();
}

fn cluster(port: u16, other: u16) -> String {
    format!("cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [\"nats://127.0.0.1:{other}\"] }}")
}

#[tokio::test]
async fn discovered_servers_are_used_or_not_by_choice() {
    let (a, b) = (free_port(), free_port());
    let mut one = Server::start(&[], &cluster(a, b));
    let two = Server::start(&[], &cluster(b, a));
    // The first greeting that names the other is the sign that they know one another.
    let known = async |server: &Server| {
        let end = Instant::now() + Duration::from_secs(10);
        while async_nats::connect(server.url()).await.unwrap().server_info().connect_urls.len() < 2 {
            assert!(Instant::now() < end, "no cluster");
        }
    };
    known(&one).await;
    let settings = |discovered: bool| json!({"discovered_servers": discovered, "reconnect": quick()});
    let (uses, ignores) =
        (one.connect(settings(true)).await.unwrap(), one.connect(settings(false)).await.unwrap());
    let events = ignores.events();
    one.kill();
    let shown = two.url().replace("nats://", "");
    until(|| uses.state() == State::Connected && two.url().ends_with(&uses.server().port.to_string())).await;
    for _ in 0..3 {
        let e = event(&events, EventKind::Connecting).await;
        assert_ne!(e.server.as_deref(), Some(&*shown));
    }
    assert_eq!(ignores.state(), State::Disconnected);
    uses.close().await.unwrap();
    ignores.close().await.unwrap();
}
