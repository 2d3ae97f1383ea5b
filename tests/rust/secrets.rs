//! Errors: no secret in any message, repr or log line, at any level: nor in the output of a process that panics, nor
//! where others of the machine see processes.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod support;

use crate::support::{Server, log};
use nats_eventbus::{Bus, Config, Credentials, CredentialsSource};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;
use test_credentials::jwt::Operator;

const HUNTER: &str = "hunter2-TopSecret";

/// The command line of a process, where the system shows it.
fn command_line(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// All of a process with secrets in its environment that it can tell: what is printed, logged, panicked with, and seen
/// of it and of the server it starts.
async fn tell_all(dir: &Path, refusing: &str) {
    log::start();
    let env = |name: &str| std::env::var(name).ok();
    let config = Config::load(json!({"servers": format!("local://{}", dir.display())}), env).unwrap();
    let bus = Bus::connect(config.clone(), &[support::binary()]).await.unwrap();
    let known: Value =
        serde_json::from_str(&fs::read_to_string(dir.join(".nats-eventbus/server.json")).unwrap()).unwrap();
    let server = known["pid"].to_string();
    println!("{} {}", command_line("self"), command_line(&server));
    println!("{}", fs::read_to_string(format!("/proc/{server}/environ")).unwrap_or_default());
    let refused = Config::load(json!({"servers": refusing}), env).unwrap();
    let e = Bus::connect(refused, &[]).await.unwrap_err();
    let given = Credentials::read(json!({"user": "app", "password": HUNTER})).unwrap();
    let asked = given.clone();
    let source = CredentialsSource::new(move || std::future::ready(Ok(asked.clone())));
    let seen = format!("{config:?} {bus:?} {:?} {e:?} {given:?} {source:?}", bus.config());
    bus.close().await.unwrap();
    println!("{}", log::all());
    let panicking = std::thread::spawn(move || panic!("{seen}"));
    assert!(panicking.join().is_err());
}

/// The process that tells all: itself, once more.
#[tokio::test]
async fn child() {
    if let (Some(dir), Ok(url)) = (std::env::var_os("CANARY_DIR"), std::env::var("CANARY_REFUSING")) {
        tell_all(Path::new(&dir), &url).await;
    }
}

#[test]
fn no_secret_is_told_by_a_process() {
    let o = Operator::new();
    let (jwt, seed) = (o.user_jwt(None), o.user.seed());
    let refusing = Server::start(&[], r#"authorization { users = [ {user: "app", password: "right"} ] }"#);
    for secrets in [
        vec![("NATS_USERNAME", "app"), ("NATS_PASSWORD", HUNTER)],
        vec![("NATS_TOKEN", HUNTER)],
        vec![("NATS_NKEY_SEED", &seed)],
        vec![("NATS_JWT_TOKEN", &jwt), ("NATS_NKEY_SEED", &seed)],
    ] {
        let dir = TempDir::new().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("CANARY_DIR", dir.path())
            .env("CANARY_REFUSING", refusing.url())
            .env("RUST_BACKTRACE", "full")
            .env("NATS_SERVER_URL", format!("nats://app:{HUNTER}@127.0.0.1:1"))
            .envs(secrets.iter().copied())
            .output()
            .unwrap();
        let told = format!("{output:?}");
        assert!(output.status.success(), "{told}");
        for part in ["panicked at", "embedded server", "AuthError", "CANARY_DIR"] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        for (name, secret) in secrets.into_iter().filter(|(name, _)| *name != "NATS_USERNAME") {
            assert!(!told.contains(secret), "{name} is told in {told}");
        }
        assert!(!told.contains(HUNTER), "told in {told}");
    }
}
