//! Key-value buckets. Contract lines are named at the tests.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use crate::support::{Server, until};
use nats_eventbus::{Bus, ErrorKind, Kv, KvConfig, KvOperation, KvWatch, WatchOptions};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

async fn bucket(bus: &Bus, config: KvConfig) -> Kv {
    bus.kv("b", Some(config)).await.unwrap()
}

async fn all(watch: &KvWatch) -> Vec<(String, u64, KvOperation)> {
    let mut out = Vec::new();
    while let Some(e) = watch.next().await.unwrap() {
        out.push((e.key.clone(), e.revision, e.operation));
    }
    out
}

fn kind<T: std::fmt::Debug>(result: nats_eventbus::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Key-value: a bucket has the form of nats.go's; one that exists stays as it is, and other settings are a conflict.
#[tokio::test]
async fn created_as_nats_go_creates_it() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    assert_eq!(kind(bus.kv("b", None).await), ErrorKind::NotFound);
    let config = KvConfig { history: Some(5), ttl: Some(SECOND * 3600), ..KvConfig::default() };
    let kv = bucket(&bus, config.clone()).await;
    let made = server.api("STREAM.INFO.KV_b", "").await["config"].clone();
    for (field, want) in [
        ("subjects", json!(["$KV.b.>"])),
        ("max_msgs_per_subject", json!(5)),
        ("discard", json!("new")),
        ("allow_rollup_hdrs", json!(true)),
        ("deny_delete", json!(true)),
        ("allow_direct", json!(true)),
        ("duplicate_window", json!(120_000_000_000_u64)),
        ("max_age", json!(3_600_000_000_000_u64)),
    ] {
        assert_eq!(made[field], want, "{field}");
    }
    bus.kv("b", None).await.unwrap();
    bucket(&bus, config).await;
    bucket(&bus, KvConfig::default()).await;
    let e = bus.kv("b", Some(KvConfig { history: Some(2), ..KvConfig::default() })).await.unwrap_err();
    assert!(
        e.kind() == ErrorKind::Conflict && e.to_string().contains("history is 5 and 2 is asked for"),
        "{e}"
    );
    let status = kv.status().await.unwrap();
    assert_eq!((status.history, status.ttl, &*status.stream), (5, Some(SECOND * 3600), "KV_b"));
}

/// Key-value: put, get, create, update, delete and purge, by revision.
#[tokio::test]
async fn writes_and_reads() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let kv = bucket(&bus, KvConfig { history: Some(5), ..KvConfig::default() }).await;
    assert_eq!(kv.get("a.b", None).await.unwrap(), None);
    assert_eq!(kv.put("a.b", b"1", None).await.unwrap(), 1);
    assert_eq!(kv.put("a.b", b"2", None).await.unwrap(), 2);
    let entry = kv.get("a.b", None).await.unwrap().unwrap();
    assert_eq!((&*entry.key, entry.revision, &entry.value[..]), ("a.b", 2, &b"2"[..]));
    assert_eq!(&kv.get("a.b", Some(1)).await.unwrap().unwrap().value[..], b"1");
    kv.put("other", b"x", None).await.unwrap();
    assert_eq!(kv.get("a.b", Some(3)).await.unwrap(), None, "it is another key's");
    let e = kv.create("a.b", b"3", None).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.to_string().contains("revision 2"), "{e}");
    assert_eq!(kind(kv.update("a.b", b"3", 1, None).await), ErrorKind::Conflict);
    assert_eq!(kv.update("a.b", b"3", 2, None).await.unwrap(), 4);
    assert_eq!(kind(kv.delete("a.b", Some(2)).await), ErrorKind::Conflict);
    kv.delete("a.b", Some(4)).await.unwrap();
    assert_eq!(kv.get("a.b", None).await.unwrap(), None);
    assert_eq!(kv.keys(None).await.unwrap(), ["other"]);
    assert_eq!(kv.create("a.b", b"4", None).await.unwrap(), 6);
    assert_eq!(kv.keys(Some("a.>")).await.unwrap(), ["a.b"]);
    assert_eq!(all(&kv.history("a.b").unwrap()).await.len(), 5);
    kv.purge("a.b", None, None).await.unwrap();
    assert_eq!(all(&kv.history("a.b").unwrap()).await, [("a.b".into(), 7, KvOperation::Purge)]);
}

/// Key-value: of many who create a key at once, one succeeds, the others get a conflict.
#[tokio::test]
async fn one_creates() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let kv = bucket(&bus, KvConfig::default()).await;
    kv.put("k", b"x", None).await.unwrap();
    kv.delete("k", None).await.unwrap();
    let many = (0..20).map(|n| {
        let kv = kv.clone();
        async move { kv.create("k", n.to_string().as_bytes(), None).await }
    });
    let results = futures_util::future::join_all(many).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    assert!(results.into_iter().filter_map(Result::err).all(|e| e.kind() == ErrorKind::Conflict));
}

/// Key-value: a watch gives what there is, then every change; it says when it has caught up, also for an empty bucket.
#[tokio::test]
async fn watched() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let kv = bucket(&bus, KvConfig { history: Some(3), ..KvConfig::default() }).await;
    let empty = kv.watch(&WatchOptions::default()).unwrap();
    let first = tokio::spawn({
        let empty = empty.clone();
        async move { empty.next().await }
    });
    until(|| empty.caught_up()).await;
    for (key, value) in [("a.1", b"1"), ("a.1", b"2"), ("b", b"3")] {
        kv.put(key, value, None).await.unwrap();
    }
    let entry = first.await.unwrap().unwrap().unwrap();
    assert_eq!((&*entry.key, entry.initial), ("a.1", false));
    let watch = kv.watch(&WatchOptions { keys: vec!["a.*".into()], ..WatchOptions::default() }).unwrap();
    let one = watch.next().await.unwrap().unwrap();
    assert_eq!((one.revision, one.initial, &one.value[..]), (2, true, &b"2"[..]));
    kv.delete("a.1", None).await.unwrap();
    let gone = watch.next().await.unwrap().unwrap();
    assert_eq!((gone.operation, gone.initial, watch.caught_up()), (KvOperation::Delete, false, true));
    let history =
        kv.watch(&WatchOptions { history: true, names_only: true, ..WatchOptions::default() }).unwrap();
    let seen = [history.next().await, history.next().await].map(|e| e.unwrap().unwrap());
    assert_eq!(seen.each_ref().map(|e| e.revision), [1, 2]);
    assert!(seen.iter().all(|e| e.value.is_empty()));
    let from = WatchOptions { from_revision: Some(3), ..WatchOptions::default() };
    assert_eq!(kv.watch(&from).unwrap().next().await.unwrap().unwrap().revision, 3);
}

/// Key-value: a watch goes through the death of its server without a gap or a repeat.
#[tokio::test]
async fn a_watch_survives_its_server() {
    let mut server = Server::jetstream();
    let bus = server.bus(true).await;
    let kv = bucket(&bus, KvConfig { history: Some(64), ..KvConfig::default() }).await;
    let watch = kv.watch(&WatchOptions { history: true, ..WatchOptions::default() }).unwrap();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 60 {
            seen.push(watch.next().await.unwrap().unwrap().revision);
        }
        seen
    });
    for n in 0..60 {
        kv.put("k", n.to_string().as_bytes(), None).await.unwrap();
        if n % 20 == 9 {
            server.kill();
            server.restart();
        }
    }
    assert_eq!(seen.await.unwrap(), (1..=60).collect::<Vec<u64>>());
}

/// Key-value: names, revisions and times that are none are errors before anything is sent.
#[tokio::test]
async fn bad_input() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let kv = bucket(&bus, KvConfig::default()).await;
    for key in ["", "a..b", "a b", "*", "$x"] {
        assert_eq!(kind(kv.get(key, None).await), ErrorKind::Config, "{key}");
        assert_eq!(kind(kv.put(key, b"", None).await), ErrorKind::Config, "{key}");
    }
    assert_eq!(kind(kv.update("k", b"", 0, None).await), ErrorKind::Config);
    assert_eq!(kind(kv.get("k", Some(0)).await), ErrorKind::Config);
    assert_eq!(kind(kv.put("k", b"", Some(SECOND)).await), ErrorKind::NotSupported);
    for bad in ["", "a.b", "a b"] {
        assert_eq!(kind(bus.kv(bad, None).await), ErrorKind::Config, "{bad}");
    }
    let history = |n| Some(KvConfig { history: Some(n), ..KvConfig::default() });
    assert_eq!(kind(bus.kv("c", history(0)).await), ErrorKind::Config);
    assert_eq!(kind(bus.kv("c", history(65)).await), ErrorKind::Config);
    let both = WatchOptions { history: true, updates_only: true, ..WatchOptions::default() };
    assert_eq!(kv.watch(&both).unwrap_err().kind(), ErrorKind::Config);
    let core = server.bus(false).await;
    assert_eq!(kind(core.kv("b", None).await), ErrorKind::Config);
    bus.close().await.unwrap();
    assert!(kv.keys(None).await.is_err(), "a listing is whole, or an error");
}

/// Key-value: a write whose ack is lost is asked for again under the same id: it is written once, and succeeds.
#[tokio::test]
async fn a_lost_ack() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let kv = bucket(&bus, KvConfig { history: Some(5), ..KvConfig::default() }).await;
    let mut config = server.api("STREAM.INFO.KV_b", "").await["config"].clone();
    config["no_ack"] = true.into();
    assert!(server.api("STREAM.UPDATE.KV_b", &config.to_string()).await["error"].is_null());
    let (put, create) = (kv.clone(), kv.clone());
    let put = tokio::spawn(async move { put.put("a", b"1", None).await });
    let create = tokio::spawn(async move { create.create("b", b"2", None).await });
    let stored = async || kv.status().await.unwrap().values;
    while stored().await < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    config["no_ack"] = false.into();
    assert!(server.api("STREAM.UPDATE.KV_b", &config.to_string()).await["error"].is_null());
    let mut revisions = [put.await.unwrap().unwrap(), create.await.unwrap().unwrap()];
    revisions.sort_unstable();
    assert_eq!((revisions, stored().await), ([1, 2], 2));
    assert_eq!(kv.get("b", None).await.unwrap().map(|e| e.value.to_vec()), Some(b"2".to_vec()));
}
