//! Bad input gives the right typed error within 2 s, and harms nothing: the table all languages share.
#![allow(clippy::panic, clippy::unwrap_used)] // helpers of tests may

use crate::support::{Server, clock::in_time};
use nats_eventbus::{Bus, Config, ConsumerConfig, Error, ProducerConfig, SendOptions};
use serde_json::{Value, json};
use std::time::Duration;

async fn attempt(case: &Value, url: &str) -> Result<(), Error> {
    let text = |name: &str| case[name].as_str().unwrap_or_default();
    let mut settings = json!({"servers": url, "jetstream": text("server") == "jetstream"});
    for (name, value) in case["settings"].as_object().into_iter().flatten() {
        settings[name] = value.clone();
    }
    let bus = Bus::connect(Config::load(settings, |_| None)?, &[]).await?;
    if text("do") == "connect" {
        return Ok(());
    }
    let mut options = SendOptions::default();
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        options.headers.push((name.clone(), value.as_str().unwrap_or_default().to_owned()));
    }
    let body = vec![b'x'; usize::try_from(case["body_size"].as_u64().unwrap_or(1)).unwrap()];
    let closed = case["closed"].as_bool().unwrap_or(false);
    let early = bus.producer(text("topic"), ProducerConfig::default());
    if closed {
        bus.close().await?;
    }
    let result = match text("do") {
        "send" => match early {
            Ok(p) => p.send(&body, options).await.map(drop),
            Err(e) => Err(e),
        },
        "send_nowait" => early?.send_nowait(&body, options),
        "consume" => {
            let config = ConsumerConfig { group: text("group").into(), ..ConsumerConfig::default() };
            bus.consumer(text("topic"), config).await.map(drop)
        }
        "request" => bus.request(text("topic"), &body, &options, Duration::from_secs(1)).await.map(drop),
        other => panic!("unknown: {other}"),
    };
    if !closed {
        // The connection lives on.
        bus.producer("still.alive", ProducerConfig::default())?.send(b"x", SendOptions::default()).await?;
        bus.close().await?;
    }
    result
}

#[tokio::test]
async fn bad_input_gives_the_right_error() {
    let table: Value = serde_json::from_str(include_str!("../shared/bad_input.json")).unwrap();
    let (jetstream, core) = (Server::jetstream(), Server::core());
    let password = Server::start(&[], r#"authorization { users = [ {user: "app", password: "right"} ] }"#);
    for case in table["cases"].as_array().unwrap() {
        let url = match case["server"].as_str().unwrap() {
            "jetstream" => jetstream.url(),
            "core" => core.url(),
            "password" => password.url(),
            _ => "nats://127.0.0.1:1".into(),
        };
        let e = in_time(Duration::from_secs(2), attempt(case, &url)).await.expect_err("an error");
        assert_eq!(e.code(), case["code"], "{}: {e}", case["name"]);
        assert!(!e.to_string().contains("wrong"), "no secret in an error: {e}");
    }
}
