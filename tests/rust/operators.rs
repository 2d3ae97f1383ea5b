//! Streams as operators have them: elsewhere, mirrored, full, gone. Contract lines are named at the tests.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use crate::support::{Server, free_port, next, until};
use nats_eventbus::{
    Backoff, Bus, Config, ConsumerConfig, Deliver, ErrorKind, Handled, Order, ProducerConfig, SendOptions,
    StreamLayout,
};
use serde_json::{Value, json};
use std::time::Duration;

fn group() -> ConsumerConfig {
    ConsumerConfig { group: "g".into(), ..ConsumerConfig::default() }
}

async fn send(bus: &Bus, topic: &str, body: &str) -> nats_eventbus::Result<String> {
    let p = bus.producer(topic, ProducerConfig::default())?;
    Ok(p.send(body.as_bytes(), SendOptions::default()).await?.unwrap().stream.to_string())
}

/// Publishes, consumes, makes a dead letter, and replays it.
async fn all_the_way(bus: &Bus, topic: &str) {
    assert_eq!(send(bus, topic, "good").await.unwrap(), nats_eventbus::stream_name(topic));
    send(bus, topic, "bad").await.unwrap();
    let c = bus.consumer(topic, group()).await.unwrap();
    let d = next(&c).await;
    assert_eq!(&d.body[..], b"good");
    c.ack_confirmed(d.token, Duration::from_secs(5)).await.unwrap();
    c.finish(&next(&c).await, Handled::Rejected("no".into()));
    until(|| bus.metrics().dead_letters == 1).await;
    assert_eq!(bus.dead_letters(topic, "g", None).unwrap().replay_all().await.unwrap(), 1);
    let again = next(&c).await;
    assert_eq!((again.topic.as_str(), &again.body[..]), (topic, &b"bad"[..]));
    c.ack_confirmed(again.token, Duration::from_secs(5)).await.unwrap();
    c.close().await.unwrap();
}

/// A hub with JetStream in a domain, and a leaf node without it.
fn hub_and_leaf() -> (Server, Server) {
    let port = free_port();
    let hub = Server::start(
        &[],
        &format!("jetstream {{ domain: hub }}\nleafnodes {{ listen: \"127.0.0.1:{port}\" }}"),
    );
    let leaf =
        Server::start(&[], &format!("leafnodes {{ remotes: [{{ url: \"nats://127.0.0.1:{port}\" }}] }}"));
    (hub, leaf)
}

/// Streams: `domain` reaches JetStream behind a leaf node, and on its own server.
#[tokio::test]
async fn a_domain_reaches_jetstream_behind_a_leaf_node() {
    let (hub, leaf) = hub_and_leaf();
    let settings = json!({"jetstream": true, "domain": "hub"});
    for (server, topic) in [(&leaf, "over.leaf"), (&hub, "on.hub")] {
        let bus = server.connect(settings.clone()).await.unwrap();
        all_the_way(&bus, topic).await;
        assert!(bus.health(Duration::from_secs(5)).await.ok);
        bus.close().await.unwrap();
    }
    let e = leaf.connect(json!({"jetstream": true})).await.unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.message().contains("domain"), "{e}");
    let wrong = json!({"jetstream": true, "domain": "nowhere", "api_timeout": 0.5});
    let e = leaf.connect(wrong).await.unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.message().contains("nowhere"), "{e}");
}

/// Streams: `api_prefix` reaches JetStream in another account.
#[tokio::test]
async fn an_api_prefix_reaches_another_accounts_jetstream() {
    let config = r#"
        jetstream {}
        accounts {
            OWNER {
                jetstream: enabled
                users: [{ user: owner, password: x }]
                exports: [
                    { service: "$JS.API.>", response_type: stream }
                    { service: "$JS.ACK.>" }
                    { service: "shared.>" }
                    { service: "dlq.>" }
                    { stream: "dlq.>" }
                ]
            }
            GUEST {
                users: [{ user: guest, password: x }]
                imports: [
                    { service: { account: OWNER, subject: "$JS.API.>" }, to: "JS.owner.API.>" }
                    { service: { account: OWNER, subject: "$JS.ACK.>" } }
                    { service: { account: OWNER, subject: "shared.>" } }
                    { service: { account: OWNER, subject: "dlq.>" } }
                ]
            }
        }"#;
    let server = Server::start(&[], config);
    let servers = server.url().replace("nats://", "nats://guest:x@");
    let settings = json!({"servers": servers, "jetstream": true, "api_prefix": "JS.owner.API"});
    let bus = server.connect(settings).await.unwrap();
    assert_eq!(send(&bus, "shared.a", "one").await.unwrap(), "shared_a_STREAM");
    let c = bus.consumer("shared.a", group()).await.unwrap();
    let d = next(&c).await;
    c.ack_confirmed(d.token, Duration::from_secs(5)).await.unwrap();
    send(&bus, "shared.a", "two").await.unwrap();
    c.finish(&next(&c).await, Handled::Rejected("no".into()));
    until(|| bus.metrics().dead_letters == 1).await;
    let letters = bus.dead_letters("shared.a", "g", None).unwrap();
    assert_eq!(&letters.next_after(0).await.unwrap().unwrap().body[..], b"two");
}

/// Settings: a domain or a prefix, checked as subjects, from the environment as well.
#[test]
fn a_domain_or_a_prefix() {
    let load = |given: Value, env: &[(&str, &str)]| {
        let find = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Config::load(given, find)
    };
    let env = [("NATS_JS_DOMAIN", "hub")];
    assert_eq!(load(json!({}), &env).unwrap().domain.as_deref(), Some("hub"));
    let given = load(json!({"api_prefix": "JS.acme.API"}), &env).unwrap();
    assert_eq!((given.api_prefix.as_deref(), given.domain), (Some("JS.acme.API"), None));
    assert_eq!(
        load(json!({}), &[("NATS_STREAM_LAYOUT", "family")]).unwrap().stream_layout,
        StreamLayout::Family
    );
    for (given, env, word) in [
        (json!({"domain": "a", "api_prefix": "b"}), vec![], "api_prefix"),
        (json!({}), vec![("NATS_JS_DOMAIN", "a"), ("NATS_JS_API_PREFIX", "b")], "NATS_JS_DOMAIN"),
        (json!({"domain": "a.b"}), vec![], "domain"),
        (json!({"domain": "a b"}), vec![], "domain"),
        (json!({"domain": ""}), vec![], "domain"),
        (json!({"api_prefix": "a.>"}), vec![], "api_prefix"),
        (json!({"api_prefix": "a."}), vec![], "api_prefix"),
        (json!({}), vec![("NATS_STREAM_LAYOUT", "x")], "NATS_STREAM_LAYOUT"),
    ] {
        let e = load(given, &env).unwrap_err();
        assert!(e.kind() == ErrorKind::Config && e.message().contains(word), "{e} should name {word}");
    }
}

/// Streams: one a family where `stream_layout` asks for it; other topics have their own.
#[tokio::test]
async fn one_stream_a_family() {
    let server = Server::jetstream();
    let bus = server.connect(json!({"jetstream": true, "stream_layout": "family"})).await.unwrap();
    for (topic, stream) in [
        ("coze.workflow.1.done", "coze_workflow_ALL_STREAM"),
        ("coze.workflow.2.done", "coze_workflow_ALL_STREAM"),
        ("coze.agent.7.made", "coze_agent_ALL_STREAM"),
        ("opencoze_knowledge", "opencoze_knowledge_STREAM"),
    ] {
        assert_eq!(send(&bus, topic, "x").await.unwrap(), stream);
    }
    let c = bus.consumer("coze.workflow.*.done", group()).await.unwrap();
    let topics = [next(&c).await.topic, next(&c).await.topic];
    assert_eq!(topics.map(|t| t.to_string()), ["coze.workflow.1.done", "coze.workflow.2.done"]);
}

/// Streams: one with fewer replicas than asked for warns, once.
#[tokio::test]
async fn few_replicas_warn_once() {
    let server = Server::jetstream();
    server.make("t", json!({})).await;
    let bus = server.connect(json!({"jetstream": true, "replicas": 3})).await.unwrap();
    for _ in 0..2 {
        send(&bus, "t", "x").await.unwrap();
    }
    bus.consumer("t", group()).await.unwrap();
    let all = bus.warnings();
    assert!(all.len() == 1 && all[0].contains("1 replicas") && all[0].contains("t_STREAM"), "{all:?}");
}

/// Streams: declaring one warns where another stream already gets the topic's messages.
#[tokio::test]
async fn declaring_beside_an_aggregate_warns() {
    let server = Server::jetstream();
    server.make("orders.>", json!({"name": "ORIGIN"})).await;
    let from = json!([{"name": "ORIGIN", "subject_transforms": [{"src": "orders.>", "dest": "agg.>"}]}]);
    let made = server.api("STREAM.CREATE.AGG", &json!({"name": "AGG", "sources": from}).to_string()).await;
    assert!(made["error"].is_null(), "{made}");
    let bus = server.bus(true).await;
    send(&bus, "orders.1", "x").await.unwrap();
    assert!(bus.warnings().is_empty());
    bus.consumer("agg.1", group()).await.unwrap();
    let all = bus.warnings();
    assert!(all.len() == 1 && all[0].contains("AGG") && all[0].contains("stream="), "{all:?}");
}

/// Streams: `stream` names one: a mirror, an aggregate with transformed topics; its dead letters are its own.
#[tokio::test]
async fn a_stream_by_name() {
    let server = Server::jetstream();
    server.make("orders.>", json!({"name": "ORIGIN"})).await;
    for (name, from) in [
        ("MIRROR", json!({"mirror": {"name": "ORIGIN"}})),
        (
            "AGG",
            json!({"sources": [{"name": "ORIGIN", "subject_transforms": [{"src": "orders.>", "dest": "agg.>"}]}]}),
        ),
    ] {
        let mut config = from;
        config["name"] = name.into();
        let made = server.api(&format!("STREAM.CREATE.{name}"), &config.to_string()).await;
        assert!(made["error"].is_null(), "{made}");
    }
    let bus = server.bus(true).await;
    send(&bus, "orders.1", "x").await.unwrap();
    for (stream, topic) in [("MIRROR", "orders.1"), ("AGG", "agg.*")] {
        let before = bus.metrics().dead_letters;
        let c = bus.consumer(topic, ConsumerConfig { stream: Some(stream.into()), ..group() }).await.unwrap();
        assert_eq!(c.stream().map(|s| &**s), Some(stream));
        c.finish(&next(&c).await, Handled::Rejected("no".into()));
        until(|| bus.metrics().dead_letters > before).await;
        let letters = bus.dead_letters(topic, "g", Some(stream)).unwrap();
        assert_eq!(letters.next_after(0).await.unwrap().unwrap().stream, stream);
        assert_eq!(letters.replay_all().await.unwrap(), 1);
        let again = next(&c).await;
        assert_eq!(&again.body[..], b"x");
        c.ack_confirmed(again.token, Duration::from_secs(5)).await.unwrap();
    }
    assert!(bus.streams().await.unwrap().iter().all(|s| !s.name.contains("agg")), "none was declared");
    let other = |stream: &str| ConsumerConfig { stream: Some(stream.into()), ..group() };
    let e = bus.consumer("invoices.1", other("ORIGIN")).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Config && e.message().contains("orders.>"), "{e}");
    let e = bus.consumer("orders.1", other("NONE")).await.unwrap_err();
    assert_eq!((e.kind(), e.stream_name()), (ErrorKind::NotFound, Some("NONE")));
}

/// Consuming: `durable` binds to an existing one with its own filters; without it the conflict says so.
#[tokio::test]
async fn a_durable_by_name_with_its_own_filters() {
    let server = Server::jetstream();
    server.make("d.>", json!({"name": "D"})).await;
    for (name, filters) in [("two", json!({"filter_subjects": ["d.a", "d.b"]})), ("all", json!({}))] {
        let mut config = filters;
        (config["durable_name"], config["ack_policy"]) = (name.into(), "explicit".into());
        let body = json!({"stream_name": "D", "config": config}).to_string();
        let made = server.api(&format!("CONSUMER.DURABLE.CREATE.D.{name}"), &body).await;
        assert!(made["error"].is_null(), "{made}");
    }
    let bus = server.bus(true).await;
    for topic in ["d.a", "d.b", "d.c"] {
        send(&bus, topic, topic).await.unwrap();
    }
    let by_name = |name: &str| ConsumerConfig { durable: Some(name.into()), ..group() };
    for (name, count) in [("two", 2), ("all", 3)] {
        let c = bus.consumer("d.a", by_name(name)).await.unwrap();
        let got = c.fetch(count, Duration::from_secs(5)).await.unwrap();
        let topics: Vec<_> = got.iter().map(|d| d.topic.to_string()).collect();
        assert_eq!(topics, ["d.a", "d.b", "d.c"][..count]);
        for d in &got {
            c.ack_confirmed(d.token, Duration::from_secs(5)).await.unwrap();
        }
    }
    let e = bus.consumer("d.a", ConsumerConfig { group: "two".into(), ..group() }).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.message().contains("(durable)"), "{e}");
    let e = bus.consumer("d.a", by_name("tow")).await.unwrap_err();
    assert!(e.kind() == ErrorKind::NotFound && e.message().contains("tow"), "{e}");
    let wanted = ConsumerConfig { ack_wait: Some(Duration::from_secs(7)), ..by_name("two") };
    let e = bus.consumer("d.a", wanted).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.message().contains("ack_wait"), "{e}");
}

/// Request and reply: a stream's ack is never taken for a reply: an error says that a stream stores the topic.
#[tokio::test]
async fn a_streams_ack_is_no_reply() {
    let server = Server::jetstream();
    server.make("agent.>", json!({"name": "AGENTS"})).await;
    let bus = server.bus(true).await;
    let ask = async |topic: &str, body: &'static [u8]| {
        bus.request(topic, body, &SendOptions::default(), Duration::from_secs(5)).await
    };
    let e = ask("agent.7.ask", b"x").await.unwrap_err();
    assert_eq!(
        (e.kind(), e.stream_name(), e.topic_name()),
        (ErrorKind::Conflict, Some("AGENTS"), Some("agent.7.ask"))
    );
    assert!(e.message().contains("a stream stores this topic"), "{e}");
    // A reply that only looks a little like one is a reply.
    let responder = bus.respond("ask", "g").await.unwrap();
    tokio::spawn(async move {
        while let Some(d) = responder.next().await.unwrap() {
            responder.reply(&d, Ok(&d.body)).unwrap();
        }
    });
    let body = br#"{"stream":"S","seq":1,"more":true}"#;
    assert_eq!(&ask("ask", body).await.unwrap().body[..], body);
}

/// Core mode: settings that only JetStream has are a config error that names them and says to connect with it on.
#[tokio::test]
async fn what_only_jetstream_has_is_a_config_error_in_core_mode() {
    let server = Server::jetstream();
    let bus = server.bus(false).await;
    let second = Duration::from_secs(1);
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    for (name, options) in [
        ("ttl", SendOptions { ttl: Some(second), ..SendOptions::default() }),
        ("id", SendOptions { id: Some("x".into()), ..SendOptions::default() }),
        ("expected_last_sequence", SendOptions { expected_last_sequence: Some(1), ..SendOptions::default() }),
        (
            "expected_last_subject_sequence",
            SendOptions { expected_last_subject_sequence: Some(1), ..SendOptions::default() },
        ),
    ] {
        for e in [p.send(b"x", options.clone()).await.unwrap_err(), p.send_nowait(b"x", options).unwrap_err()]
        {
            assert!(e.kind() == ErrorKind::Config && e.message().contains(name), "{e}");
            assert!(e.message().contains("jetstream on"), "{e}");
        }
    }
    for (name, config) in [
        ("max_deliver", ConsumerConfig { max_deliver: Some(3), ..group() }),
        ("order", ConsumerConfig { order: Some(Order::Stream), ..group() }),
        ("ack_wait", ConsumerConfig { ack_wait: Some(second), ..group() }),
        ("max_ack_pending", ConsumerConfig { max_ack_pending: Some(9), ..group() }),
        ("deliver", ConsumerConfig { deliver: Some(Deliver::New), ..group() }),
        ("update", ConsumerConfig { update: true, ..group() }),
        ("stream", ConsumerConfig { stream: Some("S".into()), ..group() }),
        ("durable", ConsumerConfig { durable: Some("d".into()), ..group() }),
    ] {
        let e = bus.consumer("t", config).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Config && e.message().contains(name), "{e}");
        assert!(e.message().contains("jetstream on"), "{e}");
    }
}

/// Core mode: retries asked of a bus without JetStream, where the server has it, warn once.
#[tokio::test]
async fn retries_in_core_mode_warn_once_where_the_server_has_jetstream() {
    let (with, without) = (Server::jetstream(), Server::core());
    let backoff = Backoff { initial: Duration::from_millis(10), ..ConsumerConfig::default().backoff };
    for (server, warnings) in [(with, 1), (without, 0)] {
        let bus = server.bus(false).await;
        bus.consumer("plain", group()).await.unwrap();
        assert!(bus.warnings().is_empty());
        for topic in ["a", "b"] {
            bus.consumer(topic, ConsumerConfig { backoff: backoff.clone(), ..group() }).await.unwrap();
        }
        assert_eq!(bus.warnings().len(), warnings, "{:?}", bus.warnings());
    }
}

/// Streams: a topic over several streams is an error that names them; each is read by its name.
#[tokio::test]
async fn a_topic_over_several_streams_is_read_stream_by_stream() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    for topic in ["several.1.done", "several.2.done"] {
        send(&bus, topic, topic).await.unwrap();
    }
    let topic = "several.*.done";
    let e = bus.consumer(topic, group()).await.unwrap_err();
    assert_eq!((e.kind(), e.topic_name()), (ErrorKind::Conflict, Some(topic)));
    for part in ["2 streams", "several_1_done_STREAM", "several_2_done_STREAM", "(stream)", "family"] {
        assert!(e.message().contains(part), "{part} in {e}");
    }
    for n in 1..=2 {
        let stream = Some(format!("several_{n}_done_STREAM"));
        let c = bus.consumer(topic, ConsumerConfig { stream, ..group() }).await.unwrap();
        assert_eq!(next(&c).await.topic.as_str(), format!("several.{n}.done"));
    }
}
