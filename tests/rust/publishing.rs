//! Publishing: expectations, and failures nobody waits for. Contract lines are named at the tests.

use crate::support::{Server, until};
use nats_eventbus::{Error, ErrorKind, ProducerConfig, SendOptions, host::Listener};
use std::sync::{Arc, Mutex};

/// Publishing: rejected kinds: an expected sequence that does not match is `WrongSequence`, and nothing is stored.
#[tokio::test]
async fn expected_sequences() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    bus.declare_stream("S", &["t.*".into()]).await.unwrap();
    let last = |n| SendOptions { expected_last_sequence: Some(n), ..SendOptions::default() };
    let of_topic = |n| SendOptions { expected_last_subject_sequence: Some(n), ..SendOptions::default() };
    let a = bus.producer("t.a", ProducerConfig::default()).unwrap();
    let b = bus.producer("t.b", ProducerConfig::default()).unwrap();
    assert_eq!(a.send(b"1", last(0)).await.unwrap().unwrap().sequence, 1);
    assert_eq!(b.send(b"2", last(1)).await.unwrap().unwrap().sequence, 2);
    assert_eq!(a.send(b"3", of_topic(1)).await.unwrap().unwrap().sequence, 3);
    for wrong in [last(1), of_topic(2)] {
        let e = a.send(b"x", wrong).await.unwrap_err();
        assert_eq!((e.kind(), e.topic_name()), (ErrorKind::WrongSequence, Some("t.a")));
        assert!(e.message_id().is_some(), "the generated id is named");
    }
    assert_eq!(bus.stream("S").info().await.unwrap().messages, 3);
}

/// Publishing: failures of sends that nobody waits for go to the listener, once, and not to flush.
#[tokio::test]
async fn failures_reach_the_listener_instead_of_flush() {
    let server = Server::jetstream();
    let bus = server.bus(true).await;
    let p = bus.producer("t", ProducerConfig::default()).unwrap();
    let wrong = || SendOptions {
        id: Some("evt-1".into()),
        expected_last_sequence: Some(9),
        ..SendOptions::default()
    };
    p.send_nowait(b"x", wrong()).unwrap();
    assert_eq!(p.flush().await.unwrap_err().kind(), ErrorKind::WrongSequence);
    p.flush().await.unwrap();
    let told: Arc<Mutex<Vec<Error>>> = Arc::default();
    let to = told.clone();
    p.on_error(Listener::new(move |e| to.lock().unwrap().push(e)));
    p.send_nowait(b"x", wrong()).unwrap();
    p.flush().await.unwrap();
    until(|| told.lock().unwrap().len() == 1).await;
    let e = told.lock().unwrap()[0].clone();
    assert_eq!((e.kind(), e.message_id()), (ErrorKind::WrongSequence, Some("evt-1")));
    // What somebody waits for is his.
    p.send(b"x", wrong()).await.unwrap_err();
    assert_eq!(told.lock().unwrap().len(), 1);
}
