//! Every way to sign in, and TLS, against servers configured for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests may

use crate::support::{Server, certs::Authority, clock::in_time, jwt::Operator};
use nats_eventbus::{ErrorKind, State};
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tempfile::TempDir;

async fn signs_in(server: &Server, settings: Value) {
    let bus = server.connect(settings.clone()).await.unwrap_or_else(|e| panic!("{settings}: {e}"));
    assert_eq!(bus.state(), State::Connected);
    bus.close().await.unwrap();
}

async fn refused(server: &Server, settings: Value, kind: ErrorKind) {
    let connecting = in_time(Duration::from_secs(2), server.connect(settings.clone()));
    let e = connecting.await.expect_err("an error");
    assert_eq!(e.kind(), kind, "{e}");
    for (_, secret) in settings.as_object().unwrap() {
        let shown = secret.as_str().filter(|s| s.len() > 20 && !s.starts_with('/'));
        assert!(!shown.is_some_and(|s| e.to_string().contains(s)), "a secret in {e}");
    }
}

#[tokio::test]
async fn user_and_password_and_token() {
    let server = Server::start(&[], r#"authorization { users = [ {user: "app", password: "right"} ] }"#);
    signs_in(&server, json!({"user": "app", "password": "right"})).await;
    let token = Server::start(&[], r#"authorization { token: "sesame" }"#);
    signs_in(&token, json!({"token": "sesame"})).await;
    refused(&token, json!({"token": "wrong"}), ErrorKind::Auth).await;
}

#[tokio::test]
async fn an_nkey_by_seed_or_by_file() {
    let (user, other, dir) = (KeyPair::new_user(), KeyPair::new_user(), TempDir::new().unwrap());
    let config = format!("authorization {{ users = [ {{nkey: {}}} ] }}", user.public_key());
    let server = Server::start(&[], &config);
    let file = dir.path().join("user.nk");
    fs::write(&file, format!("{}\n", user.seed().unwrap())).unwrap();
    signs_in(&server, json!({"nkey": user.seed().unwrap()})).await;
    signs_in(&server, json!({"nkey": file})).await;
    refused(&server, json!({"nkey": other.seed().unwrap()}), ErrorKind::Auth).await;
    refused(&server, json!({"nkey": "SUNOTASEED"}), ErrorKind::Config).await;
}

#[tokio::test]
async fn a_jwt_with_its_seed_or_a_credentials_file() {
    let (o, dir) = (Operator::new(), TempDir::new().unwrap());
    let server = Server::start(&[], &o.config());
    let (user_jwt, seed) = (o.user_jwt(None), o.user.seed());
    signs_in(&server, json!({"jwt": user_jwt, "nkey": seed})).await;
    let file = dir.path().join("user.creds");
    let creds = o.creds(None);
    fs::write(&file, creds).unwrap();
    signs_in(&server, json!({"credentials": file})).await;
    let stranger = KeyPair::new_user().seed().unwrap();
    refused(&server, json!({"jwt": user_jwt, "nkey": stranger}), ErrorKind::Auth).await;
    fs::write(&file, "not credentials").unwrap();
    refused(&server, json!({"credentials": file}), ErrorKind::Config).await;
}

#[tokio::test]
async fn tls_by_scheme_with_an_authority_of_its_own_and_client_certificates() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let authority = Authority::new(dir.path());
    for name in ["server", "client"] {
        authority.issue(name, &["127.0.0.1", "localhost"]);
    }
    let tls = format!("cert_file: {:?}, key_file: {:?}", path("server.pem"), path("server.key"));
    let server = Server::start(&[], &format!("tls {{ {tls} }}"));
    let url = server.url().replace("nats://", "tls://");
    let with = |tls: Value| json!({"servers": url, "tls": tls});
    let connect = async |settings: Value| {
        nats_eventbus::Bus::connect(nats_eventbus::Config::load(settings, |_| None)?, &[]).await
    };
    let bus = connect(with(json!({"ca": path("ca.pem")}))).await.unwrap();
    bus.close().await.unwrap();
    let e = connect(json!({"servers": url})).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls, "an unknown authority: {e}");
    let e = connect(with(json!({"ca": path("nowhere.pem")}))).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config, "{e}");
    let mutual = Server::start(&[], &format!("tls {{ {tls}, ca_file: {:?}, verify: true }}", path("ca.pem")));
    let files = json!({"ca": path("ca.pem"), "cert": path("client.pem"), "key": path("client.key")});
    let url = mutual.url().replace("nats://", "tls://");
    let bus = connect(json!({"servers": url, "tls": files})).await.unwrap();
    bus.close().await.unwrap();
}

#[tokio::test]
async fn tls_asked_of_a_server_without_it_is_an_error() {
    let server = Server::core();
    let url = server.url().replace("nats://", "tls://");
    let config = nats_eventbus::Config::load(json!({"servers": url}), |_| None).unwrap();
    let e = nats_eventbus::Bus::connect(config, &[]).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
}
