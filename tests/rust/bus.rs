//! The bus against real servers, through its Rust API.

use crate::support::{Server, until};
use nats_eventbus::{ConsumerConfig, ErrorKind, ProducerConfig, SendOptions, Settle};
use std::time::{Duration, Instant};

fn group(name: &str) -> ConsumerConfig {
    ConsumerConfig { group: name.into(), ..ConsumerConfig::default() }
}

#[tokio::test]
async fn every_send_is_acked_and_every_message_handled() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("coze.workflow.42.done", ProducerConfig::default()).unwrap();
    let ack = p
        .send(b"one", SendOptions { key: Some("doc-7".into()), ..Default::default() })
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&*ack.stream, ack.sequence, ack.duplicate), ("coze_workflow_42_done_STREAM", 1, false));
    let c = bus.consumer("coze.workflow.42.done", group("g")).await.unwrap();
    let m = c.next().await.unwrap().unwrap();
    assert_eq!((&m.body[..], m.key(), m.attempt()), (&b"one"[..], Some("doc-7"), 1));
    assert!(m.id().is_some());
    c.ack_confirmed(m.token, Duration::from_secs(2)).await.unwrap();
    assert!(!c.settle(m.token, &Settle::Ack), "a message is settled once");
    bus.close().await.unwrap();
    let e = p.send(b"x", SendOptions::default()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn an_id_is_stored_once_and_the_duplicate_is_reported() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let with_id = || SendOptions { id: Some("evt-1".into()), ..Default::default() };
    let first = p.send(b"x", with_id()).await.unwrap().unwrap();
    let second = p.send(b"x", with_id()).await.unwrap().unwrap();
    assert!(!first.duplicate && second.duplicate && first.sequence == second.sequence);
}

#[tokio::test]
async fn send_many_and_fetch_ten_thousand() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let bodies: Vec<_> = (0..10_000u32).map(u32::to_le_bytes).collect();
    let results = p.send_many(&bodies, &SendOptions::default()).await.unwrap();
    assert!(results.iter().all(Result::is_ok));
    let c = bus.consumer("t", group("g")).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < bodies.len() {
        let batch = c.fetch(500, Duration::from_secs(5)).await.unwrap();
        assert!(!batch.is_empty(), "stalled at {}", seen.len());
        c.ack_many(batch.iter().map(|d| d.token));
        seen.extend(batch.into_iter().map(|d| u32::from_le_bytes(d.body[..].try_into().unwrap())));
    }
    assert!(seen.iter().copied().eq(0..10_000), "one producer without retries is stored in order");
}

#[tokio::test]
async fn keys_keep_their_order() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    for i in 0..500 {
        let key = Some(format!("k{}", i % 7));
        p.send_nowait(format!("{i}").as_bytes(), SendOptions { key, ..Default::default() }).unwrap();
    }
    p.flush().await.unwrap();
    let c = bus.consumer("t", group("g")).await.unwrap();
    let mut last = [-1i64; 7];
    for _ in 0..500 {
        let m = c.next().await.unwrap().unwrap();
        let i: i64 = std::str::from_utf8(&m.body).unwrap().parse().unwrap();
        let lane = &mut last[usize::try_from(i % 7).unwrap()];
        assert!(*lane < i, "{i} after {lane}");
        *lane = i;
    }
}

#[tokio::test]
async fn nowait_fails_with_backpressure_and_flush_reports_once() {
    let mut server = Server::jetstream();
    let bus = server.bus(true).await;
    let config = ProducerConfig {
        max_in_flight: 10,
        delivery_timeout: Duration::from_secs(2),
        ..ProducerConfig::default()
    };
    let p = bus.producer("t", config).unwrap();
    p.send(b"first", SendOptions::default()).await.unwrap();
    server.kill();
    until(|| bus.state() != nats_eventbus::State::Connected).await;
    for _ in 0..10 {
        p.send_nowait(b"x", SendOptions::default()).unwrap();
    }
    assert_eq!(p.send_nowait(b"x", SendOptions::default()).unwrap_err().kind(), ErrorKind::Backpressure);
    let e = p.flush().await.unwrap_err();
    assert_eq!((e.kind(), e.failures().len()), (ErrorKind::NotSent, 10));
    p.flush().await.unwrap();
}

#[tokio::test]
async fn nothing_acked_is_lost_when_the_server_is_killed() {
    let mut server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let c = bus.consumer("t", group("g")).await.unwrap();
    let sender = tokio::spawn({
        let p = p.clone();
        async move {
            let bodies: Vec<_> = (0..20_000u32).map(u32::to_le_bytes).collect();
            p.send_many(&bodies, &SendOptions::default()).await.unwrap()
        }
    });
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 20_000 {
        if seen.len() >= 2_000 && bus.metrics().reconnects == 0 {
            server.kill();
            server.restart();
            until(|| bus.metrics().reconnects > 0).await;
        }
        let m =
            tokio::time::timeout(Duration::from_secs(40), c.next()).await.expect("stalled").unwrap().unwrap();
        c.settle(m.token, &Settle::Ack);
        seen.insert(u32::from_le_bytes(m.body[..].try_into().unwrap()));
    }
    let results = sender.await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|r| r.is_err()));
    let info = bus.stream("t_STREAM").info().await.unwrap();
    assert_eq!(info.messages, 20_000, "every id is stored once");
}

#[tokio::test]
async fn core_mode_shares_a_queue_group_and_flushes_by_a_round_trip() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let (a, b) = (bus.consumer("t", group("g")).await.unwrap(), bus.consumer("t", group("g")).await.unwrap());
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    for _ in 0..1000 {
        assert!(p.send(b"x", SendOptions::default()).await.unwrap().is_none());
    }
    p.flush().await.unwrap();
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    until(|| {
        a.take(2000, &mut of_a).unwrap();
        b.take(2000, &mut of_b).unwrap();
        of_a.len() + of_b.len() >= 1000
    })
    .await;
    assert_eq!(of_a.len() + of_b.len(), 1000);
    assert!(!of_a.is_empty() && !of_b.is_empty(), "both share the load");
}

#[tokio::test]
async fn requests_end_in_a_reply_no_responders_a_failure_or_a_timeout() {
    let server = Server::core();
    let bus = server.bus(false).await;
    let none = SendOptions::default();
    let ask = |body: &'static [u8], ms| bus.request("ask", body, &none, Duration::from_millis(ms));
    let started = Instant::now();
    assert_eq!(ask(b"?", 5000).await.unwrap_err().kind(), ErrorKind::NoResponders);
    assert!(started.elapsed() < Duration::from_secs(4), "at once");
    let responder = bus.respond("ask", "agents").await.unwrap();
    let serve = tokio::spawn(async move {
        while let Some(m) = responder.next().await.unwrap() {
            match &m.body[..] {
                b"fail" => responder.reply(&m, Err("no such agent")).unwrap(),
                b"silence" => {}
                body => responder.reply(&m, Ok(body)).unwrap(),
            }
        }
    });
    assert_eq!(&ask(b"hello", 2000).await.unwrap().body[..], b"hello");
    let e = ask(b"fail", 2000).await.unwrap_err();
    assert_eq!((e.kind(), e.server_text()), (ErrorKind::RequestFailed, Some("no such agent")));
    assert_eq!(ask(b"silence", 100).await.unwrap_err().kind(), ErrorKind::Timeout);
    bus.close().await.unwrap();
    serve.await.unwrap();
}

#[tokio::test]
async fn closing_gives_back_what_is_buffered() {
    let server = Server::jetstream();
    let (one, two) = (server.bus(true).await, server.bus(true).await);
    let p = one.producer("t", ProducerConfig::default()).unwrap();
    p.send_many(&[b"x"; 100], &SendOptions::default()).await.unwrap();
    let a = one.consumer("t", group("g")).await.unwrap();
    let first = a.next().await.unwrap().unwrap();
    a.settle(first.token, &Settle::Ack);
    a.close().await.unwrap();
    assert!(a.next().await.unwrap().is_none());
    let b = two.consumer("t", group("g")).await.unwrap();
    let started = Instant::now();
    let mut n = 0;
    while n < 99 {
        let batch = b.fetch(99, Duration::from_secs(10)).await.unwrap();
        assert!(!batch.is_empty(), "only {n} came back");
        n += batch.len();
    }
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "at once, not after ack wait: {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_deleted_durable_is_an_error_and_not_a_stall() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let c = bus.consumer("t", group("g")).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    client.request("$JS.API.CONSUMER.DELETE.t_STREAM.g", "".into()).await.unwrap();
    let e = tokio::time::timeout(Duration::from_secs(10), c.next()).await.expect("a stall").unwrap_err();
    assert_eq!((e.kind(), e.group_name()), (ErrorKind::NotFound, Some("g")));
}

#[tokio::test]
async fn streams_are_found_by_subject_and_name_collisions_are_told() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    bus.declare_stream("wide", &["coze.workflow.>".into()]).await.unwrap();
    let p = bus.producer("coze.workflow.7.done", ProducerConfig::default()).unwrap();
    assert_eq!(&*p.send(b"x", SendOptions::default()).await.unwrap().unwrap().stream, "wide");
    let dotted = bus.producer("a.b", ProducerConfig::default()).unwrap();
    dotted.send(b"x", SendOptions::default()).await.unwrap();
    let scored = bus.producer("a_b", ProducerConfig::default()).unwrap();
    let e = scored.send(b"x", SendOptions::default()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert!(e.to_string().contains("a.b") && e.to_string().contains("a_b"), "{e}");
    let e = bus.consumer("a.*", group("g")).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.to_string().contains("a_b_STREAM"), "{e}");
    let strict = ProducerConfig { declare: Some(false), ..ProducerConfig::default() };
    let e = bus.producer("nowhere", strict).unwrap().send(b"x", SendOptions::default()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn leaving_with_deliveries_on_their_way_loses_none_to_ack_wait() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send_many(&[b"x"; 1000], &SendOptions::default()).await.unwrap();
    // Left while the first pull is being answered: a different moment each time.
    for round in 0..10 {
        let config = ConsumerConfig { prefetch: Some(1000), ..group(&format!("g{round}")) };
        let c = bus.consumer("t", config.clone()).await.unwrap();
        let first = c.next().await.unwrap().unwrap();
        c.settle(first.token, &Settle::Nak(None));
        c.close().await.unwrap();
        let again = bus.consumer("t", config).await.unwrap();
        let mut got = 0;
        while got < 1000 {
            let batch = again.fetch(1000, Duration::from_secs(3)).await.unwrap();
            assert!(!batch.is_empty(), "round {round}: {} of 1000 wait for ack wait", 1000 - got);
            again.ack_many(batch.iter().map(|d| d.token));
            got += batch.len();
        }
    }
}

#[tokio::test]
async fn a_message_at_the_limit_passes_and_one_above_is_rejected() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let limit = bus.server().max_payload;
    let mut outcomes = Vec::new();
    for size in (limit - 80..=limit).step_by(4) {
        let body = vec![b'x'; size];
        let sent = tokio::time::timeout(Duration::from_secs(2), p.send(&body, SendOptions::default()));
        outcomes.push(sent.await.expect("an outcome at once").map(drop).map_err(|e| e.kind()));
    }
    assert!(outcomes.first().unwrap().is_ok());
    assert!(outcomes.iter().all(|o| matches!(o, Ok(()) | Err(ErrorKind::TooLarge))), "{outcomes:?}");
    assert_eq!(outcomes.last().unwrap(), &Err(ErrorKind::TooLarge));
}

#[tokio::test]
async fn a_durable_with_request_limits_is_respected() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    p.send_many(&[b"x"; 50], &SendOptions::default()).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let durable = r#"{"stream_name":"t_STREAM","config":{"durable_name":"g","filter_subject":"t","ack_policy":"explicit","max_batch":10,"max_expires":2000000000}}"#;
    client.request("$JS.API.CONSUMER.DURABLE.CREATE.t_STREAM.g", durable.into()).await.unwrap();
    let c = bus.consumer("t", group("g")).await.unwrap();
    let got = c.fetch(50, Duration::from_secs(5)).await.unwrap();
    assert_eq!(got.len(), 50);
}

#[tokio::test]
async fn a_producer_opened_in_an_outage_holds_its_messages() {
    let mut server = Server::jetstream();
    let bus = server.connect(serde_json::json!({"jetstream": true, "api_timeout": 1})).await.unwrap();
    server.kill();
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let sending = tokio::spawn(async move { p.send(b"x", SendOptions::default()).await });
    // Longer than one look-up may take.
    for _ in 0..2 {
        assert!(bus.streams().await.is_err());
    }
    server.restart();
    let ack = tokio::time::timeout(Duration::from_secs(15), sending).await.unwrap().unwrap().unwrap();
    assert_eq!(ack.unwrap().sequence, 1);
}

#[tokio::test]
async fn every_server_of_the_pool_is_tried() {
    let (mut one, two) = (Server::core(), Server::core());
    let pool = format!("nats://127.0.0.1:1, {}", one.url());
    let first = one.connect(serde_json::json!({"servers": pool})).await.unwrap();
    first.close().await.unwrap();
    let pool = format!("{},{}", one.url(), two.url());
    let bus = one.connect(serde_json::json!({"servers": pool})).await.unwrap();
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    // Whichever it chose: killed, the other one is found.
    if one.url().ends_with(&format!(":{}", bus.server().port)) {
        one.kill();
        until(|| two.port() == bus.server().port).await;
    }
    p.send(b"x", SendOptions::default()).await.unwrap();
    p.flush().await.unwrap();
    bus.close().await.unwrap();
}
