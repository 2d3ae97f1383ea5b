//! Issue 4, item 2: credentials that rotate, expire, are revoked or conflict, and files that others can read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests may

use crate::support::{Server, certs::write_secret, jwt::Operator, until};
use nats_eventbus::{
    Bus, Config, Credentials, CredentialsSource, Error, ErrorKind, Event, EventKind, Events, Result, State,
};
use serde_json::{Value, json};
use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

fn quick() -> Value {
    json!({"initial": 0.02, "max": 0.05})
}

fn users(all: &[(&str, &str)]) -> String {
    let all: Vec<_> = all.iter().map(|(u, p)| format!("{{user: {u:?}, password: {p:?}}}")).collect();
    format!("authorization {{ users = [ {} ] }}", all.join(", "))
}

async fn event(events: &Events, kind: EventKind) -> Event {
    let wanted = async {
        loop {
            let e = events.next().await.expect("another event");
            if e.kind == kind {
                return e;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wanted).await.expect("in time")
}

async fn connect(server: &Server, more: Value, source: CredentialsSource) -> Result<Bus> {
    let mut settings = json!({"servers": server.url(), "reconnect": quick()});
    settings.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    let env = |name: &str| (name == "NATS_TOKEN").then(|| "left over".to_owned());
    Bus::connect(Config::load_with(settings, env, Some(source))?, &[]).await
}

#[tokio::test]
async fn a_callback_gives_credentials_that_rotate() {
    let mut server = Server::start(&[], &users(&[("app", "first")]));
    let (password, asked) = (Arc::new(Mutex::new("first".to_owned())), Arc::new(AtomicUsize::new(0)));
    let (p, n) = (password.clone(), asked.clone());
    let source = CredentialsSource::new(move || {
        n.fetch_add(1, Ordering::SeqCst);
        let given = json!({"user": "app", "password": p.lock().unwrap().clone()});
        async { Credentials::read(given) }
    });
    let bus = connect(&server, json!({}), source).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let events = bus.events();
    server.kill();
    server.reconfigure(&users(&[("app", "second")]));
    server.restart();
    let e = event(&events, EventKind::AuthFailed).await;
    assert!(e.cause.unwrap().to_lowercase().contains("authorization violation"));
    assert_ne!(bus.state(), State::Connected);
    *password.lock().unwrap() = "second".into();
    event(&events, EventKind::Reconnected).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_callback_that_fails_or_does_not_answer_is_an_auth_error_without_a_secret() {
    let mut server = Server::start(&[], &users(&[("app", "right")]));
    let failing =
        || CredentialsSource::new(|| async { Err(Error::new(ErrorKind::Config, "vault is sealed")) });
    let e = connect(&server, json!({}), failing()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Auth);
    assert!(e.message().contains("vault is sealed"), "{e}");
    let silent = CredentialsSource::asking(std::mem::forget);
    let e = connect(&server, json!({"api_timeout": 0.1}), silent).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Auth && e.message().contains("api_timeout"), "{e}");
    let dropped = CredentialsSource::asking(drop);
    assert_eq!(connect(&server, json!({}), dropped).await.unwrap_err().kind(), ErrorKind::Auth);
    let wrong = CredentialsSource::new(|| async { Credentials::read(json!({"nkey": "SUSECRETSECRET"})) });
    let e = connect(&server, json!({}), wrong).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Auth && !e.to_string().contains("SECRETSECRET"), "{e}");
    let e = connect(&server, json!({"user": "app", "password": "right"}), failing()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config, "a callback and others: {e}");
    // While running: told, and asked again until it answers.
    let good = Arc::new(AtomicUsize::new(0));
    let g = good.clone();
    let sometimes = CredentialsSource::new(move || {
        let n = g.fetch_add(1, Ordering::SeqCst);
        async move {
            match n {
                1..4 => Err(Error::new(ErrorKind::Config, "vault is sealed")),
                _ => Credentials::read(json!({"user": "app", "password": "right"})),
            }
        }
    });
    let bus = connect(&server, json!({}), sometimes).await.unwrap();
    let events = bus.events();
    server.kill();
    server.restart();
    assert!(event(&events, EventKind::AuthFailed).await.cause.unwrap().contains("vault is sealed"));
    event(&events, EventKind::Reconnected).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn credentials_that_expire_are_told_at_once_and_replaced_ones_recover() {
    let (o, dir) = (Operator::new(), TempDir::new().unwrap());
    let server = Server::start(&[], &o.config());
    let file = dir.path().join("user.creds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    write_secret(&file, &o.creds(Some(now + 6)));
    let bus = server.connect(json!({"credentials": file, "reconnect": quick()})).await.unwrap();
    assert!(bus.warnings().is_empty());
    let events = bus.events();
    let e = event(&events, EventKind::AuthFailed).await;
    assert!(e.cause.unwrap().contains("Expired"));
    assert!(event(&events, EventKind::Disconnected).await.cause.unwrap().contains("Expired"));
    until(|| bus.state() != State::Connected).await;
    // The server's clock counts in seconds: it may let in until this one is over.
    let e = loop {
        let connecting = server.connect(json!({"credentials": file}));
        match tokio::time::timeout(Duration::from_secs(2), connecting).await.expect("within 2 s") {
            Ok(early) => early.close().await.unwrap(),
            Err(e) => break e,
        }
    };
    assert_eq!(e.kind(), ErrorKind::Auth, "{e}");
    write_secret(&file, &o.creds(None));
    event(&events, EventKind::Reconnected).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_user_revoked_while_running_is_told_and_recovers_when_allowed_again() {
    let server = Server::start(&[], &users(&[("app", "right"), ("other", "x")]));
    let settings = json!({"user": "app", "password": "right", "reconnect": quick()});
    let bus = server.connect(settings).await.unwrap();
    let events = bus.events();
    server.reload(&users(&[("other", "x")]));
    assert!(event(&events, EventKind::AuthFailed).await.cause.is_some());
    until(|| bus.state() == State::Disconnected).await;
    server.reload(&users(&[("app", "right"), ("other", "x")]));
    event(&events, EventKind::Reconnected).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_file_of_secrets_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let (o, dir) = (Operator::new(), TempDir::new().unwrap());
    let server = Server::start(&[], &o.config());
    let file = dir.path().join("user.creds");
    write_secret(&file, &o.creds(None));
    for (mode, warned) in [(0o600, false), (0o640, true), (0o604, true), (0o400, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let bus = server.connect(json!({"credentials": file})).await.unwrap();
        assert_eq!(bus.warnings().len(), usize::from(warned), "{mode:o}");
        assert!(bus.warnings().iter().all(|w| w.contains("user.creds")));
        bus.close().await.unwrap();
    }
}
