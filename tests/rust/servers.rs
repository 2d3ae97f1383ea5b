//! The rows of `tests/spec/servers.json`: what servers of each version do, and what the bus makes of it.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use crate::support::{Server, until};
use async_nats::HeaderMap;
use nats_eventbus::{Bus, ConsumerConfig, Handled, ProducerConfig, SendOptions};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|n| n.parse().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

fn is_of(row: &Value, version: &str) -> bool {
    let bound = |name: &str, otherwise: &str| number(row[name].as_str().unwrap_or(otherwise));
    (bound("from", "0.0")..bound("below", "99.0")).contains(&number(version))
}

async fn must(server: &Server, call: &str, body: &Value) {
    let answer = server.api(call, &body.to_string()).await;
    assert!(answer["error"].is_null(), "{call}: {answer}");
}

/// The first with the fields of the second.
fn with(mut config: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    config
}

/// The row's stream, that of its source, and its durable, made behind the bus's back.
async fn declare(server: &Server, row: &Value, stream: &str, topic: &str) {
    let origin = format!("{stream}O");
    let mut takes = json!({"subjects": [format!("{topic}.>")]});
    if row["source"] == true {
        must(server, &format!("STREAM.CREATE.{origin}"), &with(json!({"name": origin}), &takes)).await;
        takes = json!({"sources": [{"name": origin}]});
    }
    let config = with(with(json!({"name": stream}), &takes), &row["stream"]);
    must(server, &format!("STREAM.CREATE.{stream}"), &config).await;
    if row["durable"].is_object() {
        let config =
            json!({"durable_name": "g", "ack_policy": "explicit", "filter_subject": format!("{topic}.>")});
        let query = json!({"stream_name": stream, "config": with(config, &row["durable"])});
        must(server, &format!("CONSUMER.CREATE.{stream}.g"), &query).await;
    }
}

async fn publish(server: &Server, row: &Value, topic: &str) {
    let client = async_nats::connect(server.url()).await.unwrap();
    let at: time::OffsetDateTime = (SystemTime::now() + Duration::from_secs(1)).into();
    let at = at.format(&time::format_description::well_known::Rfc3339).unwrap();
    for m in row["publish"].as_array().unwrap() {
        let mut headers = HeaderMap::new();
        for (name, value) in m["headers"].as_object().unwrap() {
            let value = value.as_str().unwrap().replace("{at}", &at).replace("{topic}", topic);
            headers.insert(name.as_str(), value.as_str());
        }
        let subject = format!("{topic}.{}", m["to"].as_str().unwrap());
        let body = m["body"].as_str().unwrap().to_owned();
        let reply = client.request_with_headers(subject, headers, body.into()).await.unwrap();
        let said = String::from_utf8_lossy(&reply.payload).into_owned();
        assert!(!said.contains("error"), "{said}");
    }
}

async fn sends(bus: &Bus, row: &Value, stream: &str, topic: &str) {
    let ttl = row["send"]["ttl"].as_f64().map(Duration::from_secs_f64);
    let p = bus.producer(&format!("{topic}.a"), ProducerConfig::default()).unwrap();
    let outcome = p.send(b"x", SendOptions { ttl, ..SendOptions::default() }).await;
    let told = outcome.as_ref().map_or_else(|e| e.kind().class(), |_| "acked");
    assert_eq!(told, row["outcome"], "{outcome:?}");
    let stored = bus.stream(stream).info().await.unwrap().messages;
    assert_eq!(stored, u64::from(told == "acked"));
}

async fn handles(server: &Server, bus: &Bus, row: &Value, stream: &str, topic: &str) {
    let (handled, action) = (Arc::new(Mutex::new(Vec::new())), row["handle"].as_str().map(str::to_owned));
    let after = Duration::from_secs_f64(row["after"].as_f64().unwrap_or_default());
    let config =
        ConsumerConfig { group: "g".into(), stream: Some(stream.into()), ..ConsumerConfig::default() };
    let c = bus.consumer(&format!("{topic}.>"), config).await.unwrap();
    let running = tokio::spawn({
        let (c, handled) = (c.clone(), handled.clone());
        async move {
            c.run(|d| {
                let mut all = handled.lock();
                all.push((String::from_utf8_lossy(&d.body).into_owned(), Instant::now()));
                std::future::ready(match action.as_deref() {
                    Some("reject") => Handled::Rejected("no use".into()),
                    Some("retry_after") if all.len() == 1 => Handled::RetryAfter(after),
                    _ => Handled::Done,
                })
            })
            .await
        }
    });
    publish(server, row, topic).await;
    let end = Instant::now() + Duration::from_secs(15);
    if let Some(header) = row["stored"]["header"].as_str() {
        let subject = format!("{topic}.{}", row["stored"]["to"].as_str().unwrap());
        let query = json!({"last_by_subj": subject}).to_string();
        loop {
            let found = server.api(&format!("STREAM.MSG.GET.{stream}"), &query).await;
            let headers = found["message"]["hdrs"].as_str().unwrap_or_default();
            let headers =
                base64::Engine::decode(&base64::engine::general_purpose::STANDARD, headers).unwrap();
            if String::from_utf8_lossy(&headers).contains(header) {
                break;
            }
            assert!(Instant::now() < end, "{found}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let want: Vec<_> = row["handled"].as_array().unwrap().iter().map(|b| b.as_str().unwrap()).collect();
    until(|| handled.lock().len() >= want.len()).await;
    loop {
        let info = server.api(&format!("CONSUMER.INFO.{stream}.g"), "").await;
        if info["num_pending"] == 0 && info["num_ack_pending"] == 0 {
            break;
        }
        assert!(Instant::now() < end, "{info}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    c.close().await.unwrap();
    running.await.unwrap().unwrap();
    let handled = handled.lock();
    assert_eq!(handled.iter().map(|(body, _)| body.as_str()).collect::<Vec<_>>(), want);
    if let [from, to] = row["within"].as_array().map_or(&[][..], Vec::as_slice) {
        let seconds = (handled[1].1 - handled[0].1).as_secs_f64();
        assert!((from.as_f64().unwrap()..=to.as_f64().unwrap()).contains(&seconds), "{seconds} s");
    }
}

/// Newer servers: each behaviour of the table, on the server of this run.
#[tokio::test]
async fn every_row() {
    let spec: Value = serde_json::from_str(include_str!("../spec/servers.json")).unwrap();
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let version = bus.server().version;
    for (n, row) in spec["rows"].as_array().unwrap().iter().enumerate() {
        if !is_of(row, &version) {
            println!("not of {version}: {}", row["name"]);
            continue;
        }
        println!("{}", row["name"]);
        let (stream, topic) = (format!("SPEC{n}"), format!("spec.{n}"));
        declare(&server, row, &stream, &topic).await;
        if row["send"].is_object() {
            sends(&bus, row, &stream, &topic).await;
            continue;
        }
        handles(&server, &bus, row, &stream, &topic).await;
        if let Some(count) = row["letters"].as_u64() {
            let letters = bus.dead_letters(&format!("{topic}.>"), "g", Some(&stream)).unwrap().list();
            let mut found = 0;
            while letters.next().await.unwrap().is_some() {
                found += 1;
            }
            assert_eq!(found, count);
        }
    }
}
