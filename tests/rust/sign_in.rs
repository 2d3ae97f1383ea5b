//! Every way to sign in and every case of TLS: the table all languages share. And what all that tells: no
//! secret, in any message, repr or log line, ours or the client's, at any level.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests may

mod support;

use crate::support::{Server, clock::in_time, log};
use nats_eventbus::{Bus, Config, Credentials, CredentialsSource, Result, State};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The answers of a row's callback in turn, the last one ever after.
fn source(answers: &Value) -> Option<CredentialsSource> {
    let answers = answers.as_array()?.clone();
    let asked = Arc::new(AtomicUsize::new(0));
    Some(CredentialsSource::new(move || {
        let turn = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        std::future::ready(Credentials::read(answers[turn].clone()))
    }))
}

/// What the server says of the connection of this name: as whom it is signed in, and whether in TLS.
fn seen(monitor: &Value, name: &str) -> Option<(String, bool)> {
    let mut stream = TcpStream::connect(("127.0.0.1", u16::try_from(monitor.as_u64()?).unwrap())).unwrap();
    stream.write_all(b"GET /connz?auth=1 HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let all: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
    let found = all["connections"].as_array()?.iter().find(|c| c["name"] == name)?;
    Some((found["authorized_user"].as_str().unwrap_or_default().to_owned(), found["tls_version"].is_string()))
}

/// Waits until the server sees a row's connection as it should be.
async fn is_seen(monitor: &Value, row: &Value, who: &Value) {
    let (end, name) = (Instant::now() + Duration::from_secs(5), row["name"].as_str().unwrap());
    loop {
        let found = seen(monitor, name);
        let good = |(user, tls): &(_, bool)| (who.is_null() || who == user) && *tls == (row["tls"] == true);
        if found.as_ref().is_some_and(good) {
            return;
        }
        assert!(Instant::now() < end, "{name}: {who} is wanted, the server sees {found:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Connects as a row says; everything that can be told of it goes to `told`.
async fn connect(row: &Value, port: u16, told: &mut String) -> Result<Bus> {
    let text = |value: &Value| value.as_str().map(|s| s.replace("PORT", &port.to_string()));
    let (mut settings, env) = (row["settings"].clone(), &row["env"]);
    if let Some(servers) = text(&settings["servers"]) {
        settings["servers"] = servers.into();
    }
    let config = Config::load_with(settings, |name| text(&env[name]), source(&row["callback"]))?;
    write!(told, "{config:?} {}", serde_json::to_string(&config).unwrap()).unwrap();
    Bus::connect(config, &[]).await
}

/// Lets a row's bus reconnect, after files were replaced.
async fn again(bus: &Bus, row: &Value, monitor: &Value) {
    for (path, text) in row["replace"].as_object().into_iter().flatten() {
        fs::write(path, text.as_str().unwrap()).unwrap();
    }
    bus.force_reconnect().await.unwrap_or_else(|e| panic!("{}: {e}", row["name"]));
    assert_eq!(bus.state(), State::Connected);
    let who = if row["then_as"].is_null() { &row["as"] } else { &row["then_as"] };
    is_seen(monitor, row, who).await;
}

async fn is_as_expected(row: &Value, port: u16, monitor: &Value) -> String {
    let (name, mut told) = (&row["name"], String::new());
    let result = in_time(Duration::from_secs(2), connect(row, port, &mut told)).await;
    match result {
        Ok(bus) => {
            assert!(row["code"].is_null(), "{name}: let in, {} is wanted", row["code"]);
            let (warned, expected) = (bus.warnings(), row["warns"].as_array());
            assert_eq!(warned.len(), expected.map_or(0, Vec::len), "{name}: {warned:?}");
            for (text, part) in warned.iter().zip(expected.into_iter().flatten()) {
                assert!(text.contains(part.as_str().unwrap()), "{name}: {part} in {text}");
            }
            is_seen(monitor, row, &row["as"]).await;
            again(&bus, row, monitor).await;
            write!(told, "{bus:?} {:?} {:?} {warned:?}", bus.config(), bus.server()).unwrap();
            bus.close().await.unwrap();
        }
        Err(e) => {
            assert_eq!(row["code"], e.code(), "{name}: {e}");
            write!(told, "{e} {e:?} {} {:?}", e.to_json(), e.server_text()).unwrap();
        }
    }
    told
}

#[tokio::test]
async fn every_way_to_sign_in_and_every_case_of_tls() {
    log::start();
    let dir = TempDir::new().unwrap();
    let table = test_credentials::write_table(dir.path());
    let start =
        |config: &Value| Server::start_as(&[], config["config"].as_str().unwrap(), config["greets"] != false);
    let servers: BTreeMap<_, _> =
        table["servers"].as_object().unwrap().iter().map(|(n, c)| (n, start(c))).collect();
    let mut failed = Vec::new();
    for row in table["rows"].as_array().unwrap() {
        let (server, row) = (row["server"].as_str().unwrap(), row.clone());
        let (port, monitor) =
            (servers[&server.to_owned()].port(), table["servers"][server]["monitor"].clone());
        let (name, secrets) = (row["name"].clone(), table["secrets"].clone());
        let case = async move {
            let told = is_as_expected(&row, port, &monitor).await;
            for secret in secrets.as_array().unwrap().iter().map(|s| s.as_str().unwrap()) {
                assert!(!told.contains(secret), "{}: {secret} in {told}", row["name"]);
                assert!(!log::all().contains(secret), "{}: {secret} in the log: {}", row["name"], log::all());
            }
        };
        // In a task of its own, so that the other rows are tried when it fails.
        if tokio::spawn(case).await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
    let log = log::all();
    for part in ["connected", "authorization violation", "establishing connection"] {
        assert!(log.contains(part), "the test sees no log: {part}");
    }
}
