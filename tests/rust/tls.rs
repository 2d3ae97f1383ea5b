//! Issue 4, item 3: names, TLS first, and that what is asked to be encrypted is, everywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests may

use crate::support::{Server, certs::Authority, until};
use nats_eventbus::{Bus, Config, ErrorKind, EventKind, Result, State};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{TcpListener, TcpStream},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

async fn connect(settings: Value) -> Result<Bus> {
    Bus::connect(Config::load(settings, |_| None)?, &[]).await
}

async fn connects(settings: Value) {
    let bus = connect(settings.clone()).await.unwrap_or_else(|e| panic!("{settings}: {e}"));
    bus.force_reconnect().await.unwrap();
    bus.close().await.unwrap();
}

async fn fails(settings: Value, kind: ErrorKind) {
    let e = connect(settings.clone()).await.expect_err("an error");
    assert_eq!(e.kind(), kind, "{settings}: {e}");
}

#[tokio::test]
async fn the_name_a_certificate_is_for() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new(dir.path());
    authority.issue("server", &["bus.internal"]);
    authority.issue("client", &["client"]);
    let ca = authority.path("ca.pem");
    let server = Server::start(&[], &authority.tls("server", ""));
    let url = server.url();
    fails(json!({"servers": url, "tls": {"ca": ca}}), ErrorKind::Tls).await;
    connects(json!({"servers": url, "tls": {"ca": ca, "server_name": "bus.internal"}})).await;
    fails(json!({"servers": url, "tls": {"ca": ca, "server_name": "other.internal"}}), ErrorKind::Tls).await;
    fails(json!({"servers": url, "tls": {"server_name": "bus.internal"}}), ErrorKind::Tls).await;
    fails(json!({"servers": url, "tls": {"ca": ca, "server_name": "not a name"}}), ErrorKind::Config).await;
    fails(json!({"servers": url, "tls": {"verify": false}}), ErrorKind::Config).await;
    fs::write(dir.path().join("not.pem"), "nothing of the kind").unwrap();
    let not = authority.path("not.pem");
    fails(json!({"servers": url, "tls": {"ca": not, "server_name": "bus.internal"}}), ErrorKind::Config)
        .await;
    let more = format!(", ca_file: {ca:?}, verify: true");
    let mutual = Server::start(&[], &authority.tls("server", &more));
    let mut tls = json!({"ca": ca, "server_name": "bus.internal"});
    fails(json!({"servers": mutual.url(), "tls": tls}), ErrorKind::Tls).await;
    tls["cert"] = authority.path("client.pem").into();
    tls["key"] = authority.path("client.key").into();
    connects(json!({"servers": mutual.url(), "tls": tls})).await;
}

#[tokio::test]
async fn tls_before_the_greeting() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new(dir.path());
    authority.issue("server", &["127.0.0.1"]);
    let ca = authority.path("ca.pem");
    // A server that greets only those who speak TLS first is one that does not greet our helper.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = authority.tls("server", ", handshake_first: \"300ms\"");
    let server = Server::start(&[], &text);
    assert_ne!(server.url(), format!("nats://127.0.0.1:{port}"));
    connects(json!({"servers": server.url(), "tls": {"ca": ca, "first": true}})).await;
    connects(json!({"servers": server.url(), "tls": {"ca": ca}})).await;
    let plain = Server::core();
    fails(json!({"servers": plain.url(), "tls": {"ca": ca, "first": true}}), ErrorKind::Tls).await;
}

#[tokio::test]
async fn what_must_be_encrypted_is_so_for_the_whole_pool() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new(dir.path());
    authority.issue("server", &["127.0.0.1"]);
    let (plain, mut safe) = (Server::core(), Server::start(&[], &authority.tls("server", "")));
    fails(json!({"servers": plain.url(), "require_tls": true}), ErrorKind::Tls).await;
    let pool = format!("{},{}", plain.url(), safe.url().replace("nats://", "tls://"));
    let tls = json!({"ca": authority.path("ca.pem")});
    let quick = json!({"initial": 0.02, "max": 0.05});
    let bus = connect(json!({"servers": pool, "tls": tls, "reconnect": quick})).await.unwrap();
    assert!(safe.url().ends_with(&bus.server().port.to_string()));
    let events = bus.events();
    safe.kill();
    // The plain one is tried, and not used.
    for _ in 0..2 {
        let e = events.next().await.unwrap();
        assert_ne!(e.kind, nats_eventbus::EventKind::Reconnected);
    }
    assert_eq!(bus.state(), State::Disconnected);
    safe.restart();
    until(|| bus.state() == State::Connected).await;
    assert!(safe.url().ends_with(&bus.server().port.to_string()));
    bus.close().await.unwrap();
}

/// A cluster's configuration: where a node listens, and whom it dials.
fn cluster(routes: &[u16], this: usize) -> String {
    let urls: Vec<_> = routes.iter().map(|p| format!("\"nats://127.0.0.1:{p}\"")).collect();
    format!("cluster {{ name: c, listen: \"127.0.0.1:{}\", routes: [{}] }}\n", routes[this], urls.join(", "))
}

/// How many servers a node tells its clients of, in its greeting, which is in clear.
fn told(server: &Server) -> usize {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).unwrap()).read_line(&mut line).unwrap();
    let info: Value = serde_json::from_str(line.trim_start_matches("INFO ")).unwrap();
    info["connect_urls"].as_array().map_or(0, Vec::len)
}

/// Connection: `tls://` anywhere in the pool means TLS everywhere, discovered servers included: of two that a node tells
/// of, the one with TLS is used when the node dies, and the one without never.
#[tokio::test]
async fn tls_is_for_discovered_servers_too() {
    let Ok(tls) = std::env::var("TEST_TLS_BLOCK") else {
        // The authority is to be the system's, so that nothing but the scheme asks for TLS: in a process of its own.
        let dir = TempDir::new().unwrap();
        let authority = Authority::new(dir.path());
        authority.issue("server", &["127.0.0.1"]);
        let mut again = Command::new(std::env::current_exe().unwrap());
        again
            .args(["--exact", "tls::tls_is_for_discovered_servers_too", "--nocapture"])
            .env("TEST_TLS_BLOCK", authority.tls("server", ""));
        let run = again.env("SSL_CERT_FILE", authority.path("ca.pem")).output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        return;
    };
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let routes = [free(), free(), free()].map(|l| l.local_addr().unwrap().port());
    let mut seed = Server::start(&[], &(cluster(&routes, 0) + &tls));
    let mut safe = Server::start(&[], &(cluster(&routes, 1) + &tls));
    let plain = Server::start(&[], &cluster(&routes, 2));
    until(|| told(&seed) == 3 && told(&safe) == 3).await;
    let quick = json!({"initial": 0.02, "max": 0.05});
    let address = seed.url().replace("nats://", "tls://");
    let bus = connect(json!({"servers": address, "reconnect": quick})).await.unwrap();
    let events = bus.events();
    seed.kill();
    until(|| bus.state() == State::Connected && bus.server().port == safe.port()).await;
    safe.kill();
    // Every server is tried, the plain one as well, and it is not used: not after the first loss, when it may have been
    // tried before the other, and not after the second.
    let shown = plain.url().replace("nats://", "");
    let mut lost = 0;
    loop {
        let e = tokio::time::timeout(Duration::from_secs(10), events.next());
        let e = e.await.expect("the plain server is tried").unwrap();
        let used = matches!(e.kind, EventKind::Reconnected | EventKind::Connected);
        assert!(!used || e.server.as_deref() != Some(&*shown), "{e:?}");
        lost += usize::from(e.kind == EventKind::Disconnected);
        let tried = e.kind == EventKind::Connecting && e.server.as_deref() == Some(&*shown);
        if lost == 2 && tried && e.cause.is_some() {
            break;
        }
    }
    assert_eq!(bus.state(), State::Disconnected);
    seed.restart();
    until(|| bus.state() == State::Connected).await;
    assert_ne!(bus.server().port, plain.port());
    bus.close().await.unwrap();
}

/// The name verified is not the name sent: SNI stays the host dialled.
#[tokio::test]
async fn the_name_sent_is_the_host_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://localhost:{}", listener.local_addr().unwrap().port());
    let hello = std::thread::spawn(move || {
        let (mut stream, mut bytes) = (listener.accept().unwrap().0, vec![0; 4096]);
        let n = stream.read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    });
    fails(
        json!({"servers": url, "tls": {"first": true, "server_name": "bus.internal"}}),
        ErrorKind::Connection,
    )
    .await;
    let hello = hello.join().unwrap();
    assert!(hello.contains("localhost") && !hello.contains("bus.internal"), "{hello}");
}
